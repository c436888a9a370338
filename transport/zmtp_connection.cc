#include "transport/zmtp_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "db/base/check.h"
#include "transport/tcp_socket.h"

namespace tdbmesh {
namespace {

constexpr int kReadsPerTurn = 4;
constexpr std::size_t kKeptCapacity = std::size_t{1} << 20;  // what a large message leaves behind goes back

ZmtpConnection::Io io_of(int code) {
  return code == ECONNRESET || code == EPIPE || code == ECONNREFUSED ? ZmtpConnection::Io::Ended : ZmtpConnection::Io::Broken;
}

}  // namespace

ZmtpConnection::ZmtpConnection(int fd, zmtp::Session session, ReadBuffer& buffer)
    : fd_(fd), session_(std::move(session)), buffer_(buffer), output_(session_.opening()) {
  TDBMESH_CHECK(buffer.size() == kReadBuffer);
}

ZmtpConnection::~ZmtpConnection() { ::close(fd_); }

ZmtpConnection::Io ZmtpConnection::read(Sink& sink) {
  acknowledge_lazily(fd_);
  for (int round = 0; round < kReadsPerTurn; ++round) {
    const std::size_t have = partial_.size();
    const bool large = wanted_ > buffer_.size();
    if (large) {
      partial_.resize(std::min(wanted_, std::max(2 * have, have + buffer_.size())));
    } else if (have > 0) {
      std::memcpy(buffer_.data(), partial_.data(), have);
    }
    char* data = large ? partial_.data() : buffer_.data();
    const std::size_t room = (large ? partial_.size() : buffer_.size()) - have;
    const ssize_t got = ::recv(fd_, data + have, room, 0);
    const int code = errno;
    if (got <= 0) {
      partial_.resize(have);
      if (got < 0 && (code == EAGAIN || code == EINTR)) return Io::Fine;
      return got == 0 ? Io::Ended : io_of(code);
    }
    const std::size_t size = have + static_cast<std::size_t>(got);
    std::size_t used = 0;
    const Io io = take(data, size, sink, used);
    if (large) {
      partial_.resize(size);
      partial_.erase(0, used);
      if (partial_.empty()) partial_ = Bytes();
    } else {
      partial_.assign(data + used, size - used);
    }
    // A short read has emptied the socket.
    if (io != Io::Fine || static_cast<std::size_t>(got) < room) return io;
  }
  return Io::Fine;
}

ZmtpConnection::Io ZmtpConnection::take(char* data, std::size_t size, Sink& sink, std::size_t& used) {
  using What = zmtp::Session::Step::What;
  while (true) {
    const zmtp::Session::Step step = session_.next(data + used, size - used, output_);
    used += step.used;
    switch (step.what) {
      case What::Progress: break;
      case What::Failed: return Io::Refused;
      case What::NeedMore: wanted_ = step.wanted; return Io::Fine;
      case What::Frame:
        if (!sink.on_frame(step.frame, step.more)) return Io::Fine;
        break;
    }
  }
}

ZmtpConnection::Io ZmtpConnection::flush() {
  while (output_at_ < output_.size()) {
    const std::size_t size = output_.size() - output_at_;
    const ssize_t count = ::send(fd_, output_.data() + output_at_, size, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN ? Io::Fine : io_of(errno);
    output_at_ += static_cast<std::size_t>(count);
    if (static_cast<std::size_t>(count) < size) return Io::Fine;  // the kernel's buffer is full
  }
  output_at_ = 0;
  output_.clear();
  if (output_.capacity() > kKeptCapacity) output_ = Bytes();
  return Io::Fine;
}

}  // namespace tdbmesh
