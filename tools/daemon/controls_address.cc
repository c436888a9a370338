// Controls about public addresses. This node hosts none yet: what is configured is listed as unassigned.

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

const ConfiguredAddress* find_address(const NodeParts& node, const ctdb::SockAddr& wanted) {
  for (const ConfiguredAddress& a : node.config.public_addresses) {
    if (ctdb::same_host(a.address, wanted)) return &a;
  }
  return nullptr;
}

void get_public_ips(NodeParts& node, const ControlRequest& request) {
  ctdb::PublicIpList list;
  // What is not hosted is not available either.
  if ((request.flags & ctdb::kControlOnlyAvailable) == 0) {
    const auto& configured = node.config.public_addresses;
    for (auto a = configured.rbegin(); a != configured.rend(); ++a) list.addresses.push_back({kNoPnn, a->address});
  }
  node.services.reply(request.reply, 0, encode(list));
}

void get_public_ip_info(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::SockAddr>(request.data);
  const ConfiguredAddress* address = wanted ? find_address(node, *wanted) : nullptr;
  if (address == nullptr) return node.services.reply(request.reply, -1);
  ctdb::PublicIpInfo info;
  info.ip = {kNoPnn, address->address};
  for (const std::string& name : address->interfaces) info.ifaces.push_back({name, true, 0});
  node.services.reply(request.reply, 0, encode(info));
}

void get_ifaces(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, encode(ctdb::IfaceList{}));
}

// No connection can end on an address that is not hosted: there is nothing to remember.
void forget_connection(NodeParts& node, const ControlRequest& request) {
  const auto connection = ctdb::decode<ctdb::Connection>(request.data);
  node.services.reply(request.reply, connection ? 0 : -1);
}

void get_tickles(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::SockAddr>(request.data);
  if (!wanted) return node.services.reply(request.reply, -1);
  if (find_address(node, *wanted) == nullptr) return node.services.reply(request.reply, 1);
  node.services.reply(request.reply, 0, encode(ctdb::TickleList{*wanted, {}}));
}

}  // namespace

void add_address_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[GetPublicIps] = get_public_ips;
  table[GetPublicIpInfo] = get_public_ip_info;
  table[GetIfaces] = get_ifaces;
  table[TcpClient] = forget_connection;
  table[TcpClientDisconnected] = forget_connection;
  table[TcpClientPassed] = forget_connection;
  table[GetTcpTickleList] = get_tickles;
}

}  // namespace tdbmesh
