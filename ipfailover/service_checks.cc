#include "ipfailover/service_checks.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace tdbmesh {
namespace {

constexpr std::size_t kMostAnswer = 4096;

struct Target {
  sockaddr_storage address{};
  socklen_t length = 0;
};

Target target_of(const ServiceCheck& check) {
  Target target;
  if (check.kind == ServiceCheck::Kind::Unix) {
    auto& unix_address = reinterpret_cast<sockaddr_un&>(target.address);
    unix_address.sun_family = AF_UNIX;
    check.path.copy(unix_address.sun_path, sizeof(unix_address.sun_path) - 1);
    target.length = sizeof(sockaddr_un);
  } else if (check.address.find(':') != std::string::npos) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(target.address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(check.port);
    ::inet_pton(AF_INET6, check.address.c_str(), &v6.sin6_addr);
    target.length = sizeof(sockaddr_in6);
  } else {
    auto& v4 = reinterpret_cast<sockaddr_in&>(target.address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(check.port);
    ::inet_pton(AF_INET, check.address.c_str(), &v4.sin_addr);
    target.length = sizeof(sockaddr_in);
  }
  return target;
}

}  // namespace

struct ServiceChecks::Probe {
  ServiceCheck check;
  int fd = -1;
  bool connected = false;
  std::string answer;
  Instant began{};
  EventLoop::Timer beat;
  EventLoop::Timer limit;
  std::uint32_t failures = 0;
  std::optional<bool> told;
};

ServiceChecks::ServiceChecks(EventLoop& loop, ScriptRunner& runner, std::vector<ServiceCheck> checks, Report report)
    : loop_(loop), runner_(runner), report_(std::move(report)) {
  for (ServiceCheck& check : checks) {
    auto probe = std::make_unique<Probe>();
    probe->check = std::move(check);
    probe->beat = loop_.after(Duration{}, [this, raw = probe.get()] { begin(*raw); });
    probes_.push_back(std::move(probe));
  }
}

ServiceChecks::~ServiceChecks() {
  for (const auto& probe : probes_) {
    loop_.cancel(probe->beat);
    loop_.cancel(probe->limit);
    if (probe->fd >= 0) {
      loop_.remove(probe->fd);
      ::close(probe->fd);
    }
  }
}

void ServiceChecks::begin(Probe& probe) {
  probe.began = loop_.now();
  probe.connected = false;
  probe.answer.clear();
  const ServiceCheck& check = probe.check;
  if (check.kind == ServiceCheck::Kind::Exec) {
    runner_.program(check.path, check.arguments, check.limit, ScriptRunner::Output::Quiet,  // a change is told with the reason
                    [this, &probe, alive = std::weak_ptr<int>(alive_)](std::int32_t result, const std::string& output) {
                      if (alive.expired()) return;
                      if (result == 0) return end(probe, true, {});
                      if (result == -ETIMEDOUT) return end(probe, false, "no end within the limit");
                      const std::string said = output.substr(0, 200);
                      end(probe, false, fmt::format("result {}{}{}", result, said.empty() ? "" : ": ", said));
                    });
    return;
  }
  const Target target = target_of(check);
  probe.fd = ::socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe.fd < 0) return end(probe, false, std::strerror(errno));
  const int done = ::connect(probe.fd, reinterpret_cast<const sockaddr*>(&target.address), target.length);
  // A unix socket whose queue is full has somebody who does not accept.
  if (done != 0 && errno != EINPROGRESS) return end(probe, false, std::strerror(errno));
  probe.limit = loop_.after(check.limit, [this, &probe] {
    end(probe, false, probe.connected ? "no answer within the limit" : "no connection within the limit");
  });
  if (!loop_.add(probe.fd, EPOLLOUT, [this, &probe](std::uint32_t ready) { on_ready(probe, ready); })) {
    ::close(probe.fd);
    probe.fd = -1;
    end(probe, false, "out of descriptors");
  }
}

void ServiceChecks::on_ready(Probe& probe, std::uint32_t) {
  if (probe.connected) return read_answer(probe);
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(probe.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return end(probe, false, std::strerror(error));
  probe.connected = true;
  std::string request;
  if (probe.check.kind == ServiceCheck::Kind::Http) request = http_request(probe.check);
  if (probe.check.kind == ServiceCheck::Kind::Smb) request = smb_negotiate_request();
  if (request.empty()) return end(probe, true, {});
  // A new connection has room for so little.
  if (::send(probe.fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return end(probe, false, "the request cannot be sent");
  }
  loop_.modify(probe.fd, EPOLLIN);
}

void ServiceChecks::read_answer(Probe& probe) {
  char buffer[kMostAnswer];
  const ssize_t got = ::read(probe.fd, buffer, sizeof(buffer));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return end(probe, false, "the connection ends without an answer");
  probe.answer.append(buffer, static_cast<std::size_t>(got));
  if (probe.check.kind == ServiceCheck::Kind::Smb) {
    if (const auto good = smb_negotiate_succeeded(probe.answer)) end(probe, *good, "the SMB2 negotiation fails");
    return;
  }
  if (const auto status = http_status(probe.answer)) {
    end(probe, *status >= 100 && *status < 500, *status == 0 ? "no HTTP answer" : fmt::format("HTTP status {}", *status));
  }
}

void ServiceChecks::end(Probe& probe, bool ok, const std::string& reason) {
  loop_.cancel(probe.limit);
  if (probe.fd >= 0) {
    loop_.remove(probe.fd);
    ::close(probe.fd);
    probe.fd = -1;
  }
  probe.failures = ok ? 0 : probe.failures + 1;
  const Instant next = std::max(probe.began + probe.check.every, loop_.now() + milliseconds(10));
  probe.beat = loop_.at(next, [this, &probe] { begin(probe); });
  if (!ok && probe.failures < probe.check.fails) return;
  if (probe.told == ok) return;
  probe.told = ok;
  loop_.post([this, &probe, ok, reason, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) report_(probe.check.name, ok, reason);
  });
}

}  // namespace tdbmesh
