#pragma once
// The real-time thread of heartbeats. It drives HeartbeatCore (transport/heartbeat_core.h), alone sends and
// receives its packets, and alone renews the gate, so that a busy event loop delays none of these.
//
// Own ZeroMQ context, sockets and connections at the node port + 1, with the same key and the same guard as
// the mesh. Heartbeats are never queued while there is no connection, and a connection that has been silent
// for a second is made anew, so that TCP's growing pauses never delay the return of a peer.
//
// Threads: SCHED_FIFO 10; if that is not allowed nice -20; if that is not either, as it is. scheduling()
// says which, for the log. Memory is locked as far as allowed. The core is guarded by one mutex; both sides
// hold it for single calls only. Everything in the section "loop side" may be called from the event loop's
// thread; `write_gate` is called on the heartbeat thread.
//
// Event loop: watch wake_fd() for readability; when it is, call take_wake() and look at with_core(snapshot).

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "transport/cluster_key.h"
#include "transport/heartbeat_core.h"
#include "transport/peer_address.h"

namespace tdbmesh {

struct HeartbeatOptions {
  Pnn self{0};
  Incarnation incarnation = 0;
  std::string address;
  std::uint16_t port = 4380;
  std::vector<PeerAddress> peers;  // an entry for `self` is skipped
  std::optional<ClusterKey> key;
  Timing timing;
  // EventLoop::turns(): grows while the event loop makes progress. Must outlive the thread. Without one
  // (empty) the loop counts as always alive.
  std::function<std::uint64_t()> loop_turns;
  // Opens or closes the gate: called on the heartbeat thread whenever the deadline changes. Instant::min()
  // means closed. Must be quick and must not take locks. May be empty.
  std::function<void(Instant open_until)> write_gate;
};

class HeartbeatThread {
 public:
  // Binds and starts the thread. Fails when the address cannot be bound.
  static Result<std::unique_ptr<HeartbeatThread>> start(HeartbeatOptions options);
  ~HeartbeatThread();  // closes the gate (write_gate(Instant::min())) and joins
  HeartbeatThread(const HeartbeatThread&) = delete;
  HeartbeatThread& operator=(const HeartbeatThread&) = delete;

  // ---- loop side ----
  // Calls `use` with the core, under its mutex. Keep it short.
  template <class Use>
  auto with_core(Use&& use) {
    const Locked locked(*this);
    return use(locked.core());
  }
  // Like with_core, and makes the thread write the gate at once: for permit_gate() and close_gate(). When it
  // returns after close_gate(), the gate is closed.
  void close_gate();
  void set_peers(const std::vector<PeerAddress>& peers, Instant now);

  // Readable when something that the loop decides on has changed, a peer fell silent or the gate lapsed.
  [[nodiscard]] int wake_fd() const;
  void take_wake();  // makes it unreadable again

  // "SCHED_FIFO 10, memory locked" or what the system allowed instead, for the log.
  [[nodiscard]] std::string scheduling() const;
  // Lines for the log since the last call: refused connections and the like. Rate-limited.
  [[nodiscard]] std::vector<std::string> take_reports();

 private:
  class Impl;
  class Locked {
   public:
    explicit Locked(HeartbeatThread& thread);
    ~Locked();
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    [[nodiscard]] HeartbeatCore& core() const;

   private:
    HeartbeatThread& thread_;
  };
  explicit HeartbeatThread(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tdbmesh
