// Controls about the daemon itself: tunables, debug level, statistics.

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"
#include "transport/ctdb_tunables.h"

namespace tdbmesh {
namespace {

constexpr std::int32_t kUnknownTunable = -22;  // EINVAL, as GET_TUNABLE answers
constexpr std::int32_t kObsoleteTunable = 1;

ctdb::TimeVal time_val(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  return {whole, static_cast<std::int64_t>((seconds - static_cast<double>(whole)) * 1e6)};
}

void list_tunables(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, encode(ctdb::CountedText{ctdb::tunable_list()}));
}

void get_tunable(NodeParts& node, const ControlRequest& request) {
  const auto name = ctdb::decode<ctdb::CountedText>(request.data);
  if (!name) return node.services.reply(request.reply, -1);
  const auto tunable = ctdb::find_tunable(name->text);
  if (!tunable) return node.services.reply(request.reply, kUnknownTunable);
  node.services.reply(request.reply, 0, ctdb::encode_u32(node.tunables[*tunable]));
}

void set_tunable(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::SetTunable>(request.data);
  if (!wanted) return node.services.reply(request.reply, -1);
  const auto tunable = ctdb::find_tunable(wanted->name);
  if (!tunable) return node.services.reply(request.reply, -1);
  node.tunables[*tunable] = wanted->value;
  const bool obsolete = ctdb::tunable_table()[static_cast<std::size_t>(*tunable)].obsolete;
  node.services.reply(request.reply, obsolete ? kObsoleteTunable : 0);
}

void get_all_tunables(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, encode(node.tunables));
}

void get_debug(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, ctdb::encode_i32(node.debug_level));
}

void set_debug(NodeParts& node, const ControlRequest& request) {
  const auto level = ctdb::decode_i32(request.data);
  if (!level) return node.services.reply(request.reply, -1);
  node.debug_level = *level;
  node.env.set_debug_level(*level);
  node.services.reply(request.reply, 0);
}

void statistics(NodeParts& node, const ControlRequest& request) {
  ctdb::Statistics now = node.statistics;
  now.num_clients = static_cast<std::uint32_t>(node.clients.count());
  now.recovering = node.serving ? 0 : 1;
  now.frozen = static_cast<std::uint32_t>(node.restore.frozen_count());
  now.current = time_val(node.env.wall_clock());
  node.services.reply(request.reply, 0, encode(now));
}

void statistics_reset(NodeParts& node, const ControlRequest& request) {
  node.statistics = {};
  node.statistics.started = time_val(node.env.wall_clock());
  node.services.reply(request.reply, 0);
}

void statistics_history(NodeParts& node, const ControlRequest& request) {
  node.services.reply(request.reply, 0, encode(ctdb::StatisticsHistory{node.statistics_history}));
}

}  // namespace

void add_tunable_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[ListTunables] = list_tunables;
  table[GetTunable] = get_tunable;
  table[SetTunable] = set_tunable;
  table[GetAllTunables] = get_all_tunables;
  table[GetDebug] = get_debug;
  table[SetDebug] = set_debug;
  table[Statistics] = statistics;
  table[StatisticsReset] = statistics_reset;
  table[GetStatHistory] = statistics_history;
}

}  // namespace tdbmesh
