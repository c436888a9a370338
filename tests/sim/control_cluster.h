#pragma once
// A simulated cluster of control planes: for each node the production ControlPlane and HeartbeatCore, a disk that
// forgets what it had not finished when the machine dies, and one persistent database with a small commit
// protocol, so that settling and the carrier rule have something to lose. Checkers run after every event.

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "recovery/control_plane.h"
#include "tests/sim/world.h"

namespace tdbmesh::sim {

struct ClusterOptions {
  std::size_t nodes = 3;
  recovery::QuorumMode quorum = recovery::QuorumMode::Majority;
  Timing timing;
  recovery::ControlPlane::TestHooks plane_hooks;
  HeartbeatCore::TestHooks heartbeat_hooks;
  // The nodes file changes every few seconds: 2 to 5 of the machines, of which the first three begin.
  bool reconfigure = false;
  bool trace = false;
};

class ControlCluster {
 public:
  ControlCluster(std::uint64_t seed, ClusterOptions options);
  ~ControlCluster();

  // Faults about once a second for so long, then none. False as soon as a checker objects: see violation().
  bool run_with_faults(Duration how_long);
  // No more faults: everything must be well within `bound`.
  bool run_until_well(Duration bound);
  // Undisturbed from the start until all is well.
  [[nodiscard]] const std::string& violation() const { return violation_; }
  [[nodiscard]] Duration time_to_well() const { return time_to_well_; }
  struct Counts {
    std::uint64_t views = 0;
    std::uint64_t leaders = 0;
    std::uint64_t commits = 0;
    std::uint64_t faults = 0;
    std::uint64_t files = 0;  // nodes files written
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }
  World& world() { return world_; }

  // Single faults, for scenarios.
  void power_off(Pnn pnn, Duration restart_after);
  void kill_daemon(Pnn pnn, Duration restart_after);
  void isolate(Pnn pnn, bool cut);
  [[nodiscard]] bool well() const;
  [[nodiscard]] std::string why_not_well() const;

 private:
  struct Node;
  struct Copy;
  void start(Node& node);
  void stop_process(Node& node);
  void turn(Node& node, const std::function<void(recovery::Actions&)>& event);
  void carry_out(Node& node, const recovery::Actions& actions);
  void carry_out_lock(Node& node, const recovery::LockActions& actions);
  // One event for the node's end of the cluster lock, and what the control plane makes of it.
  void lock_event(Node& node, const std::function<void(recovery::ClusterLock&, Instant, recovery::LockActions&)>& event);
  void lock_freed_by_death(Node& node);
  void schedule_loop(Node& node);
  void schedule_heartbeat(Node& node, Instant local);
  void heartbeat_bytes(Node& to, Pnn from, Bytes bytes);
  void note_gate(Node& node);
  void write_next(Node& node);
  void settle(Node& node, const recovery::Settle& what);
  void catch_up(Node& node, Pnn from);
  void answer_copies(Node& node, Generation generation);
  void commit_client(Node& node);
  void commit_write(Node& node, Pnn from, Generation generation, std::uint64_t seqnum, std::uint64_t id);
  void commit_durable(Node& node, Pnn from, Generation generation, std::uint64_t seqnum);
  void fault();
  void change_files();
  void read_files(Node& node);
  [[nodiscard]] bool in_files(Pnn pnn) const;
  void check();
  void check_commits(const Node& node);
  void fail(const std::string& what);
  void trace(const Node& node, const std::string& what);
  // Runs in the node's process: later if it is paused, never if that life is over.
  void in_life(Node& node, Instant when, bool loop, std::function<void()> what);
  Node& node(Pnn pnn) { return *nodes_[number(pnn)]; }

  World world_;
  ClusterOptions options_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::string violation_;
  Counts counts_;
  Duration time_to_well_{0};
  bool faults_on_ = false;
  recovery::ClusterConfig files_;  // what stands in the nodes file of every machine
  // The cluster lock: a file system that frees a dead (or unreachable) holder's lock after a while, and a
  // register that takes any write of anybody's own slot, also a late one of a holder that lost the lock.
  std::optional<std::pair<Pnn, std::uint64_t>> lock_holder_;
  std::map<Pnn, Bytes> lock_register_;
  std::set<Pnn> lock_cut_;
  Duration lock_freed_after_{milliseconds(200)};
  std::uint64_t next_commit_ = 1;
  std::set<std::uint64_t> acknowledged_;
  std::map<std::uint64_t, std::pair<Pnn, Incarnation>> leaders_;  // by term
  std::map<Generation, View> contents_;
  std::optional<View> newest_installed_;
};

}  // namespace tdbmesh::sim
