// `reloadnodes` on one node: the nodes file is read anew, new nodes are connected to at once, and those that are gone
// from it stay connected until the leader has taken them out of the configuration.

#include <algorithm>
#include <fmt/format.h>

#include "tools/daemon/node.h"

namespace tdbmesh {

std::string Node::reload_nodes() {
  Result<NodesFile> file = env_.read_nodes_file();
  if (!file) return file.error().context;
  // A line that was taken away altogether keeps its number too.
  while (file->nodes.size() < config_.nodes.size()) file->nodes.push_back({ctdb::v4_address(0, 0, 0, 0), true});
  for (std::size_t i = 0; i < config_.nodes.size(); ++i) {
    const ConfiguredNode& before = config_.nodes[i];
    const ConfiguredNode& after = file->nodes[i];
    if (before.deleted || after.deleted || ctdb::same_host(before.address, after.address)) continue;
    return fmt::format("node {} has another address ({} was {}): put '#' in front of its line, reload, then write the new "
                       "address there and reload again", i, ctdb::to_string(after.address), ctdb::to_string(before.address));
  }
  // Another machine may come under a number only when the old one is out of the configuration.
  for (const auto& [pnn, address] : removed_nodes_) {
    if (number(pnn) < file->nodes.size() && !file->nodes[number(pnn)].deleted &&
        ctdb::to_string(file->nodes[number(pnn)].address) != address) {
      return fmt::format("node {} ({}) is still being removed: `tdbmesh status -v` on the leader says what it waits for",
                         number(pnn), address);
    }
  }
  recovery::Actions actions;
  if (std::string why = control_.set_files(file->cluster, now_, actions); !why.empty()) return why;
  for (std::size_t i = 0; i < config_.nodes.size(); ++i) {
    if (config_.nodes[i].deleted || !file->nodes[i].deleted) continue;
    removed_nodes_[Pnn{static_cast<std::uint32_t>(i)}] = ctdb::to_string(config_.nodes[i].address);
  }
  config_.nodes = std::move(file->nodes);
  env_.log(LogLevel::Notice, fmt::format("the nodes file was read anew: {} nodes", file->cluster.nodes.size()));
  look_at_peers();
  run(std::move(actions));
  return {};
}

void Node::look_at_peers() {
  const recovery::ClusterConfig& agreed = control_.cluster();
  std::erase_if(removed_nodes_, [&](const auto& removed) {
    const Pnn pnn = removed.first;
    if (number(pnn) < config_.nodes.size() && !config_.nodes[number(pnn)].deleted) return true;
    return !std::binary_search(agreed.nodes.begin(), agreed.nodes.end(), pnn);
  });
  std::vector<PeerAddress> peers;
  for (std::size_t i = 0; i < config_.nodes.size(); ++i) {
    const Pnn pnn{static_cast<std::uint32_t>(i)};
    if (!config_.nodes[i].deleted) peers.push_back({pnn, ctdb::to_string(config_.nodes[i].address)});
    if (const auto removed = removed_nodes_.find(pnn); removed != removed_nodes_.end()) peers.push_back({pnn, removed->second});
  }
  env_.set_peers(peers);
}

}  // namespace tdbmesh
