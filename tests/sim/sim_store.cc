#include "tests/sim/sim_store.h"

#include <utility>

namespace tdbmesh::sim {

class SimStore::Watched final : public Database {
 public:
  Watched(SimStore& store, MemoryDatabase& inner) : store_(store), inner_(inner) {}
  [[nodiscard]] const std::string& name() const override { return inner_.name(); }
  [[nodiscard]] DatabaseId id() const override { return inner_.id(); }
  [[nodiscard]] DatabaseKind kind() const override { return inner_.kind(); }
  [[nodiscard]] const std::string& path() const override { return inner_.path(); }
  bool try_lock(BytesView key) override { return inner_.try_lock(key); }
  void unlock(BytesView key) override { inner_.unlock(key); }
  [[nodiscard]] std::uint64_t client_locks(BytesView key) const override { return inner_.client_locks(key); }
  [[nodiscard]] Result<std::optional<StoredRecord>> fetch(BytesView key) const override { return inner_.fetch(key); }
  Result<void> store(BytesView key, const RecordHeader& header, BytesView value) override {
    return inner_.store(key, header, value);
  }
  Result<void> erase(BytesView key) override {
    const auto before = store_.look(id(), key);
    auto erased = inner_.erase(key);
    if (erased && before && before->header.dmaster == store_.self_ && before->value.empty()) {
      store_.erased.emplace_back(id(), Bytes(key));
    }
    return erased;
  }
  [[nodiscard]] Result<ScanBatch> scan(ScanPosition from, std::size_t most) const override {
    return inner_.scan(from, most);
  }
  [[nodiscard]] std::uint64_t record_count() const override { return inner_.record_count(); }
  Result<void> drop_all() override {
    return inner_.drop_all();
  }
  [[nodiscard]] CopyVersion version() const override { return inner_.version(); }
  void enable_seqnum() override { inner_.enable_seqnum(); }
  [[nodiscard]] bool seqnum_enabled() const override { return inner_.seqnum_enabled(); }
  [[nodiscard]] std::uint32_t seqnum() const override { return inner_.seqnum(); }
  void bump_seqnum() override { inner_.bump_seqnum(); }

 private:
  SimStore& store_;
  MemoryDatabase& inner_;
};

SimStore::SimStore(Pnn self) : self_(self) {}

SimStore::~SimStore() = default;

Result<Database*> SimStore::open(const std::string& name, DatabaseKind kind) {
  Result<Database*> opened = memory_.open(name, kind);
  if (!opened) return opened;
  const DatabaseId id = (*opened)->id();
  auto& watched = watched_[id];
  if (watched == nullptr) watched = std::make_unique<Watched>(*this, *memory_.find(id));
  return watched.get();
}

Result<void> SimStore::remove(DatabaseId id) {
  watched_.erase(id);
  return memory_.remove(id);
}

void SimStore::crash(std::size_t already_durable) {
  watched_.clear();
  erased.clear();
  memory_.crash(already_durable);
}

void SimStore::lose_disk() {
  crash(0);
  memory_.lose_disk();
}

std::optional<StoredRecord> SimStore::look(DatabaseId id, BytesView key) {
  const MemoryDatabase* database = memory_.find(id);
  if (database == nullptr) return std::nullopt;
  const StoreFaults faults = std::exchange(memory_.faults, {});
  auto found = database->fetch(key);
  memory_.faults = faults;
  return found ? std::move(*found) : std::nullopt;
}

}  // namespace tdbmesh::sim
