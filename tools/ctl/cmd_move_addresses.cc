// moveip, addip, delip, reloadips, setifacelink, gratarp.

#include <fmt/format.h>

#include <algorithm>

#include "tools/client/text.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;
using ctdb::SockAddr;

Outcome<SockAddr> address_of(const std::string& word) {
  const auto address = ctdb::parse_address(word);
  if (!address) return fail(fmt::format("Invalid IP address {}", word));
  return *address;
}

Outcome<bool> knows(Session& session, Pnn node, const SockAddr& address) {
  auto list = session.ask_for<ctdb::PublicIpList>(ControlOpcode::GetPublicIps, node);
  if (!list) return passed_on(list);
  return std::any_of(list->addresses.begin(), list->addresses.end(),
                     [&](const auto& ip) { return ctdb::same_host(ip.address, address); });
}

// The nodes of "all" or "0,2", those that are out of service left out.
Outcome<std::vector<Pnn>> active_nodes(Session& session, const std::string& wanted) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  std::vector<Pnn> chosen;
  const auto choose = [&](std::uint32_t pnn) {
    if ((map->nodes[pnn].flags & kFlagsInactive) == 0) chosen.push_back(Pnn{pnn});
  };
  if (wanted == "all") {
    for (std::uint32_t pnn = 0; pnn < map->nodes.size(); ++pnn) choose(pnn);
    return chosen;
  }
  for (std::string_view rest = wanted; !rest.empty();) {
    const auto comma = rest.find(',');
    const std::string word(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    const auto pnn = parse_u32(word);
    if (!pnn) return fail(fmt::format("Invalid node {}", word));
    if (*pnn >= map->nodes.size()) return fail(fmt::format("Node {} does not exist", *pnn));
    choose(*pnn);
  }
  return chosen;
}

}  // namespace

// The leader releases it where it is and has the target take it; the answer comes when it stands there.
Outcome<int> run_moveip(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "moveip");
  Session& session = *in.session;
  auto address = address_of(in.args[0]);
  if (!address) return passed_on(address);
  const auto pnn = parse_u32(in.args[1]);
  if (!pnn) return fail(fmt::format("Invalid PNN {}", in.args[1]));
  if (auto there = session.check_node(*pnn); !there) return passed_on(there);
  auto known = knows(session, Pnn{*pnn}, *address);
  if (!known) return passed_on(known);
  if (!*known) return fail(fmt::format("Node {} CANNOT host IP address {}: it is not in its public_addresses", *pnn, in.args[0]));
  auto moved = session.ask(ControlOpcode::TakeoverIp, Pnn{*pnn}, ctdb::encode(ctdb::PublicIp{Pnn{*pnn}, *address}));
  if (!moved) {
    in.console.complain(moved.error().text);
    return fail(fmt::format("Failed to move IP {} to node {}: {} why ip {} says why", in.args[0], *pnn, in.options.program,
                            in.args[0]));
  }
  return 0;
}

Outcome<int> run_addip(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "addip");
  Session& session = *in.session;
  const std::string& word = in.args[0];
  const auto slash = word.find('/');
  const auto address = ctdb::parse_address(word.substr(0, slash));
  const auto bits = slash == std::string::npos ? std::nullopt : parse_u32(word.substr(slash + 1));
  const std::uint32_t most = address && address->family == SockAddr::Family::V6 ? 128 : 32;
  if (!address || !bits || *bits == 0 || *bits > most) return fail(fmt::format("Invalid IP/Mask {}", word));
  auto known = knows(session, session.node(), *address);
  if (!known) return passed_on(known);
  if (*known) {
    in.console.complain(fmt::format("Node already knows about IP {}", ctdb::to_string(*address)));
    return 0;
  }
  auto added = session.ask(ControlOpcode::AddPublicIp, session.node(),
                           ctdb::encode(ctdb::AddressInfo{*address, *bits, in.args[1]}));
  if (!added) {
    in.console.complain(added.error().text);
    return fail(fmt::format("Failed to add public IP to node {}: is there an interface {}?", number(session.node()), in.args[1]));
  }
  return 0;
}

Outcome<int> run_delip(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "delip");
  Session& session = *in.session;
  auto address = address_of(in.args[0]);
  if (!address) return passed_on(address);
  auto known = knows(session, session.node(), *address);
  if (!known) return passed_on(known);
  if (!*known) {
    in.console.complain(fmt::format("Node does not know about IP address {}", in.args[0]));
    return 0;
  }
  auto gone = session.ask(ControlOpcode::DelPublicIp, session.node(), ctdb::encode(ctdb::AddressInfo{*address, 0, {}}));
  if (!gone) return passed_on(gone);
  return 0;
}

Outcome<int> run_reloadips(Invocation& in) {
  if (in.args.size() > 1) return wrong_usage(in, "reloadips");
  Session& session = *in.session;
  std::vector<Pnn> nodes{session.node()};
  if (!in.args.empty()) {
    auto chosen = active_nodes(session, in.args[0]);
    if (!chosen) return passed_on(chosen);
    nodes = std::move(*chosen);
  }
  std::optional<Failure> failed;
  for (const Pnn node : nodes) {
    auto done = session.ask(ControlOpcode::ReloadPublicIps, node);
    if (done) continue;
    in.console.complain(done.error().text);
    failed = Failure{1, fmt::format("Failed to reload IPs on node {}: its log says why", number(node)), false};
  }
  if (failed) return tl::unexpected<Failure>(*failed);
  if (auto done = reallocate_addresses(session); !done) return passed_on(done);
  return 0;
}

Outcome<int> run_setifacelink(Invocation& in) {
  const bool fits = in.args.size() == 2 && in.args[0].size() <= 15 && (in.args[1] == "up" || in.args[1] == "down");
  if (!fits) return wrong_usage(in, "setifacelink");
  Session& session = *in.session;
  auto list = session.ask_for<ctdb::IfaceList>(ControlOpcode::GetIfaces, session.node());
  if (!list) return passed_on(list);
  const bool known = std::any_of(list->ifaces.begin(), list->ifaces.end(), [&](const auto& i) { return i.name == in.args[0]; });
  if (!known) {
    // CTDB says it on stdout.
    in.console.text(fmt::format("Interface {} not configured on node {}\n", in.args[0], number(session.node())));
    return fail({});
  }
  ctdb::Iface iface;
  iface.name = in.args[0];
  iface.link_up = in.args[1] == "up";
  auto done = session.ask(ControlOpcode::SetIfaceLinkState, session.node(), ctdb::encode(iface));
  if (!done) return passed_on(done);
  return 0;
}

Outcome<int> run_gratarp(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "gratarp");
  auto address = address_of(in.args[0]);
  if (!address) return passed_on(address);
  auto sent = in.session->ask(ControlOpcode::SendGratuitousArp, in.session->node(),
                              ctdb::encode(ctdb::AddressInfo{*address, 0, in.args[1]}));
  if (!sent) return passed_on(sent);
  return 0;
}

}  // namespace tdbmesh::ctl
