#include "ipfailover/eventd_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <sstream>

#include "db/base/descriptor.h"
#include "ipfailover/eventd_messages.h"
#include "transport/unix_address.h"

namespace tdbmesh {
namespace {

constexpr std::uint32_t kLongestTimeout = 24 * 3600;

class Server final : public EventdServer {
 public:
  Server(EventLoop& loop, std::string path, ScriptRunner& runner, int fd)
      : loop_(loop), path_(std::move(path)), runner_(runner), listen_fd_(fd) {}
  ~Server() override {
    while (!clients_.empty()) drop(clients_.begin()->first);
    loop_.remove(listen_fd_);
    ::close(listen_fd_);
    ::unlink(path_.c_str());
  }
  Result<> watch() {
    return loop_.add(listen_fd_, EPOLLIN, [this](std::uint32_t) { accept_one(); });
  }

 private:
  struct Client {
    int fd = -1;
    Bytes in;
    Bytes out;
  };

  void accept_one() {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const std::uint64_t id = ++last_client_;
    if (clients_.size() >= kMostClients ||
        !loop_.add(fd, EPOLLIN, [this, id](std::uint32_t ready) { on_ready(id, ready); })) {
      ::close(fd);
      return;
    }
    clients_[id].fd = fd;
  }

  void drop(std::uint64_t id) {
    const auto at = clients_.find(id);
    if (at == clients_.end()) return;
    loop_.remove(at->second.fd);
    ::close(at->second.fd);
    clients_.erase(at);
  }

  void on_ready(std::uint64_t id, std::uint32_t ready) {
    if ((ready & EPOLLOUT) != 0) flush(id);
    if (!clients_.contains(id) || (ready & ~std::uint32_t{EPOLLOUT}) == 0) return;
    Client& client = clients_[id];
    char buffer[8192];
    const ssize_t got = ::read(client.fd, buffer, sizeof(buffer));
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return drop(id);
    client.in.append(buffer, static_cast<std::size_t>(got));
    while (clients_.contains(id) && clients_[id].in.size() >= eventd::kHeaderBytes) {
      Bytes& in = clients_[id].in;
      std::uint32_t length = 0;
      std::memcpy(&length, in.data(), sizeof(length));
      if (length < eventd::kHeaderBytes || length > eventd::kMaxRequest) return drop(id);
      if (in.size() < length) return;
      const auto request = eventd::decode_request(BytesView(in).substr(0, length));
      in.erase(0, length);
      if (!request) return drop(id);
      handle(id, *request);
    }
  }

  void handle(std::uint64_t id, const eventd::Request& request) {
    const auto answer = [this, id, reqid = request.reqid, command = request.command](
                            std::int32_t result, const EventRecord* record = nullptr) {
      send(id, eventd::encode_reply(reqid, command, result, record));
    };
    const bool exists = list_scripts(runner_.folders(), request.component).has_value();
    if (!exists) return answer(ENOENT);
    switch (request.command) {
      case eventd::Command::Status: {
        const EventRecord* record = runner_.last(request.component, request.name);
        return record == nullptr ? answer(EINVAL) : answer(0, record);
      }
      case eventd::Command::Script: {
        const auto done = set_script_enabled(runner_.folders(), request.component, request.name, request.flags == 1);
        if (done) return answer(0);
        return answer(done.error().fault == Fault::NotFound ? ENOENT : EINVAL);
      }
      case eventd::Command::Run: break;
    }
    std::vector<std::string> words;
    std::istringstream in(request.arguments);
    for (std::string word; in >> word;) words.push_back(word);
    if (request.name.empty() || request.timeout > kLongestTimeout) return answer(EINVAL);
    // CTDB's clients say 0 for "no limit"; one that lets nothing else run for ever is too much.
    const Duration limit = seconds(request.timeout == 0 ? kLongestTimeout : request.timeout);
    runner_.run(request.component, request.name, std::move(words), limit, (request.flags & 1) != 0,
                [answer, alive = std::weak_ptr<int>(alive_)](const EventResult& result, std::int32_t) {
                  if (alive.expired()) return;
                  switch (result.outcome) {
                    case EventResult::Outcome::Ok: return answer(0);
                    case EventResult::Outcome::Failed: return answer(ENOEXEC);
                    case EventResult::Outcome::TimedOut: return answer(ETIMEDOUT);
                    case EventResult::Outcome::Cancelled: return answer(ECANCELED);
                  }
                });
  }

  void send(std::uint64_t id, const Bytes& bytes) {
    const auto at = clients_.find(id);
    if (at == clients_.end()) return;
    at->second.out += bytes;
    if (at->second.out.size() > kMostUnread) return drop(id);
    flush(id);
  }

  void flush(std::uint64_t id) {
    const auto at = clients_.find(id);
    if (at == clients_.end()) return;
    Client& client = at->second;
    while (!client.out.empty()) {
      const ssize_t sent = ::send(client.fd, client.out.data(), client.out.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno != EAGAIN) return drop(id);
      if (sent < 0) break;
      client.out.erase(0, static_cast<std::size_t>(sent));
    }
    loop_.modify(client.fd, client.out.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
  }

  EventLoop& loop_;
  std::string path_;
  ScriptRunner& runner_;
  int listen_fd_;
  std::uint64_t last_client_ = 0;
  std::map<std::uint64_t, Client> clients_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace

Result<std::unique_ptr<EventdServer>> EventdServer::create(EventLoop& loop, std::string path, ScriptRunner& runner) {
  const auto address = unix_address(path);
  if (!address) return tl::unexpected<Error>(address.error());
  Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return system_failure("cannot make the socket " + path);
  ::unlink(path.c_str());
  // the mode before bind, so that the file never has a wider one
  if (::fchmod(fd.get(), 0600) != 0 || ::bind(fd.get(), plain(*address), sizeof(*address)) != 0 ||
      ::listen(fd.get(), 16) != 0) {
    return system_failure("cannot listen at " + path);
  }
  auto server = std::make_unique<Server>(loop, path, runner, fd.release());
  if (auto watched = server->watch(); !watched) return tl::unexpected<Error>(watched.error());
  return server;
}

}  // namespace tdbmesh
