#include "db/tdb_shim/held_locks.h"

#include <algorithm>

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

// Leaked with its thread: programs close databases from exit handlers, when thread_local objects are gone.
constinit thread_local HeldLocks* held_locks_of_thread = nullptr;

HeldLocks& new_held_locks() {
  if (held_locks_of_thread == nullptr) {
    held_locks_of_thread = new HeldLocks;
  } else {
    *held_locks_of_thread = HeldLocks();  // what a child inherited is the parent's
  }
  return *held_locks_of_thread;
}

void HeldLocks::add(Handle& handle, bool everything, std::uint32_t chain, BytesView key) {
  if (used_ == locks_.size()) locks_.emplace_back();
  HeldLock& held = locks_[used_++];
  held.handle = &handle;
  held.everything = everything;
  held.chain = chain;
  held.key.assign(key);
  held.count = 1;
  held.lost = false;
}

void HeldLocks::remove(HeldLock& held) {
  HeldLock* last = end() - 1;
  if (&held != last) std::rotate(&held, &held + 1, end());  // seldom: nearly always it is the newest
  --used_;
}

void HeldLocks::remove_all_of(const Handle& handle) {
  const auto kept = std::stable_partition(begin(), end(), [&](const HeldLock& held) { return held.handle != &handle; });
  used_ = static_cast<std::size_t>(kept - begin());
}

HeldLock* find_chain(const Handle& handle, std::uint32_t chain) {
  for (HeldLock& held : held_locks()) {
    if (held.handle == &handle && !held.everything && held.chain == chain) return &held;
  }
  return nullptr;
}

HeldLock* find_everything(const Handle& handle) {
  for (HeldLock& held : held_locks()) {
    if (held.handle == &handle && held.everything) return &held;
  }
  return nullptr;
}

HeldLock* find_cover(const Handle& handle, std::uint32_t chain) {
  HeldLock* found = nullptr;
  for (HeldLock& held : held_locks()) {
    if (held.handle != &handle) continue;
    if (held.everything) return &held;
    if (held.chain == chain) found = &held;
  }
  return found;
}

LocksGivenBack::LocksGivenBack() {
  auto& list = held_locks();
  before_.resize(list.size());
  for (std::size_t i = list.size(); i-- > 0;) {
    HeldLock& held = list.begin()[i];
    if (!held.handle->gated()) continue;
    LmdbDatabase& db = held.handle->database();
    if (db.in_transaction()) continue;  // its writes cannot be laid aside; the daemon waits for them anyway
    Before& before = before_[i];
    before.epoch = db.epoch();
    before.generation = db.generation();
    if (held.everything) {
      before.given_back = db.locks().unlock_all().has_value();
    } else {
      if (auto value = db.fetch(held.key)) before.value = std::move(*value);
      before.given_back = db.locks().unlock(held.chain).has_value();
    }
  }
}

LocksGivenBack::~LocksGivenBack() {
  auto& list = held_locks();
  for (std::size_t i = 0; i < before_.size() && i < list.size(); ++i) {
    const Before& before = before_[i];
    if (!before.given_back) continue;
    HeldLock& held = list.begin()[i];
    LmdbDatabase& db = held.handle->database();
    const auto taken = held.everything ? db.locks().lock_all() : db.locks().lock(held.chain);
    if (!taken || db.epoch() != before.epoch) {
      held.lost = true;
    } else if (db.generation() != before.generation) {
      const auto now = held.everything ? Result<std::optional<Bytes>>(std::nullopt) : db.fetch(held.key);
      if (held.everything || !now || *now != before.value) held.lost = true;
    }
  }
}

}  // namespace tdbmesh::shim
