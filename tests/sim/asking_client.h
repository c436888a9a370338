#pragma once
// A process that asks other daemons something all the time, as operators' tools do. Checked: whatever happens to the link
// and to the node asked, there is an answer or a refusal long before the control's own limit. In its round it gets an
// answer from every node.

#include <map>
#include <optional>
#include <set>

#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

class AskingClient final : public SimClient {
 public:
  // `whom`: always this node; none: any.
  AskingClient(NodeCluster& cluster, SimNode& node, Duration every, std::optional<Pnn> whom = std::nullopt)
      : SimClient(cluster, node), every_(every), whom_(whom) {}
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && waiting_for_.empty(); }

  // Until an answer or a refusal, those that still wait included.
  [[nodiscard]] Duration longest_wait() const;
  [[nodiscard]] std::uint64_t answered() const { return answered_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  struct Asked {
    Pnn whom{};
    Instant when;
  };
  void ready() override { ask(); }
  void died() override { asked_.clear(); }
  void ask();
  void judge(const Asked& asked);

  Duration every_;
  std::optional<Pnn> whom_;
  std::map<std::uint64_t, Asked> asked_;
  std::uint64_t last_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t refused_ = 0;
  Duration longest_{};
  bool in_round_ = false;
  std::set<Pnn> waiting_for_;
};

}  // namespace tdbmesh::sim
