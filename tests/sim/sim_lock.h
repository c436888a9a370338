#pragma once
// The cluster lock of a simulated cluster of two: a file system that frees a dead (or unreachable) holder's lock
// after a while, and a register in which anybody can write its own slot, also late, after it lost the lock.

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "db/base/bytes.h"
#include "tests/sim/world.h"

namespace tdbmesh::sim {

class SimLock {
 public:
  using Holder = std::pair<Pnn, std::uint64_t>;  // node and life of its daemon

  explicit SimLock(World& world) : world_(world) {
    if (world.random().chance(2)) freed_after_ = seconds(3);
  }

  // A helper tries to take it.
  [[nodiscard]] bool take(Holder who) {
    if (cut_.contains(who.first) || (holder_ && *holder_ != who)) return false;
    holder_ = who;
    return true;
  }
  void let_go(Holder who) {
    if (holder_ != who) return;
    left_behind_ = world_.now() < stuck_until_;
    if (!left_behind_) return holder_.reset();
    world_.after(stuck_until_ - world_.now(), [this, who] { let_go(who); });
  }
  // The holder died, or the service does not reach it any more.
  void freed_by_death(Holder who) {
    world_.after(freed_after_, [this, who] { let_go(who); });
  }

  // For so long the service does not notice that a holder is gone.
  void stick(Duration time) { stuck_until_ = std::max(stuck_until_, world_.now() + time); }

  // The node's file system hangs.
  void cut(Pnn pnn, bool on) { on ? (void)cut_.insert(pnn) : (void)cut_.erase(pnn); }
  [[nodiscard]] bool is_cut(Pnn pnn) const { return cut_.contains(pnn); }
  void heal() {
    cut_.clear();
    stuck_until_ = Instant{};
    if (std::exchange(left_behind_, false)) holder_.reset();
  }
  [[nodiscard]] std::optional<Holder> holder() const { return holder_; }

  void write(Pnn pnn, Bytes slot) { slots_[pnn] = std::move(slot); }
  [[nodiscard]] const std::map<Pnn, Bytes>& slots() const { return slots_; }

 private:
  World& world_;
  Duration freed_after_{milliseconds(200)};
  std::optional<Holder> holder_;
  Instant stuck_until_{};
  bool left_behind_ = false;  // by the holder, while it was stuck
  std::map<Pnn, Bytes> slots_;
  std::set<Pnn> cut_;
};

}  // namespace tdbmesh::sim
