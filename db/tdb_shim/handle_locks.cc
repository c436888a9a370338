// Chain locks and the lock on everything: libtdb's rules of counting, upgrading and refusing, on top of the
// lock table of the anchor. A read lock is taken as an exclusive one.

#include <algorithm>

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

namespace {
BytesView view(TDB_DATA data) {
  return data.dptr == nullptr ? BytesView{} : BytesView(reinterpret_cast<const char*>(data.dptr), data.dsize);
}
}  // namespace

bool Handle::holds_locks() {
  auto& held = held_locks();
  return !marks_.empty() || all_marks_ > 0 ||
         std::any_of(held.begin(), held.end(), [this](const HeldLock& lock) { return lock.handle == this; });
}

int Handle::chainlock(TDB_DATA key, Lock kind, Wait wait) {
  if (no_locks()) return 0;
  if (all_) return *all_ == Lock::Write || kind == Lock::Read ? 0 : fail(TDB_ERR_LOCK);
  if (all_marks_ > 0 || transaction_.depth > 0) return 0;  // a transaction has every chain
  if (kind == Lock::Write && reading_walks_ > 0) return fail(TDB_ERR_RDONLY);
  const std::uint32_t chain = db_->chain_of(view(key));
  HeldLocks& locks = held_locks();
  if (HeldLock* held = find_chain(*this, chain)) {
    ++held->count;
    return 0;
  }
  for (;;) {
    const auto taken = wait == Wait::Yes ? db_->locks().lock(chain, stop_waiting()) : db_->locks().try_lock(chain);
    if (!taken) return fail(taken.error());
    if (!gated() || gate_not_shut()) break;
    (void)db_->locks().unlock(chain);
    if (wait == Wait::No) return fail(TDB_ERR_LOCK);
    if (!wait_for_gate()) return -1;
  }
  locks.add(*this, false, chain, view(key));
  return 0;
}

int Handle::chainunlock(TDB_DATA key, Lock kind) {
  if (no_locks() || all_marks_ > 0 || transaction_.depth > 0) return 0;
  if (all_) return *all_ == Lock::Write || kind == Lock::Read ? 0 : -1;
  HeldLock* held = newest_lock_with(*this, view(key));
  if (held == nullptr) held = find_chain(*this, db_->chain_of(view(key)));
  if (held == nullptr) return -1;
  if (--held->count > 0) return 0;
  (void)db_->locks().unlock(held->chain);
  held_locks().remove(*held);
  return 0;
}

int Handle::chainlock_mark(TDB_DATA key) {
  if (no_locks()) return 0;
  marks_.push_back(db_->chain_of(view(key)));
  return 0;
}

int Handle::chainlock_unmark(TDB_DATA key) {
  if (no_locks()) return 0;
  const auto found = std::find(marks_.begin(), marks_.end(), db_->chain_of(view(key)));
  if (found == marks_.end()) return -1;
  marks_.erase(found);
  return 0;
}

int Handle::lockall(Lock kind, Wait wait) {
  if (no_locks() || reading_walks_ > 0) return fail(TDB_ERR_LOCK);
  if (transaction_.depth > 0) return kind == Lock::Write ? (++all_count_, 0) : fail(TDB_ERR_LOCK);
  if (all_) {
    if (*all_ != kind) return fail(TDB_ERR_LOCK);
    ++all_count_;
    return 0;
  }
  if (holds_locks() || writing_walks_ > 0) return fail(TDB_ERR_LOCK);
  for (;;) {
    const auto taken = wait == Wait::Yes ? db_->locks().lock_all(stop_waiting()) : db_->locks().try_lock_all();
    if (!taken) return fail(taken.error());
    if (!gated() || gate_open()) break;
    (void)db_->locks().unlock_all();
    if (wait == Wait::No) return fail(TDB_ERR_LOCK);
    if (!wait_for_gate()) return -1;
  }
  held_locks().add(*this, true, 0, {});
  all_ = kind;
  all_count_ = 1;
  return 0;
}

int Handle::unlockall(Lock kind) {
  if (transaction_.depth > 0 && kind == Lock::Write && all_count_ > 0) return --all_count_, 0;
  if (no_locks() || !all_ || *all_ != kind) return fail(TDB_ERR_LOCK);
  if (--all_count_ > 0) return 0;
  (void)db_->locks().unlock_all();
  all_.reset();
  if (HeldLock* held = find_everything(*this)) held_locks().remove(*held);
  return 0;
}

int Handle::lockall_mark() {
  if (no_locks() || reading_walks_ > 0) return fail(TDB_ERR_LOCK);
  if (all_marks_ == 0 && (holds_locks() || all_)) return fail(TDB_ERR_LOCK);
  ++all_marks_;
  return 0;
}

int Handle::lockall_unmark() {
  if (all_marks_ == 0) return fail(TDB_ERR_LOCK);
  --all_marks_;
  return 0;
}

int Handle::with_chain(BytesView key, int (*write)(void*), void* argument) {
  const HeldLock* held = newest_lock_with(*this, key);
  const std::uint32_t chain = held != nullptr ? held->chain : db_->chain_of(key);
  if (held == nullptr) held = find_cover(*this, chain);
  const auto marked = [&] { return all_marks_ > 0 || std::find(marks_.begin(), marks_.end(), chain) != marks_.end(); };
  if (held != nullptr || transaction_.depth > 0 || marked()) {
    // The lock is the caller's. If the gate is closed it is given back for the wait, and looked at afterwards.
    if (transaction_.depth == 0 && !gate_open()) {
      if (!wait_for_gate()) return -1;
      held = find_cover(*this, chain);
    }
    if (held != nullptr && held->lost) {
      return cut_off("a lock was lost while this node was cut off: the record changed, nothing is stored");
    }
    return write(argument);
  }
  for (;;) {
    const auto taken = db_->locks().lock(chain, stop_waiting());
    if (!taken) return fail(taken.error());
    if (gate_open()) break;
    (void)db_->locks().unlock(chain);
    if (!wait_for_gate()) return -1;
  }
  const int result = write(argument);
  (void)db_->locks().unlock(chain);
  return result;
}

}  // namespace tdbmesh::shim
