#include "db/tdb_shim/held_locks.h"

#include <algorithm>

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

std::vector<HeldLock>& held_locks() {
  // Leaked with its thread: programs close databases from exit handlers, when thread_local objects are gone.
  thread_local std::vector<HeldLock>* list = nullptr;
  thread_local std::uint64_t forks = 0;
  if (list == nullptr || forks != fork_count()) {
    if (list == nullptr) list = new std::vector<HeldLock>;
    list->clear();
    forks = fork_count();
  }
  return *list;
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

void forget_lock(HeldLock& held) {
  auto& list = held_locks();
  if (&held == &list.back()) return list.pop_back();  // nearly always
  list.erase(list.begin() + (&held - list.data()));
}

void forget_locks_of(const Handle& handle) {
  auto& list = held_locks();
  list.erase(std::remove_if(list.begin(), list.end(), [&](const HeldLock& held) { return held.handle == &handle; }),
             list.end());
}

LocksGivenBack::LocksGivenBack() {
  auto& list = held_locks();
  before_.resize(list.size());
  for (std::size_t i = list.size(); i-- > 0;) {
    HeldLock& held = list[i];
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
    HeldLock& held = list[i];
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
