#pragma once
// The chain locks that this thread holds through the shim, over all databases, in the order it took them.
//
// While the gate is closed nobody may sit on chain locks: the daemon needs every chain to empty a database
// after the node was removed from the cluster, and only then the gate opens again. So a store that meets a closed
// gate gives back all chains of volatile databases, waits, takes them again in the same order and looks whether
// its records are still what they were. If one is not, that lock is lost: stores under it fail.
//
// Thread: each has a list of its own, because a chain must be released by the thread that took it. Fork: a
// child starts with an empty list.

#include <cstdint>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/chain_locks.h"
#include "db/record_heap.h"

namespace tdbmesh::shim {

class Handle;

struct HeldLock {
  Handle* handle = nullptr;
  bool everything = false;   // tdb_lockall; `chain` and `key` mean nothing then
  std::uint32_t chain = 0;
  Bytes key;                 // the one it was taken with
  int count = 1;
  bool lost = false;         // others may have written meanwhile
};

// A list that keeps the memory of the keys of locks that are over: to lock and unlock allocates nothing.
class HeldLocks {
 public:
  HeldLocks() : forks_(fork_count()) {}
  [[nodiscard]] HeldLock* begin() { return locks_.data(); }
  [[nodiscard]] HeldLock* end() { return locks_.data() + used_; }
  [[nodiscard]] std::size_t size() const { return used_; }
  void add(Handle& handle, bool everything, std::uint32_t chain, BytesView key);
  void remove(HeldLock& held);
  void remove_all_of(const Handle& handle);
  [[nodiscard]] bool of_this_process() const { return forks_ == fork_count(); }

 private:
  std::vector<HeldLock> locks_;  // the first `used_` are held
  std::size_t used_ = 0;
  std::uint64_t forks_;
};

// This thread's locks, oldest first. Every call on a record asks for them: a thread-local variable that is found without a call.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local HeldLocks* held_locks_of_thread;
[[nodiscard]] HeldLocks& new_held_locks();
[[nodiscard]] inline HeldLocks& held_locks() {
  HeldLocks* list = held_locks_of_thread;
  return list != nullptr && list->of_this_process() ? *list : new_held_locks();
}
[[nodiscard]] HeldLock* find_chain(const Handle& handle, std::uint32_t chain);
// The newest lock, if it was taken with this key: the usual case, and told without the key's hash.
[[nodiscard]] inline HeldLock* newest_lock_with(const Handle& handle, BytesView key) {
  HeldLocks& locks = held_locks();
  if (locks.size() == 0) return nullptr;
  HeldLock& newest = *(locks.end() - 1);
  return newest.handle == &handle && !newest.everything && same_key(newest.key, key) ? &newest : nullptr;
}
[[nodiscard]] HeldLock* find_everything(const Handle& handle);
// Either of them, the lock on everything first.
[[nodiscard]] HeldLock* find_cover(const Handle& handle, std::uint32_t chain);

// Gives back this thread's locks on volatile databases for the life of the object, then takes them again.
class LocksGivenBack {
 public:
  LocksGivenBack();
  ~LocksGivenBack();
  LocksGivenBack(const LocksGivenBack&) = delete;
  LocksGivenBack& operator=(const LocksGivenBack&) = delete;

 private:
  struct Before {
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    std::optional<Bytes> value;
    bool given_back = false;
  };
  std::vector<Before> before_;  // parallel to held_locks()
};

}  // namespace tdbmesh::shim
