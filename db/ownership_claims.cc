// Claims: what this node has in the slots that changed hands, told to their new lmasters batch by batch while
// everything goes on.

#include <utility>

#include "db/ownership.h"

namespace tdbmesh {

namespace {
constexpr std::size_t kMaxClaimBytes = 1024 * 1024;
}

void Ownership::start_claims(Instant now) {
  claims_.reset();
  if (!installed() || must_empty_) return;
  claims_ = ClaimScan{{}, claim_everything_};
  // What is not stored yet is not found by the scan: accepted grants, and backups.
  std::vector<record::ClaimEntry> not_stored;
  for (const auto& [key, state] : keys_) {
    if (state.arrival) not_stored.push_back(record::ClaimEntry{key, true, state.arrival->rsn});
  }
  for (const auto& [key, backup] : unstored_) not_stored.push_back(record::ClaimEntry{key, false, backup.header.rsn});
  send_claims(not_stored);
  continue_claims();
  background_at_ = std::min(background_at_, now + settings_.background_interval);
}

bool Ownership::claims_slot(std::size_t slot) const {
  return claims_ && (claims_->every_slot || view_.vnnmap[slot].since == view_.generation);
}

void Ownership::send_claims(const std::vector<record::ClaimEntry>& entries) {
  std::map<Pnn, record::Claim> batches;
  std::map<Pnn, std::size_t> sizes;
  for (const record::ClaimEntry& entry : entries) {
    const std::size_t slot = view_.slot_of(entry.key);
    if (!claims_slot(slot)) continue;
    const Pnn to = view_.vnnmap[slot].lmaster;
    record::Claim& batch = batches[to];
    batch.entries.push_back(entry);
    if ((sizes[to] += entry.key.size() + 16) >= kMaxClaimBytes || batch.entries.size() >= kMaxRecordBatch) {
      outbox_.send(to, std::exchange(batch, {}));
      sizes[to] = 0;
    }
  }
  for (auto& [to, batch] : batches) {
    if (!batch.entries.empty()) outbox_.send(to, std::move(batch));
  }
}

void Ownership::continue_claims() {
  if (!claims_) return;
  const auto batch = database_.scan(claims_->at, settings_.claim_batch);
  // Without the scan the slots stay incomplete: slower, and right. The next view tries again.
  if (!batch) {
    claims_.reset();
    return anomaly(self_, "the store cannot be read: " + batch.error().context);
  }
  std::vector<record::ClaimEntry> entries;
  for (const KeyedRecord& found : batch->records) {
    const auto state = keys_.find(found.key);
    const bool own = found.record.header.dmaster == self_ || (state != keys_.end() && state->second.arrival);
    entries.push_back(record::ClaimEntry{found.key, own, found.record.header.rsn});
  }
  send_claims(entries);
  claims_->at = batch->next;
  if (!batch->done) return;
  std::set<Pnn> lmasters;
  for (std::size_t slot = 0; slot < view_.vnnmap.size(); ++slot) {
    if (claims_slot(slot)) lmasters.insert(view_.vnnmap[slot].lmaster);
  }
  for (const Pnn to : lmasters) outbox_.send(to, record::Claim{{}, true, claims_->every_slot});
  claims_.reset();
  claim_everything_ = false;
}

}  // namespace tdbmesh
