// Leaving in order: a member whose clients are shut out has every record that only it has taken by another one,
// before it goes. No rule of the protocol is new here: who takes a record asks the lmaster for it as for a client,
// and the leaver hands over as always. What is new is the question who keeps what. Its answers are believed
// because
//   * the link is FIFO: an answer about a record comes after the grants that were sent before the question;
//   * a copy of the same or a higher rsn is as new as the one here, and the vacuum removes none of them while
//     this node calls itself busy;
//   * who is leaving itself keeps nothing, so no two rely on each other.

#include <algorithm>

#include "db/ownership.h"

namespace tdbmesh {

namespace {
constexpr std::size_t kMaxLeavingBytes = 1024 * 1024;
}

RecordActions Ownership::drain(bool on, Instant now) {
  if (on == drain_.has_value()) return {};
  if (on) {
    start_drain();
    ask_who_keeps(now);
  } else {
    drain_.reset();
  }
  mark_all();
  return finish(now);
}

void Ownership::start_drain() {
  drain_ = Drain{};
  // What is not in the store yet is not found by the scan.
  for (const auto& [key, state] : keys_) {
    if (state.arrival) drain_->left.insert(key);
  }
  for (const auto& [key, backup] : unstored_) drain_->left.insert(key);
}

void Ownership::note_drain(const Bytes& key) {
  if (drain_) drain_->left.insert(key);
}

bool Ownership::drained() const {
  if (!drain_) return false;
  if (must_empty_ || !installed()) return true;  // what was here is not needed any more
  if (settings_.hooks.leaving_does_not_ask) {
    const auto all = database_.scan({}, ~std::size_t{0});
    return all && std::none_of(all->records.begin(), all->records.end(),
                               [this](const KeyedRecord& r) { return r.record.header.dmaster == self_; });
  }
  if (frozen() || !drain_->scanned || drain_->round != 0 || !drain_->left.empty()) return false;
  // A record may be on its way here.
  return std::none_of(keys_.begin(), keys_.end(), [](const auto& entry) {
    return entry.second.arrival || (entry.second.out && entry.second.out->kind == record::Kind::Write);
  });
}

bool Ownership::drain_hopeless() const {
  return drain_ && installed() && drain_->leaving.size() + 1 >= view_.members.size();
}

// Of the record or the copy here, be it stored or not. False: the store does not tell, and the leader was told.
bool Ownership::rsn_here(BytesView key, std::optional<Rsn>& rsn) {
  rsn.reset();
  const auto it = keys_.find(key);
  if (it != keys_.end() && it->second.arrival) {
    rsn = it->second.arrival->rsn;
    return true;
  }
  std::optional<StoredRecord> record;
  if (!readable(key, record)) return false;
  if (record) rsn = record->header.rsn;
  return true;
}

// The lmaster saves a hop. Who did not take it may be unable to: the next time somebody else is asked.
Pnn Ownership::taker_of(BytesView key) const {
  std::vector<Pnn> able;
  for (const Member& member : view_.members) {
    if (member.pnn != self_ && !drain_->leaving.contains(member.pnn)) able.push_back(member.pnn);
  }
  if (able.empty()) return kNoPnn;
  const std::size_t slot = view_.slot_of(key);
  const Pnn lmaster = view_.vnnmap[slot].lmaster;
  if (drain_rounds_ % 4 != 3 && std::find(able.begin(), able.end(), lmaster) != able.end()) return lmaster;
  return able[(slot + drain_rounds_ / 4) % able.size()];
}

void Ownership::ask_who_keeps(Instant now) {
  Drain& drain = *drain_;
  drain.next = now + settings_.drain_interval;
  if (!installed() || frozen() || must_empty_) return;  // INSTALL begins anew
  const std::set<Pnn> members = others();
  if (members.empty()) return;
  while (!drain.scanned && drain.left.size() < settings_.drain_batch) {
    const auto batch = database_.scan(drain.at, settings_.claim_batch);
    if (!batch) return anomaly(self_, "the store cannot be read: " + batch.error().context);
    for (const KeyedRecord& found : batch->records) {
      const bool skip = settings_.hooks.leaving_hands_over_owned_only && found.record.header.dmaster != self_;
      if (!skip) drain.left.insert(found.key);
    }
    drain.at = batch->next;
    drain.scanned = batch->done;
  }
  std::size_t bytes = 0;
  drain.asked.clear();
  for (auto it = drain.left.begin();
       it != drain.left.end() && bytes < kMaxLeavingBytes && drain.asked.size() < kMaxRecordBatch;) {
    std::optional<Rsn> rsn;
    if (!rsn_here(*it, rsn)) return;  // it may be the newest version: this node does not call itself drained
    if (!rsn) {                       // handed over without leaving a copy
      it = drain.left.erase(it);
      continue;
    }
    bytes += it->size() + 16;
    drain.asked.push_back(record::LeavingEntry{*it, *rsn, taker_of(*it)});
    ++it;
  }
  if (drain.asked.empty()) {
    if (!drain.scanned) drain.next = now;
    return;
  }
  drain.round = ++drain_rounds_;
  drain.kept.assign(drain.asked.size(), false);
  drain.missing = members;
  for (const Pnn to : members) outbox_.send(to, record::Leaving{drain.round, drain.asked});
}

void Ownership::on_leaving(Pnn from, const record::Leaving& leaving) {
  record::Keeping answer{leaving.round, drain_.has_value(), {}};
  for (const record::LeavingEntry& entry : leaving.entries) {
    std::optional<Rsn> have;
    const bool kept = rsn_here(entry.key, have) && !drain_ && have && *have >= entry.rsn;
    answer.kept.push_back(kept);
    if (!kept && entry.taker == self_) take_over(entry.key);
  }
  outbox_.send(from, std::move(answer));
}

// An ordinary request, without a caller: the record comes here to stay.
void Ownership::take_over(const Bytes& key) {
  if (!may_move() || drain_ || owns(key)) return;
  KeyState& state = state_of(key);
  mark(key, state);
  if (state.out) return;  // asked already
  state.out = Outstanding{next_request_, record::Kind::Write};
  outbox_.send(view_.lmaster_of(key), record::Request{key, next_request_, record::Kind::Write});
  ++next_request_;
}

void Ownership::on_keeping(Pnn from, const record::Keeping& keeping) {
  if (!drain_ || drain_->round != keeping.round || keeping.kept.size() != drain_->asked.size()) return;
  Drain& drain = *drain_;
  drain.missing.erase(from);
  if (keeping.leaving) {
    drain.leaving.insert(from);
  } else {
    drain.leaving.erase(from);
  }
  for (std::size_t i = 0; i < drain.asked.size(); ++i) drain.kept[i] = drain.kept[i] || keeping.kept[i];
  if (!drain.missing.empty()) return;
  drain.round = 0;
  for (std::size_t i = 0; i < drain.asked.size(); ++i) {
    const record::LeavingEntry& entry = drain.asked[i];
    std::optional<Rsn> have;  // a newer one may have come here since the question
    if (drain.kept[i] && rsn_here(entry.key, have) && have.value_or(0) <= entry.rsn && !owns(entry.key)) {
      drain.left.erase(entry.key);
    }
  }
  if (drain.left.empty() && !drain.scanned) drain.next = Instant::min();
}

}  // namespace tdbmesh
