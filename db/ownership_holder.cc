// The holder's part: a record leaves when the lmaster says so, after it was used here, under its chain lock.

#include <algorithm>

#include "db/base/plants.h"
#include "db/ownership.h"

namespace tdbmesh {

using record::Kind;

void Ownership::on_forward(const record::Forward& forward) {
  const Bytes& key = forward.key;
  KeyState& state = state_of(key);
  mark(key, state);
  std::optional<StoredRecord> record;
  if (!readable(key, record)) return;
  bool own = state.arrival || owned_in_store(record);
  const auto miss = [&] {
    outbox_.send(view_.lmaster_of(key), record::Miss{key, forward.to, forward.q, forward.kind});
  };

  if (!own && forward.adopt && forward.after == 0 && record && record->header.rsn == *forward.adopt) {
    // Adopting is accepting a grant of one's own copy. The rsn must be exact: a vacuum may have removed or
    // replaced the copy since this node told of it.
    state.arrival = Arrival{record->header.rsn + 1, true, record->value, false};
    if (state.copy) state.copy->delegated = false;
    tenures_.erase(key);
    ++counters_.adopted;
    note_drain(key);
    own = true;
  }
  if (forward.q == 0) {  // a background settle wanted no more than an owner
    if (!own) miss();
    return;
  }
  const bool awaits = state.out && state.out->kind == Kind::Write && forward.after != 0 &&
                      state.out->q == forward.after;
  if (forward.kind == Kind::Read) {
    if (own && forward.to == self_) {
      if (state.out && state.out->q == forward.q) state.out.reset();  // waiters read it here
    } else if (own || awaits) {
      state.reads.push_back(Successor{forward.to, forward.q});
    } else {
      miss();
    }
    return;
  }
  const auto tenure = tenures_.find(key);
  const record::RequestNumber ten = tenure == tenures_.end() ? 0 : tenure->second;
  if (own && (forward.after == 0 || forward.after == ten)) {
    forward_at_owner(state, forward);
  } else if (awaits) {
    if (state.next) return anomaly({}, "two successors of one request");
    state.next = Successor{forward.to, forward.q};
  } else {
    miss();
  }
}

void Ownership::forward_at_owner(KeyState& state, const record::Forward& forward) {
  if (state.succ) return anomaly({}, "two successors of one tenure");
  if (state.vacuum) give_up_vacuum(forward.key, state);  // a request always wins
  if (forward.to != self_) {
    state.succ = Successor{forward.to, forward.q};
  } else if (state.out && state.out->q == forward.q) {
    begin_tenure(forward.key, state, forward.q);
  } else {
    anomaly({}, "told to hand over to itself for a request it did not make");
  }
}

void Ownership::look_at_pin(const Bytes& key, KeyState& state, Instant now) {
  if (!state.pin) return;
  const bool used = !state.pin->whole_time && database_.client_locks(key) != state.pin->locks;
  if (used || now >= state.pin->until) state.pin.reset();
}

// What goes out under the lock is what the last local writer left behind, not what it was about to replace.
void Ownership::serve_reads(const Bytes& key, KeyState& state, Instant now) {
  if (state.reads.empty() || state.arrival || state.pin || !may_move()) return;
  std::optional<StoredRecord> record;
  if (!readable(key, record)) return store_failed(state, now);
  if (!owned_in_store(record)) return;  // queued for the tenure this node waits for
  if (state.succ && !state.revoke_sent) return;  // answered by the hand-over
  if (!lock_chain(key, state)) return;
  if (!readable(key, record) || !record) {  // once more: a client may have written it until now
    database_.unlock(key);
    return store_failed(state, now);
  }
  for (const Successor& reader : state.reads) {
    ++counters_.reads_out;
    if (delegate_to(key, state, reader, *record, now)) continue;
    outbox_.send(reader.to, record::Copy{key, reader.q, record->header.rsn, false, record->value});
  }
  state.reads.clear();
  database_.unlock(key);
}

void Ownership::hand_over(const Bytes& key, KeyState& state, Instant now) {
  if (!state.succ || state.pin || !may_move()) return;
  if (state.arrival && !state.arrival->store_failed) return;
  const Successor to = *state.succ;
  bool migrated = false;
  Rsn rsn = 0;
  Bytes value;
  if (state.arrival) {
    // It never got into the store here; pass it on as it came. Its backup waits for room.
    rsn = state.arrival->rsn;
    migrated = state.arrival->migrated_with_data || !state.arrival->value.empty() || stored(key).has_value();
    value = std::move(state.arrival->value);
    if (migrated) keep_unstored(key, StoredRecord{RecordHeader{rsn, to.to, kRecordMigratedWithData}, value}, now);
    state.arrival.reset();
    state.retry_at = kNever;
    for (const Successor& reader : state.reads) {
      outbox_.send(reader.to, record::Copy{key, reader.q, rsn, false, value});
    }
  } else {
    if (state.revoke_sent || state.retry_at != kNever || !lock_chain(key, state)) return;
    std::optional<StoredRecord> record;
    if (!readable(key, record)) {  // it is owned, and stays so: the leader was told, and leaves this node out
      database_.unlock(key);
      return store_failed(state, now);
    }
    if (!owned_in_store(record) || (record->header.flags & kRecordHaveDelegations) != 0) {
      database_.unlock(key);
      if (!owned_in_store(record)) {
        state.succ.reset();
        anomaly({}, "an owned record is not in the store");
      }
      return;
    }
    migrated = (record->header.flags & kRecordMigratedWithData) != 0 || !record->value.empty();
    rsn = record->header.rsn;
    // What stays behind is the backup that is adopted if the new owner dies, or if a view change cuts the
    // grant off: same bytes, smaller rsn.
    const auto done = record->value.empty() && !migrated
                          ? database_.erase(key)
                          : database_.store(key, RecordHeader{rsn, to.to, migrated ? kRecordMigratedWithData : 0},
                                            record->value);
    database_.unlock(key);
    if (!done) return store_failed(state, now);
    for (const Successor& reader : state.reads) {
      ++counters_.reads_out;
      outbox_.send(reader.to, record::Copy{key, reader.q, rsn, false, record->value});
    }
    value = std::move(record->value);
  }
  state.reads.clear();
  state.succ.reset();
  if (state.vacuum) give_up_vacuum(key, state);
  tenures_.erase(key);
  deletions_.erase(key);
  ++counters_.handed_over;
  outbox_.send(to.to, record::Grant{key, to.q, rsn + 1, migrated, std::move(value)});
  // Local callers that came meanwhile queue up like everybody.
  if (!state.waiters.empty()) mark(key, state);
}

void Ownership::on_query(Pnn from, const record::Query& query) {
  const auto it = keys_.find(query.key);
  KeyState* state = it == keys_.end() ? nullptr : &it->second;
  if (state != nullptr && state->arrival) {
    outbox_.send(from, record::Answer{query.key, query.round, true, state->arrival->rsn});
    return;
  }
  std::optional<StoredRecord> record;
  if (!readable(query.key, record)) return;
  const bool own = owned_in_store(record);
  if (!own && state != nullptr && state->copy) state->copy->delegated = false;
  const bool ends = !planted(Plant::KeepReadOnlyAtQuery);
  if (ends && !own && record && (record->header.flags & kRecordReadOnlyCopy) != 0) {
    // The answer promises that nobody reads this copy any more, so it waits for the chain lock.
    KeyState& waiting = state_of(query.key);
    waiting.answer = PendingAnswer{from, query.round};
    mark(query.key, waiting);
    return;
  }
  const auto rsn = record ? std::optional<Rsn>(record->header.rsn) : std::nullopt;
  outbox_.send(from, record::Answer{query.key, query.round, own, rsn});
}

void Ownership::settle_pending_answer(const Bytes& key, KeyState& state, Instant now) {
  if (!state.answer || frozen()) return;
  const PendingAnswer pending = *state.answer;
  if (state.arrival) {
    state.answer.reset();
    outbox_.send(pending.to, record::Answer{key, pending.round, true, state.arrival->rsn});
    return;
  }
  if (!clear_read_only(key, state, now)) return;
  state.answer.reset();
  on_query(pending.to, record::Query{key, pending.round});
}

}  // namespace tdbmesh
