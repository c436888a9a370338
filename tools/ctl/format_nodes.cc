#include "tools/ctl/format_nodes.h"

#include <fmt/format.h>
#include <strings.h>

#include <array>

#include "tools/client/text.h"
#include "tools/ctl/node_words.h"

namespace tdbmesh::ctl {
namespace {

constexpr std::array<std::string_view, 7> kRunstates{"UNKNOWN", "INIT",    "SETUP",   "FIRST_RECOVERY",
                                                     "STARTUP", "RUNNING", "SHUTDOWN"};

struct DebugLevel {
  std::int32_t level;
  const char* name;
};
constexpr std::array<DebugLevel, 5> kDebugLevels{
    {{0, "ERROR"}, {1, "WARNING"}, {3, "NOTICE"}, {5, "INFO"}, {10, "DEBUG"}}};

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string state_text(const NodeLine& node) {
  return node.flags == 0 && node.partially_online ? "PARTIALLYONLINE" : flags_text(node.flags);
}

double seconds_between(const ctdb::TimeVal& from, const ctdb::TimeVal& to) {
  return static_cast<double>(to.seconds - from.seconds) +
         static_cast<double>(to.microseconds - from.microseconds) / 1e6;
}

std::string since_text(const ctdb::TimeVal& then, const ctdb::TimeVal& now) {
  return elapsed_text(now.seconds - then.seconds) + " " + date_text(then.seconds);
}

}  // namespace

std::string format_node_count(const std::vector<NodeLine>& nodes) {
  std::size_t deleted = 0;
  for (const NodeLine& node : nodes) deleted += (node.flags & kFlagDeleted) != 0 ? 1u : 0u;
  if (deleted == 0) return fmt::format("Number of nodes:{}\n", nodes.size());
  return fmt::format("Number of nodes:{} (including {} deleted nodes)\n", nodes.size(), deleted);
}

std::string format_nodes(const std::vector<NodeLine>& nodes) {
  std::string text;
  for (const NodeLine& node : nodes) {
    if ((node.flags & kFlagDeleted) != 0) continue;
    text += fmt::format("pnn:{} {:<16} {}{}{}\n", number(node.pnn), node.address, state_text(node),
                        node.witness ? " (WITNESS)" : "", node.this_node ? " (THIS NODE)" : "");
  }
  return text;
}

std::string format_nodes_machine(const std::vector<NodeLine>& nodes, char separator) {
  static constexpr std::array<const char*, 11> kColumns{"Node",      "IP",      "Disconnected", "Unknown",
                                                        "Banned",    "Disabled", "Unhealthy",   "Stopped",
                                                        "Inactive",  "PartiallyOnline", "ThisNode"};
  std::string text(1, separator);
  for (const char* column : kColumns) (text += column) += separator;
  text += '\n';
  for (const NodeLine& node : nodes) {
    if ((node.flags & kFlagDeleted) != 0) continue;
    text += fmt::format("{0}{1}{0}{2}{0}", separator, number(node.pnn), node.address);
    for (const NodeFlags bit : {kFlagDisconnected, kFlagUnknown, kFlagBanned, kFlagDisabled, kFlagUnhealthy,
                                kFlagStopped, kFlagsInactive}) {
      text += fmt::format("{}{}", (node.flags & bit) != 0 ? 1 : 0, separator);
    }
    text += fmt::format("{1}{0}{2}{0}\n", separator, node.flags == 0 && node.partially_online ? 1 : 0,
                        node.this_node ? 'Y' : 'N');
  }
  return text;
}

Json json_nodes(const std::vector<NodeLine>& nodes) {
  Json list = Json::array();
  for (const NodeLine& node : nodes) {
    list.push_back({{"pnn", number(node.pnn)},
                    {"address", node.address},
                    {"state", state_text(node)},
                    {"flags", node.flags & ~kFlagUnknown},
                    {"witness", node.witness},
                    {"this_node", node.this_node}});
  }
  return list;
}

std::string format_vnnmap(const ctdb::VnnMap& map) {
  std::string text = map.generation == kInvalidClientGeneration
                         ? std::string("Generation:INVALID\n")
                         : fmt::format("Generation:{}\n", map.generation);
  text += fmt::format("Size:{}\n", map.map.size());
  for (std::size_t i = 0; i < map.map.size(); ++i) {
    text += fmt::format("hash:{} lmaster:{}\n", i, number(map.map[i]));
  }
  return text;
}

Json json_vnnmap(const ctdb::VnnMap& map) {
  Json slots = Json::array();
  for (const Pnn lmaster : map.map) slots.push_back(number(lmaster));
  Json generation = map.generation == kInvalidClientGeneration ? Json(nullptr) : Json(map.generation);
  return {{"generation", std::move(generation)}, {"lmasters", std::move(slots)}};
}

std::string format_status(const ClusterStatus& status) {
  return format_node_count(status.nodes) + format_nodes(status.nodes) + format_vnnmap(status.vnnmap) +
         (status.recovering ? "Recovery mode:RECOVERY (1)\n" : "Recovery mode:NORMAL (0)\n") +
         (status.leader ? fmt::format("Leader:{}\n", number(*status.leader)) : std::string("Leader:UNKNOWN\n"));
}

Json json_status(const ClusterStatus& status) {
  Json json{{"nodes", json_nodes(status.nodes)}};
  json.update(json_vnnmap(status.vnnmap));
  json["recovery_mode"] = status.recovering ? "RECOVERY" : "NORMAL";
  json["leader"] = status.leader ? Json(number(*status.leader)) : Json(nullptr);
  return json;
}

std::string format_uptime(Pnn node, const ctdb::Uptime& u) {
  return fmt::format("Current time of node {:<4}     :                {}\n", number(node), date_text(u.current.seconds)) +
         fmt::format("Ctdbd start time              : {}\n", since_text(u.daemon_started, u.current)) +
         fmt::format("Time of last recovery/failover: {}\n", since_text(u.last_recovery_finished, u.current)) +
         fmt::format("Duration of last recovery/failover: {:.6f} seconds\n",
                     seconds_between(u.last_recovery_started, u.last_recovery_finished));
}

Json json_uptime(Pnn node, const ctdb::Uptime& u) {
  return {{"node", number(node)},
          {"current", u.current.seconds},
          {"daemon_started", u.daemon_started.seconds},
          {"last_recovery_finished", u.last_recovery_finished.seconds},
          {"last_recovery_seconds", seconds_between(u.last_recovery_started, u.last_recovery_finished)}};
}

std::string_view runstate_name(std::uint32_t state) {
  return state < kRunstates.size() ? kRunstates[state] : kRunstates[0];
}

std::optional<std::uint32_t> runstate_by_name(std::string_view name) {
  for (std::size_t i = 0; i < kRunstates.size(); ++i) {
    if (same_word(kRunstates[i], name)) return static_cast<std::uint32_t>(i);
  }
  return std::nullopt;
}

std::string debug_level_name(std::int32_t level) {
  for (const auto& known : kDebugLevels) {
    if (level <= known.level) return known.name;
  }
  return "DEBUG";
}

std::optional<std::int32_t> debug_level_by_name(std::string_view name) {
  for (const auto& known : kDebugLevels) {
    if (same_word(known.name, name)) return known.level;
  }
  const auto level = parse_u32(name);
  if (!level || *level > 10) return std::nullopt;
  for (const auto& known : kDebugLevels) {
    if (static_cast<std::int32_t>(*level) <= known.level) return known.level;
  }
  return std::nullopt;
}

std::vector<std::optional<std::string>> parse_nodes_file(std::string_view text) {
  std::vector<std::optional<std::string>> nodes;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    const auto first = line.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) continue;
    line = line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
    if (line.front() == '#') {
      nodes.emplace_back(std::nullopt);  // its number stays taken
    } else {
      nodes.emplace_back(std::string(line));
    }
  }
  return nodes;
}

std::string format_nodes_file(const std::vector<std::optional<std::string>>& nodes, bool machine, char separator) {
  std::string text;
  for (std::size_t pnn = 0; pnn < nodes.size(); ++pnn) {
    if (!nodes[pnn]) continue;
    text += machine ? fmt::format("{0}{1}{0}{2}{0}\n", separator, pnn, *nodes[pnn]) : *nodes[pnn] + "\n";
  }
  return text;
}

}  // namespace tdbmesh::ctl
