#include "transport/zmtp_receiver.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "transport/tcp_socket.h"

namespace tdbmesh {
namespace {

constexpr Duration kHandshakeLimit = seconds(3);
constexpr int kAcceptsPerTurn = 64;
// Out of descriptors: the listening socket stays ready, and asking again at once would only burn the CPU.
constexpr Duration kAcceptPause = milliseconds(100);
constexpr int kLastReads = 64;                       // of a connection that a newer one replaces
constexpr std::size_t kMostUnsent = 16 * 1024;       // answers to PINGs that are not fetched

constexpr const char* kGaveUp = "gave up before it said who it is";
constexpr const char* kTooSlow = "did not say who it is within 3 seconds";
constexpr const char* kTooMany = "too many connections that have not said who they are";

}  // namespace

class ZmtpReceiver::Caller final : public ZmtpConnection::Sink {
 public:
  Caller(ZmtpReceiver& receiver, std::uint64_t number, int fd, std::string from, std::optional<Pnn> who)
      : id(number),
        address(std::move(from)),
        pnn(who),
        connection(fd, {zmtp::Session::Role::Receiver, receiver.config_.key, who.has_value(), receiver.config_.most_bytes},
                   receiver.buffer_),
        receiver_(receiver) {}

  bool on_frame(BytesView frame, bool more) override {
    const bool whole = !std::exchange(unfinished_, more) && !more;
    if (!more) receiver_.listener_.on_message(*pnn, address, whole ? frame : BytesView());
    return !ended;
  }

  const std::uint64_t id;
  const std::string address;
  const std::optional<Pnn> pnn;
  ZmtpConnection connection;
  EventLoop::Timer limit;
  bool admitted = false;
  bool ended = false;

 private:
  ZmtpReceiver& receiver_;
  bool unfinished_ = false;  // the last frame said that the message goes on
};

Result<std::unique_ptr<ZmtpReceiver>> ZmtpReceiver::open(EventLoop& loop, ReceiverConfig config, const AccessList& access,
                                                         ZmtpConnection::ReadBuffer& buffer, Listener& listener) {
  const Result<int> fd = listen_at(config.address, config.port);
  if (!fd) return tl::unexpected(fd.error());
  std::unique_ptr<ZmtpReceiver> receiver(new ZmtpReceiver(loop, std::move(config), access, buffer, listener));
  receiver->listen_fd_ = *fd;
  auto watched = loop.add(*fd, EPOLLIN, [door = receiver.get()](std::uint32_t) { door->accept_callers(); });
  if (!watched) return tl::unexpected(watched.error());
  return receiver;
}

ZmtpReceiver::ZmtpReceiver(EventLoop& loop, ReceiverConfig config, const AccessList& access,
                           ZmtpConnection::ReadBuffer& buffer, Listener& listener)
    : loop_(loop), config_(std::move(config)), access_(access), buffer_(buffer), listener_(listener) {
  hook_ = loop_.at_end_of_turn([this] {
    ended_.clear();
    return false;
  });
}

ZmtpReceiver::~ZmtpReceiver() {
  loop_.remove(hook_);
  loop_.cancel(accept_again_);
  while (!callers_.empty()) end(*callers_.begin()->second);
  if (listen_fd_ < 0) return;
  loop_.remove(listen_fd_);
  ::close(listen_fd_);
}

void ZmtpReceiver::accept_callers() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    const int fd = ::accept4(listen_fd_, reinterpret_cast<sockaddr*>(&from), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      begin(fd, canonical_address(from));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      return pause_accepting();
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void ZmtpReceiver::pause_accepting() {
  loop_.modify(listen_fd_, 0);
  accept_again_ = loop_.after(kAcceptPause, [this] { loop_.modify(listen_fd_, EPOLLIN); });
}

void ZmtpReceiver::begin(int fd, const std::string& address) {
  const std::optional<Pnn> pnn = access_.find(address);
  if (!has_room_for(pnn)) {
    ::close(fd);
    return listener_.on_refused({address, kTooMany, false});
  }
  tune_connection(fd);
  auto caller = std::make_unique<Caller>(*this, ++last_id_, fd, address, pnn);
  if (!loop_.add(fd, EPOLLIN, [this, at = caller.get()](std::uint32_t events) { on_ready(*at, events); })) {
    return pause_accepting();
  }
  caller->limit = loop_.after(kHandshakeLimit, [this, at = caller.get()] { refuse(*at, kTooSlow); });
  Caller& begun = *caller;
  callers_.emplace(begun.id, std::move(caller));
  if (begun.connection.flush() != ZmtpConnection::Io::Fine) refuse(begun, kGaveUp);
}

// A stranger has to wait until others have gone. From a peer's address the newest is more likely to be the peer than the
// oldest, which makes room.
bool ZmtpReceiver::has_room_for(const std::optional<Pnn>& pnn) {
  std::size_t waiting = 0;
  Caller* oldest = nullptr;
  for (const auto& [id, caller] : callers_) {
    if (caller->admitted || caller->pnn != pnn) continue;
    if (waiting++ == 0) oldest = caller.get();
  }
  if (!pnn) return waiting < kMostStrangers;
  if (waiting >= kMostPerPeer) refuse(*oldest, kTooMany);
  return true;
}

void ZmtpReceiver::on_ready(Caller& caller, std::uint32_t events) {
  ZmtpConnection& connection = caller.connection;
  if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
    const ZmtpConnection::Io io = connection.read(caller);
    if (caller.ended) return;
    if (connection.ready() && !caller.admitted) admit(caller);
    if (io == ZmtpConnection::Io::Refused) {
      (void)connection.flush();  // so that he hears of it
      return refuse(caller, connection.session().failure());
    }
    if (io != ZmtpConnection::Io::Fine) return caller.admitted ? end(caller) : refuse(caller, kGaveUp);
  }
  if (connection.unsent() == 0 && (events & EPOLLOUT) == 0) return;
  if (connection.flush() != ZmtpConnection::Io::Fine || connection.unsent() > kMostUnsent) return end(caller);
  loop_.modify(connection.fd(), connection.unsent() > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void ZmtpReceiver::admit(Caller& caller) {
  caller.admitted = true;
  loop_.cancel(caller.limit);
  std::vector<Caller*> older;
  for (const auto& [id, other] : callers_) {
    if (other->admitted && other->pnn == caller.pnn && id != caller.id) older.push_back(other.get());
  }
  for (Caller* other : older) {
    for (int i = 0; i < kLastReads && !other->ended; ++i) {
      if (other->connection.read(*other) != ZmtpConnection::Io::Fine) break;
    }
    end(*other);
  }
}

void ZmtpReceiver::recheck() {
  std::vector<Caller*> gone;
  for (const auto& [id, caller] : callers_) {
    if (caller->pnn != access_.find(caller->address)) gone.push_back(caller.get());
  }
  for (Caller* caller : gone) end(*caller);
}

void ZmtpReceiver::refuse(Caller& caller, const std::string& why) {
  const Rejection rejection{caller.address, why, false};
  end(caller);
  listener_.on_refused(rejection);
}

void ZmtpReceiver::end(Caller& caller) {
  if (std::exchange(caller.ended, true)) return;
  loop_.cancel(caller.limit);
  loop_.remove(caller.connection.fd());
  const auto at = callers_.find(caller.id);
  ended_.push_back(std::move(at->second));
  callers_.erase(at);
}

}  // namespace tdbmesh
