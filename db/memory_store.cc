#include "db/memory_store.h"

#include <algorithm>

#include "db/base/check.h"
#include "db/base/hash.h"
#include "db/key_hash.h"

namespace tdbmesh {

namespace {
constexpr std::uint64_t kSeed = 1;  // simulated clients do not attack, and runs must repeat
}

MemoryDatabase::MemoryDatabase(std::string name, DatabaseKind kind, const StoreFaults& faults, std::uint32_t chains,
                               std::uint64_t epoch)
    : name_(std::move(name)),
      path_("memory:" + name_),
      id_(database_id(name_)),
      kind_(kind),
      faults_(faults),
      chains_(chains),
      epoch_(epoch) {}

std::uint32_t MemoryDatabase::chain_of(BytesView key) const {
  return static_cast<std::uint32_t>((key_hash(key, kSeed) >> 40) % chains_.size());
}

bool MemoryDatabase::try_lock(BytesView key) {
  Chain& chain = chains_[chain_of(key)];
  if (chain.count > 0 && chain.owner != kDaemon) return false;
  chain.owner = kDaemon;
  ++chain.count;
  return true;
}

void MemoryDatabase::unlock(BytesView key) {
  Chain& chain = chains_[chain_of(key)];
  TDBMESH_CHECK(chain.count > 0 && chain.owner == kDaemon);
  --chain.count;
}

std::uint64_t MemoryDatabase::client_locks(BytesView key) const { return chains_[chain_of(key)].uses; }

bool MemoryDatabase::client_try_lock(BytesView key, std::uint64_t client) {
  TDBMESH_CHECK(client != kDaemon);
  Chain& chain = chains_[chain_of(key)];
  if (chain.count > 0 && chain.owner != client) return false;
  if (chain.count == 0) {
    chain.epoch = epoch_;
    ++chain.uses;
  }
  chain.owner = client;
  ++chain.count;
  return true;
}

void MemoryDatabase::client_unlock(BytesView key, std::uint64_t client) {
  Chain& chain = chains_[chain_of(key)];
  TDBMESH_CHECK(chain.count > 0 && chain.owner == client);
  --chain.count;
}

void MemoryDatabase::client_died(std::uint64_t client) {
  for (Chain& chain : chains_) {
    if (chain.owner == client) chain.count = 0;
  }
}

Result<void> MemoryDatabase::client_store(BytesView key, std::uint64_t client, const RecordHeader& header, BytesView value) {
  const Chain& chain = chains_[chain_of(key)];
  if (chain.count == 0 || chain.owner != client) return failure(Fault::Refused, path_ + ": the chain is not locked by this client");
  if (chain.epoch != epoch_) return failure(Fault::Refused, path_ + ": emptied while the chain was locked");
  return store(key, header, value);
}

MemoryDatabase::Records::const_iterator MemoryDatabase::find(BytesView key) const {
  const std::uint64_t first = first_position(key_hash(key, kSeed));
  auto at = records_.lower_bound(first);
  for (; at != records_.end() && at->first - first < kSlotsPerHash; ++at) {
    if (at->second.key == key) return at;
  }
  return records_.end();
}

Result<void> MemoryDatabase::put(BytesView key, const RecordHeader& header, BytesView value) {
  if (key.size() > kMaxKeySize || value.size() > kMaxValueSize) return failure(Fault::Malformed, path_ + ": key or value too long");
  if (const auto at = find(key); at != records_.end()) {
    records_[at->first].record = {header, Bytes(value)};
    return {};
  }
  std::uint64_t position = first_position(key_hash(key, kSeed));
  const std::uint64_t end = position + kSlotsPerHash;
  while (position != end && records_.contains(position)) ++position;
  if (position == end) return failure(Fault::StoreFull, path_ + ": too many keys with one hash");
  records_[position] = Entry{Bytes(key), {header, Bytes(value)}};
  return {};
}

Result<std::optional<StoredRecord>> MemoryDatabase::fetch(BytesView key) const {
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  const auto at = find(key);
  if (at == records_.end()) return std::nullopt;
  return at->second.record;
}

Result<void> MemoryDatabase::store(BytesView key, const RecordHeader& header, BytesView value) {
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  if (faults_.full) return failure(Fault::StoreFull, path_ + ": no space left");
  auto stored = put(key, header, value);
  if (stored && seqnum_enabled_) ++seqnum_;
  return stored;
}

Result<void> MemoryDatabase::erase(BytesView key) {
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  const auto at = find(key);
  if (at == records_.end()) return {};
  records_.erase(at);
  if (seqnum_enabled_) ++seqnum_;
  return {};
}

Result<ScanBatch> MemoryDatabase::scan(ScanPosition from, std::size_t most) const {
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  ScanBatch batch;
  auto at = records_.lower_bound(from.at);
  for (; at != records_.end() && batch.records.size() < most; ++at) {
    batch.records.push_back({at->second.key, at->second.record});
    batch.next.at = at->first + 1;
  }
  batch.done = at == records_.end();
  return batch;
}

Result<void> MemoryDatabase::drop_all() {
  for (const Chain& chain : chains_) {
    if (chain.count > 0 && chain.owner != kDaemon) return failure(Fault::Busy, path_ + ": clients hold chain locks");
  }
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  records_.clear();
  version_ = {};
  ++epoch_;
  if (seqnum_enabled_) ++seqnum_;
  return {};
}

Result<void> MemoryDatabase::apply(const DurableChange& change) {
  if (faults_.failing) return failure(Fault::Io, path_ + ": input/output error");
  if (faults_.full) return failure(Fault::StoreFull, path_ + ": no space left");
  using Part = DurableChange::Part;
  if (change.part == Part::First) aside_.clear();
  if (change.part == Part::First || change.part == Part::More) {
    aside_.insert(aside_.end(), change.entries.begin(), change.entries.end());
    return {};
  }
  std::vector<RecordEntry> entries = change.part == Part::Last ? std::move(aside_) : std::vector<RecordEntry>{};
  aside_.clear();
  entries.insert(entries.end(), change.entries.begin(), change.entries.end());
  Records before = records_;  // all of it or nothing
  if (change.replace_all) records_.clear();
  for (const RecordEntry& entry : entries) {
    if (auto stored = put(entry.key, entry.header, entry.value); !stored) {
      records_ = std::move(before);
      return stored;
    }
  }
  version_ = change.version;
  if (seqnum_enabled_) seqnum_ += std::max<std::uint32_t>(1, static_cast<std::uint32_t>(entries.size()));
  return {};
}

void MemoryCommitWorker::submit(std::uint64_t ticket, DurableChange change) { queue_.push_back({ticket, std::move(change)}); }

std::vector<MemoryCompletion> MemoryCommitWorker::complete(std::size_t count) {
  std::vector<MemoryCompletion> done;
  for (; count > 0 && !queue_.empty(); --count) {
    const Job job = std::move(queue_.front());
    queue_.pop_front();
    MemoryDatabase* database = store_.find(job.change.database);
    done.push_back({job.ticket, database == nullptr ? Result<void>(failure(Fault::NotFound, "the database is gone"))
                                                    : database->apply(job.change)});
  }
  return done;
}

Result<Database*> MemoryStore::open(const std::string& name, DatabaseKind kind) {
  if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos) {
    return failure(Fault::Malformed, "'" + name + "' cannot be the name of a database");
  }
  const DatabaseId id = database_id(name);
  if (const auto found = open_.find(id); found != open_.end()) {
    if (found->second->name() != name || found->second->kind() != kind) {
      return failure(Fault::Exists, "'" + name + "' is open already, with another name or kind");
    }
    return found->second.get();
  }
  if (faults.failing) return failure(Fault::Io, name + ": input/output error");
  std::unique_ptr<MemoryDatabase>& database = open_[id];
  if (const auto kept = on_disk_.find(id); kept != on_disk_.end() && kind == DatabaseKind::Persistent) {
    database = std::move(kept->second);
    on_disk_.erase(kept);
  } else {
    database = std::make_unique<MemoryDatabase>(name, kind, faults, chains_, ++epochs_[id]);
  }
  return database.get();
}

Result<void> MemoryStore::remove(DatabaseId id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return failure(Fault::NotFound, "the database is not open");
  epochs_[id] = std::max(epochs_[id], found->second->epoch());
  if (found->second->kind() == DatabaseKind::Persistent) on_disk_[id] = std::move(found->second);
  open_.erase(found);
  return {};
}

Result<std::vector<std::pair<std::string, DatabaseKind>>> MemoryStore::existing() const {
  std::map<std::string, DatabaseKind> found;
  for (const auto* where : {&open_, &on_disk_}) {
    for (const auto& [id, database] : *where) {
      if (database->kind() == DatabaseKind::Persistent) found[database->name()] = database->kind();
    }
  }
  return std::vector<std::pair<std::string, DatabaseKind>>(found.begin(), found.end());
}

MemoryDatabase* MemoryStore::find(DatabaseId id) {
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : found->second.get();
}

void MemoryStore::crash(std::size_t already_durable) {
  (void)worker_.complete(already_durable);
  worker_.queue_.clear();
  for (auto& [id, database] : open_) {
    epochs_[id] = std::max(epochs_[id], database->epoch());
    if (database->kind() != DatabaseKind::Persistent) continue;
    // A new object, so that a pointer kept over the crash is caught; with it go the locks.
    auto again = std::make_unique<MemoryDatabase>(database->name(), database->kind(), faults, chains_, ++epochs_[id]);
    again->records_ = std::move(database->records_);
    again->version_ = database->version_;
    on_disk_[id] = std::move(again);
  }
  open_.clear();
}

}  // namespace tdbmesh
