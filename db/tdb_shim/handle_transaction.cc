// Transactions: all chains are taken and one LMDB transaction is open from start to commit. (Samba never does
// this on a database of the cluster, its commits travel to the daemon; tools may, on persistent databases.)

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

bool Handle::transaction_active() { return transaction_.depth > 0; }

int Handle::transaction_start(Wait wait) {
  if (read_only_ || (flags_ & TDB_INTERNAL) != 0 || reading_walks_ > 0) return fail(TDB_ERR_EINVAL);
  if (transaction_.depth > 0) {
    if ((flags_ & TDB_ALLOW_NESTING) == 0) return fail(TDB_ERR_NESTING);
    ++transaction_.depth;
    return 0;
  }
  if (holds_locks() || all_ || writing_walks_ > 0) return fail(TDB_ERR_LOCK);
  for (;;) {
    const auto taken = wait == Wait::Yes ? db_->locks().lock_all(stop_waiting()) : db_->locks().try_lock_all();
    if (!taken) {
      fail(taken.error());
      return taken.error().fault == Fault::Busy && wait == Wait::No ? fail(TDB_ERR_NOLOCK) : -1;
    }
    if (gate_open()) break;
    (void)db_->locks().unlock_all();
    if (wait == Wait::No) return fail(TDB_ERR_NOLOCK);
    if (!wait_for_gate()) return -1;
  }
  const auto begun = wait == Wait::Yes ? db_->begin(stop_waiting()) : db_->try_begin();
  if (!begun) {
    (void)db_->locks().unlock_all();
    fail(begun.error());
    return begun.error().fault == Fault::Busy && wait == Wait::No ? fail(TDB_ERR_NOLOCK) : -1;
  }
  transaction_ = {};
  transaction_.depth = 1;
  return 0;
}

void Handle::end_transaction() {
  transaction_ = {};
  all_count_ = 0;
  (void)db_->locks().unlock_all();
}

int Handle::transaction_prepare_commit() {
  if (transaction_.depth == 0) return -1;
  if (transaction_.poisoned) {
    (void)transaction_cancel();
    return fail(TDB_ERR_EINVAL);
  }
  if (transaction_.depth > 1) return 0;
  if (transaction_.changed) transaction_.prepared = true;
  return 0;
}

int Handle::transaction_commit() {
  if (transaction_.depth == 0) return -1;
  if (transaction_.poisoned) {
    db_->cancel();
    end_transaction();
    return fail(TDB_ERR_IO);
  }
  if (transaction_.depth > 1) {
    --transaction_.depth;
    return 0;
  }
  const auto committed = db_->commit();
  if (committed) {
    for (; transaction_.bumps > 0; --transaction_.bumps) db_->bump_seqnum();
  }
  end_transaction();
  return committed ? 0 : fail(committed.error());
}

int Handle::transaction_cancel() {
  if (transaction_.depth == 0) return -1;
  if (transaction_.depth > 1) {
    transaction_.poisoned = true;
    --transaction_.depth;
    return 0;
  }
  db_->cancel();
  end_transaction();
  return 0;
}

}  // namespace tdbmesh::shim
