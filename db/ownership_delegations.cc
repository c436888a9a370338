// Read-only copies: the owner of a record in a READONLY database lets readers keep one, and takes all of
// them back before the record changes or moves.

#include <algorithm>

#include "db/base/plants.h"
#include "db/ownership.h"

namespace tdbmesh {

using record::Kind;

bool Ownership::writer_waits(const KeyState& state) {
  return std::any_of(state.waiters.begin(), state.waiters.end(),
                     [](const Waiter& waiter) { return waiter.kind == Kind::Write; });
}

bool Ownership::delegate_to(const Bytes& key, KeyState& state, const Successor& reader, StoredRecord& record,
                            Instant now) {
  if (!readonly_ || drain_ || record.value.empty() || state.succ || state.revoke_sent || writer_waits(state)) return false;
  if (state.vacuum) give_up_vacuum(key, state);
  const Rsn given = record.header.rsn;
  RecordHeader header = record.header;
  header.rsn = given + 1;  // so that the owner's is above every copy's
  header.flags |= kRecordMigratedWithData | kRecordHaveDelegations;
  if (!database_.store(key, header, record.value)) {
    store_failed(state, now);
    return false;
  }
  record.header = header;
  state.delegates.insert(reader.to);
  ++counters_.delegations;
  outbox_.send(reader.to, record::Copy{key, reader.q, given, true, record.value});
  return true;
}

void Ownership::revoke_if_wanted(const Bytes& key, KeyState& state, Instant now) {
  if (state.arrival) return;
  if (!state.revoke_sent) {
    if (state.delegates.empty() || !may_move()) return;
    if (!state.succ && !writer_waits(state)) return;
    ++counters_.revocations;
    state.revoke_sent = true;
    state.revoking = state.delegates;
    if (planted(Plant::SkipRevocation)) state.revoking.clear();
    for (const Pnn delegate : state.revoking) outbox_.send(delegate, record::Revoke{key});
  }
  if (!state.revoking.empty()) return;
  if (state.retry_at != kNever || !lock_chain(key, state)) return;
  auto record = database_.fetch(key);
  Result<void> done;
  if (!record) {
    done = tl::unexpected<Error>(record.error());
  } else if (owned_in_store(*record)) {
    StoredRecord& own = **record;
    own.header.flags &= ~kRecordHaveDelegations;
    done = database_.store(key, own.header, own.value);
  }
  database_.unlock(key);
  if (!done) return store_failed(state, now);
  state.delegates.clear();
  state.revoke_sent = false;
}

void Ownership::on_revoked(Pnn from, const record::Revoked& revoked) {
  const auto it = keys_.find(revoked.key);
  if (it == keys_.end() || !it->second.revoke_sent) return;
  it->second.revoking.erase(from);
  mark(it->first, it->second);
}

void Ownership::on_revoke(Pnn from, const record::Revoke& revoke) {
  KeyState& state = state_of(revoke.key);
  if (state.copy) state.copy->delegated = false;  // a copy that still waits for the lock is revoked as well
  state.revoked_for = from;
  mark(revoke.key, state);
}

void Ownership::end_read_only_copy(const Bytes& key, KeyState& state, Instant now) {
  if (!state.revoked_for || frozen()) return;
  if (!clear_read_only(key, state, now)) return;
  outbox_.send(*state.revoked_for, record::Revoked{key});
  state.revoked_for.reset();
}

// False: not yet.
bool Ownership::clear_read_only(const Bytes& key, KeyState& state, Instant now) {
  if (state.retry_at != kNever) return false;
  auto found = database_.fetch(key);
  if (!found) {  // unreadable is not absent: clients may read the copy again in a moment
    store_failed(state, now);
    return false;
  }
  std::optional<StoredRecord> record = std::move(*found);
  if (!record || owned_in_store(record) || (record->header.flags & kRecordReadOnlyCopy) == 0) return true;
  if (!lock_chain(key, state)) return false;
  record->header.flags &= ~kRecordReadOnlyCopy;
  const auto done = database_.store(key, record->header, record->value);
  database_.unlock(key);
  if (!done) store_failed(state, now);
  return done.has_value();
}

}  // namespace tdbmesh
