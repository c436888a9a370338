// reloadnodes: every node takes up the nodes file as it stands now.

#include <fmt/format.h>

#include <algorithm>

#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {

using ctdb::ControlOpcode;

// The files are compared before anything happens: nodes that count votes differently must not come about. The leader
// then makes the changes one by one, as the nodes that come are there.
Outcome<int> run_reloadnodes(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "reloadnodes");
  Session& session = *in.session;
  auto map = session.node_map();
  if (!map) return passed_on(map);
  auto own = session.ask_for<ctdb::NodeMap>(ControlOpcode::GetNodesFile, session.own());
  if (!own) return passed_on(own);
  std::vector<Pnn> connected;
  for (const ctdb::NodeMap::Node& node : map->nodes) {
    if ((node.flags & (kFlagDisconnected | kFlagDeleted)) != 0) continue;
    connected.push_back(node.pnn);
    auto theirs = session.ask_for<ctdb::NodeMap>(ControlOpcode::GetNodesFile, node.pnn);
    if (!theirs) return passed_on(theirs);
    if (*theirs != *own) {
      return fail(fmt::format("ERROR: Nodes file on node {} differs from current node ({}): copy it there first",
                              number(node.pnn), number(session.own())));
    }
  }
  const auto in_use = [&](std::size_t pnn) { return pnn < map->nodes.size() && (map->nodes[pnn].flags & kFlagDeleted) == 0; };
  const auto in_file = [&](std::size_t pnn) { return pnn < own->nodes.size() && (own->nodes[pnn].flags & kFlagDeleted) == 0; };
  Json changes = Json::array();
  std::string text;
  for (std::size_t pnn = 0; pnn < std::max(map->nodes.size(), own->nodes.size()); ++pnn) {
    if (in_use(pnn) && in_file(pnn) && !ctdb::same_host(map->nodes[pnn].address, own->nodes[pnn].address)) {
      return fail(fmt::format("ERROR: Node {} has changed IP address (was {}, now {}): put '#' in front of its line, "
                              "reload, then write the new address there and reload again", pnn,
                              ctdb::to_string(map->nodes[pnn].address), ctdb::to_string(own->nodes[pnn].address)));
    }
    if (in_use(pnn) == in_file(pnn)) continue;
    text += fmt::format("Node {} is {}\n", pnn, in_file(pnn) ? "NEW" : "DELETED");
    changes.push_back({{"pnn", pnn}, {"change", in_file(pnn) ? "new" : "deleted"}});
  }
  if (changes.empty()) {
    in.console.show("No change in nodes file, skipping unnecessary reload\n", {{"changes", changes}});
    return 0;
  }
  // The own node last: when it is done, the others know already.
  std::stable_partition(connected.begin(), connected.end(), [&](Pnn pnn) { return pnn != session.own(); });
  for (const Pnn pnn : connected) {
    auto done = session.ask(ControlOpcode::ReloadNodesFile, pnn);
    if (!done) return fail(fmt::format("ERROR: Failed to reload nodes file on node {}: its log says why", number(pnn)));
  }
  in.console.show(text, {{"changes", changes}});
  return 0;
}

}  // namespace tdbmesh::ctl
