#pragma once
// A TCP connection that speaks ZMTP: the descriptor, the protocol's state, what is still to be written and what has
// arrived of a frame that is not complete. Its owner watches the descriptor in the event loop.
//
// Made for small messages: whatever was put since the last flush() leaves in one send(), what has arrived is read into
// one buffer that all connections share and decrypted there. Only a frame larger than that buffer gets memory of its own,
// and no more than about twice what has arrived of it.

#include <cstddef>
#include <vector>

#include "db/base/bytes.h"
#include "transport/zmtp_session.h"

namespace tdbmesh {

class ZmtpConnection {
 public:
  // What reading or writing came to.
  enum class Io {
    Fine,
    Ended,    // the other side closed or reset it, or has no such port
    Broken,   // the network gave it up
    Refused,  // session().failure() says why
  };
  using ReadBuffer = std::vector<char>;
  static constexpr std::size_t kReadBuffer = 64 * 1024;

  class Sink {
   public:
    virtual ~Sink() = default;
    // The view ends with the call. False: read no further.
    virtual bool on_frame(BytesView frame, bool more) = 0;
  };

  // Owns `fd` from here on. `buffer` must outlive it.
  ZmtpConnection(int fd, zmtp::Session session, ReadBuffer& buffer);
  ~ZmtpConnection();
  ZmtpConnection(const ZmtpConnection&) = delete;
  ZmtpConnection& operator=(const ZmtpConnection&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const zmtp::Session& session() const { return session_; }
  [[nodiscard]] bool ready() const { return session_.state() == zmtp::Session::State::Ready; }

  // Reads what is there, though not without end: call it again while the descriptor is readable.
  [[nodiscard]] Io read(Sink& sink);
  // Queues a message of one frame, `front` and `rest` as one; it leaves with the next flush(). Only when ready().
  void put_message(BytesView front, BytesView rest) { session_.put_message(front, rest, output_); }
  [[nodiscard]] Io flush();
  [[nodiscard]] std::size_t unsent() const { return output_.size() - output_at_; }

 private:
  [[nodiscard]] Io take(char* data, std::size_t size, Sink& sink, std::size_t& used);

  int fd_;
  zmtp::Session session_;
  ReadBuffer& buffer_;
  Bytes output_;
  std::size_t output_at_ = 0;  // so much of it is written
  Bytes partial_;              // the beginning of a frame
  std::size_t wanted_ = 0;     // bytes before anything can be done with it
};

}  // namespace tdbmesh
