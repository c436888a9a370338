// status, nodestatus, getvnnmap: the state of the nodes.

#include <fmt/format.h>

#include "tools/client/text.h"
#include "tools/ctl/format_nodes.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

// tdbmesh's own control: why the node is in the state it is in. CTDB answers -1.
constexpr ControlOpcode kGetReasons{10001};
// And what it knows of the cluster lock.
constexpr ControlOpcode kGetLockState{10004};
// A node that has just died is asked in vain.
constexpr Duration kLockPatience = seconds(1);

// CTDB knows no witnesses, so nobody is asked for that where its output is wanted.
Outcome<std::vector<NodeLine>> node_lines(Session& session, bool as_ctdb) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  auto runstate = session.ask_u32(ControlOpcode::GetRunstate, session.node());
  if (!runstate) return passed_on(runstate);
  // Until a node has been through its first recovery it has only heard of the others.
  const bool knows_others = *runstate > static_cast<std::uint32_t>(RunState::FirstRecovery);

  std::vector<NodeLine> lines;
  std::vector<std::uint32_t> healthy;
  for (const auto& node : map->nodes) {
    NodeLine line{.pnn = node.pnn, .address = ctdb::to_string(node.address), .flags = node.flags};
    line.this_node = node.pnn == session.node();
    if (!knows_others && !line.this_node && (node.flags & (kFlagDisconnected | kFlagDeleted)) == 0) {
      line.flags = kFlagUnknown;
    }
    if (line.flags == 0) healthy.push_back(number(node.pnn));
    lines.push_back(std::move(line));
  }
  const auto answers = session.client().control_many(ControlOpcode::GetIfaces, healthy, {}, session.timeout());
  const auto roles = session.client().control_many(ControlOpcode::GetCapabilities,
                                                   as_ctdb ? std::vector<std::uint32_t>() : healthy, {}, session.timeout());
  for (std::size_t i = 0; i < healthy.size(); ++i) {
    if (i < roles.size() && roles[i] && roles[i]->status == 0) {
      const auto bits = ctdb::decode_u32(roles[i]->data);
      lines[healthy[i]].witness = bits && (*bits & kCapabilityWitness) != 0;
    }
    // A node that does not answer is not partially online, it is on its way out; its flags will say so.
    if (!answers[i] || answers[i]->status != 0) continue;
    const auto list = ctdb::decode<ctdb::IfaceList>(answers[i]->data);
    if (!list) continue;
    for (const auto& iface : list->ifaces) lines[healthy[i]].partially_online |= !iface.link_up;
  }
  return lines;
}

std::vector<std::string> reasons(Session& session) {
  std::vector<std::string> lines;
  auto reply = session.request(kGetReasons, session.node());
  if (!reply || reply->status != 0) return lines;
  std::string_view text = reply->data;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (end != 0) lines.emplace_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
  return lines;
}

// "PATH, held by node 0": who has it is known where it is held, so the leader is asked. Empty: none is configured.
std::string lock_line(Session& session, std::optional<Pnn> leader) {
  const auto file = session.request(ControlOpcode::GetReclockFile, session.node());
  const auto path = file && file->status == 0 ? ctdb::decode_text(file->data) : Result<std::string>();
  if (!path || path->empty()) return {};
  const Pnn asked = leader.value_or(session.node());
  const auto answers = session.client().control_many(kGetLockState, {number(asked)}, {}, kLockPatience);
  const auto text = answers[0] && answers[0]->status == 0 ? ctdb::decode_text(answers[0]->data) : Result<std::string>();
  if (!text || text->empty()) return *path;
  const std::string held = "held by this node";
  if (*text == held) return fmt::format("{}, held by node {}", *path, number(asked));
  return fmt::format("{}, {}", *path, *text);
}

}  // namespace

Outcome<int> run_status(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "status");
  Session& session = *in.session;
  auto lines = node_lines(session, in.options.as_ctdb());
  if (!lines) return passed_on(lines);
  if (in.options.machine) {
    in.console.show(format_nodes_machine(*lines, in.options.separator), json_nodes(*lines));
    return 0;
  }
  ClusterStatus status;
  status.nodes = std::move(*lines);
  auto vnnmap = session.ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, session.node());
  if (!vnnmap) return passed_on(vnnmap);
  status.vnnmap = std::move(*vnnmap);
  auto recmode = session.request(ControlOpcode::GetRecmode, session.node());
  if (!recmode) return passed_on(recmode);
  status.recovering = recmode->status != 0;
  // The reasons belong to the state shown; the leader's next word may take a second.
  const bool with_reasons = in.options.verbose && !in.options.as_ctdb();
  const auto why = with_reasons ? reasons(session) : std::vector<std::string>();
  auto leader = session.leader_now();
  if (!leader) return passed_on(leader);
  status.leader = *leader;
  const std::string lock = with_reasons ? lock_line(session, *leader) : std::string();

  std::string text = format_status(status);
  Json json = json_status(status);
  if (with_reasons) {
    if (!lock.empty()) text += fmt::format("Cluster lock:{}\n", lock);
    json["cluster_lock"] = lock.empty() ? Json(nullptr) : Json(lock);
    for (const std::string& line : why) text += fmt::format("Reason:{}\n", line);
    json["reasons"] = why;
  }
  in.console.show(text, std::move(json));
  return 0;
}

Outcome<int> run_nodestatus(Invocation& in) {
  if (in.args.size() > 1) return wrong_usage(in, "nodestatus");
  Session& session = *in.session;
  auto lines = node_lines(session, in.options.as_ctdb());
  if (!lines) return passed_on(lines);

  const std::string wanted = in.args.empty() ? std::to_string(number(session.node())) : in.args[0];
  std::vector<NodeLine> chosen;
  if (wanted == "all") {
    chosen = *lines;
  } else {
    std::vector<bool> listed(lines->size(), false);
    std::string_view rest = wanted;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const std::string word(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
      const auto pnn = parse_u32(word);
      if (!pnn) return fail(fmt::format("Invalid node {}", word));
      if (*pnn >= lines->size()) return fail(fmt::format("Node {} does not exist", *pnn));
      if (!listed[*pnn]) chosen.push_back((*lines)[*pnn]);
      listed[*pnn] = true;
    }
  }
  NodeFlags all_flags = 0;
  for (const NodeLine& line : chosen) all_flags |= line.flags;
  std::string text;
  if (in.options.machine) {
    text = format_nodes_machine(chosen, in.options.separator);
  } else {
    if (wanted == "all") text = format_node_count(chosen);
    text += format_nodes(chosen);
  }
  in.console.show(text, json_nodes(chosen));
  return static_cast<int>(all_flags & 0xFF);
}

Outcome<int> run_getvnnmap(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getvnnmap");
  auto map = in.session->ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, in.session->node());
  if (!map) return passed_on(map);
  in.console.show(format_vnnmap(*map), json_vnnmap(*map));
  return 0;
}

}  // namespace tdbmesh::ctl
