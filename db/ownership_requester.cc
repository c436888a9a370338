// The requester's part: local calls wait for a record to arrive, one request per key under way.

#include <algorithm>

#include "db/base/plants.h"
#include "db/ownership.h"

namespace tdbmesh {

using record::Kind;

namespace {
constexpr std::size_t kMaxPlainReads = 4096;  // keys remembered; forgetting them costs a few plain reads
constexpr std::size_t kMaxArrivals = 512;
constexpr std::size_t kMaxDeletions = 1u << 20;
}  // namespace

void Ownership::on_grant(Pnn from, const record::Grant& grant) {
  const bool of_any_request = planted(Plant::AcceptOldGrant) || planted(Plant::SkipGenerationCheck);
  if (of_any_request && !owned_in_store(stored(grant.key))) {
    KeyState& state = state_of(grant.key);
    if (state.out && !state.arrival) state.out->q = grant.q;
    if (!state.out) state.out = Outstanding{grant.q, Kind::Write};
  }
  const auto it = keys_.find(grant.key);
  if (it == keys_.end() || !it->second.out || it->second.out->q != grant.q || it->second.arrival ||
      owned_in_store(stored(grant.key))) {
    return anomaly(from, "a grant that nobody here waits for");
  }
  KeyState& state = it->second;
  // Accepted, and therefore owned, from here on, however long the chain lock takes.
  state.arrival = Arrival{grant.rsn, grant.migrated_with_data, grant.value, false};
  ++counters_.grants_in;
  note_drain(grant.key);
  begin_tenure(grant.key, state, grant.q);
  mark(grant.key, state);
}

void Ownership::begin_tenure(const Bytes& key, KeyState& state, record::RequestNumber q) {
  tenures_[key] = q;
  state.out.reset();
  state.succ = state.next;
  state.next.reset();
}

void Ownership::on_copy(Pnn from, const record::Copy& copy) {
  const auto it = keys_.find(copy.key);
  if (it == keys_.end() || !it->second.out || it->second.out->q != copy.q || it->second.copy) {
    return anomaly(from, "a copy that nobody here waits for");
  }
  it->second.copy = ArrivedCopy{from, copy.q, copy.rsn, copy.delegated, copy.value};
  ++counters_.reads_in;
  mark(it->first, it->second);
}

void Ownership::store_arrival(const Bytes& key, KeyState& state, Instant now) {
  if (!state.arrival || state.retry_at != kNever || !lock_chain(key, state)) return;
  const std::uint32_t flags = state.arrival->migrated_with_data ? kRecordMigratedWithData : 0;
  const auto done = database_.store(key, RecordHeader{state.arrival->rsn, self_, flags}, state.arrival->value);
  database_.unlock(key);
  if (!done) {
    // The record stays ours, in memory; whoever waits for it is told, and may leave.
    state.arrival->store_failed = true;
    store_failed(state, now);
    for (const Waiter& waiter : state.waiters) {
      calls_.erase(waiter.call);
      outbox_.act(AnswerCall{waiter.call, -1, {}, {}, done.error().context});
    }
    state.waiters.clear();
    return;
  }
  forget_unstored(key);
  if (state.arrival->value.empty()) remember_deletion(key, now);
  state.arrival.reset();
  note_arrival(key);
}

void Ownership::use_copy(const Bytes& key, KeyState& state) {
  if (!state.copy || !gate_open_) return;
  ArrivedCopy& copy = *state.copy;
  StoredRecord answer{RecordHeader{copy.rsn, copy.from, 0}, copy.value};
  bool kept = false;
  if (copy.delegated && !state.arrival) {
    if (!lock_chain(key, state)) return;
    const auto have = stored(key);
    if (!owned_in_store(have) && (!have || have->header.rsn < copy.rsn)) {
      answer.header.flags = kRecordReadOnlyCopy | kRecordMigratedWithData;
      // Without room for a copy it is a plain read.
      kept = database_.store(key, answer.header, answer.value).has_value();
      if (kept) forget_unstored(key);
    }
    database_.unlock(key);
  }
  if (kept) plain_reads_.erase(key);
  // Callers that came after the request went out may have seen newer things happen: unless the copy is kept
  // coherent, they need an answer of their own.
  const record::RequestNumber q = copy.q;
  for (const Waiter& waiter : state.waiters) {
    if (waiter.kind != Kind::Read || (!kept && waiter.not_before > q)) continue;
    calls_.erase(waiter.call);
    outbox_.act(AnswerCall{waiter.call, 0, answer.header, answer.value, {}});
  }
  std::erase_if(state.waiters, [&](const Waiter& waiter) {
    return waiter.kind == Kind::Read && (kept || waiter.not_before <= q);
  });
  state.copy.reset();
  state.out.reset();
}

void Ownership::serve_waiters(const Bytes& key, KeyState& state, Instant now) {
  if (state.waiters.empty() || !gate_open_ || state.arrival) return;
  const auto record = stored(key);
  const bool own = owned_in_store(record);
  const std::uint32_t flags = record ? record->header.flags : 0;
  const bool readers = own || (record && (flags & kRecordReadOnlyCopy) != 0);
  const bool writers = own && (flags & kRecordHaveDelegations) == 0;
  bool pin = false;
  std::erase_if(state.waiters, [&](const Waiter& waiter) {
    if (!(waiter.kind == Kind::Read ? readers : writers)) return false;
    pin = pin || waiter.kind == Kind::Write;
    calls_.erase(waiter.call);
    outbox_.act(AnswerCall{waiter.call, 0, record->header, record->value, {}});
    return true;
  });
  if (pin) {
    // The record stays until the client had the lock: otherwise it could hop around without ever being used.
    const bool stick = sticks(key, now);
    state.pin = Pin{database_.client_locks(key), now + (stick ? settings_.sticky_pindown : settings_.pin_limit),
                    stick};
  }
  if (!state.waiters.empty() && !own) ask_for(key, state);
}

void Ownership::ask_for(const Bytes& key, KeyState& state) {
  if (state.out || !may_move() || drain_) return;
  const bool writer = writer_waits(state);
  Kind kind = writer ? Kind::Write : Kind::Read;
  if (writer) {
    plain_reads_.erase(key);
  } else {
    if (plain_reads_.size() >= kMaxPlainReads) plain_reads_.clear();
    // A node that reads again and again is better off with the record itself.
    if (++plain_reads_[key] > settings_.plain_reads) {
      kind = Kind::Write;
      plain_reads_.erase(key);
    }
  }
  state.out = Outstanding{next_request_, kind};
  outbox_.send(view_.lmaster_of(key), record::Request{key, next_request_, kind});
  ++next_request_;
}

// Counts arrivals per key in bounded memory: when it is full all counts are halved and zeros forgotten, so that what
// stays is hot. Not more often than each entry has its turn, or every arrival would pay for looking at all of them.
void Ownership::note_arrival(const Bytes& key) {
  ++arrivals_since_halving_;
  if (const auto it = arrivals_.find(key); it != arrivals_.end()) {
    ++it->second;
    return;
  }
  if (arrivals_.size() >= kMaxArrivals) {
    if (arrivals_since_halving_ < kMaxArrivals) return;
    arrivals_since_halving_ = 0;
    for (auto& [other, count] : arrivals_) count /= 2;
    std::erase_if(arrivals_, [](const auto& entry) { return entry.second == 0; });
    if (arrivals_.size() >= kMaxArrivals) return;
  }
  arrivals_.emplace(key, 1);
}

// In a STICKY database a record that arrived here often stays longer each time, for a while.
bool Ownership::sticks(const Bytes& key, Instant now) {
  if (!sticky_) return false;
  if (const auto it = sticky_until_.find(key); it != sticky_until_.end()) {
    if (now < it->second) return true;
    sticky_until_.erase(it);
    arrivals_.erase(key);
    return false;
  }
  const auto hot = arrivals_.find(key);
  if (hot == arrivals_.end() || hot->second < settings_.sticky_hops) return false;
  if (sticky_until_.size() >= kMaxArrivals) {
    std::erase_if(sticky_until_, [now](const auto& entry) { return entry.second <= now; });
    if (sticky_until_.size() >= kMaxArrivals) return false;
  }
  sticky_until_[key] = now + settings_.sticky_duration;
  return true;
}

void Ownership::remember_deletion(const Bytes& key, Instant now) {
  if (deletions_.size() >= kMaxDeletions) return;
  deletions_.insert(key);
  if (vacuum_at_ == kNever) vacuum_at_ = now + settings_.vacuum_interval;
}

}  // namespace tdbmesh
