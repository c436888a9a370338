#pragma once
// This process's view of one database's lock table: which chains it holds, how often, and how to get one.
//
// A chain is a robust process-shared mutex in the anchor. If its holder dies, the next one gets it (and what the
// dead one left half done is the store's affair, which finds it by itself). A chain must be released by the thread that took it.
// All chains at once = the all-mutex plus a flag that newcomers respect, plus one sweep over the chains; the
// number of mutexes held stays small, because the kernel only frees the first 2048 of a dead thread.
//
// Fork: the child holds nothing; what it inherited is forgotten at its first call, and the parent keeps its locks.
// Thread: one thread per object.

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "db/anchor.h"
#include "db/base/bytes.h"
#include "db/base/result.h"

namespace tdbmesh {

// Asked at least every 50 ms while a call waits; true ends the wait. Empty = wait as long as it takes.
using StopWaiting = std::function<bool()>;

// How often this process's ancestors forked: differs between a process and its children. Cheap: every call on a
// database asks.
extern std::atomic<std::uint64_t> forks_so_far;  // only for fork_count()
[[nodiscard]] inline std::uint64_t fork_count() { return forks_so_far.load(std::memory_order_relaxed); }

enum class LockRole { Client, Daemon };  // a daemon's locks are not counted as use by clients

class ChainLocks {
 public:
  ChainLocks(const Anchor& anchor, LockRole role);
  ~ChainLocks();  // releases everything
  ChainLocks(const ChainLocks&) = delete;
  ChainLocks& operator=(const ChainLocks&) = delete;

  // Takes a chain, or counts it once more if it is held already. Under lock_all they succeed and do nothing.
  // Busy: held by somebody else (try_lock), or `stop` ended the wait. Refused: the anchor is retired.
  [[nodiscard]] Result<void> lock(std::uint32_t chain, const StopWaiting& stop = {});
  [[nodiscard]] Result<void> try_lock(std::uint32_t chain);
  // Refused if this process does not hold it.
  Result<void> unlock(std::uint32_t chain);

  // All chains. Refused while this process holds single chains; counted when taken again.
  [[nodiscard]] Result<void> lock_all(const StopWaiting& stop = {});
  [[nodiscard]] Result<void> try_lock_all();  // does not wait; Busy leaves nothing held
  Result<void> unlock_all();

  // For a caller that must not wait (the daemon): tries to get all chains except those it holds itself, and
  // keeps what it got when it answers false, so that a later call completes it. Newcomers wait meanwhile.
  [[nodiscard]] bool gather_all();
  void release_gathered();

  [[nodiscard]] bool holds(std::uint32_t chain) { return epoch_when_taken(chain).has_value(); }
  [[nodiscard]] bool holds_all();
  [[nodiscard]] bool holds_any();
  // The epoch of the database when this process took the chain (or all of them); nullopt if not held.
  [[nodiscard]] std::optional<std::uint64_t> epoch_when_taken(std::uint32_t chain) {
    forget_after_fork();
    if (all_count_ > 0) return all_epoch_;
    const Held* held = find(chain);
    return held == nullptr ? std::nullopt : std::optional(held->epoch);
  }
  [[nodiscard]] std::uint64_t client_uses(std::uint32_t chain) const { return anchor_.chain(chain).client_uses.load(); }
  // Thread id of the holder, for people; 0 = free.
  [[nodiscard]] int holder(std::uint32_t chain) const;
  void release_everything();

 private:
  struct Held {
    std::uint32_t chain;
    std::uint32_t count;
    std::uint64_t epoch;
  };
  [[nodiscard]] Held* find(std::uint32_t chain) {
    for (Held& held : held_) {
      if (held.chain == chain) return &held;
    }
    return nullptr;
  }
  void forget_after_fork() {
    if (forks_ != fork_count()) forget_everything();
  }
  void forget_everything();
  Result<void> take(std::uint32_t chain, bool wait, const StopWaiting& stop);
  Result<void> take_all(bool wait, const StopWaiting& stop);
  void free_all_mutex();

  const Anchor& anchor_;
  LockRole role_;
  std::uint64_t forks_;
  std::vector<Held> held_;
  std::uint32_t all_count_ = 0;
  std::uint64_t all_epoch_ = 0;
  bool gathering_ = false;
  std::uint32_t gathered_ = 0;  // chains below are known to be free of others
};

// Robust mutexes of the anchor, for this directory's other files.
void init_shared_mutex(pthread_mutex_t& mutex);
// Waits in slices so that `stop` can end it; false = stopped. A dead owner's mutex is made consistent.
[[nodiscard]] bool lock_shared_mutex(pthread_mutex_t& mutex, const StopWaiting& stop);
[[nodiscard]] bool try_lock_shared_mutex(pthread_mutex_t& mutex);
void unlock_shared_mutex(pthread_mutex_t& mutex);

}  // namespace tdbmesh
