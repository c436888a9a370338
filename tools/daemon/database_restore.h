#pragma once
// `wipedb` and `restoredb` as the ctdb tool does them: on every active node freeze, transaction start, wipe,
// (push of record buffers,) transaction commit, thaw. Every node takes part in the same steps; what makes
// the new contents one and the same everywhere differs by kind:
//
//   persistent, replicated: the database's sequencer commits the whole new contents through the cluster
//   volatile:               every node empties its own store under the chain locks; the member of lowest pnn
//                           stores the pushed records as their owner; a new view lets all forget the rest
//
// Pure over Database; chain locks are only tried, so a step may take several turns (tick).

#include <map>
#include <optional>
#include <vector>

#include "db/store.h"
#include "tools/daemon/databases.h"
#include "tools/daemon/node_services.h"

namespace tdbmesh {

class DatabaseRestore {
 public:
  DatabaseRestore(NodeServices& services, Databases& databases) : services_(services), databases_(databases) {}

  // Each answers the status of its control; an id of 0 for `transaction` never matches a started one.
  [[nodiscard]] bool freeze(DatabaseId id);
  [[nodiscard]] bool thaw(DatabaseId id);
  [[nodiscard]] bool start(DatabaseId id, std::uint32_t transaction);
  // Answered (through services) when the contents are gone; false: not frozen, not started or another number.
  [[nodiscard]] bool wipe(DatabaseId id, std::uint32_t transaction, const ReplyTo& reply);
  [[nodiscard]] bool push_start(DatabaseId id, Srvid srvid);
  // A message to a srvid that a push was started for; true if it was one.
  bool push(Srvid srvid, BytesView buffer);
  [[nodiscard]] std::optional<std::uint32_t> push_confirm(DatabaseId id);
  // For persistent and replicated ones: what the cluster has to commit, if a wipe was done.
  struct Contents {
    std::vector<RecordEntry> entries;
  };
  [[nodiscard]] std::optional<Contents> take_contents(DatabaseId id, std::uint32_t transaction);
  // For volatile ones: stores the pushed records here if this node is to own them; answered when done.
  [[nodiscard]] bool commit_volatile(DatabaseId id, std::uint32_t transaction, const ReplyTo& reply);

  [[nodiscard]] bool frozen(DatabaseId id) const { return open_.contains(id); }
  [[nodiscard]] std::size_t frozen_count() const { return open_.size(); }
  // A view change ends all of it: the tool notices by the transaction number.
  void abandon();
  void tick();
  [[nodiscard]] bool busy() const;

 private:
  struct Restore {
    std::optional<std::uint32_t> transaction;
    bool wiped = false;
    std::optional<ReplyTo> wiping;      // the control that waits for the wipe
    std::optional<ReplyTo> committing;  // the control that waits for the store
    std::optional<Srvid> push;
    std::vector<RecordEntry> pushed;
    std::size_t stored = 0;
  };
  void continue_wipe(DatabaseId id, Restore& restore);
  void continue_commit(DatabaseId id, Restore& restore);

  NodeServices& services_;
  Databases& databases_;
  std::map<DatabaseId, Restore> open_;
};

}  // namespace tdbmesh
