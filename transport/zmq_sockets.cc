#include "transport/zmq_sockets.h"

#include <zmq.h>

#include <cerrno>

#include <fmt/format.h>

namespace tdbmesh {
namespace {

void set(void* socket, int option, int value) { zmq_setsockopt(socket, option, &value, sizeof value); }
void set(void* socket, int option, const std::string& value) {
  zmq_setsockopt(socket, option, value.data(), value.size());
}

bool is_ipv6(const std::string& address) { return address.find(':') != std::string::npos; }
std::string host(const std::string& address) { return is_ipv6(address) ? "[" + address + "]" : address; }

// A connection whose other end vanished without a word is given up after this long; a stalled but living
// peer keeps it.
constexpr int kDeadConnectionMs = 10'000;

void set_common(void* socket, const std::string& address) {
  set(socket, ZMQ_LINGER, 0);
  set(socket, ZMQ_IPV6, is_ipv6(address) ? 1 : 0);
  set(socket, ZMQ_TCP_KEEPALIVE, 1);
  set(socket, ZMQ_TCP_MAXRT, kDeadConnectionMs);
  set(socket, ZMQ_HANDSHAKE_IVL, 3000);
}

}  // namespace

void* open_receiver(void* context, const std::optional<ClusterKey>& key, const std::string& address,
                    int most_waiting, std::size_t most_bytes) {
  void* socket = zmq_socket(context, ZMQ_PULL);
  if (socket == nullptr) return nullptr;
  set_common(socket, address);
  set(socket, ZMQ_RCVHWM, most_waiting);
  const auto most = static_cast<std::int64_t>(most_bytes);
  zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
  set(socket, ZMQ_BACKLOG, 512);
  set(socket, ZMQ_ZAP_DOMAIN, std::string("tdbmesh"));
  if (key) {
    set(socket, ZMQ_CURVE_SERVER, 1);
    set(socket, ZMQ_CURVE_SECRETKEY, key->secret_key);
  }
  return socket;
}

Result<> bind_receiver(void* socket, const std::string& address, std::uint16_t port) {
  if (zmq_bind(socket, fmt::format("tcp://{}:{}", host(address), port).c_str()) == 0) return {};
  const int code = zmq_errno();
  const std::string what = fmt::format("cannot listen at {} port {}", address, port);
  if (code == EADDRINUSE) {
    return failure(Fault::Busy, what + ": the port is in use; does another tdbmeshd or ctdbd run here?");
  }
  if (code == EADDRNOTAVAIL || code == ENODEV) {
    return failure(Fault::NotFound, what + ": the address is not on this machine");
  }
  return failure(Fault::Io, what + ": " + zmq_strerror(code));
}

void* open_sender(void* context, const std::optional<ClusterKey>& key, const std::string& address,
                  const SenderOptions& options) {
  void* socket = zmq_socket(context, ZMQ_PUSH);
  if (socket == nullptr) return nullptr;
  set_common(socket, address);
  set(socket, ZMQ_SNDHWM, options.most_queued);
  set(socket, ZMQ_IMMEDIATE, options.only_when_connected ? 1 : 0);
  const std::int64_t most = 64 * 1024;  // only greetings come back this way
  zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
  set(socket, ZMQ_RECONNECT_IVL, 10);
  set(socket, ZMQ_RECONNECT_IVL_MAX, 100);
  set(socket, ZMQ_CONNECT_TIMEOUT, 500);  // a lost SYN would otherwise be repeated after 1, 3, 7 s
  set(socket, ZMQ_HEARTBEAT_IVL, 2000);
  set(socket, ZMQ_HEARTBEAT_TIMEOUT, kDeadConnectionMs);
  set(socket, ZMQ_HEARTBEAT_TTL, kDeadConnectionMs);
  if (key) {
    set(socket, ZMQ_CURVE_SERVERKEY, key->public_key);
    set(socket, ZMQ_CURVE_PUBLICKEY, key->public_key);
    set(socket, ZMQ_CURVE_SECRETKEY, key->secret_key);
  }
  return socket;
}

bool connect_sender(void* socket, const std::string& own, const std::string& peer, std::uint16_t port) {
  return zmq_connect(socket, fmt::format("tcp://{}:0;{}:{}", host(own), host(peer), port).c_str()) == 0;
}

std::string message_property(void* zmq_message, const char* name) {
  const char* value = zmq_msg_gets(static_cast<zmq_msg_t*>(zmq_message), name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace tdbmesh
