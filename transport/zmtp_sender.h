#pragma once
// The sending half of a link to a peer: keeps one connection to its address, from our own, and a bounded queue for the
// time when there is none or the peer reads slowly. Reconnects by itself, after 10 to 100 ms; after a handshake that one
// side refused, after a second.
//
// What is put in one turn of the event loop leaves at its end, in one system call. What was written when a connection
// broke may be lost; what is still queued leaves on the next connection. Belongs to the event loop's thread.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "db/base/bytes.h"
#include "db/base/time.h"
#include "transport/curve.h"
#include "transport/event_loop.h"
#include "transport/zmtp_connection.h"

namespace tdbmesh {

struct SenderConfig {
  std::string own;  // addresses, numeric
  std::string peer;
  std::uint16_t port = 0;
  std::optional<zmtp::CurvePair> key;
  int most_queued_messages = 0;  // 0: dropped instead of queued while there is no connection
  std::size_t most_queued_bytes = 0;
  std::size_t most_unsent = 256 * 1024;  // encrypted ahead of the kernel's buffer, before messages are queued
};

class ZmtpSender final : private ZmtpConnection::Sink {
 public:
  // Called from the event loop only, never inside a call of the sender's own.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_connected(ZmtpSender& sender) = 0;
    // There was a connection, or an attempt. `reset`: the other host says that nobody is there (any more).
    virtual void on_disconnected(ZmtpSender& sender, bool reset) = 0;
    // One of the two did not like the other.
    virtual void on_turned_away(ZmtpSender& sender, const std::string& why) = 0;
  };

  // Begins to connect. Everything referred to must outlive it.
  ZmtpSender(EventLoop& loop, SenderConfig config, ZmtpConnection::ReadBuffer& buffer, Listener& listener);
  ~ZmtpSender() override;
  ZmtpSender(const ZmtpSender&) = delete;
  ZmtpSender& operator=(const ZmtpSender&) = delete;

  // A message: `header` and `body` as one. False if there is no room: nothing happened.
  [[nodiscard]] bool put(BytesView header, Bytes body);
  // Drops what is queued and the connection, and begins anew.
  void restart();
  // Everything that was put has been handed to the kernel.
  [[nodiscard]] bool drained() const { return ready() && queue_.empty() && connection_->unsent() == 0; }
  [[nodiscard]] const std::string& peer() const { return config_.peer; }

 private:
  struct Queued {
    Bytes header;
    Bytes body;
  };

  void connect();
  void disconnect();
  void retry_after(Duration delay, bool reset);
  void on_ready(std::uint32_t events);
  void on_connect_decided();
  void on_connected();
  void lost(bool reset, bool refused = false);
  void settle(ZmtpConnection::Io io);
  bool flush();
  bool on_frame(BytesView, bool) override { return true; }  // a session that sends takes none
  [[nodiscard]] bool ready() const { return connection_ && connected_; }

  EventLoop& loop_;
  SenderConfig config_;
  ZmtpConnection::ReadBuffer& buffer_;
  Listener& listener_;
  EventLoop::Hook hook_;
  EventLoop::Timer timer_;  // until the next attempt, or until this one has failed
  Duration backoff_;
  int connecting_fd_ = -1;
  std::unique_ptr<ZmtpConnection> connection_;
  bool connected_ = false;  // and the listener was told
  bool dirty_ = false;      // something was put since the last flush
  std::deque<Queued> queue_;
  std::size_t queued_bytes_ = 0;
};

}  // namespace tdbmesh
