#pragma once
// The parts of a node, as its control handlers see them, and the request that a handler gets.

#include <map>

#include "db/commits.h"
#include "db/record_router.h"
#include "ipfailover/decision_log.h"
#include "ipfailover/node_health.h"
#include "recovery/control_plane.h"
#include "tools/daemon/attachments.h"
#include "tools/daemon/clients.h"
#include "tools/daemon/database_restore.h"
#include "tools/daemon/databases.h"
#include "tools/daemon/detaches.h"
#include "tools/daemon/node_addresses.h"
#include "tools/daemon/node_config.h"
#include "tools/daemon/node_environment.h"
#include "tools/daemon/node_services.h"
#include "tools/daemon/traverses.h"
#include "transport/ctdb_controls.h"
#include "transport/ctdb_statistics.h"

namespace tdbmesh {

// Commits of clients and of the daemon that wait for their end.
using CommitReplies = std::map<CommitId, ReplyTo>;

struct NodeParts {
  const NodeConfig& config;
  NodeEnvironment& env;
  NodeServices& services;
  recovery::ControlPlane& control;
  Clients& clients;
  Databases& databases;
  Attachments& attachments;
  RecordRouter& records;
  Commits& commits;
  CommitReplies& commit_replies;
  std::uint64_t& last_commit;
  Traverses& traverses;
  Detaches& detaches;
  DatabaseRestore& restore;
  NodeAddresses& addresses;
  ctdb::Statistics& statistics;
  std::vector<ctdb::Statistics>& statistics_history;  // newest first
  ctdb::Tunables& tunables;
  std::int32_t& debug_level;
  const bool& serving;           // Node::serving_
  const Instant& patience_from;  // Node::patience_from_
  NodeHealth& health;
  DecisionLog& decisions;
  Instant& ban_ends;  // kNever: not banned, or for ever
  // Wall clock, for people.
  double& started;
  double& recovery_started;
  double& recovery_finished;
};

struct ControlRequest {
  ctdb::ControlOpcode opcode{};
  Srvid srvid{};
  std::uint32_t flags = 0;
  BytesView data;
  ClientId client{};  // the local client that asked; none if another node did
  ReplyTo reply;
};

using ControlHandler = void (*)(NodeParts&, const ControlRequest&);
using ControlTable = std::map<ctdb::ControlOpcode, ControlHandler>;

// Each in a file of its own: controls_cluster.cc and so on.
void add_cluster_controls(ControlTable& table);
void add_database_controls(ControlTable& table);
void add_client_controls(ControlTable& table);
void add_tunable_controls(ControlTable& table);
void add_address_controls(ControlTable& table);
void add_event_controls(ControlTable& table);

// Controls of our own, beside CTDB's numbers. Request and reply as each handler says.
inline constexpr ctdb::ControlOpcode kControlGetReasons{10001};  // void -> text: why this node does not serve fully
inline constexpr ctdb::ControlOpcode kControlGetLeader{10003};   // void -> u32: as known now; kUnknownPnn: none
inline constexpr ctdb::ControlOpcode kControlGetLockState{10004};  // void -> text: ControlPlane::lock_state()
inline constexpr ctdb::ControlOpcode kControlDbWhere{10002};     // u32 db, u32 keylen, key -> JSON text
inline constexpr ctdb::ControlOpcode kControlWhy{10011};         // text -> text, see controls_events.cc

}  // namespace tdbmesh
