#pragma once
// What the operator wrote: one configuration directory, read at start, as one checked value.
//
//   tdbmesh.conf        ours; or, if there is none, ctdb.conf: CTDB's own file with all its options
//   nodes               one address per line; the pnn is the line; '#' in front keeps the number of a node
//                       that is gone (so every line that begins with '#' counts)
//   public_addresses    ADDRESS/BITS INTERFACE[,INTERFACE...]; may be missing
//   home_nodes          ADDRESS PNN: where an address goes whenever that node can host it; may be missing
//   tunables            NAME=VALUE; or ctdb.tunables; may be missing
//   cluster.key         see transport/cluster_key.h; must exist unless all nodes are on loopback addresses or
//                       tdbmesh.conf says [transport] security = none
//
// tdbmesh.conf has CTDB's sections and options and besides:
//
//   [transport] security = curve | none        default: curve if there is a key
//               port = N                       default 4379; heartbeats use N + 1
//   [cluster]   quorum = majority | lock (two nodes) | none
//               lock register = FILE | none   what a `cluster lock = !COMMAND` is remembered in, see below
//               timing = default | impatient | patient
//               witness = true | false        this machine votes; it leads nothing, hosts nothing, keeps no directory
//
// A lock has no memory. A lock file keeps its own; a `!COMMAND` needs `lock register` before it may count as the third
// vote of two nodes: a FILE on a file system that both reach, or `none` in writing (as safe as the lock alone).
// With three or more nodes (and `quorum` not set) a lock is advisory: the leader holds it, and nothing waits for it.
//
//   [checks]    NAME = KIND TARGET [OPTION=VALUE...]   built-in checks of services: ipfailover/service_check.h
//
// Errors name the file, the line and what is wrong; nothing is guessed. What is accepted without having an
// effect here becomes one line of `notices` each, for the log.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/base/ids.h"
#include "db/base/result.h"
#include "ipfailover/service_check.h"
#include "tools/daemon/node_config.h"
#include "transport/cluster_key.h"
#include "transport/ctdb_tunables.h"
#include "transport/peer_address.h"
#include "transport/timing.h"

namespace tdbmesh {

struct ConfigPaths {
  std::string config_dir = "/etc/tdbmesh";
  std::string state_dir = "/var/lib/tdbmesh";
  std::string runtime_dir = "/run/tdbmesh";
};

enum class QuorumChoice { Majority, Lock, None };
enum class Security { Default, Curve, None };  // Default: curve if there is a key or a node off loopback

struct Config {
  ConfigPaths paths;
  std::string file;  // the one read: .../tdbmesh.conf, .../ctdb.conf, or empty if there is neither

  // [logging]
  std::int32_t debug_level = 3;  // CTDB's numbers: 0 ERROR, 1 WARNING, 3 NOTICE, 5 INFO, 10 DEBUG
  std::string log_location = "file:/var/log/tdbmesh/log.tdbmesh";  // file:PATH, syslog or stderr
  // [cluster]
  std::string cluster_lock;  // empty: none
  std::string lock_register;  // file beside a `!command` lock, or "none": go on without one
  bool leader_capability = true;
  bool lmaster_capability = true;
  bool witness = false;
  QuorumChoice quorum = QuorumChoice::Majority;
  bool quorum_given = false;
  Timing timing;
  std::uint32_t leader_timeout_s = 5;  // kept for tools that ask
  // [database]
  std::string volatile_dir;    // default <runtime-dir>/volatile
  std::string persistent_dir;  // default <state-dir>/persistent
  std::string database_state_dir;  // default <state-dir>/state
  bool tdb_mutexes = true;
  // [event]
  std::string event_debug_script;
  std::int32_t script_debug_level = 0;
  // [checks]: every option is one
  std::vector<ServiceCheck> checks;
  // [failover]
  bool failover_disabled = false;
  // [legacy]
  bool start_as_stopped = false;
  bool start_as_disabled = false;
  bool realtime_scheduling = true;
  // [transport]
  Security security = Security::Default;
  std::uint16_t port = 4379;
  std::optional<ClusterKey> key;  // none: connections are not encrypted

  std::vector<ConfiguredNode> nodes;  // index = pnn
  Pnn self{0};                        // which of them this machine is
  std::string address;                // and its address
  std::vector<ConfiguredAddress> public_addresses;
  std::map<ctdb::SockAddr, Pnn> home_nodes;
  ctdb::Tunables tunables;

  std::vector<std::string> notices;

  // All nodes that are not deleted, for the mesh.
  [[nodiscard]] std::vector<PeerAddress> peers() const;
};

// Reads all files. `is_local` says whether an address belongs to this machine; by default the interfaces are
// asked (and for 127.x the kernel).
using IsLocal = std::function<bool(const std::string& address)>;
[[nodiscard]] Result<Config> load_config(const ConfigPaths& paths, const IsLocal& is_local = {});

// The parts, pure; `origin` names the file in errors. Used again by reloadnodes and by the tools.
[[nodiscard]] Result<std::vector<ConfiguredNode>> parse_nodes(std::string_view text, const std::string& origin);
[[nodiscard]] Result<std::vector<ConfiguredAddress>> parse_public_addresses(std::string_view text,
                                                                            const std::string& origin);
[[nodiscard]] Result<std::map<ctdb::SockAddr, Pnn>> parse_home_nodes(std::string_view text, const std::string& origin);
// The public_addresses file as it is now; empty if there is none. For `reloadips`.
[[nodiscard]] Result<std::vector<ConfiguredAddress>> read_public_addresses(const ConfigPaths& paths,
                                                                           const std::vector<ConfiguredNode>& nodes);
[[nodiscard]] Result<ctdb::Tunables> parse_tunables(std::string_view text, const std::string& origin,
                                                    std::vector<std::string>& notices);
// Applies the options of tdbmesh.conf (`ours`) or ctdb.conf to `config`. Returns `node address`, or empty.
[[nodiscard]] Result<std::string> parse_options(std::string_view text, const std::string& origin, bool ours,
                                                Config& config);

// "NOTICE", "notice", "3" -> 3. nullopt if it is no level.
[[nodiscard]] std::optional<std::int32_t> parse_debug_level(std::string_view text);
[[nodiscard]] bool address_is_local(const std::string& address);

}  // namespace tdbmesh
