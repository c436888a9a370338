#pragma once
// All that the daemon's shell is told: filled from the configuration files (config.h) by main.cc.

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ipfailover/script_runner.h"
#include "ipfailover/service_check.h"
#include "tools/daemon/node_config.h"
#include "tools/daemon/node_environment.h"
#include "transport/cluster_key.h"
#include "transport/peer_address.h"

namespace tdbmesh {

struct DaemonSetup {
  NodeConfig node;
  std::string address;  // own, numeric
  std::uint16_t port = 4379;  // heartbeats use the next one
  std::vector<PeerAddress> peers;
  std::optional<ClusterKey> key;
  bool realtime = true;  // the heartbeat thread's scheduling
  std::set<Pnn> force_without;  // recovery/force_without.h; empty: an ordinary start

  std::string socket_path;
  std::string pid_path;
  std::string gate_path;
  std::string lock_helper_path;
  std::string lock_register;  // file; empty: the lock file itself, or none
  std::string supervisor_path;
  std::string state_path;
  std::string volatile_dir;
  std::string persistent_dir;

  std::function<Result<NodesFile>()> read_nodes_file;
  std::function<Result<std::vector<ConfiguredAddress>>()> read_public_addresses;
  ScriptRunner::Settings scripts;
  std::string notify_script;  // called with one word; need not be there
  std::string eventd_path;
  std::vector<ServiceCheck> checks;

  std::function<void(LogLevel, const std::string&)> log;
  std::function<void(std::int32_t)> set_debug_level;
  std::function<void()> reopen_log;
};

}  // namespace tdbmesh
