#include "transport/zmq_guard.h"

#include <sys/socket.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "db/base/thread.h"
#include "transport/tcp_socket.h"

namespace tdbmesh {
namespace {

constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr const char* kMonitorEndpoint = "inproc://guard-monitor";

std::string peer_of(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  // The descriptor belongs to ZeroMQ's thread, which may have closed it by now. Asking for the address
  // disturbs nobody; at worst the log names no address or that of a newer connection.
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return "unknown";
  return canonical_address(storage);
}

// All frames of the message that waits, or false if there is none (or the context ends).
bool receive_frames(void* socket, std::vector<std::string>& frames) {
  frames.clear();
  int more = 1;
  while (more != 0) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket, ZMQ_DONTWAIT) < 0) {
      zmq_msg_close(&message);
      return false;
    }
    frames.emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
    more = zmq_msg_more(&message);
    zmq_msg_close(&message);
  }
  return true;
}

}  // namespace

std::string handshake_failure(std::uint32_t code) {
  switch (code) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: return "does not hold our cluster key";
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: return "its [transport] security setting differs from ours";
    default: return "does not speak our protocol";
  }
}

// What the thread works on: its two sockets and the connections that were accepted and still live.
struct ZmqGuard::Door {
  struct Visitor {
    std::string address;
    bool let_in = false;
  };
  void* zap = nullptr;
  void* monitor = nullptr;
  std::map<int, Visitor> visitors;  // by descriptor
  std::optional<std::string> failed;  // reason of a handshake that just failed; its disconnect comes next

  void on_event(const ZmqGuard& guard, const std::vector<std::string>& frames);
  void on_zap(const ZmqGuard& guard, const std::vector<std::string>& frames);
};

void ZmqGuard::Door::on_event(const ZmqGuard& guard, const std::vector<std::string>& frames) {
  if (frames.empty() || frames[0].size() < 6) return;
  std::uint16_t event = 0;
  std::uint32_t value = 0;
  std::memcpy(&event, frames[0].data(), sizeof event);
  std::memcpy(&value, frames[0].data() + sizeof event, sizeof value);
  const int fd = static_cast<int>(value);
  switch (event) {
    case ZMQ_EVENT_ACCEPTED: visitors[fd] = Visitor{peer_of(fd), false}; break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: failed = handshake_failure(value); break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: failed = "not allowed in"; break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: failed = "gave up before it said who it is"; break;
    case ZMQ_EVENT_DISCONNECTED: {
      // One I/O thread serves the socket, so a failure is followed by the disconnect it causes. Of a client
      // that speaks an ancient or no protocol there is only the disconnect.
      const auto visitor = visitors.find(fd);
      const bool let_in = visitor != visitors.end() && visitor->second.let_in;
      if (failed || !let_in) {
        guard.on_rejected_({visitor == visitors.end() ? "unknown" : visitor->second.address,
                            failed.value_or("does not speak our protocol"), false});
      }
      failed.reset();
      if (visitor != visitors.end()) visitors.erase(visitor);
      break;
    }
    default: break;
  }
}

// Request: version, id, domain, address, identity, mechanism, credentials. Reply: version, id, status code,
// status text, user id, metadata.
void ZmqGuard::Door::on_zap(const ZmqGuard& guard, const std::vector<std::string>& frames) {
  const auto field = [&](std::size_t i) { return i < frames.size() ? frames[i] : std::string(); };
  const std::string address = canonical_address(field(3)).value_or("unknown");
  std::string reason;
  const std::optional<Pnn> who = guard.access_.find(address);
  if (!guard.key_.empty() && (field(5) != "CURVE" || field(6) != guard.key_)) {
    reason = "does not hold our cluster key";
  } else if (guard.key_.empty() && field(5) != "NULL") {
    reason = "its [transport] security setting differs from ours";
  } else if (!who) {
    reason = "no node has this address";
  }
  const bool let_in = field(0) == "1.0" && reason.empty();
  if (let_in) {
    for (auto& [fd, visitor] : visitors) {
      if (visitor.address == address && !visitor.let_in) {
        visitor.let_in = true;
        break;
      }
    }
  } else {
    guard.on_rejected_({address, reason, false});
  }
  const std::array<std::string, 6> reply{"1.0",  field(1), let_in ? "200" : "400", let_in ? "OK" : "refused",
                                         let_in ? to_string(*who) : "", ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    zmq_send(zap, reply[i].data(), reply[i].size(), i + 1 < reply.size() ? ZMQ_SNDMORE : 0);
  }
}

ZmqGuard::ZmqGuard(void* context, const AccessList& access, const std::string& public_key,
                   std::function<void(Rejection)> on_rejected)
    : context_(context), access_(access), on_rejected_(std::move(on_rejected)), door_(std::make_unique<Door>()) {
  if (!public_key.empty()) {
    key_.resize(32);
    zmq_z85_decode(reinterpret_cast<std::uint8_t*>(key_.data()), public_key.c_str());
  }
}

ZmqGuard::~ZmqGuard() { stop(); }

bool ZmqGuard::start(void* receiver) {
  door_->zap = zmq_socket(context_, ZMQ_REP);
  door_->monitor = zmq_socket(context_, ZMQ_PAIR);
  const int events = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  if (door_->zap == nullptr || door_->monitor == nullptr || zmq_bind(door_->zap, kZapEndpoint) != 0 ||
      zmq_socket_monitor(receiver, kMonitorEndpoint, events) != 0 ||
      zmq_connect(door_->monitor, kMonitorEndpoint) != 0) {
    return false;
  }
  thread_ = start_thread([this] { run(); });
  return true;
}

void ZmqGuard::run() {
  std::vector<std::string> frames;
  while (true) {
    std::array<zmq_pollitem_t, 2> items{{{door_->monitor, 0, ZMQ_POLLIN, 0}, {door_->zap, 0, ZMQ_POLLIN, 0}}};
    if (zmq_poll(items.data(), static_cast<int>(items.size()), -1) < 0) {
      if (errno == EINTR) continue;
      return;  // the context ends
    }
    // Connections first: the ZAP request of a connection comes after its accept.
    while (receive_frames(door_->monitor, frames)) door_->on_event(*this, frames);
    while (receive_frames(door_->zap, frames)) door_->on_zap(*this, frames);
  }
}

void ZmqGuard::stop() {
  if (thread_.joinable()) thread_.join();
  for (void** socket : {&door_->zap, &door_->monitor}) {
    if (*socket != nullptr) zmq_close(*socket);
    *socket = nullptr;
  }
}

}  // namespace tdbmesh
