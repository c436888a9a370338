#include "tools/daemon/setup_from_config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "db/base/hash.h"
#include "tools/daemon/script_environment.h"

namespace tdbmesh {
namespace {

bool is_command(const std::string& lock) { return !lock.empty() && lock.front() == '!'; }

// May the lock decide who goes on alone? It has to be remembered somewhere, or the operator has to have said that
// it need not be.
bool lock_can_vote(const Config& config) {
  return !config.cluster_lock.empty() && (!is_command(config.cluster_lock) || !config.lock_register.empty());
}

recovery::QuorumMode quorum_mode(const Config& config, std::size_t nodes) {
  if (config.quorum_given) {
    if (config.quorum == QuorumChoice::None) return recovery::QuorumMode::None;
    // Of more than two nodes a majority decides, whatever was asked for: what a lock's vote means was worked out for two.
    return config.quorum == QuorumChoice::Lock && nodes == 2 ? recovery::QuorumMode::LockVote : recovery::QuorumMode::Majority;
  }
  // Two nodes have no majority that survives; with a cluster lock they have a third vote. With more nodes a
  // lock is only advisory.
  return nodes == 2 && lock_can_vote(config) ? recovery::QuorumMode::LockVote : recovery::QuorumMode::Majority;
}

// Beside the daemon in a build tree; when installed in libexec of the prefix that the daemon itself is in, which
// `cmake --install --prefix` chooses after the compiler has run.
std::string helper_path(const std::string& name) {
  std::error_code ignored;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const auto beside = own.parent_path() / name;
  if (std::filesystem::exists(beside, ignored)) return beside.string();
  const auto installed = own.parent_path().parent_path() / TDBMESH_LIBEXECDIR / name;
  return installed.string();
}

// The digest stands for all that must be equal on all nodes: the lines, and how votes are counted.
recovery::ClusterConfig cluster_config(const Config& config, const std::vector<ConfiguredNode>& nodes) {
  recovery::ClusterConfig cluster;
  std::string digested;
  for (std::uint32_t i = 0; i < nodes.size(); ++i) {
    digested += nodes[i].deleted ? "#\n" : ctdb::to_string(nodes[i].address) + "\n";
    if (nodes[i].deleted) continue;
    cluster.nodes.push_back(Pnn{i});
    cluster.voters.push_back(Pnn{i});
  }
  cluster.quorum = quorum_mode(config, cluster.nodes.size());
  digested += std::to_string(static_cast<int>(cluster.quorum));
  cluster.digest = ctdb_hash(digested);
  return cluster;
}

Result<NodesFile> read_nodes_file(const Config& config) {
  const std::string path = config.paths.config_dir + "/nodes";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return failure(Fault::Io, "cannot read " + path);
  Result<std::vector<ConfiguredNode>> nodes = parse_nodes(text.str(), path);
  if (!nodes) return tl::unexpected<Error>(nodes.error());
  recovery::ClusterConfig cluster = cluster_config(config, *nodes);
  return NodesFile{std::move(*nodes), std::move(cluster)};
}

}  // namespace

DaemonSetup setup_from_config(const Config& config, Log& log) {
  DaemonSetup setup;
  recovery::ControlPlaneConfig& control = setup.node.control;
  control.self = config.self;
  control.cluster = cluster_config(config, config.nodes);
  control.advisory_lock = !config.cluster_lock.empty();
  control.lock_name = config.cluster_lock;
  if (control.cluster.nodes.size() == 2 && control.cluster.quorum == recovery::QuorumMode::Majority) {
    log.write(LogLevel::Warning,
              is_command(config.cluster_lock)
                  ? "neither of the two nodes can go on without the other: the cluster lock is a command without a "
                    "register; set `lock register = FILE` (a file that both nodes reach) or `none`"
                  : "neither of the two nodes can go on without the other: set `cluster lock = FILE on the cluster "
                    "file system`, or add a third node (a witness will do)");
  }
  if (config.quorum_given && config.quorum == QuorumChoice::Lock && control.cluster.nodes.size() > 2) {
    log.write(LogLevel::Warning, fmt::format("`quorum = lock` is for two nodes: of these {} a majority decides, and the cluster "
                                             "lock is advisory", control.cluster.nodes.size()));
  }
  control.timing = config.timing;
  control.capabilities = config.witness ? kCapabilityWitness
                                        : (config.leader_capability ? kCapabilityLeader : 0) |
                                              (config.lmaster_capability ? kCapabilityLmaster : 0);
  if (config.witness && control.cluster.voters.size() % 2 == 0) {
    log.write(LogLevel::Warning, fmt::format("this machine is a witness beside {} servers: an odd number of servers survives as "
                                             "many losses without it", control.cluster.voters.size() - 1));
  }
  control.start_stopped = config.start_as_stopped;
  control.start_disabled = config.start_as_disabled;
  std::random_device device;
  control.seed = (std::uint64_t{device()} << 32) | device();
  setup.node.records.key_seed = (std::uint64_t{device()} << 32) | device();

  setup.node.nodes = config.nodes;
  setup.node.public_addresses = config.public_addresses;
  setup.node.home_nodes = config.home_nodes;
  setup.node.tunables = config.tunables;
  setup.node.tdb_mutexes = config.tdb_mutexes;
  setup.node.cluster_lock = config.cluster_lock;
  setup.node.debug_level = config.debug_level;
  setup.node.pid = ::getpid();

  setup.scripts = prepare_scripts(config, log);
  setup.notify_script = config.paths.config_dir + "/notify.sh";
  setup.eventd_path = config.paths.runtime_dir + "/eventd.socket";
  setup.checks = config.checks;
  setup.node.events = true;
  for (const ServiceCheck& check : config.checks) setup.node.checks.push_back(check.name);
  setup.node.starts_unhealthy = !config.checks.empty() || any_script_enabled(setup.scripts.folders);

  setup.address = config.address;
  setup.port = config.port;
  setup.peers = config.peers();
  setup.key = config.key;
  setup.realtime = config.realtime_scheduling;
  setup.socket_path = config.paths.runtime_dir + "/ctdbd.socket";
  setup.pid_path = config.paths.runtime_dir + "/ctdbd.pid";
  if (is_command(config.cluster_lock) && config.lock_register != "none") setup.lock_register = config.lock_register;
  setup.lock_helper_path = helper_path("tdbmesh-lock-helper");
  setup.supervisor_path = helper_path("tdbmesh-supervisor");
  setup.gate_path = config.paths.runtime_dir + "/gate";
  setup.state_path = config.paths.state_dir + "/node.state";
  setup.volatile_dir = config.volatile_dir;
  setup.persistent_dir = config.persistent_dir;
  setup.log = [&log](LogLevel level, const std::string& text) { log.write(level, text); };
  setup.read_nodes_file = [config] { return read_nodes_file(config); };
  setup.read_public_addresses = [config] { return read_public_addresses(config.paths, config.nodes); };
  setup.set_debug_level = [&log](std::int32_t level) { log.set_debug_level(level); };
  setup.reopen_log = [&log] {
    if (const Result<void> reopened = log.reopen(); !reopened) log.write(LogLevel::Error, reopened.error().context);
  };
  return setup;
}

}  // namespace tdbmesh
