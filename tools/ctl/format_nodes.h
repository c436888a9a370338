#pragma once
// Texts about nodes, byte for byte as CTDB 4.17 prints them, and the same as JSON. Pure.

#include <optional>
#include <string>
#include <vector>

#include "tools/ctl/console.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctl {

struct NodeLine {
  Pnn pnn{};
  std::string address;
  NodeFlags flags = 0;
  bool partially_online = false;
  bool this_node = false;
  bool witness = false;  // CTDB knows no such nodes
};

// What `status` is made of.
struct ClusterStatus {
  std::vector<NodeLine> nodes;  // deleted ones included; they are not printed
  ctdb::VnnMap vnnmap;
  bool recovering = false;
  std::optional<Pnn> leader;
};

// The lines of the nodes that are not deleted.
[[nodiscard]] std::string format_nodes(const std::vector<NodeLine>& nodes);
// "Number of nodes:3" or "Number of nodes:3 (including 1 deleted nodes)".
[[nodiscard]] std::string format_node_count(const std::vector<NodeLine>& nodes);
[[nodiscard]] std::string format_nodes_machine(const std::vector<NodeLine>& nodes, char separator);
[[nodiscard]] Json json_nodes(const std::vector<NodeLine>& nodes);

[[nodiscard]] std::string format_vnnmap(const ctdb::VnnMap& map);
[[nodiscard]] Json json_vnnmap(const ctdb::VnnMap& map);
[[nodiscard]] std::string format_status(const ClusterStatus& status);
[[nodiscard]] Json json_status(const ClusterStatus& status);

[[nodiscard]] std::string format_uptime(Pnn node, const ctdb::Uptime& uptime);
[[nodiscard]] Json json_uptime(Pnn node, const ctdb::Uptime& uptime);

[[nodiscard]] std::string_view runstate_name(std::uint32_t state);
// Upper and lower case are the same.
[[nodiscard]] std::optional<std::uint32_t> runstate_by_name(std::string_view name);

// Debug levels as numbers of the protocol: 0 1 3 5 10.
[[nodiscard]] std::string debug_level_name(std::int32_t level);
[[nodiscard]] std::optional<std::int32_t> debug_level_by_name(std::string_view name);

// Lines of a `nodes` file, in order of pnn; deleted ones ("#...") have no address.
[[nodiscard]] std::vector<std::optional<std::string>> parse_nodes_file(std::string_view text);
[[nodiscard]] std::string format_nodes_file(const std::vector<std::optional<std::string>>& nodes, bool machine,
                                            char separator);

}  // namespace tdbmesh::ctl
