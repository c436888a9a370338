#include "tools/daemon/setup_from_config.h"

#include <unistd.h>

#include <filesystem>
#include <random>

#include "db/base/hash.h"

namespace tdbmesh {
namespace {

recovery::QuorumMode quorum_mode(const Config& config, std::size_t nodes) {
  if (config.quorum_given) {
    if (config.quorum == QuorumChoice::None) return recovery::QuorumMode::None;
    if (config.quorum == QuorumChoice::Lock) return recovery::QuorumMode::LockVote;
    return recovery::QuorumMode::Majority;
  }
  // Two nodes have no majority that survives; with a cluster lock they have a third vote. With more nodes a
  // lock is only advisory.
  return nodes == 2 && !config.cluster_lock.empty() ? recovery::QuorumMode::LockVote : recovery::QuorumMode::Majority;
}

// Beside the daemon in a build tree, in libexec when installed.
std::string lock_helper_path() {
  std::error_code ignored;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto beside = own.parent_path() / "tdbmesh-lock-helper";
  return std::filesystem::exists(beside, ignored) ? beside.string() : TDBMESH_LIBEXECDIR "/tdbmesh-lock-helper";
}

}  // namespace

DaemonSetup setup_from_config(const Config& config, Log& log) {
  DaemonSetup setup;
  recovery::ControlPlaneConfig& control = setup.node.control;
  control.self = config.self;
  std::string digested;
  for (std::uint32_t i = 0; i < config.nodes.size(); ++i) {
    digested += config.nodes[i].deleted ? "#\n" : ctdb::to_string(config.nodes[i].address) + "\n";
    if (config.nodes[i].deleted) continue;
    control.cluster.nodes.push_back(Pnn{i});
    control.cluster.voters.push_back(Pnn{i});
  }
  control.cluster.quorum = quorum_mode(config, control.cluster.nodes.size());
  control.cluster.digest = ctdb_hash(digested);
  control.timing = config.timing;
  control.capabilities = (config.leader_capability ? kCapabilityLeader : 0) |
                         (config.lmaster_capability ? kCapabilityLmaster : 0);
  control.start_stopped = config.start_as_stopped;
  control.start_disabled = config.start_as_disabled;
  std::random_device device;
  control.seed = (std::uint64_t{device()} << 32) | device();

  setup.node.nodes = config.nodes;
  setup.node.public_addresses = config.public_addresses;
  setup.node.tunables = config.tunables;
  setup.node.tdb_mutexes = config.tdb_mutexes;
  setup.node.cluster_lock = config.cluster_lock;
  setup.node.debug_level = config.debug_level;
  setup.node.pid = ::getpid();

  setup.address = config.address;
  setup.port = config.port;
  setup.peers = config.peers();
  setup.key = config.key;
  setup.realtime = config.realtime_scheduling;
  setup.socket_path = config.paths.runtime_dir + "/ctdbd.socket";
  setup.pid_path = config.paths.runtime_dir + "/ctdbd.pid";
  setup.lock_helper_path = lock_helper_path();
  setup.gate_path = config.paths.runtime_dir + "/gate";
  setup.state_path = config.paths.state_dir + "/node.state";
  setup.volatile_dir = config.volatile_dir;
  setup.persistent_dir = config.persistent_dir;
  setup.log = [&log](LogLevel level, const std::string& text) { log.write(level, text); };
  setup.set_debug_level = [&log](std::int32_t level) { log.set_debug_level(level); };
  setup.reopen_log = [&log] {
    if (const Result<void> reopened = log.reopen(); !reopened) log.write(LogLevel::Error, reopened.error().context);
  };
  return setup;
}

}  // namespace tdbmesh
