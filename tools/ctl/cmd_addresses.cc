// ip, ipinfo, ifaces.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tools/ctl/format_databases.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

// Every address that any active node knows; the claim of the node that hosts it wins.
Outcome<std::map<ctdb::SockAddr, Pnn>> addresses_of_all(Session& session) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  std::map<ctdb::SockAddr, Pnn> hosts;
  for (const auto& node : map->nodes) {
    if ((node.flags & kFlagsInactive) != 0) continue;
    auto list = session.ask_for<ctdb::PublicIpList>(ControlOpcode::GetPublicIps, node.pnn);
    if (!list) return passed_on(list);
    for (const auto& ip : list->addresses) {
      auto [known, added] = hosts.try_emplace(ip.address, kNoPnn);
      if (ip.pnn == node.pnn) known->second = node.pnn;
    }
  }
  return hosts;
}

Outcome<std::map<ctdb::SockAddr, Pnn>> addresses_of(Session& session, Pnn node) {
  auto list = session.ask_for<ctdb::PublicIpList>(ControlOpcode::GetPublicIps, node);
  if (!list) return passed_on(list);
  std::map<ctdb::SockAddr, Pnn> hosts;
  for (const auto& ip : list->addresses) hosts[ip.address] = ip.pnn;
  return hosts;
}

Outcome<> add_interfaces(Session& session, Pnn of, AddressLine& line) {
  auto info = session.ask_for<ctdb::PublicIpInfo>(ControlOpcode::GetPublicIpInfo, of, ctdb::encode(line.ip.address));
  if (!info) return passed_on(info);
  for (std::size_t i = 0; i < info->ifaces.size(); ++i) {
    const auto& iface = info->ifaces[i];
    line.configured.push_back(iface.name);
    if (iface.link_up) line.available.push_back(iface.name);
    if (i == info->active) line.active.push_back(iface.name);
  }
  return {};
}

}  // namespace

Outcome<int> run_ip(Invocation& in) {
  const bool all = in.args.size() == 1 && in.args[0] == "all";
  if (!in.args.empty() && !all) return wrong_usage(in, "ip");
  Session& session = *in.session;
  auto hosts = all ? addresses_of_all(session) : addresses_of(session, session.node());
  if (!hosts) return passed_on(hosts);
  std::vector<AddressLine> lines;
  for (const auto& [address, host] : *hosts) {
    AddressLine line;
    line.ip = {.pnn = host, .address = address};
    if (in.options.verbose) {
      // Only the host knows which of its interfaces carries the address.
      const Pnn ask = all && host != kNoPnn ? host : session.node();
      if (auto done = add_interfaces(session, ask, line); !done) return passed_on(done);
    }
    lines.push_back(std::move(line));
  }
  const auto whose = all ? std::nullopt : std::optional<Pnn>{session.node()};
  in.console.show(in.options.machine ? format_addresses_machine(lines, in.options.separator, in.options.verbose)
                                     : format_addresses(lines, whose, in.options.verbose),
                  json_addresses(lines, in.options.verbose));
  return 0;
}

Outcome<int> run_ipinfo(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "ipinfo");
  const auto address = ctdb::parse_address(in.args[0]);
  if (!address) return fail(fmt::format("Failed to parse IP {}: give an IPv4 or IPv6 address", in.args[0]));
  auto reply = in.session->request(ControlOpcode::GetPublicIpInfo, in.session->node(), ctdb::encode(*address));
  if (!reply) return passed_on(reply);
  if (reply->status != 0) {
    // CTDB says it on stdout, and the control's failure on stderr.
    in.console.text(fmt::format("Node {} does not know about IP {}\n", number(in.session->node()), in.args[0]));
    return fail(fmt::format("Control GET_PUBLIC_IP_INFO failed, ret={}", reply->status));
  }
  auto info = in.session->decoded(ControlOpcode::GetPublicIpInfo, ctdb::decode<ctdb::PublicIpInfo>(reply->data));
  if (!info) return passed_on(info);
  in.console.show(format_address_info(in.session->node(), *info), json_address_info(*info));
  return 0;
}

Outcome<int> run_ifaces(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "ifaces");
  auto list = in.session->ask_for<ctdb::IfaceList>(ControlOpcode::GetIfaces, in.session->node());
  if (!list) return passed_on(list);
  in.console.show(in.options.machine && !list->ifaces.empty() ? format_ifaces_machine(*list, in.options.separator)
                                                              : format_ifaces(in.session->node(), *list),
                  json_ifaces(*list));
  return 0;
}

}  // namespace tdbmesh::ctl
