#include "transport/zmtp_sender.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/tcp_socket.h"

namespace tdbmesh {
namespace {

constexpr Duration kFirstRetry = milliseconds(10);
constexpr Duration kLastRetry = milliseconds(100);
constexpr Duration kRetryAfterRefusal = seconds(1);
constexpr Duration kConnectLimit = milliseconds(500);  // a lost SYN would otherwise be repeated after 1, 3, 7 s
constexpr Duration kHandshakeLimit = seconds(3);
constexpr std::size_t kMostPerFlush = std::size_t{16} << 20;  // then the others get their turn
constexpr std::size_t kMostFromReceiver = 1024;            // nothing but PONG comes back

}  // namespace

ZmtpSender::ZmtpSender(EventLoop& loop, SenderConfig config, ZmtpConnection::ReadBuffer& buffer, Listener& listener)
    : loop_(loop), config_(std::move(config)), buffer_(buffer), listener_(listener), backoff_(kFirstRetry) {
  hook_ = loop_.at_end_of_turn([this] { return dirty_ && flush(); });
  connect();
}

ZmtpSender::~ZmtpSender() {
  disconnect();
  loop_.remove(hook_);
}

void ZmtpSender::restart() {
  disconnect();
  queue_.clear();
  queued_bytes_ = 0;
  backoff_ = kFirstRetry;
  connect();
}

void ZmtpSender::connect() {
  const Result<int> fd = begin_connect(config_.own, config_.peer, config_.port);
  if (!fd) return retry_after(Duration::zero(), fd.error().fault == Fault::Refused);
  connecting_fd_ = *fd;
  if (!loop_.add(connecting_fd_, EPOLLOUT, [this](std::uint32_t events) { on_ready(events); })) {
    disconnect();
    return retry_after(kLastRetry, false);
  }
  timer_ = loop_.after(kConnectLimit, [this] { lost(false); });
}

void ZmtpSender::disconnect() {
  loop_.cancel(timer_);
  const int fd = connection_ ? connection_->fd() : connecting_fd_;
  if (fd >= 0) loop_.remove(fd);
  if (connecting_fd_ >= 0) ::close(connecting_fd_);
  connecting_fd_ = -1;
  connection_.reset();
  connected_ = false;
  dirty_ = false;
}

// Failed before there was anything to wait for; told by the event loop as any other failure.
void ZmtpSender::retry_after(Duration delay, bool reset) {
  timer_ = loop_.after(delay, [this, reset] { lost(reset); });
}

void ZmtpSender::lost(bool reset, bool refused) {
  disconnect();
  timer_ = loop_.after(refused ? kRetryAfterRefusal : backoff_, [this] { connect(); });
  backoff_ = std::min(2 * backoff_, kLastRetry);
  listener_.on_disconnected(*this, reset);
}

void ZmtpSender::on_ready(std::uint32_t events) {
  if (!connection_) return on_connect_decided();
  if ((events & EPOLLOUT) != 0) flush();
  if (connection_ && (events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) settle(connection_->read(*this));
}

void ZmtpSender::on_connect_decided() {
  int code = 0;
  socklen_t size = sizeof code;
  getsockopt(connecting_fd_, SOL_SOCKET, SO_ERROR, &code, &size);
  if (code != 0) return lost(code == ECONNREFUSED || code == ECONNRESET);
  loop_.cancel(timer_);
  timer_ = loop_.after(kHandshakeLimit, [this] { lost(false); });
  const int fd = std::exchange(connecting_fd_, -1);
  connection_ = std::make_unique<ZmtpConnection>(
      fd, zmtp::Session(zmtp::Session::Role::Sender, config_.key, true, kMostFromReceiver), buffer_);
  flush();
}

void ZmtpSender::settle(ZmtpConnection::Io io) {
  switch (io) {
    case ZmtpConnection::Io::Fine: break;
    // In the middle of a handshake it rather tells that we are not welcome; if nobody is there the next attempt will say so.
    case ZmtpConnection::Io::Ended: return lost(connected_);
    case ZmtpConnection::Io::Broken: return lost(false);
    case ZmtpConnection::Io::Refused: {
      const std::string why = connection_->session().failure();
      lost(false, true);
      return listener_.on_turned_away(*this, why);
    }
  }
  if (connection_->ready() && !connected_) return on_connected();
  if (connection_->unsent() > 0) flush();  // the handshake's next step
}

void ZmtpSender::on_connected() {
  loop_.cancel(timer_);
  backoff_ = kFirstRetry;
  connected_ = true;
  dirty_ = true;
  listener_.on_connected(*this);
}

bool ZmtpSender::put(BytesView header, Bytes body) {
  if (ready() && queue_.empty() && connection_->unsent() < config_.most_unsent) {
    connection_->put_message(header, body);
    dirty_ = true;
    return true;
  }
  if (queue_.size() >= static_cast<std::size_t>(config_.most_queued_messages) ||
      queued_bytes_ + body.size() > config_.most_queued_bytes) {
    return false;
  }
  queued_bytes_ += body.size();
  queue_.push_back({Bytes(header), std::move(body)});
  return true;
}

// True if there is more to write and room for it.
bool ZmtpSender::flush() {
  dirty_ = false;
  for (std::size_t written = 0; written < kMostPerFlush;) {
    while (connected_ && !queue_.empty() && connection_->unsent() < config_.most_unsent) {
      queued_bytes_ -= queue_.front().body.size();
      connection_->put_message(queue_.front().header, queue_.front().body);
      queue_.pop_front();
    }
    written += connection_->unsent();
    const ZmtpConnection::Io io = connection_->flush();
    if (io != ZmtpConnection::Io::Fine) {
      lost(io == ZmtpConnection::Io::Ended && connected_);
      return false;
    }
    const bool full = connection_->unsent() > 0;
    if (full || !connected_ || queue_.empty()) {
      loop_.modify(connection_->fd(), full ? EPOLLIN | EPOLLOUT : EPOLLIN);
      return false;
    }
  }
  dirty_ = true;
  return true;
}

}  // namespace tdbmesh
