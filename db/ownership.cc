#include "db/ownership.h"

#include <algorithm>

#include "db/base/match.h"
#include "db/base/plants.h"

namespace tdbmesh {

using record::Kind;

Ownership::Ownership(Pnn self, Database& database, record::RequestNumber first_request, RecordSettings settings)
    : self_(self),
      database_(database),
      settings_(settings),
      next_request_(first_request),
      outbox_(self, database.id()),
      directory_(self, outbox_, settings.key_seed),
      keys_(make_key_table<KeyState>(settings.key_seed)),
      tenures_(make_key_table<record::RequestNumber>(settings.key_seed)),
      unstored_(make_key_table<StoredRecord>(settings.key_seed)),
      plain_reads_(make_key_table<std::uint32_t>(settings.key_seed)),
      arrivals_(make_key_table<std::uint64_t>(settings.key_seed)),
      sticky_until_(make_key_table<Instant>(settings.key_seed)) {}

bool Ownership::KeyState::idle() const {
  return waiters.empty() && !out && !arrival && !copy && !pin && !succ && !next && reads.empty() &&
         delegates.empty() && revoking.empty() && !revoke_sent && !revoked_for && !answer && !vacuum &&
         !waiting_for_chain && retry_at == kNever;
}

// --- events ---------------------------------------------------------------------------------------------------

RecordActions Ownership::client_call(CallId call, BytesView key, Kind kind, Instant now) {
  ++counters_.calls;
  if (key.empty() || key.size() > kMaxKeySize) {
    outbox_.act(AnswerCall{call, -1, {}, {}, "a key of this length cannot be"});
    return finish(now);
  }
  const auto known = keys_.find(key);
  const bool arriving = known != keys_.end() && known->second.arrival;
  if (gate_open_ && !must_empty_ && !arriving) {
    const auto record = stored(key);
    const bool own = owned_in_store(record);
    const std::uint32_t flags = record ? record->header.flags : 0;
    const bool usable = kind == Kind::Write ? own && (flags & kRecordHaveDelegations) == 0
                                            : own || (record && (flags & kRecordReadOnlyCopy) != 0);
    if (usable) {
      // Only this daemon takes ownership away, so no chain lock is needed to see it; the value is what any
      // reader without the lock would see.
      ++counters_.calls_local;
      outbox_.act(AnswerCall{call, 0, record->header, record->value, {}});
      return finish(now);
    }
  }
  KeyState& state = state_of(key);
  state.waiters.push_back(Waiter{call, kind, next_request_});
  mark(calls_.emplace(call, key).first->second, state);
  return finish(now);
}

RecordActions Ownership::client_gone(CallId call, Instant now) {
  const auto it = calls_.find(call);
  if (it == calls_.end()) return {};
  if (const auto key = keys_.find(it->second); key != keys_.end()) {
    std::erase_if(key->second.waiters, [call](const Waiter& waiter) { return waiter.call == call; });
    mark(key->first, key->second);
  }
  calls_.erase(it);
  return finish(now);
}

RecordActions Ownership::on_message(Pnn from, const RecordMessage& message, Instant now) {
  dispatch(from, message.body);
  return finish(now);
}

RecordActions Ownership::chain_free(BytesView key, Instant now) {
  const auto it = keys_.find(key);
  if (it == keys_.end()) return {};
  it->second.waiting_for_chain = false;
  mark(it->first, it->second);
  return finish(now);
}

RecordActions Ownership::gate_changed(bool open, Instant now) {
  gate_open_ = open;
  if (open) mark_all();
  return finish(now);
}

RecordActions Ownership::tick(Instant now) {
  if (must_empty_) {
    empty_again_at_ = now + milliseconds(5);
    must_empty_ = !database_.drop_all().has_value();
    if (!must_empty_) {
      mark_all();
      if (!frozen()) start_claims(now);
    }
  }
  while (!wakes_.empty() && wakes_.begin()->first <= now) {
    const Bytes key = wakes_.begin()->second;
    wakes_.erase(wakes_.begin());
    const auto it = keys_.find(key);
    if (it == keys_.end()) continue;
    it->second.wake_at = kNever;
    mark(it->first, it->second);
  }
  if (now >= background_at_) {
    background_at_ = kNever;
    if (installed() && !frozen()) {
      if (claims_) continue_claims();
      directory_.settle_in_background(settings_.background_batch);
    }
  }
  if (now >= vacuum_at_) run_vacuum(now);
  if (now >= unstored_at_) store_unstored(now);
  if (drain_ && drain_->round == 0 && now >= drain_->next) ask_who_keeps(now);
  return finish(now);
}

Instant Ownership::next_wake() const {
  Instant next = std::min({background_at_, vacuum_at_, unstored_at_});
  if (!wakes_.empty()) next = std::min(next, wakes_.begin()->first);
  if (must_empty_) next = std::min(next, empty_again_at_);
  if (drain_ && drain_->round == 0) next = std::min(next, drain_->next);
  return next;
}

void Ownership::prepare(const View& view, bool continuity_broken, Instant now) {
  accepted_ = view;
  outbox_.forget_in_line();
  claims_.reset();
  for (auto& [key, state] : keys_) {
    // What was forwarded to this node and not handed over yet is asked for again after INSTALL.
    state.succ.reset();
    state.next.reset();
    state.reads.clear();
    // An answer given from now on would be one of the old generation, given by a node that may still accept
    // a grant of it. A revocation is asked for anew.
    state.answer.reset();
    state.revoked_for.reset();
  }
  if (!continuity_broken) return;
  drain_.reset();
  view_ = View{};
  must_empty_ = true;
  empty_again_at_ = now + milliseconds(5);
  claim_everything_ = false;  // every member sees by `join` that there is nothing
  for (auto& [key, state] : keys_) {
    std::vector<Waiter> waiters = std::move(state.waiters);
    const bool waiting = state.waiting_for_chain;
    state = KeyState{};
    state.waiters = std::move(waiters);
    state.waiting_for_chain = waiting;
  }
  wakes_.clear();
  tenures_.clear();
  unstored_.clear();
  directory_.clear();
  deletions_.clear();
  vacuum_from_.clear();
  sticky_until_.clear();
  plain_reads_.clear();
  arrivals_.clear();
  if (planted(Plant::KeepRecords) || database_.drop_all()) must_empty_ = false;
}

RecordActions Ownership::install(const View& view, Instant now) {
  if (accepted_.generation > view.generation || view_.generation >= view.generation) return {};
  view_ = view;
  accepted_ = view;
  outbox_.generation(view.generation);
  tenures_.clear();
  for (auto& [key, state] : keys_) {
    state.out.reset();
    state.copy.reset();
    if (state.vacuum) give_up_vacuum(key, state);
    // A revocation that lacked only the chain lock is not over either.
    const bool had_delegates = !state.delegates.empty() || state.revoke_sent;
    std::erase_if(state.delegates, [&view](Pnn pnn) {
      const Member* member = view.member(pnn);
      return member == nullptr || member->join >= view.generation;
    });
    state.revoking.clear();
    // With nobody left to ask, the flag goes as if all had answered.
    state.revoke_sent = had_delegates && state.delegates.empty();
  }
  directory_.install(view);
  start_claims(now);
  // Who kept what is a matter of the members of one view.
  if (drain_) start_drain();
  mark_all();
  return finish(now);
}

// --- inside ---------------------------------------------------------------------------------------------------

Ownership::KeyState& Ownership::state_of(BytesView key) {
  const auto it = keys_.find(key);
  return it != keys_.end() ? it->second : keys_[Bytes(key)];
}

void Ownership::mark(const Bytes& key, KeyState& state) {
  if (std::exchange(state.marked, true)) return;
  marked_.push_back(key);
}

void Ownership::mark_all() {
  for (auto& [key, state] : keys_) mark(key, state);
}

RecordActions Ownership::finish(Instant now) {
  for (;;) {
    if (outbox_.has_in_line()) {
      const record::Body body = outbox_.take_in_line();
      dispatch(self_, body);
    } else if (next_marked_ < marked_.size()) {
      const Bytes key = std::move(marked_[next_marked_++]);
      advance(key, now);
    } else if (!tombs_.empty() || !purges_.empty()) {
      flush_vacuum();
    } else {
      break;
    }
  }
  marked_.clear();
  next_marked_ = 0;
  if (std::exchange(retry_vacuum_, false) && vacuum_at_ == kNever) vacuum_at_ = now + settings_.vacuum_interval;
  if (directory_.has_background_work() || claims_) {
    background_at_ = std::min(background_at_, now + settings_.background_interval);
  }
  return outbox_.take();
}

void Ownership::dispatch(Pnn from, const record::Body& body) {
  std::visit(Match{
                 [&](const record::Request& m) { directory_.on_request(from, m); },
                 [&](const record::Forward& m) { on_forward(m); },
                 [&](const record::Grant& m) { on_grant(from, m); },
                 [&](const record::Copy& m) { on_copy(from, m); },
                 [&](const record::Miss& m) { directory_.on_miss(from, m); },
                 [&](const record::Query& m) { on_query(from, m); },
                 [&](const record::Answer& m) { directory_.on_answer(from, m); },
                 [&](const record::Claim& m) { directory_.on_claim(from, m); },
                 [&](const record::Revoke& m) { on_revoke(from, m); },
                 [&](const record::Revoked& m) { on_revoked(from, m); },
                 [&](const record::Tomb& m) { on_tomb(from, m); },
                 [&](const record::Purge& m) { on_purge(from, m); },
                 [&](const record::VacuumAck& m) { on_vacuum_ack(from, m); },
                 [&](const record::Gone& m) { directory_.on_gone(from, m); },
                 [&](const record::Leaving& m) { on_leaving(from, m); },
                 [&](const record::Keeping& m) { on_keeping(from, m); },
             },
             body);
}

// Looks at everything that can go on for one key, in the order in which one step makes the next possible.
void Ownership::advance(const Bytes& key, Instant now) {
  const auto it = keys_.find(key);
  if (it == keys_.end()) return;
  KeyState& state = it->second;
  state.marked = false;
  if (must_empty_) return;
  if (state.retry_at <= now) state.retry_at = kNever;
  look_at_pin(key, state, now);
  settle_pending_answer(key, state, now);
  end_read_only_copy(key, state, now);
  store_arrival(key, state, now);
  use_copy(key, state);
  revoke_if_wanted(key, state, now);
  serve_waiters(key, state, now);
  serve_reads(key, state, now);
  hand_over(key, state, now);
  continue_vacuum(key, state);
  if (state.idle()) {
    set_wake(key, state, kNever);
    keys_.erase(it);
    return;
  }
  Instant wake = state.retry_at;
  if (state.pin) {
    const bool wanted = state.succ || !state.reads.empty();
    wake = std::min(wake, wanted ? std::min(state.pin->until, now + settings_.pin_poll) : state.pin->until);
  }
  set_wake(key, state, wake);
}

void Ownership::set_wake(const Bytes& key, KeyState& state, Instant at) {
  if (state.wake_at == at) return;
  if (state.wake_at != kNever) wakes_.erase({state.wake_at, key});
  if (at != kNever) wakes_.insert({at, key});
  state.wake_at = at;
}

bool Ownership::lock_chain(const Bytes& key, KeyState& state) {
  if (state.waiting_for_chain) return false;
  if (database_.try_lock(key)) return true;
  state.waiting_for_chain = true;
  outbox_.act(WaitChain{database_.id(), key});
  return false;
}

void Ownership::store_failed(KeyState& state, Instant now) {
  state.retry_at = std::min(state.retry_at, now + milliseconds(200));
}

std::optional<StoredRecord> Ownership::stored(BytesView key) const {
  auto record = database_.fetch(key);
  return newest_here(key, record ? std::move(*record) : std::nullopt);
}

// A store that cannot be read must not pass for an empty one: no answer is given, and the leader is told.
bool Ownership::readable(BytesView key, std::optional<StoredRecord>& record) {
  auto found = database_.fetch(key);
  if (!found) {
    anomaly(self_, "the store cannot be read: " + found.error().context);
    return false;
  }
  record = newest_here(key, std::move(*found));
  return true;
}

bool Ownership::owned_in_store(const std::optional<StoredRecord>& record) const {
  return record && record->header.dmaster == self_;
}

bool Ownership::owns(BytesView key) const {
  const auto it = keys_.find(key);
  return (it != keys_.end() && it->second.arrival) || owned_in_store(stored(key));
}

void Ownership::anomaly(std::optional<Pnn> peer, std::string reason) {
  ++counters_.anomalies;
  outbox_.bump(peer, std::move(reason));
}

// --- introspection --------------------------------------------------------------------------------------------

RecordWhereabouts Ownership::where(BytesView key) const {
  RecordWhereabouts found;
  const auto record = stored(key);
  found.own = owned_in_store(record);
  if (record) {
    found.stored = record->header;
    found.read_only_copy = !found.own && (record->header.flags & kRecordReadOnlyCopy) != 0;
  }
  if (const auto it = keys_.find(key); it != keys_.end()) {
    const KeyState& state = it->second;
    found.own = found.own || state.arrival;
    found.pinned = state.pin.has_value();
    found.waiting_calls = state.waiters.size();
    found.delegates.assign(state.delegates.begin(), state.delegates.end());
    if (state.succ) found.successor = state.succ->to;
  }
  if (!view_.vnnmap.empty()) found.lmaster = view_.lmaster_of(key);
  const Directory::Located located = directory_.where(key);
  found.directory = located.state;
  found.tail = located.tail;
  return found;
}

RecordCounters& RecordCounters::operator+=(const RecordCounters& other) {
  calls += other.calls;
  calls_local += other.calls_local;
  grants_in += other.grants_in;
  handed_over += other.handed_over;
  reads_in += other.reads_in;
  reads_out += other.reads_out;
  forwards += other.forwards;
  misses += other.misses;
  settles += other.settles;
  adopted += other.adopted;
  claims_in += other.claims_in;
  delegations += other.delegations;
  revocations += other.revocations;
  vacuumed += other.vacuumed;
  dropped += other.dropped;
  anomalies += other.anomalies;
  return *this;
}

RecordCounters Ownership::counters() const {
  RecordCounters sum = counters_;
  sum += directory_.counters();
  return sum;
}

std::vector<HotKey> Ownership::hot_keys(std::size_t most) const {
  std::vector<HotKey> keys;
  for (const auto& [key, count] : arrivals_) keys.push_back(HotKey{key, count});
  std::sort(keys.begin(), keys.end(), [](const HotKey& a, const HotKey& b) {
    return a.arrivals != b.arrivals ? a.arrivals > b.arrivals : a.key < b.key;
  });
  if (keys.size() > most) keys.resize(most);
  return keys;
}

}  // namespace tdbmesh
