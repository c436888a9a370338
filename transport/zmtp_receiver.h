#pragma once
// The door of a node: listens at its address and receives from those who may come in: who calls from the address of a
// configured peer and, if there is a key, proves to hold it. Who a message is from is what its connection says.
//
// Everybody can knock, so whoever has not said who he is yet costs little: a limited time, one small frame of memory, and
// limited places, with those of peers' addresses kept apart from those of strangers, who cannot take them away.
//
// A peer has one connection here. When it makes a new one, what is left in the older one is read first. Belongs to the
// event loop's thread.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "transport/access_list.h"
#include "transport/curve.h"
#include "transport/event_loop.h"
#include "transport/zmtp_connection.h"

namespace tdbmesh {

struct ReceiverConfig {
  std::string address;  // own, numeric
  std::uint16_t port = 0;
  std::optional<zmtp::CurvePair> key;
  std::size_t most_bytes = 0;  // of one frame
};

class ZmtpReceiver {
 public:
  // Called from the event loop only.
  class Listener {
   public:
    virtual ~Listener() = default;
    // The view ends with the call. `from` is who the connection belongs to, `address` where it comes from. Of a message of
    // several frames, which no node sends, nothing is left.
    virtual void on_message(Pnn from, const std::string& address, BytesView message) = 0;
    virtual void on_refused(const Rejection& rejection) = 0;
  };

  static constexpr std::size_t kMostStrangers = 64;  // at once, that have not said who they are
  static constexpr std::size_t kMostPerPeer = 8;     // as many from each peer's address

  // Errors say what to do. Everything referred to must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<ZmtpReceiver>> open(EventLoop& loop, ReceiverConfig config,
                                                                  const AccessList& access,
                                                                  ZmtpConnection::ReadBuffer& buffer, Listener& listener);
  ~ZmtpReceiver();
  ZmtpReceiver(const ZmtpReceiver&) = delete;
  ZmtpReceiver& operator=(const ZmtpReceiver&) = delete;

  // The access list has changed: ends connections of those who are not on it any more.
  void recheck();

 private:
  class Caller;

  ZmtpReceiver(EventLoop& loop, ReceiverConfig config, const AccessList& access, ZmtpConnection::ReadBuffer& buffer,
               Listener& listener);
  void accept_callers();
  void pause_accepting();
  void begin(int fd, const std::string& address);
  [[nodiscard]] bool has_room_for(const std::optional<Pnn>& pnn);
  void on_ready(Caller& caller, std::uint32_t events);
  void admit(Caller& caller);
  void refuse(Caller& caller, const std::string& why);
  void end(Caller& caller);

  EventLoop& loop_;
  ReceiverConfig config_;
  const AccessList& access_;
  ZmtpConnection::ReadBuffer& buffer_;
  Listener& listener_;
  int listen_fd_ = -1;
  EventLoop::Timer accept_again_;
  EventLoop::Hook hook_;
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, std::unique_ptr<Caller>> callers_;  // in order of their coming
  std::vector<std::unique_ptr<Caller>> ended_;                // kept to the end of the turn: one may be at work
};

}  // namespace tdbmesh
