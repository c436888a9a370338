// Controls about public addresses, interfaces and the connections of clients to them.

#include <fmt/format.h>

#include <algorithm>

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

using ipfailover::PublicAddress;

void get_public_ips(NodeParts& node, const ControlRequest& request) {
  ctdb::PublicIpList list;
  const ipfailover::AddressHolder& holder = node.addresses.holder();
  const bool only_available = (request.flags & ctdb::kControlOnlyAvailable) != 0;
  const auto configured = holder.configured();
  for (auto a = configured.rbegin(); a != configured.rend(); ++a) {
    if (only_available && !holder.available(*a)) continue;
    list.addresses.push_back({node.addresses.host_of(a->address), a->address});
  }
  node.services.reply(request.reply, 0, encode(list));
}

void get_public_ip_info(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::SockAddr>(request.data);
  const ipfailover::AddressHolder& holder = node.addresses.holder();
  const PublicAddress* address = wanted ? holder.find(*wanted) : nullptr;
  if (address == nullptr) return node.services.reply(request.reply, -1);
  const auto references = holder.interfaces();
  ctdb::PublicIpInfo info;
  info.ip = {node.addresses.host_of(address->address), address->address};
  const std::string active = holder.interface_of(address->address);
  for (const std::string& name : address->interfaces) {
    if (name == active) info.active = static_cast<std::uint32_t>(info.ifaces.size());
    info.ifaces.push_back({name, holder.link_up(name), references.at(name)});
  }
  node.services.reply(request.reply, 0, encode(info));
}

void get_ifaces(NodeParts& node, const ControlRequest& request) {
  ctdb::IfaceList list;
  for (const auto& [name, references] : node.addresses.holder().interfaces()) {
    list.ifaces.push_back({name, node.addresses.holder().link_up(name), references});
  }
  node.services.reply(request.reply, 0, encode(list));
}

void set_iface_link_state(NodeParts& node, const ControlRequest& request) {
  const auto iface = ctdb::decode<ctdb::Iface>(request.data);
  const bool known = iface && node.addresses.set_link(iface->name, iface->link_up);
  node.services.reply(request.reply, known ? 0 : -1);
}

// The operator's `moveip` sends RELEASE_IP to all others and TAKEOVER_IP to the target. Who releases and who takes is
// the leader's to say, in that order: the first is only acknowledged, the second becomes a wish to the leader.
void release_ip(NodeParts& node, const ControlRequest& request) {
  const auto ip = ctdb::decode<ctdb::PublicIp>(request.data);
  node.services.reply(request.reply, ip ? 0 : -1);
}

void takeover_ip(NodeParts& node, const ControlRequest& request) {
  const auto ip = ctdb::decode<ctdb::PublicIp>(request.data);
  if (!ip || ip->pnn != node.services.self()) return node.services.reply(request.reply, -1);
  if (node.addresses.holder().find(ip->address) == nullptr) return node.services.reply(request.reply, 0);
  node.addresses.move(ip->address, ip->pnn, request.reply);
}

std::vector<std::string> interface_names(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) names.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return names;
}

// Until the next reloadips, as in CTDB: the file is the operator's to edit.
void add_public_ip(NodeParts& node, const ControlRequest& request) {
  const auto info = ctdb::decode<ctdb::AddressInfo>(request.data);
  if (!info) return node.services.reply(request.reply, -1);
  const auto names = interface_names(info->ifaces);
  const std::uint32_t most = info->address.family == ctdb::SockAddr::Family::V4 ? 32 : 128;
  const bool names_fit = std::all_of(names.begin(), names.end(), [](const std::string& name) {
    return name.size() <= ipfailover::kMaxInterfaceName && name.find('/') == std::string::npos;
  });
  if (names.empty() || names.size() > ipfailover::kMaxInterfacesOfAddress || !names_fit || info->mask_bits == 0 ||
      info->mask_bits > most) {
    return node.services.reply(request.reply, -1, {}, "give ADDRESS/BITS and an interface");
  }
  const auto there = [&](const std::string& name) { return node.env.interface_exists(name); };
  if (!std::all_of(names.begin(), names.end(), there)) {
    return node.services.reply(request.reply, -1, {}, fmt::format("there is no interface {} here", info->ifaces));
  }
  auto all = node.addresses.holder().configured();
  if (all.size() >= ipfailover::kMaxPublicAddresses) return node.services.reply(request.reply, -1, {}, "too many addresses");
  if (node.addresses.holder().find(info->address) == nullptr) {
    all.push_back({ipfailover::host_only(info->address), static_cast<std::uint8_t>(info->mask_bits), names});
    node.addresses.reconfigure(std::move(all));
  }
  node.services.reply(request.reply, 0);
}

void del_public_ip(NodeParts& node, const ControlRequest& request) {
  const auto info = ctdb::decode<ctdb::AddressInfo>(request.data);
  if (!info || node.addresses.holder().find(info->address) == nullptr) return node.services.reply(request.reply, -1);
  auto all = node.addresses.holder().configured();
  std::erase_if(all, [&](const PublicAddress& a) { return ctdb::same_host(a.address, info->address); });
  node.addresses.reconfigure(std::move(all));
  node.services.reply(request.reply, 0);
}

void reload_public_ips(NodeParts& node, const ControlRequest& request) {
  const auto read = node.env.read_public_addresses();
  if (!read) {
    node.env.log(LogLevel::Error, "public addresses stay as they are: " + read.error().context);
    return node.services.reply(request.reply, -1, {}, read.error().context);
  }
  std::vector<PublicAddress> all;
  for (const ConfiguredAddress& a : *read) {
    all.push_back({a.address, static_cast<std::uint8_t>(a.mask_bits), a.interfaces});
  }
  node.addresses.reconfigure(std::move(all));
  node.services.reply(request.reply, 0);
}

void send_gratuitous_arp(NodeParts& node, const ControlRequest& request) {
  const auto info = ctdb::decode<ctdb::AddressInfo>(request.data);
  const bool sent = info && node.addresses.announce(info->address, info->ifaces);
  node.services.reply(request.reply, sent ? 0 : -1);
}

// What CTDB's own daemons tell each other after a run; here the leader's table does it.
void ipreallocated(NodeParts& node, const ControlRequest& request) { node.services.reply(request.reply, 0); }

// From the tools of CTDB 4.21 on; of itself every node does it when the leader begins to move addresses.
void start_ipreallocate(NodeParts& node, const ControlRequest& request) {
  node.addresses.start_ipreallocate([&services = node.services, reply = request.reply] { services.reply(reply, 0); });
}

// ---- connections ----

void tcp_client(NodeParts& node, const ControlRequest& request) {
  const auto c = ctdb::decode<ctdb::Connection>(request.data);
  node.services.reply(request.reply, c ? node.addresses.client_connected(request.client, *c) : -1);
}
void tcp_client_disconnected(NodeParts& node, const ControlRequest& request) {
  const auto c = ctdb::decode<ctdb::Connection>(request.data);
  if (c) node.addresses.client_disconnected(request.client, *c, false);
  node.services.reply(request.reply, c ? 0 : -1);
}
void tcp_client_passed(NodeParts& node, const ControlRequest& request) {
  const auto c = ctdb::decode<ctdb::Connection>(request.data);
  if (c) node.addresses.client_disconnected(request.client, *c, true);
  node.services.reply(request.reply, c ? 0 : -1);
}

// From the operator (addtickle, deltickle) they go on to the other nodes; from another node they end here.
void tcp_add(NodeParts& node, const ControlRequest& request) {
  const auto c = ctdb::decode<ctdb::Connection>(request.data);
  const bool operator_says = request.client != ClientId{};
  if (c && operator_says && node.addresses.holder().find(c->server) == nullptr) {
    return node.services.reply(request.reply, -1, {}, ctdb::to_string(c->server) + " is no public address of this node");
  }
  if (c) node.addresses.add_tickle(*c, operator_says);
  node.services.reply(request.reply, c ? 0 : -1);
}
void tcp_remove(NodeParts& node, const ControlRequest& request) {
  const auto c = ctdb::decode<ctdb::Connection>(request.data);
  if (c) node.addresses.remove_tickle(*c, request.client != ClientId{});
  node.services.reply(request.reply, c ? 0 : -1);
}

void set_tickles(NodeParts& node, const ControlRequest& request) {
  const auto list = ctdb::decode<ctdb::TickleList>(request.data);
  if (list) node.addresses.replace_tickles(*list);
  node.services.reply(request.reply, list ? 0 : -1);
}

void get_tickles(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::SockAddr>(request.data);
  if (!wanted) return node.services.reply(request.reply, -1);
  if (node.addresses.holder().find(*wanted) == nullptr) return node.services.reply(request.reply, 1);
  ctdb::TickleList list{*wanted, node.addresses.tickles().of(ipfailover::host_only(*wanted))};
  if (wanted->port != 0) {
    std::erase_if(list.connections, [&](const ctdb::Connection& c) { return c.server.port != wanted->port; });
  }
  node.services.reply(request.reply, 0, encode(list));
}

}  // namespace

void add_address_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[GetPublicIps] = get_public_ips;
  table[GetPublicIpInfo] = get_public_ip_info;
  table[GetIfaces] = get_ifaces;
  table[SetIfaceLinkState] = set_iface_link_state;
  table[ReleaseIp] = release_ip;
  table[TakeoverIp] = takeover_ip;
  table[AddPublicIp] = add_public_ip;
  table[DelPublicIp] = del_public_ip;
  table[ReloadPublicIps] = reload_public_ips;
  table[SendGratuitousArp] = send_gratuitous_arp;
  table[Ipreallocated] = ipreallocated;
  table[StartIpreallocate] = start_ipreallocate;
  table[TcpClient] = tcp_client;
  table[TcpClientDisconnected] = tcp_client_disconnected;
  table[TcpClientPassed] = tcp_client_passed;
  table[TcpAdd] = tcp_add;
  table[TcpAddDelayedUpdate] = tcp_add;
  table[TcpRemove] = tcp_remove;
  table[SetTcpTickleList] = set_tickles;
  table[GetTcpTickleList] = get_tickles;
}

}  // namespace tdbmesh
