#pragma once
// What a node is told at its start: who it is, who the others are, how it behaves. A plain value, filled from
// the configuration files by the daemon and by hand in the simulator.

#include <map>
#include <string>
#include <vector>

#include "db/commit_types.h"
#include "db/ownership_types.h"
#include "recovery/control_plane.h"
#include "transport/ctdb_address.h"
#include "transport/ctdb_tunables.h"

namespace tdbmesh {

struct ConfiguredNode {
  ctdb::SockAddr address;
  bool deleted = false;  // a commented-out line of the nodes file: keeps its pnn
};

struct ConfiguredAddress {  // a line of public_addresses
  ctdb::SockAddr address;
  std::uint32_t mask_bits = 0;
  std::vector<std::string> interfaces;
};

// The nodes file, and what follows from it together with the options.
struct NodesFile {
  std::vector<ConfiguredNode> nodes;
  recovery::ClusterConfig cluster;
};

struct NodeConfig {
  recovery::ControlPlaneConfig control;
  std::vector<ConfiguredNode> nodes;  // index = pnn
  std::vector<ConfiguredAddress> public_addresses;
  std::map<ctdb::SockAddr, Pnn> home_nodes;  // file home_nodes: where an address goes when it can
  ctdb::Tunables tunables;
  bool tdb_mutexes = true;      // what DB_OPEN_FLAGS tells Samba about volatile databases
  std::string cluster_lock;     // as configured; what `getreclock` prints
  std::int32_t pid = 0;         // of the daemon
  std::int32_t debug_level = 3;  // CTDB's NOTICE
  bool events = false;          // there is a shell that runs event scripts; without, every event succeeds at once
  bool starts_unhealthy = false;  // scripts or checks must succeed first
  std::vector<std::string> checks;  // names of the built-in ones
  RecordSettings records;
  CommitSettings commits;
  // A client's request that needs the cluster is refused after the node has been without a view for so long;
  // before that it is held. A view change is over in much less, unless the next leader waits for the cluster lock
  // of one that died: some ten seconds for a lease in etcd.
  Duration view_patience = seconds(30);

  // A node that leaves in order has so long to hand over what only it has; then it leaves all the same.
  Duration drain_limit = seconds(5);

  [[nodiscard]] Pnn self() const { return control.self; }
};

}  // namespace tdbmesh
