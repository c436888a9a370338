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

// This thread's locks, oldest first.
[[nodiscard]] std::vector<HeldLock>& held_locks();
[[nodiscard]] HeldLock* find_chain(const Handle& handle, std::uint32_t chain);
[[nodiscard]] HeldLock* find_everything(const Handle& handle);
// Either of them, the lock on everything first.
[[nodiscard]] HeldLock* find_cover(const Handle& handle, std::uint32_t chain);
void forget_lock(HeldLock& held);
void forget_locks_of(const Handle& handle);

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
