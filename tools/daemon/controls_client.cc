// Controls about client processes: registrations, notifications, is a process alive.

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

constexpr std::int32_t kNotRegistered = 2;  // ENOENT: what DEREGISTER_SRVID answers

void reply_bool(NodeParts& node, const ControlRequest& request, bool yes) {
  node.services.reply(request.reply, yes ? 0 : -1);
}

void ping(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, static_cast<std::int32_t>(node.clients.count()));
}

void register_srvid(NodeParts& node, const ControlRequest& request) {
  if (request.client == ClientId{}) return node.services.reply(request.reply, -1);
  node.clients.register_srvid(request.client, request.srvid);
  node.services.reply(request.reply, 0);
  // Who asks for the leader need not wait for the next broadcast.
  const Pnn leader = node.control.leader();
  if (request.srvid == ctdb::kSrvidLeader && node.serving && leader != kNoPnn) {
    node.services.deliver(ctdb::kSrvidLeader, ctdb::encode_u32(number(leader)));
  }
}

void deregister_srvid(NodeParts& node, const ControlRequest& request) {
  const bool removed = node.clients.deregister_srvid(request.client, request.srvid);
  node.services.reply(request.reply, removed ? 0 : kNotRegistered);
}

void register_notify(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::NotifyData>(request.data);
  reply_bool(node, request, wanted && node.clients.register_notify(request.client, wanted->srvid, wanted->data));
}

void deregister_notify(NodeParts& node, const ControlRequest& request) {
  const auto srvid = ctdb::decode_u64(request.data);
  reply_bool(node, request, srvid && node.clients.deregister_notify(request.client, Srvid{*srvid}));
}

// Only processes that are connected count. On an inactive node they are cut off: what they hold is no longer
// the cluster's.
void process_exists(NodeParts& node, const ControlRequest& request) {
  const auto pid = ctdb::decode_i32(request.data);
  if (!pid) return node.services.reply(request.reply, -1);
  const std::vector<ClientId> connections = node.clients.with_pid(*pid);
  if ((node.control.own_flags() & kFlagsInactive) != 0) {
    for (const ClientId client : connections) node.env.close_client(client);
    return node.services.reply(request.reply, -1);
  }
  reply_bool(node, request, !connections.empty() && node.env.process_exists(*pid));
}

void check_pid_srvid(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::PidSrvid>(request.data);
  reply_bool(node, request, wanted && node.clients.pid_has_srvid(wanted->pid, wanted->srvid));
}

void echo(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::EchoData>(request.data);
  if (!wanted) return node.services.reply(request.reply, -1);
  node.services.reply(request.reply, 0, Bytes(request.data));
}

}  // namespace

void add_client_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[Ping] = ping;
  table[RegisterSrvid] = register_srvid;
  table[DeregisterSrvid] = deregister_srvid;
  table[RegisterNotify] = register_notify;
  table[DeregisterNotify] = deregister_notify;
  table[ProcessExists] = process_exists;
  table[CheckPidSrvid] = check_pid_srvid;
  table[EchoData] = echo;
}

}  // namespace tdbmesh
