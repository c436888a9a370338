#pragma once
// Commits transactions on persistent databases: reads the local sequence number, commits it plus one with a record
// of its own, and takes refusals and view changes as Samba does (client protocol sheet 5.4). A lock over the whole
// cluster stands for g_lock; now and then it is left out, so that commits race.

#include <deque>

#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

class CommitClient final : public SimClient {
 public:
  CommitClient(NodeCluster& cluster, SimNode& node);
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && round_.empty(); }

  // For the checkers; the last one is attached by clients of node 0 alone.
  [[nodiscard]] static const std::vector<std::string>& all_names();

 private:
  struct Task {
    DatabaseId database{};
    bool locked = false;
    Bytes commit;               // key of the record that is its own
    std::uint64_t seqnum = 0;   // what the local copy said
    Rsn rsn = 0;                // of the sequence number record
    int attempts = 0;
  };

  void ready() override { next(); }
  void died() override;
  void next();
  void take_lock(Task task);
  void begin_transaction(Task task);
  void commit(Task task);
  void answered(Task task, std::int32_t status);
  void committed(const Task& task, bool by_answer);
  void finished(const Task& task);

  std::vector<DatabaseId> databases_;
  bool in_round_ = false;
  std::deque<DatabaseId> round_;
  bool under_way_ = false;
  std::optional<DatabaseId> holds_;
};

}  // namespace tdbmesh::sim
