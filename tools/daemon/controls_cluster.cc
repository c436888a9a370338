// Controls about the cluster and this node's place in it.

#include <fmt/format.h>

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

constexpr std::uint32_t kCapabilityBits = 0x00030000;  // parallel recovery, fragmented controls: as CTDB says
constexpr std::uint16_t kNodePort = 4379;

ctdb::TimeVal time_val(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  return {whole, static_cast<std::int64_t>((seconds - static_cast<double>(whole)) * 1e6)};
}

void get_pnn(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, static_cast<std::int32_t>(number(node.services.self())));
}

void get_pid(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, node.config.pid);
}

void get_node_map(NodeParts& node, const ControlRequest& request) {
  ctdb::NodeMap map;
  for (std::uint32_t i = 0; i < node.config.nodes.size(); ++i) {
    const ConfiguredNode& configured = node.config.nodes[i];
    if (configured.deleted) {
      map.nodes.push_back({Pnn{i}, kFlagDeleted | kFlagDisconnected, ctdb::v4_address(0, 0, 0, 0, kNodePort)});
      continue;
    }
    ctdb::SockAddr address = configured.address;
    address.port = kNodePort;
    map.nodes.push_back({Pnn{i}, node.control.flags_of(Pnn{i}), address});
  }
  node.services.reply(request.reply, 0, encode(map));
}

void get_nodes_file(NodeParts& node, const ControlRequest& request) {
  const Result<NodesFile> file = node.env.read_nodes_file();
  if (!file) return node.services.reply(request.reply, -1, {}, file.error().context);
  ctdb::NodeMap map;
  for (std::uint32_t i = 0; i < file->nodes.size(); ++i) {
    const ConfiguredNode& configured = file->nodes[i];
    ctdb::SockAddr address = configured.deleted ? ctdb::v4_address(0, 0, 0, 0) : configured.address;
    address.port = kNodePort;
    map.nodes.push_back({Pnn{i}, configured.deleted ? kFlagDeleted : NodeFlags{0}, address});
  }
  node.services.reply(request.reply, 0, encode(map));
}

void reload_nodes_file(NodeParts& node, const ControlRequest& request) {
  const std::string why = node.services.reload_nodes();
  if (!why.empty()) node.env.log(LogLevel::Error, "the nodes file is not taken up: " + why);
  node.services.reply(request.reply, why.empty() ? 0 : -1, {}, why);
}

void get_vnn_map(NodeParts& node, const ControlRequest& request) {
  ctdb::VnnMap map;
  if (const View* view = node.control.installed_view()) {
    if (node.serving) map.generation = client_generation(view->generation);
    for (const Slot& slot : view->vnnmap) map.map.push_back(slot.lmaster);
  }
  node.services.reply(request.reply, 0, encode(map));
}

void get_recmode(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, node.serving ? 0 : 1);
}

// The operator's `recover`. CTDB's own recovery daemon also sets 0; nobody of ours does.
void set_recmode(NodeParts& node, const ControlRequest& request) {
  const auto mode = ctdb::decode_u32(request.data);
  if (!mode || *mode > 1) return node.services.reply(request.reply, -1);
  if (*mode == 1) {
    recovery::Actions actions;
    node.control.request_recovery(node.services.now(), actions);
    node.services.run(std::move(actions));
  }
  node.services.reply(request.reply, 0);
}

void get_runstate(NodeParts& node, const ControlRequest& request) {
  RunState state = RunState::Setup;
  switch (node.health.stage()) {
    case NodeHealth::Stage::Setup: state = RunState::Setup; break;
    case NodeHealth::Stage::AwaitView: state = RunState::FirstRecovery; break;
    case NodeHealth::Stage::Startup: state = RunState::Startup; break;
    case NodeHealth::Stage::Running: state = RunState::Running; break;
    case NodeHealth::Stage::Shutdown: state = RunState::Shutdown; break;
  }
  node.services.reply(request.reply, 0, ctdb::encode_u32(static_cast<std::uint32_t>(state)));
}

void get_capabilities(NodeParts& node, const ControlRequest& request) {
  const std::uint32_t own = node.control.capabilities_of(node.services.self());
  node.services.reply(request.reply, 0, ctdb::encode_u32(own | kCapabilityBits));
}

void uptime(NodeParts& node, const ControlRequest& request) {
  ctdb::Uptime times;
  times.current = time_val(node.env.wall_clock());
  times.daemon_started = time_val(node.started);
  times.last_recovery_started = time_val(node.recovery_started);
  times.last_recovery_finished = time_val(node.recovery_finished);
  node.services.reply(request.reply, 0, encode(times));
}

void get_reclock_file(NodeParts& node, const ControlRequest& request) {
  Bytes path;
  if (!node.config.cluster_lock.empty()) path = ctdb::encode_text(node.config.cluster_lock);
  node.services.reply(request.reply, 0, std::move(path));
}

void change_flags(NodeParts& node, NodeFlags set, NodeFlags clear) {
  recovery::Actions actions;
  node.control.set_flags((node.control.own_flags() | set) & ~clear, node.services.now(), actions);
  node.services.run(std::move(actions));
}

void stop_node(NodeParts& node, const ControlRequest& request) {
  node.services.leave(kFlagStopped);
  node.services.reply(request.reply, 0);
}
void continue_node(NodeParts& node, const ControlRequest& request) {
  node.services.stay(kFlagStopped);
  node.services.reply(request.reply, 0);
}
void disable_node(NodeParts& node, const ControlRequest& request) {
  change_flags(node, kFlagDisabled, 0);
  node.services.reply(request.reply, 0);
}
void enable_node(NodeParts& node, const ControlRequest& request) {
  change_flags(node, 0, kFlagDisabled);
  node.services.reply(request.reply, 0);
}

void set_ban_state(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::BanState>(request.data);
  if (!wanted || wanted->pnn != node.services.self()) return node.services.reply(request.reply, -1);
  if (wanted->seconds == 0) {
    node.ban_ends = kNever;
    node.services.stay(kFlagBanned);
  } else if (node.tunables[ctdb::Tunable::EnableBans] != 0) {
    node.ban_ends = node.services.now() + seconds(wanted->seconds);
    node.services.leave(kFlagBanned);
  }
  node.services.reply(request.reply, 0);
}

void get_ban_state(NodeParts& node, const ControlRequest& request) {
  ctdb::BanState state{node.services.self(), 0};
  if (node.ban_ends != kNever) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(node.ban_ends - node.services.now());
    state.seconds = static_cast<std::uint32_t>(std::max<std::int64_t>(left.count(), 1));
  }
  node.services.reply(request.reply, 0, encode(state));
}

void set_capability(NodeParts& node, const ControlRequest& request, std::uint32_t bit) {
  const auto on = ctdb::decode_u32(request.data);
  if (!on) return node.services.reply(request.reply, -1);
  const std::uint32_t own = node.control.capabilities_of(node.services.self());
  if (*on != 0 && (own & kCapabilityWitness) != 0) {
    return node.services.reply(request.reply, -1, {}, "this node is a witness: see `witness` in its tdbmesh.conf");
  }
  recovery::Actions actions;
  node.control.set_capabilities(*on != 0 ? own | bit : own & ~bit, node.services.now(), actions);
  node.services.run(std::move(actions));
  node.services.reply(request.reply, 0);
}

void set_lmaster_role(NodeParts& node, const ControlRequest& request) {
  set_capability(node, request, kCapabilityLmaster);
}
void set_leader_role(NodeParts& node, const ControlRequest& request) {
  set_capability(node, request, kCapabilityLeader);
}

void shutdown(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0);
  node.env.log(LogLevel::Notice, "shutting down: asked to by a client");
  node.services.shut_down();
}

void get_reasons(NodeParts& node, const ControlRequest& request) {
  std::vector<std::string> reasons = node.control.status_reasons(node.services.now());
  for (std::string& reason : node.health.reasons()) reasons.push_back(std::move(reason));
  node.services.reply(request.reply, 0, ctdb::encode_text(fmt::format("{}", fmt::join(reasons, "\n"))));
}

void get_leader(NodeParts& node, const ControlRequest& request) {
  const Pnn leader = node.serving ? node.control.leader() : kNoPnn;
  node.services.reply(request.reply, 0, ctdb::encode_u32(leader == kNoPnn ? ctdb::kUnknownPnn : number(leader)));
}

void get_lock_state(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, ctdb::encode_text(node.control.lock_state(node.services.now())));
}

}  // namespace

void add_cluster_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[GetPnn] = get_pnn;
  table[GetPid] = get_pid;
  table[GetNodeMap] = get_node_map;
  table[GetNodesFile] = get_nodes_file;
  table[ReloadNodesFile] = reload_nodes_file;
  table[GetVnnMap] = get_vnn_map;
  table[GetRecmode] = get_recmode;
  table[SetRecmode] = set_recmode;
  table[GetRunstate] = get_runstate;
  table[GetCapabilities] = get_capabilities;
  table[Uptime] = uptime;
  table[GetReclockFile] = get_reclock_file;
  table[StopNode] = stop_node;
  table[ContinueNode] = continue_node;
  table[DisableNode] = disable_node;
  table[EnableNode] = enable_node;
  table[SetBanState] = set_ban_state;
  table[GetBanState] = get_ban_state;
  table[SetLmasterRole] = set_lmaster_role;
  table[SetRecmasterRole] = set_leader_role;
  table[Shutdown] = shutdown;
  table[kControlGetReasons] = get_reasons;
  table[kControlGetLeader] = get_leader;
  table[kControlGetLockState] = get_lock_state;
}

}  // namespace tdbmesh
