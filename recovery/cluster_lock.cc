#include "recovery/cluster_lock.h"

#include <algorithm>

#include "recovery/pack_view.h"
#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {

Result<Bytes> encode(const LockSlot& slot) {
  Packer out;
  out.array(3).u64(slot.record.term).flag(slot.record.in_use).array(slot.record.accepted ? 1 : 0);
  if (slot.record.accepted) pack_view(out, *slot.record.accepted);
  return make_slot(slot.claim, std::move(out).take());
}

std::optional<LockSlot> decode_lock_slot(BytesView bytes) {
  const auto content = read_slot(bytes);
  if (!content) return std::nullopt;
  LockSlot slot;
  slot.claim = content->sequence;
  Unpacker in(content->payload);
  expect_array(in, 3);
  slot.record.term = in.u64();
  slot.record.in_use = in.flag();
  if (in.array(1) == 1) slot.record.accepted = unpack_view(in);
  if (!in.finished()) return std::nullopt;
  return slot;
}

void ClusterLock::want(const LockRecord& record, Instant now, LockActions& out) {
  if (!wanted_) status_.text.clear();  // it says "not wanted", from the last release
  wanted_ = true;
  const bool changed = record != record_;
  record_ = record;
  if (changed && std::holds_alternative<LockHeld>(phase_)) write(now, out);
  on_tick(now, out);
}

void ClusterLock::release(Instant now, LockActions& out) {
  wanted_ = false;
  refused_since_ = kNever;
  if (idle()) return;
  give_up("not wanted", now, out);
  if (!helper_.foreign) phase_ = LockIdle{now + kLockFirstRetry};
}

void ClusterLock::give_up(std::string why, Instant now, LockActions& out) {
  if (!idle()) out.push_back(StopHelper{});
  phase_ = LockIdle{now + kLockRetry};
  status_ = LockStatus{};
  status_.text = std::move(why);
}

void ClusterLock::refused(Instant now, LockActions& out) {
  give_up("another node holds it", now, out);
  if (!helper_.foreign) {
    refused_since_ = std::min(refused_since_, now);
    phase_ = LockIdle{now + std::clamp<Duration>((now - refused_since_) / 8, kLockFirstRetry, kLockRetry)};
    return;
  }
  if (++refusals_ < kForeignRefusals) return;
  refusals_ = 0;
  phase_ = LockIdle{now + kForeignRest};
  status_.text = "another node holds it, or an earlier attempt has left something behind";
}

void ClusterLock::on_tick(Instant now, LockActions& out) {
  if (const auto* idle_phase = std::get_if<LockIdle>(&phase_)) {
    if (!wanted_ || now < idle_phase->retry_at) return;
    phase_ = LockStarting{now};
    out.push_back(StartHelper{});
  } else if (const auto* held = std::get_if<LockHeld>(&phase_)) {
    if (now >= held->probe_at) write(now, out);
  } else if (const Instant since = owed_since(); now - since >= kLockPatience) {
    // Somebody else may fare better with the lock than a node whose helper or file system hangs.
    give_up(std::holds_alternative<LockStarting>(phase_) ? "the helper did not say whether it holds the lock"
                                                         : "the lock's register did not answer",
            now, out);
  }
}

void ClusterLock::on_helper(char status, Instant now, LockActions& out) {
  if (!std::holds_alternative<LockStarting>(phase_)) return;
  switch (status) {
    case '0':
      refusals_ = 0;
      refused_since_ = kNever;
      acquired_ = now;
      if (helper_.has_register) {
        phase_ = LockReading{now};
        out.push_back(ReadRegister{});
      } else {
        write(now, out);
      }
      return;
    case '1':
      return refused(now, out);
    case '2':
      return give_up(helper_.foreign ? "the helper timed out" : "the file system that it lies on does not answer", now, out);
    default:
      return give_up(helper_.foreign ? "the helper failed" : "the file system that it lies on gives an error", now, out);
  }
}

void ClusterLock::on_helper_gone(Instant now, LockActions&) {
  if (idle()) return;
  phase_ = LockIdle{now + kLockRetry};
  status_ = LockStatus{};  // lost at once: a taker may have it already
  status_.text = "the helper ended";
}

void ClusterLock::write(Instant now, LockActions& out) {
  if (!helper_.has_register) {
    // Nothing to remember with; the operator has accepted that in writing.
    phase_ = LockHeld{now + kLockProbe};
    status_.held = true;
    status_.written = record_;
    status_.lease_until = now + kLockLease;
    status_.text.clear();
    return;
  }
  auto slot = encode(LockSlot{claim_, record_});
  if (!slot) return give_up(slot.error().context, now, out);
  phase_ = LockWriting{record_, now};
  out.push_back(WriteRegister{std::move(*slot)});
}

void ClusterLock::on_register(const std::map<Pnn, Bytes>& slots, Instant now, LockActions& out) {
  std::uint64_t other_claim = 0;
  bool other_in_use = false;
  std::uint64_t own_claim = 0;
  for (const auto& [pnn, bytes] : slots) {
    const auto slot = decode_lock_slot(bytes);
    if (!slot) continue;
    if (pnn == self_) {
      own_claim = slot->claim;
      continue;
    }
    other_claim = std::max(other_claim, slot->claim);
    other_in_use = other_in_use || slot->record.in_use;
    status_.highest_term = std::max(status_.highest_term, slot->record.term);
    if (slot->record.accepted) {
      status_.highest_term = std::max(status_.highest_term, slot->record.accepted->generation.term);
      if (!status_.newest || slot->record.accepted->generation > status_.newest->generation) {
        status_.newest = slot->record.accepted;
      }
    }
  }
  if (std::holds_alternative<LockReading>(phase_)) {
    claim_ = std::max(own_claim, other_claim) + 1;
    if (other_in_use) {
      status_.wait_until = acquired_ + kLockLease + kLockLease * 203 / 10000 + timing_.drop_allowance;
    }
    write(now, out);
    return;
  }
  const auto* writing = std::get_if<LockWriting>(&phase_);
  if (writing == nullptr) return;
  // A stale holder's late write cannot hide a newer claim, because each writes its own slot.
  if (other_claim >= claim_) return give_up("another node has claimed it since", now, out);
  status_.held = true;
  status_.written = writing->record;
  status_.lease_until = writing->begin + kLockLease;
  status_.text.clear();
  const bool again = record_ != writing->record;
  phase_ = LockHeld{writing->begin + kLockProbe};
  if (again) write(now, out);
}

Instant ClusterLock::next_wake() const {
  if (const auto* idle_phase = std::get_if<LockIdle>(&phase_)) return wanted_ ? idle_phase->retry_at : kNever;
  if (const auto* held = std::get_if<LockHeld>(&phase_)) return held->probe_at;
  return idle() ? kNever : owed_since() + kLockPatience;
}

Instant ClusterLock::owed_since() const {
  if (const auto* starting = std::get_if<LockStarting>(&phase_)) return starting->since;
  if (const auto* reading = std::get_if<LockReading>(&phase_)) return reading->since;
  if (const auto* writing = std::get_if<LockWriting>(&phase_)) return writing->begin;
  return kNever;
}

}  // namespace tdbmesh::recovery
