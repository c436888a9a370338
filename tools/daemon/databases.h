#pragma once
// The databases that this node has attached, in the order in which it did: what GET_DBMAP answers, and the
// change detection (seqnum) that spreads between nodes. Pure over DatabaseStore.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "db/store.h"
#include "tools/daemon/relay_messages.h"

namespace tdbmesh {

class Databases {
 public:
  struct Attached {
    Database* database = nullptr;
    bool readonly = false;
    bool sticky = false;
    std::string unhealthy;               // why its contents are lost; empty: healthy. See health()
    // Healthy again as soon as a copy of another node or a backup is in it.
    [[nodiscard]] std::string health() const {
      return unhealthy.empty() || database->version() != CopyVersion{} ? std::string() : unhealthy;
    }
    std::uint32_t seqnum_sent = 0;       // the local seqnum that the other nodes know of
    [[nodiscard]] AttachedDatabase description() const {
      return {database->name(), database->kind(), readonly, sticky};
    }
  };

  explicit Databases(DatabaseStore& store) : store_(store) {}

  // Opens (creates) the database unless it is attached. Refused if it is attached as another kind: a
  // volatile wish is granted by any kind, a persistent or replicated one only by the same. `created` tells
  // whether it is new here.
  struct AttachResult {
    Attached* attached = nullptr;
    bool created = false;
  };
  Result<AttachResult> attach(const std::string& name, DatabaseKind kind);
  Result<void> detach(DatabaseId id);

  [[nodiscard]] Attached* find(DatabaseId id);
  [[nodiscard]] Database* database(DatabaseId id);
  [[nodiscard]] const std::vector<DatabaseId>& ids() const { return order_; }
  [[nodiscard]] std::vector<AttachedDatabase> descriptions() const;

  // Databases whose seqnum changed here since the last call, to be told to the other nodes.
  std::vector<DatabaseId> take_changed_seqnums();
  // Perhaps all have changed elsewhere: word of it may be lost.
  void bump_seqnums();
  // Another node's database changed.
  void bump_seqnum(DatabaseId id);

 private:
  DatabaseStore& store_;
  std::map<DatabaseId, Attached> attached_;
  std::vector<DatabaseId> order_;
};

}  // namespace tdbmesh
