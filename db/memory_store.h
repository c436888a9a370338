#pragma once
// The store of a simulated node: same contract as LmdbStore, in memory, deterministic, with the faults a test
// wants. Clients of the simulated node use the same object: they hold chains, read and write beneath the daemon.
//
// Crash: MemoryStore::crash() forgets volatile data and all locks, and durable changes that were still queued, except
// as many from the front as the test says had reached the disk unreported. Pointers to databases die with it.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "db/store.h"

namespace tdbmesh {

struct StoreFaults {
  bool full = false;     // writes answer StoreFull
  bool failing = false;  // reads and writes answer Io
};

class MemoryDatabase : public Database {
 public:
  MemoryDatabase(std::string name, DatabaseKind kind, const StoreFaults& faults, std::uint32_t chains, std::uint64_t epoch);

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] DatabaseId id() const override { return id_; }
  [[nodiscard]] DatabaseKind kind() const override { return kind_; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  bool try_lock(BytesView key) override;
  void unlock(BytesView key) override;
  [[nodiscard]] std::uint64_t client_locks(BytesView key) const override;
  [[nodiscard]] Result<std::optional<StoredRecord>> fetch(BytesView key) const override;
  Result<void> store(BytesView key, const RecordHeader& header, BytesView value) override;
  Result<void> erase(BytesView key) override;
  [[nodiscard]] Result<ScanBatch> scan(ScanPosition from, std::size_t most) const override;
  [[nodiscard]] std::uint64_t record_count() const override { return records_.size(); }
  Result<void> drop_all() override;
  [[nodiscard]] CopyVersion version() const override { return version_; }
  void enable_seqnum() override { seqnum_enabled_ = true; }
  [[nodiscard]] bool seqnum_enabled() const override { return seqnum_enabled_; }
  [[nodiscard]] std::uint32_t seqnum() const override { return seqnum_; }
  void bump_seqnum() override { ++seqnum_; }

  // --- clients. `client` is any number; a chain has one owner, counted.
  bool client_try_lock(BytesView key, std::uint64_t client);
  void client_unlock(BytesView key, std::uint64_t client);
  void client_died(std::uint64_t client);  // its chains become free
  // As through the shim: Refused without the chain, or if the database was emptied since the lock was taken.
  Result<void> client_store(BytesView key, std::uint64_t client, const RecordHeader& header, BytesView value);

  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] std::uint32_t chain_of(BytesView key) const;
  // Applies a durable change now (MemoryCommitWorker does).
  Result<void> apply(const DurableChange& change);

 private:
  friend class MemoryStore;
  static constexpr std::uint64_t kDaemon = ~std::uint64_t{0};
  struct Chain {
    std::uint64_t owner = 0;
    std::uint32_t count = 0;  // 0 = free
    std::uint64_t epoch = 0;
    std::uint64_t uses = 0;
  };
  struct Entry {
    Bytes key;
    StoredRecord record;
  };
  using Records = std::map<std::uint64_t, Entry>;  // by hash + slot: the order of a scan
  [[nodiscard]] Records::const_iterator find(BytesView key) const;
  Result<void> put(BytesView key, const RecordHeader& header, BytesView value);

  std::string name_;
  std::string path_;
  DatabaseId id_;
  DatabaseKind kind_;
  const StoreFaults& faults_;
  Records records_;
  std::vector<RecordEntry> aside_;  // parts of a change that is not complete
  std::vector<Chain> chains_;
  CopyVersion version_;
  std::uint64_t epoch_;
  std::uint32_t seqnum_ = 0;
  bool seqnum_enabled_ = false;
};

class MemoryStore;

struct MemoryCompletion {
  std::uint64_t ticket = 0;
  Result<void> result;
};

// Queues until the simulator says that the disk got there.
class MemoryCommitWorker : public CommitWorker {
 public:
  explicit MemoryCommitWorker(MemoryStore& store) : store_(store) {}
  void submit(std::uint64_t ticket, DurableChange change) override;
  [[nodiscard]] std::size_t queued() const { return queue_.size(); }
  // Applies the oldest `count` and returns their reports, in order.
  [[nodiscard]] std::vector<MemoryCompletion> complete(std::size_t count);

 private:
  friend class MemoryStore;
  struct Job {
    std::uint64_t ticket;
    DurableChange change;
  };
  MemoryStore& store_;
  std::deque<Job> queue_;
};

class MemoryStore : public DatabaseStore {
 public:
  explicit MemoryStore(std::uint32_t chains = 4096) : worker_(*this), chains_(chains) {}
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;

  Result<Database*> open(const std::string& name, DatabaseKind kind) override;
  Result<void> remove(DatabaseId id) override;
  [[nodiscard]] Result<std::vector<std::pair<std::string, DatabaseKind>>> existing() const override;

  [[nodiscard]] MemoryDatabase* find(DatabaseId id);  // nullptr if not open
  [[nodiscard]] MemoryCommitWorker& worker() { return worker_; }
  StoreFaults faults;

  // The daemon dies (and is started again on the same store). The first `already_durable` queued changes had been
  // written but not reported.
  void crash(std::size_t already_durable = 0);
  // After a crash: the disk is a new one.
  void lose_disk() { on_disk_.clear(); }

 private:
  MemoryCommitWorker worker_;
  std::uint32_t chains_;
  std::map<DatabaseId, std::unique_ptr<MemoryDatabase>> open_;
  std::map<DatabaseId, std::unique_ptr<MemoryDatabase>> on_disk_;  // persistent ones that are not open
  std::map<DatabaseId, std::uint64_t> epochs_;
};

}  // namespace tdbmesh
