#pragma once
// DatabaseStore of the real node: LmdbDatabase behind the interface of store.h. Anchors are
// `<volatile_dir>/NAME.PNN` and `<persistent_dir>/NAME.PNN`; the LMDB files stand in a directory beside each.
//
// open(): volatile and replicated databases are created anew for each LmdbStore (the old anchor is retired, its epoch
// continues + 1); persistent ones are opened after a check of their whole contents. A persistent database that is
// damaged is set aside (directory renamed to `...corrupt-N`), an empty one with version {} takes its place, and
// notices() says so: the node must fetch a copy from other members. Files of CTDB (real TDBs) are never touched:
// Refused.
//
// Thread: the event loop; CommitWorkerThread uses it through lmdb().

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "db/lmdb_database.h"
#include "db/store.h"

namespace tdbmesh {

struct LmdbStoreConfig {
  std::string volatile_dir;    // created with mode 0700 if missing
  std::string persistent_dir;
  std::string gate_path;       // written into the anchors, for the shim
  Pnn pnn{0};
  std::uint64_t map_size = 0;  // first size of each map; 0 = 4 GiB (sparse)
  std::uint64_t hash_mask = ~std::uint64_t{0};  // tests only
};

class LmdbStore : public DatabaseStore {
 public:
  // Creates the directories and removes leftovers of volatile databases of earlier lives. Only one daemon may do so:
  // hold the GateKeeper (gate.h) before.
  [[nodiscard]] static Result<std::unique_ptr<LmdbStore>> create(LmdbStoreConfig config);
  ~LmdbStore() override;

  Result<Database*> open(const std::string& name, DatabaseKind kind) override;
  Result<void> remove(DatabaseId id) override;
  [[nodiscard]] Result<std::vector<std::pair<std::string, DatabaseKind>>> existing() const override;

  // Things an operator must know (a database was set aside), since the last call.
  [[nodiscard]] std::vector<std::string> take_notices();
  [[nodiscard]] std::string damage(DatabaseId id) const override;
  // Every 10 s or so: frees what dead clients left behind.
  void maintain();

  // Any thread. nullptr if not open. The result stays valid while it is held, even if the database is removed.
  [[nodiscard]] std::shared_ptr<LmdbDatabase> lmdb(DatabaseId id) const;

 private:
  class Entry;
  explicit LmdbStore(LmdbStoreConfig config);
  [[nodiscard]] std::string anchor_path(const std::string& name, DatabaseKind kind) const;
  Result<std::shared_ptr<LmdbDatabase>> open_fresh(const std::string& name, DatabaseKind kind);
  Result<std::shared_ptr<LmdbDatabase>> open_persistent(const std::string& name);
  [[nodiscard]] AnchorSettings new_settings(const std::string& name, DatabaseKind kind, std::string data_dir) const;
  Result<void> renew_anchor(const std::string& name, const std::string& path, const std::string& data_dir);
  Result<void> set_aside(const std::string& anchor, const std::string& data_dir, const std::string& why);

  LmdbStoreConfig config_;
  mutable std::mutex mutex_;  // databases_, against lmdb()
  std::map<DatabaseId, std::unique_ptr<Entry>> databases_;
  std::map<std::string, std::uint64_t> last_epochs_;  // of volatile anchors that were retired, by path
  std::map<DatabaseId, std::string> damage_;
  std::vector<std::string> notices_;
};

}  // namespace tdbmesh
