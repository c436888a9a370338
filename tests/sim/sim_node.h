#pragma once
// One simulated machine: the production Node with everything beneath it faked (NodeEnvironment), its disk, its
// gate word, and the clients that run on it. The cluster (node_cluster.h) starts, stops and disturbs it.
//
// What dies with what: the daemon's death loses unfinished writes, the link's queues and the clients'
// connections, but volatile databases and the gate word stay until the next start, as clients see it. The
// machine's death ends the clients too.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/address_checks.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_store.h"
#include "tests/sim/world.h"
#include "tools/daemon/node.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

class NodeCluster;
class SimClient;

class SimNode final : private NodeEnvironment, private Link, private CommitWorker {
 public:
  SimNode(NodeCluster& cluster, Pnn pnn, MachineClock clock);
  ~SimNode() override;

  [[nodiscard]] Pnn pnn() const { return pnn_; }
  [[nodiscard]] Instant local() const;
  [[nodiscard]] bool up() const { return node_ != nullptr; }
  [[nodiscard]] Node& node() { return *node_; }
  [[nodiscard]] SimStore& store() override { return store_; }
  [[nodiscard]] std::uint64_t store_life() const { return store_life_; }
  [[nodiscard]] bool gate_is_open() const { return local() < gate_until_; }
  // As whom the gate was opened: the node's entry in the view it had in use.
  [[nodiscard]] const Member& gate_member() const { return gate_member_; }
  [[nodiscard]] Incarnation incarnation() const { return incarnation_; }
  void add_client(std::unique_ptr<SimClient> client);
  [[nodiscard]] const std::vector<std::unique_ptr<SimClient>>& clients() const { return clients_; }

  void start();
  void stop_daemon(bool machine);
  void fenced_by_supervisor();
  // As `tdbmesh stop` and `tdbmesh continue`, in a turn.
  void set_stopped(bool stopped);
  void reload_nodes();  // unless it has done so
  void ban(std::uint32_t how_many_seconds);
  void recover();
  void kill_lock_helper();
  // While the machine is off: what it had on its disk is gone.
  void lose_disk();
  // While the daemon is down: its next start is told that these are lost for good.
  void force_without(const std::set<Pnn>& lost);
  // It is on the disk that this node has installed a view.
  [[nodiscard]] bool remembers() const;
  [[nodiscard]] std::uint64_t life() const { return life_; }
  // Newest view in use here in this life; none before the first.
  [[nodiscard]] Generation installed() const { return installed_; }
  // The last moment (true time, may lie ahead) at which this node itself gave a reason to be left out: it or its disk was
  // disturbed, or it was told to leave.
  [[nodiscard]] Instant disturbed() const {
    return std::max({disturbed_, paused_until, stalled_until, frozen_until, disk_hangs_until});
  }
  // One event for the node, in a turn of its own; for faults. Ignored while it is down.
  void in_turn_soon(Duration delay, std::function<void()> event);

  // Its public addresses, after the supervisor has done by now what it must.
  [[nodiscard]] AddressView addresses();
  // What it has heard, whether its event loop has looked at it or not.
  [[nodiscard]] HeartbeatTable heard() const { return heart_->snapshot(local()); }
  void arrived(Pnn from, const SimNetwork::Message& message);
  void gap(Pnn from);

  // For clients.
  [[nodiscard]] ClientId connect(SimClient& client, std::int32_t pid);
  void disconnect(ClientId id);  // by the client, or because it died
  void send_from_client(ClientId id, Bytes packet);
  void chain_released(DatabaseId database);

  Instant paused_until{};   // the daemon
  Instant stalled_until{};  // its event loop alone
  Instant frozen_until{};   // the machine
  bool slow_disk = false;
  Instant disk_hangs_until{};
  bool report_unwritten = false;  // planted: changes are reported durable and not made

  // Runs in this life of the daemon: later if it is paused, never if that life is over.
  void in_life(Instant when, bool loop, std::function<void()> what);
  void when_able(std::uint64_t life, bool loop, std::function<void()> what);

 private:
  // NodeEnvironment
  Link& link() override { return *this; }
  CommitWorker& commit_worker() override { return *this; }
  std::optional<HeartbeatTable> heartbeats() override;
  void with_heartbeats(const std::function<void(HeartbeatCore&)>& use) override { use(*heart_); }
  void permit_gate(Generation generation) override;
  void close_gate() override;
  Instant gate_until() const override { return gate_until_; }
  Result<NodesFile> read_nodes_file() override { return nodes_file(); }
  void peer_lost(Pnn peer) override;
  void persist(std::uint64_t ticket, Bytes state) override;
  void wait_chain(DatabaseId database, Bytes key) override;
  void send_to_client(ClientId client, Bytes packet) override;
  void close_client(ClientId client) override;
  void run_event(std::uint64_t, EventRequest, Duration) override {}  // NodeConfig::events is not set
  void notify(const std::string&) override {}
  void try_cluster_lock(const recovery::LockRecord& record) override;
  void release_cluster_lock() override;
  bool process_exists(std::int32_t) const override { return true; }
  double wall_clock() const override;
  void log(LogLevel level, const std::string& text) override;
  void set_debug_level(std::int32_t) override {}
  ipfailover::AddressKernel* address_kernel() override { return kernel_.get(); }
  void exit() override { exiting_ = true; }
  // Link
  void send(Pnn to, MessageKind kind, Bytes body) override;
  void note_incarnation(Pnn peer, Incarnation incarnation) override;
  // CommitWorker
  void submit(std::uint64_t ticket, DurableChange change) override;

  [[nodiscard]] NodesFile nodes_file() const;
  NodeConfig config();
  void turn(const std::function<void()>& event);
  void note();
  void schedule_loop();
  void schedule_heartbeat(Instant at);
  void send_heartbeats(std::vector<OutgoingHeartbeat>& out);
  void heartbeat_bytes(Pnn from, Bytes bytes);
  void write_next();
  void flush_commits();
  [[nodiscard]] Duration disk_time();
  void look_at_chains();
  void operator_says(const ctdb::ReqControl& control);
  using LockEvent = std::function<void(recovery::ClusterLock&, Instant, recovery::LockActions&)>;
  void lock_event(const LockEvent& event);
  void touch_register(std::optional<Bytes> slot, std::uint64_t helper);

  NodeCluster& cluster_;
  Pnn pnn_;
  MachineClock clock_;
  SimStore store_;
  std::uint64_t store_life_ = 0;
  std::unique_ptr<SimKernel> kernel_;  // of the machine; none without addresses
  Random kernel_random_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<HeartbeatCore> heart_;
  std::unique_ptr<recovery::ClusterLock> lock_;
  std::uint64_t lock_helper_ = 0;
  Instant lock_due_ = kNever;
  Incarnation incarnation_ = 0;
  std::uint64_t life_ = 0;
  std::uint64_t turns_ = 0;
  unsigned spins_ = 0;  // turns in a row after which the next one was due at once
  bool exiting_ = false;
  Instant loop_due_ = kNever;  // true time
  Instant heart_ticked_{};     // local
  Bytes disk_;
  std::optional<std::pair<Bytes, std::uint64_t>> to_write_;
  bool writing_ = false;
  bool flushing_ = false;
  Instant gate_until_ = Instant::min();
  Member gate_member_;
  Generation installed_;
  Generation accepted_;
  Instant disturbed_ = Instant::min();
  std::uint64_t vacuumed_ = 0;
  std::uint64_t drains_ = 0;
  std::set<std::pair<DatabaseId, Bytes>> waiting_chains_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::map<ClientId, SimClient*> connections_;
};

}  // namespace tdbmesh::sim
