#pragma once
// The store of a simulated node as its daemon sees it: MemoryStore, with a note of which owned, empty records it
// removed (the end of a vacuum, for the ghost log).

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "db/memory_store.h"

namespace tdbmesh::sim {

class SimStore final : public DatabaseStore {
 public:
  explicit SimStore(Pnn self);
  ~SimStore() override;

  Result<Database*> open(const std::string& name, DatabaseKind kind) override;
  Result<void> remove(DatabaseId id) override;
  [[nodiscard]] Result<std::vector<std::pair<std::string, DatabaseKind>>> existing() const override {
    return memory_.existing();
  }

  // As clients and checkers see it. Pointers die with crash().
  [[nodiscard]] MemoryStore& memory() { return memory_; }
  void crash(std::size_t already_durable);
  // A new disk: persistent databases are gone as well.
  void lose_disk();
  // Without the faults of the store.
  [[nodiscard]] std::optional<StoredRecord> look(DatabaseId id, BytesView key);

  // Owned, empty records erased since this was last cleared.
  std::vector<std::pair<DatabaseId, Bytes>> erased;

 private:
  class Watched;
  Pnn self_;
  MemoryStore memory_{64};
  std::map<DatabaseId, std::unique_ptr<Watched>> watched_;
};

}  // namespace tdbmesh::sim
