#pragma once
// A volatile database that comes and goes. Visitors attach it, write in it when they did so, and read what others wrote.
// The operator (one) shuts clients out by AllowClientDBAttach, detaches it and lets them in again. Checked: a detach
// that was answered with success leaves no member with the database; what was written before it is never seen
// afterwards. In their rounds visitors write and read every key, and the operator's detach succeeds once.

#include <optional>

#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

class VisitorClient final : public SimClient {
 public:
  VisitorClient(NodeCluster& cluster, SimNode& node);
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && round_.empty(); }
  [[nodiscard]] static DatabaseId the_database();

 private:
  void ready() override;
  void next();
  void visit(const Bytes& key);

  std::uint64_t epoch_ = 0;  // of the database that it attached
  bool in_round_ = false;
  std::vector<Bytes> round_;
};

class OperatorClient final : public SimClient {
 public:
  OperatorClient(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) {}
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && detached_ && !shut_out_; }

 private:
  void ready() override { next(); }
  void next();
  // Sets the tunable node by node; what then follows only when all have it.
  void allow(bool attach, std::uint32_t node, std::function<void()> then);
  void detach();
  // As the tool does, it gives up when there is no answer for some seconds: a control that a broken link swallowed is
  // not sent again by anybody.
  void ask(ctdb::ReqControl control, Reply reply, std::uint32_t to = ctdb::kCurrentNode);

  std::uint64_t asked_ = 0;
  bool shut_out_ = false;  // perhaps somewhere; survives the process
  bool in_round_ = false;
  bool detached_ = false;  // in its round
};

}  // namespace tdbmesh::sim
