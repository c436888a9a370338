// Removing deleted records everywhere (record protocol, section 6): the owner makes all copies empty, then
// has them removed, then removes its own. At most an interruption costs another interval.

#include <algorithm>

#include "db/base/plants.h"
#include "db/ownership.h"

namespace tdbmesh {

namespace {
constexpr std::size_t kMaxVacuumBytes = 1024 * 1024;
constexpr std::size_t kMaxVacuumEntries = 1024;
}  // namespace

RecordActions Ownership::schedule_deletion(BytesView key, Instant now) {
  if (!key.empty() && key.size() <= kMaxKeySize) remember_deletion(Bytes(key), now);
  return finish(now);
}

RecordActions Ownership::vacuum(Instant now) {
  run_vacuum(now);
  return finish(now);
}

void Ownership::run_vacuum(Instant now) {
  const bool able = may_move() && !must_empty_ && !drain_;
  std::vector<Bytes> keys;
  auto it = deletions_.upper_bound(vacuum_from_);
  for (; able && it != deletions_.end() && keys.size() < settings_.vacuum_batch; ++it) keys.push_back(*it);
  // One run goes once through all of them, however many, batch by batch; what is busy waits for the next run.
  const bool more = able && it != deletions_.end();
  vacuum_from_ = more ? keys.back() : Bytes{};
  for (const Bytes& key : keys) start_vacuum(key);
  vacuum_at_ = deletions_.empty() ? kNever : now + (more ? settings_.background_interval : settings_.vacuum_interval);
}

bool Ownership::at_rest(const KeyState& state) const {
  return state.waiters.empty() && !state.out && !state.arrival && !state.pin && !state.succ && !state.next &&
         state.reads.empty() && state.delegates.empty() && !state.revoke_sent && !state.vacuum;
}

void Ownership::start_vacuum(const Bytes& key) {
  const auto it = keys_.find(key);
  if (it != keys_.end() && !at_rest(it->second)) return;  // another time
  if (!database_.try_lock(key)) return;
  const auto record = stored(key);
  if (!owned_in_store(record) || !record->value.empty()) {
    deletions_.erase(key);  // in use again, or somebody else's by now
  } else if ((record->header.flags & kRecordMigratedWithData) == 0 || planted(Plant::VacuumWithoutAsking)) {
    remove_record(key, record->header.rsn);  // nobody else ever had a copy
  } else {
    const Rsn r = record->header.rsn;
    RecordHeader header = record->header;
    header.rsn = r + 1;  // the copies become equal to rsn r, the owner stays above them
    if (database_.store(key, header, {})) {
      deletions_.erase(key);
      KeyState& state = state_of(key);
      state.vacuum = Vacuum{1, r, others()};
      tombs_.push_back(record::VacuumEntry{key, r});
      if (state.vacuum->waiting.empty()) mark(key, state);
    }
  }
  database_.unlock(key);
}

std::set<Pnn> Ownership::others() const {
  std::set<Pnn> pnns;
  for (const Member& member : view_.members) {
    if (member.pnn != self_) pnns.insert(member.pnn);
  }
  return pnns;
}

// The chain lock is held.
void Ownership::remove_record(const Bytes& key, Rsn rsn) {
  if (!database_.erase(key)) return;
  deletions_.erase(key);
  tenures_.erase(key);
  ++counters_.vacuumed;
  outbox_.send(view_.lmaster_of(key), record::Gone{key, rsn});
}

void Ownership::give_up_vacuum(const Bytes& key, KeyState& state) {
  state.vacuum.reset();
  deletions_.insert(key);
  if (vacuum_at_ == kNever) retry_vacuum_ = true;
}

void Ownership::flush_vacuum() {
  const auto send_all = [this](std::vector<record::VacuumEntry> entries, auto make) {
    for (std::size_t begin = 0; begin < entries.size();) {
      std::size_t end = begin;
      std::size_t bytes = 0;
      while (end < entries.size() && end - begin < kMaxVacuumEntries && bytes < kMaxVacuumBytes) {
        bytes += entries[end++].key.size() + 16;
      }
      const std::vector<record::VacuumEntry> batch(entries.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   entries.begin() + static_cast<std::ptrdiff_t>(end));
      for (const Pnn to : others()) outbox_.send(to, make(batch));
      begin = end;
    }
  };
  send_all(std::exchange(tombs_, {}), [](auto batch) { return record::Body(record::Tomb{std::move(batch)}); });
  send_all(std::exchange(purges_, {}), [](auto batch) { return record::Body(record::Purge{std::move(batch)}); });
}

void Ownership::on_tomb(Pnn from, const record::Tomb& tomb) {
  record::VacuumAck ack{1, {}};
  for (const record::VacuumEntry& entry : tomb.entries) {
    ack.entries.push_back({entry.key, entry.rsn, bury(from, entry)});
  }
  outbox_.send(from, std::move(ack));
}

// A copy older than the tomb becomes empty. Where there is none, none is made: it would outlive the record.
bool Ownership::bury(Pnn from, const record::VacuumEntry& entry) {
  const auto it = keys_.find(entry.key);
  if (it != keys_.end() && (it->second.arrival || it->second.copy)) return false;
  if (!gate_open_ || !database_.try_lock(entry.key)) return false;
  std::optional<StoredRecord> record;
  bool ok = readable(entry.key, record);
  if (record && !owned_in_store(record) && record->header.rsn < entry.rsn) {
    ok = database_.store(entry.key, RecordHeader{entry.rsn, from, kRecordMigratedWithData}, {}).has_value();
    if (ok) forget_unstored(entry.key);
  }
  database_.unlock(entry.key);
  return ok;
}

void Ownership::on_purge(Pnn from, const record::Purge& purge) {
  record::VacuumAck ack{2, {}};
  for (const record::VacuumEntry& entry : purge.entries) {
    bool ok = gate_open_ && database_.try_lock(entry.key);
    if (ok) {
      std::optional<StoredRecord> record;
      ok = readable(entry.key, record);
      if (record && !owned_in_store(record) && record->header.rsn <= entry.rsn) {
        ok = database_.erase(entry.key).has_value();
        if (ok) forget_unstored(entry.key);
      }
      database_.unlock(entry.key);
    }
    ack.entries.push_back({entry.key, entry.rsn, ok});
  }
  outbox_.send(from, std::move(ack));
}

void Ownership::on_vacuum_ack(Pnn from, const record::VacuumAck& ack) {
  for (const record::VacuumAckEntry& entry : ack.entries) {
    const auto it = keys_.find(entry.key);
    if (it == keys_.end() || !it->second.vacuum) continue;
    Vacuum& vacuum = *it->second.vacuum;
    if (vacuum.phase != ack.phase || vacuum.rsn != entry.rsn) continue;
    mark(it->first, it->second);
    if (!entry.ok) {
      give_up_vacuum(entry.key, it->second);
    } else {
      vacuum.waiting.erase(from);
    }
  }
}

void Ownership::continue_vacuum(const Bytes& key, KeyState& state) {
  if (!state.vacuum || !state.vacuum->waiting.empty()) return;
  if (!may_move() || drain_) return give_up_vacuum(key, state);
  if (state.vacuum->phase == 1) {
    state.vacuum->phase = 2;
    state.vacuum->waiting = others();
    purges_.push_back(record::VacuumEntry{key, state.vacuum->rsn});
    if (!state.vacuum->waiting.empty()) return;
  }
  const Rsn expected = state.vacuum->rsn + 1;
  state.vacuum.reset();
  // A client may have revived the record, a request may have come: then it simply goes on living.
  const bool busy = !at_rest(state) || !database_.try_lock(key);
  if (busy) {
    deletions_.insert(key);
    retry_vacuum_ = true;
    return;
  }
  const auto record = stored(key);
  if (owned_in_store(record) && record->value.empty() && record->header.rsn == expected) {
    remove_record(key, expected);
  }
  database_.unlock(key);
}

}  // namespace tdbmesh
