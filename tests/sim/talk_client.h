#pragma once
// A process that talks: it sends numbered messages to the same process on every node, each to its own srvid, and now and
// then traverses the counters. Checked: a message arrives at most once and in the order of sending, only where it was
// sent to; a traverse ends, and in quiet times shows each live record exactly once, with its newest version that no lost
// node has taken along. In its round it hears from every node and is heard by all.

#include <map>
#include <set>

#include "tests/sim/ghost_log.h"
#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

class TalkClient final : public SimClient {
 public:
  TalkClient(NodeCluster& cluster, SimNode& node);
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && waiting_for_.empty(); }

  // When nobody writes any more: one traverse, then judge it.
  void start_last_traverse();
  [[nodiscard]] bool last_traverse_done() const { return last_done_; }

 private:
  void ready() override;
  void died() override;
  void message(const ctdb::ReqMessage& message) override;
  void talk();
  void send(Pnn to);
  void heard(BytesView data);
  void traverse();
  void traversed();

  std::uint64_t number_ = 0;                       // of its last message
  std::map<std::uint64_t, std::uint64_t> newest_;  // by process that sent: the number of its newest message
  std::map<Bytes, GhostLog::Version> records_;     // of the traverse under way
  bool traversing_ = false;
  bool judging_ = false;                           // ... is the last one
  std::uint32_t traverse_ = 0;                     // its number
  bool in_round_ = false;
  bool last_ = false;
  bool last_done_ = false;
  std::set<Pnn> waiting_for_;
};

}  // namespace tdbmesh::sim
