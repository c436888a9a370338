#include "db/ownership_directory.h"

#include <algorithm>

#include "db/base/plants.h"

namespace tdbmesh {

using record::Kind;

Directory::SlotState* Directory::slot(BytesView key) {
  if (view_.vnnmap.empty()) return nullptr;
  const auto it = slots_.find(static_cast<std::uint32_t>(view_.slot_of(key)));
  return it == slots_.end() ? nullptr : &it->second;
}

void Directory::touch(Entry& entry, Pnn pnn) {
  const auto at = std::lower_bound(entry.touched.begin(), entry.touched.end(), pnn);
  if (at == entry.touched.end() || *at != pnn) entry.touched.insert(at, pnn);
}

void Directory::not_mine(Pnn from) {
  ++counters_.anomalies;
  outbox_.bump(from, "asked about a slot this node does not have");
}

void Directory::on_request(Pnn from, const record::Request& request) {
  if (slot(request.key) == nullptr) return not_mine(from);
  route(request.key, Waiting{from, request.q, request.kind});
}

void Directory::route(const Bytes& key, const Waiting& waiting) {
  SlotState& state = *slot(key);
  const auto it = state.entries.find(key);
  if (it == state.entries.end()) {
    if (!state.complete) {  // unknown
      start_settle(key, state.entries[key], waiting);
    } else if (waiting.kind == Kind::Write) {
      grant_fresh(key, state, waiting);
      Entry& entry = state.entries[key];
      entry.tail = Tail{waiting.from, waiting.q};
      touch(entry, waiting.from);
    } else {
      outbox_.send(waiting.from, record::Copy{key, waiting.q, 0, false, {}});
    }
    return;
  }
  Entry& entry = it->second;
  if (entry.settling) {
    entry.settling->queue.push_back(waiting);
  } else if (entry.tail) {
    forward(key, entry, waiting);
  } else {
    start_settle(key, entry, waiting);
  }
}

void Directory::forward(const Bytes& key, Entry& entry, const Waiting& waiting) {
  ++counters_.forwards;
  outbox_.send(entry.tail->pnn, record::Forward{key, waiting.from, waiting.q, waiting.kind, entry.tail->q, {}});
  if (waiting.kind == Kind::Write) {
    entry.tail = Tail{waiting.from, waiting.q};
    touch(entry, waiting.from);
  }
}

// Within a generation a new life of a key starts above every rsn of an earlier one, so that a late TOMB or
// PURGE of the old life does nothing to it.
void Directory::grant_fresh(const Bytes& key, const SlotState& state, const Waiting& waiting) {
  outbox_.send(waiting.from, record::Grant{key, waiting.q, state.high_water + 1, false, {}});
}

void Directory::on_miss(Pnn from, const record::Miss& miss) {
  SlotState* state = slot(miss.key);
  if (state == nullptr) return not_mine(from);
  ++counters_.misses;
  const auto it = state->entries.find(miss.key);
  Entry* entry = it == state->entries.end() ? nullptr : &it->second;
  const Waiting waiting{miss.to, miss.q, miss.kind};
  if (miss.q == 0) {  // a background settle that found its winner changed
    if (entry != nullptr && !entry->settling && entry->tail && entry->tail->pnn == from && entry->tail->q == 0) {
      entry->tail.reset();
      background_.push_back(miss.key);
    }
    return;
  }
  if (entry == nullptr) return route(miss.key, waiting);
  if (miss.kind == Kind::Write) {
    if (entry->settling) {  // a key has one request in flight towards an owner at a time
      ++counters_.anomalies;
      outbox_.bump(from, "a second request of one key missed its holder");
      return;
    }
    // The tail stays: the requests behind this one already wait for each other.
    start_settle(miss.key, *entry, waiting);
    return;
  }
  if (!entry->settling && entry->tail && entry->tail->pnn == from && entry->tail->q == 0) entry->tail.reset();
  route(miss.key, waiting);
}

void Directory::start_settle(const Bytes& key, Entry& entry, std::optional<Waiting> head) {
  ++counters_.settles;
  entry.settling = std::make_unique<Settling>(Settling{++round_, head, {}, {}});
  for (const Member& member : view_.members) outbox_.send(member.pnn, record::Query{key, round_});
}

void Directory::on_answer(Pnn from, const record::Answer& answer) {
  SlotState* state = slot(answer.key);
  if (state == nullptr) return not_mine(from);
  const auto it = state->entries.find(answer.key);
  // Late answers are normal: one owner ends a round early.
  if (it == state->entries.end() || !it->second.settling || it->second.settling->round != answer.round) return;
  Settling& settling = *it->second.settling;
  settling.answers[from] = Had{answer.own, answer.rsn};
  const bool enough = planted(Plant::SettleWithMajority) && settling.answers.size() * 2 > view_.members.size();
  if (answer.own || enough || settling.answers.size() == view_.members.size()) {
    finish_settle(answer.key, *state, it->second);
  }
}

namespace {

struct Winner {
  Pnn pnn = kNoPnn;
  bool own = false;
  Rsn rsn = 0;
};

}  // namespace

void Directory::finish_settle(const Bytes& key, SlotState& state, Entry& entry) {
  const Settling settling = std::move(*entry.settling);
  entry.settling.reset();
  entry.touched.clear();

  // An owner if there is one, otherwise the newest copy. Copies of equal rsn are equal: prefer the one that is
  // where the record is wanted.
  Winner best;
  for (const auto& [pnn, had] : settling.answers) {
    const bool wanted_there = settling.head && settling.head->from == pnn;
    if (had.own) {
      best = Winner{pnn, true, had.rsn.value_or(0)};
      break;
    }
    const bool newer = had.rsn && (planted(Plant::CompareRsnWrongly) ? *had.rsn < best.rsn : *had.rsn > best.rsn);
    if (had.rsn && (best.pnn == kNoPnn || newer || (*had.rsn == best.rsn && wanted_there))) {
      best = Winner{pnn, false, *had.rsn};
    }
  }
  const auto adopt = best.own ? std::nullopt : std::optional<Rsn>(best.rsn);
  const Waiting head = settling.head.value_or(Waiting{best.pnn, 0, Kind::Write});

  bool gone = false;
  if (best.pnn != kNoPnn) {
    if (settling.head || !best.own) {
      ++counters_.forwards;
      outbox_.send(best.pnn, record::Forward{key, head.from, head.q, head.kind, 0, adopt});
    }
    touch(entry, best.pnn);
  } else if (settling.head && head.kind == Kind::Write) {
    grant_fresh(key, state, head);
  } else {
    if (settling.head) outbox_.send(head.from, record::Copy{key, head.q, 0, false, {}});
    gone = !entry.tail;
  }
  if (gone) {
    state.entries.erase(key);
    // Without an entry the key counts as unknown again until the slot is complete: correct, if slow.
  } else if (!entry.tail) {
    entry.tail = settling.head && head.kind == Kind::Write ? Tail{head.from, head.q} : Tail{best.pnn, 0};
  }
  if (!gone) touch(entry, entry.tail->pnn);
  for (const Waiting& waiting : settling.queue) route(key, waiting);
}

void Directory::on_claim(Pnn from, const record::Claim& claim) {
  for (const record::ClaimEntry& claimed : claim.entries) {
    SlotState* state = slot(claimed.key);
    if (state == nullptr) {
      not_mine(from);
      continue;
    }
    if (state->complete) continue;
    ++counters_.claims_in;
    const auto [it, created] = state->entries.try_emplace(claimed.key);
    Entry& entry = it->second;
    // Any other entry is newer than what the scan saw.
    if (!created && (entry.tail || entry.settling)) continue;
    if (claimed.own) {
      entry.tail = Tail{from, 0};
      touch(entry, from);
    }
  }
  if (!claim.last) return;
  claimed_.insert(from);
  if (claim.every_slot) claimed_everything_.insert(from);
  check_complete();
}

void Directory::check_complete() {
  const auto all_in = [this](const std::set<Pnn>& in) {
    return std::all_of(view_.members.begin(), view_.members.end(),
                       [&](const Member& member) { return in.contains(member.pnn); });
  };
  const bool changed_in = all_in(claimed_);
  const bool everything_in = all_in(claimed_everything_);
  for (auto& [number, state] : slots_) {
    if (state.complete || !(state.since == view_.generation ? changed_in : everything_in)) continue;
    state.complete = true;
    for (const auto& [key, entry] : state.entries) {
      if (!entry.tail && !entry.settling) background_.push_back(key);
    }
  }
}

void Directory::on_gone(Pnn from, const record::Gone& gone) {
  SlotState* state = slot(gone.key);
  if (state == nullptr) return not_mine(from);
  state->high_water = std::max(state->high_water, gone.rsn);
  const auto it = state->entries.find(gone.key);
  if (it == state->entries.end() || it->second.settling) return;
  if (it->second.tail && it->second.tail->pnn == from) state->entries.erase(it);
}

void Directory::install(const View& view) {
  std::map<std::uint32_t, SlotState> kept;
  background_.clear();
  claimed_.clear();
  claimed_everything_.clear();
  const auto stays = [&view](Pnn pnn) {
    const Member* member = view.member(pnn);
    return member != nullptr && member->join < view.generation;
  };
  for (std::uint32_t number = 0; number < view.vnnmap.size(); ++number) {
    const Slot& now = view.vnnmap[number];
    if (now.lmaster != self_) {
      if (planted(Plant::IgnoreSince) && slots_.contains(number)) kept[number] = std::move(slots_[number]);
      continue;
    }
    SlotState& state = kept.try_emplace(number, SlotState{{}, false, 0, make_key_table<Entry>(key_seed_)}).first->second;
    // "I was its lmaster once, and complete" is not enough: another one may have created records meanwhile.
    if (const auto old = slots_.find(number);
        old != slots_.end() && old->second.complete && (old->second.since == now.since || planted(Plant::IgnoreSince))) {
      state = std::move(old->second);
      for (auto& [key, entry] : state.entries) {
        if (entry.settling || (entry.tail && !stays(entry.tail->pnn))) entry.tail.reset();
        entry.settling.reset();
        if (entry.tail) entry.tail->q = 0;  // from now on a hint
        const bool lost_one = !std::all_of(entry.touched.begin(), entry.touched.end(), stays);
        if (!entry.tail || lost_one) background_.push_back(key);
      }
    } else {
      state.since = now.since;
      state.complete = planted(Plant::BelieveIncompleteDirectory);
    }
  }
  slots_ = std::move(kept);
  view_ = view;
}

void Directory::clear() {
  slots_.clear();
  background_.clear();
  claimed_.clear();
  claimed_everything_.clear();
}

void Directory::settle_in_background(std::size_t most) {
  for (std::size_t n = 0; n < most && !background_.empty(); ++n) {
    const Bytes key = std::move(background_.front());
    background_.pop_front();
    SlotState* state = slot(key);
    if (state == nullptr) continue;
    const auto it = state->entries.find(key);
    if (it == state->entries.end() || it->second.settling) continue;
    Entry& entry = it->second;
    // A request that was sent out settles by itself, and its tail must not be touched.
    if (entry.tail && entry.tail->q != 0) continue;
    entry.tail.reset();
    start_settle(key, entry, std::nullopt);
  }
}

std::vector<std::uint32_t> Directory::incomplete_slots() const {
  std::vector<std::uint32_t> slots;
  for (const auto& [number, state] : slots_) {
    if (!state.complete) slots.push_back(number);
  }
  return slots;
}

Directory::Located Directory::where(BytesView key) const {
  if (view_.vnnmap.empty()) return {};
  const auto state = slots_.find(static_cast<std::uint32_t>(view_.slot_of(key)));
  if (state == slots_.end()) return {};
  const auto it = state->second.entries.find(key);
  if (it == state->second.entries.end()) return {state->second.complete ? "absent" : "unknown", {}};
  const Entry& entry = it->second;
  const auto tail = entry.tail ? std::optional<Pnn>(entry.tail->pnn) : std::nullopt;
  return {entry.settling ? "settling" : entry.tail ? "at" : "orphan", tail};
}

std::size_t Directory::entries() const {
  std::size_t count = 0;
  for (const auto& [number, state] : slots_) count += state.entries.size();
  return count;
}

}  // namespace tdbmesh
