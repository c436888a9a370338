#pragma once
// The real-time thread of heartbeats. It drives HeartbeatCore (transport/heartbeat_core.h), alone sends and
// receives its packets, and alone renews the gate, so that a busy event loop delays none of these.
//
// An event loop, a door and connections of its own at the node port + 1, made of the mesh's parts, with the same key.
// Heartbeats are never queued while there is no connection, and a connection that has been silent
// for a second, and for longer than a member may be, is made anew, so that TCP's growing pauses never delay the return
// of a peer.
//
// Threads: SCHED_FIFO 10; if that is not allowed nice -20; if that is not either, as it is. scheduling()
// says which, for the log. Memory is locked as far as allowed. The core is guarded by one mutex; both sides
// hold it for single calls only. Everything in the section "loop side" may be called from the event loop's
// thread; `write_gate` is called on the heartbeat thread and in close_gate() and permit_gate(), under the mutex.
//
// Event loop: watch wake_fd() for readability; when it is, call take_wake() and look at snapshot().

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
  bool realtime = true;  // false: ordinary scheduling, nothing is asked of the system
  // EventLoop::turns(): grows while the event loop makes progress. Must outlive the thread. Without one
  // (empty) the loop counts as always alive.
  std::function<std::uint64_t()> loop_turns;
  // Opens or closes the gate, whenever the deadline changes. Instant::min() means closed. `generation` is
  // that of the last permit_gate(). Must be quick and must not take locks. May be empty.
  std::function<void(Instant open_until, Generation generation)> write_gate;
};

class HeartbeatThread {
 public:
  // Binds and starts the thread. Fails when the address cannot be bound.
  static Result<std::unique_ptr<HeartbeatThread>> start(HeartbeatOptions options);
  ~HeartbeatThread();  // joins and closes the gate
  HeartbeatThread(const HeartbeatThread&) = delete;
  HeartbeatThread& operator=(const HeartbeatThread&) = delete;

  // ---- loop side ----
  // Calls `use` with the core, under its mutex. Keep it short. For set_support, set_voters,
  // set_announcement, set_link_count; the calls below have members of their own here.
  template <class Use>
  auto with_core(Use&& use) {
    const Locked locked(*this);
    return use(locked.core());
  }
  // What is known of the peers. Nothing while the thread itself has not looked for more than half the silence
  // (the process was paused, the machine slept): then nobody may be judged; the wake-up comes when it has.
  [[nodiscard]] std::optional<HeartbeatTable> snapshot(Instant now);
  // The gate may open for this view; also for each later view that keeps the node's continuity.
  void permit_gate(Generation generation);
  // When it returns, the gate is closed and stays so until the next permit_gate().
  void close_gate();
  // The new list of all nodes.
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
