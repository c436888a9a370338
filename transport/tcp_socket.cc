#include "transport/tcp_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace tdbmesh {
namespace {

constexpr int kBacklog = 512;
constexpr int kDeadConnectionMs = 10'000;
constexpr int kProbeSeconds = 2;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* plain() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::optional<SocketAddress> socket_address(const std::string& address, std::uint16_t port) {
  SocketAddress result;
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (inet_pton(AF_INET, address.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    std::memcpy(&result.storage, &four, sizeof four);
    result.length = sizeof four;
  } else if (inet_pton(AF_INET6, address.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    std::memcpy(&result.storage, &six, sizeof six);
    result.length = sizeof six;
  } else {
    return std::nullopt;
  }
  return result;
}

void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

std::string text_of(const in_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET, &address, text.data(), text.size());
}
std::string text_of(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    in_addr four{};
    std::memcpy(&four, address.s6_addr + 12, sizeof four);
    return text_of(four);
  }
  std::array<char, INET6_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET6, &address, text.data(), text.size());
}

Result<int> listen_failure(int fd, const std::string& address, std::uint16_t port) {
  const int code = errno;
  if (fd >= 0) ::close(fd);
  const std::string what = fmt::format("cannot listen at {} port {}", address, port);
  if (code == EADDRINUSE) {
    return failure(Fault::Busy, what + ": the port is in use; does another tdbmeshd or ctdbd run here?");
  }
  if (code == EADDRNOTAVAIL) return failure(Fault::NotFound, what + ": the address is not on this machine");
  return failure(Fault::Io, what + ": " + std::strerror(code));
}

}  // namespace

std::optional<std::string> canonical_address(const std::string& address) {
  const auto parsed = socket_address(address, 0);
  if (!parsed) return std::nullopt;
  return canonical_address(parsed->storage);
}

std::string canonical_address(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &address, sizeof four);
    return text_of(four.sin_addr);
  }
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 six{};
    std::memcpy(&six, &address, sizeof six);
    return text_of(six.sin6_addr);
  }
  return "unknown";
}

Result<int> listen_at(const std::string& address, std::uint16_t port) {
  const auto own = socket_address(address, port);
  if (!own) return failure(Fault::Malformed, address + " is not a numeric address");
  const int fd = ::socket(own->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return listen_failure(fd, address, port);
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(fd, own->plain(), own->length) != 0 || ::listen(fd, kBacklog) != 0) return listen_failure(fd, address, port);
  return fd;
}

Result<int> begin_connect(const std::string& own, const std::string& peer, std::uint16_t port) {
  const auto from = socket_address(own, 0);
  const auto to = socket_address(peer, port);
  if (!from || !to) return failure(Fault::Malformed, fmt::format("{} or {} is not a numeric address", own, peer));
  const int fd = ::socket(to->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return system_failure("cannot open a socket");
  tune_connection(fd);
  // The port is chosen when it is known where to, so that many connections do not use up the ports.
  set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  if (::bind(fd, from->plain(), from->length) != 0 || (::connect(fd, to->plain(), to->length) != 0 && errno != EINPROGRESS)) {
    const bool refused = errno == ECONNREFUSED;
    auto error = system_failure(fmt::format("cannot connect from {} to {}", own, peer));
    ::close(fd);
    if (refused) error.value().fault = Fault::Refused;
    return error;
  }
  return fd;
}

void tune_connection(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // The kernel asks whether the other end is there, so that nobody here needs to wake up for it.
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, kProbeSeconds);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeSeconds);
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadConnectionMs);
}

void acknowledge_lazily(int fd) { set(fd, IPPROTO_TCP, TCP_QUICKACK, 0); }

}  // namespace tdbmesh
