#pragma once
// Everything a Node needs from the world around it. The daemon implements it with sockets, threads and LMDB
// (daemon_environment.*), the simulator with fakes; the Node is the same in both. Nothing here blocks, and
// nothing here calls back into the Node: results arrive later as events.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "db/store.h"
#include "ipfailover/address_kernel.h"
#include "ipfailover/event_requests.h"
#include "recovery/control_plane.h"
#include "tools/daemon/node_config.h"
#include "transport/client_id.h"
#include "transport/heartbeat_core.h"
#include "transport/link.h"
#include "transport/peer_address.h"

namespace tdbmesh {

enum class LogLevel { Error, Warning, Notice, Info, Debug };

class NodeEnvironment {
 public:
  virtual ~NodeEnvironment() = default;

  [[nodiscard]] virtual Link& link() = 0;
  [[nodiscard]] virtual DatabaseStore& store() = 0;
  [[nodiscard]] virtual CommitWorker& commit_worker() = 0;

  // What is known of the peers; nothing while the heartbeat thread itself was paused and may judge nobody.
  [[nodiscard]] virtual std::optional<HeartbeatTable> heartbeats() = 0;
  // The heartbeat core, locked against its own thread for as long as `use` runs. Keep it short. For
  // set_support, set_voters and set_announcement; the gate has members of its own.
  virtual void with_heartbeats(const std::function<void(HeartbeatCore&)>& use) = 0;
  // The lease may open the gate from now on / the gate is shut when this returns.
  virtual void permit_gate(Generation generation) = 0;
  virtual void close_gate() = 0;
  // Open while now < gate_until(). Cheap: asked in every turn.
  [[nodiscard]] virtual Instant gate_until() const = 0;
  // Reads the nodes file as it is now. Small and local: read at once, when the operator asks.
  [[nodiscard]] virtual Result<NodesFile> read_nodes_file() { return failure(Fault::Io, "there is no nodes file"); }
  // Who may connect and is connected to, from now on; this node itself may be among them.
  virtual void set_peers(const std::vector<PeerAddress>&) {}
  // The peer is disconnected: what is queued for it is worth nothing any more.
  virtual void peer_lost(Pnn peer) = 0;

  // Writes the persisted state; Node::on_persisted(ticket) follows when it is on disk.
  virtual void persist(std::uint64_t ticket, Bytes state) = 0;
  // A chain lock is taken by a client; Node::on_chain_free follows when it was free for a moment.
  virtual void wait_chain(DatabaseId database, Bytes key) = 0;

  // A whole CTDB packet for a client. A client that has gone is ignored.
  virtual void send_to_client(ClientId client, Bytes packet) = 0;
  virtual void close_client(ClientId client) = 0;

  // Public addresses in this machine's kernel; nullptr where none may be hosted. Node::on_kernel follows.
  [[nodiscard]] virtual ipfailover::AddressKernel* address_kernel() { return nullptr; }

  // The public_addresses file as it is now (`reloadips`).
  [[nodiscard]] virtual Result<std::vector<ConfiguredAddress>> read_public_addresses() {
    return failure(Fault::Refused, "this process has no public_addresses file");
  }
  [[nodiscard]] virtual bool interface_exists(const std::string&) const { return true; }

  // Hold the cluster lock with this record in its register; Node::on_lock follows each change.
  virtual void try_cluster_lock(const recovery::LockRecord& record) = 0;
  virtual void release_cluster_lock() = 0;

  // Runs the event's scripts, each for at most `limit`; Node::on_event(ticket) follows, in a later turn.
  virtual void run_event(std::uint64_t ticket, EventRequest request, Duration limit) = 0;

  // Calls the operator's notify script with this word, after those asked for before; waits for nothing.
  virtual void notify(const std::string& word) = 0;

  // Is there a process of this pid on this machine (kill(pid, 0))?
  [[nodiscard]] virtual bool process_exists(std::int32_t pid) const = 0;
  // Seconds since 1970, for what tools print. Never for a decision.
  [[nodiscard]] virtual double wall_clock() const = 0;
  virtual void log(LogLevel level, const std::string& text) = 0;
  // The daemon's debug level (CTDB's numbers 0, 1, 3, 5, 10).
  virtual void set_debug_level(std::int32_t level) = 0;
  // The node has left the cluster in order; the process ends.
  virtual void exit() = 0;
};

}  // namespace tdbmesh
