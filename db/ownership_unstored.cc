// Backups that the store had no room for. Who hands a record over keeps the same bytes, for the grant may be cut off by a
// view change and is then forgotten. A record that came while the store was full was never in it: passed on, its backup
// stays here, in memory, until the store takes it or something newer comes. It is told of, claimed and adopted like one
// in the store.

#include "db/ownership.h"

namespace tdbmesh {

namespace {
constexpr Duration kTryAgain = milliseconds(200);
}

void Ownership::keep_unstored(const Bytes& key, StoredRecord backup, Instant now) {
  if (settings_.hooks.unstored_leaves_no_backup) return;
  unstored_[key] = std::move(backup);
  unstored_at_ = std::min(unstored_at_, now + kTryAgain);
}

// What is here takes its place, or it is not wanted any more.
void Ownership::forget_unstored(BytesView key) {
  if (unstored_.empty()) return;
  if (const auto it = unstored_.find(key); it != unstored_.end()) unstored_.erase(it);
}

std::optional<StoredRecord> Ownership::newest_here(BytesView key, std::optional<StoredRecord> in_store) const {
  if (unstored_.empty()) return in_store;
  const auto it = unstored_.find(key);
  const bool newer = it != unstored_.end() && (!in_store || in_store->header.rsn < it->second.header.rsn);
  return newer ? it->second : std::move(in_store);
}

void Ownership::store_unstored(Instant now) {
  std::size_t most = settings_.claim_batch;
  for (auto it = unstored_.begin(); it != unstored_.end() && most > 0; --most) {
    const auto& [key, backup] = *it;
    if (!database_.try_lock(key)) {
      ++it;
      continue;
    }
    const auto done = database_.store(key, backup.header, backup.value);
    database_.unlock(key);
    if (!done) break;
    it = unstored_.erase(it);
  }
  unstored_at_ = unstored_.empty() ? kNever : now + (most > 0 ? kTryAgain : settings_.background_interval);
}

}  // namespace tdbmesh
