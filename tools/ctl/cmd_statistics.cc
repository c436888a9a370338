// statistics, statisticsreset, stats, dbstatistics.

#include "tools/client/text.h"
#include "tools/ctl/format_statistics.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {

using ctdb::ControlOpcode;

Outcome<int> run_statistics(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "statistics");
  auto statistics = in.session->ask_for<ctdb::Statistics>(ControlOpcode::Statistics, in.session->node());
  if (!statistics) return passed_on(statistics);
  const char s = in.options.separator;
  in.console.show(in.options.machine ? format_statistics_header(s) + format_statistics_machine(*statistics, s)
                                     : format_statistics(*statistics),
                  json_statistics(*statistics));
  return 0;
}

Outcome<int> run_statisticsreset(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "statisticsreset");
  auto done = in.session->ask(ControlOpcode::StatisticsReset, in.session->node());
  if (!done) return passed_on(done);
  return 0;
}

Outcome<int> run_stats(Invocation& in) {
  if (in.args.size() > 1) return wrong_usage(in, "stats");
  // CTDB's tool reads the number and prints every slot that was filled; ours keeps to the number.
  const auto most = in.args.empty() ? std::optional<std::uint32_t>{1} : parse_u32(in.args[0]);
  if (!most) return wrong_usage(in, "stats");
  auto history = in.session->ask_for<ctdb::StatisticsHistory>(ControlOpcode::GetStatHistory, in.session->node());
  if (!history) return passed_on(history);
  const char s = in.options.separator;
  std::string text = in.options.machine ? format_statistics_header(s) : std::string();
  Json json = Json::array();
  for (const auto& slot : history->slots) {
    if (slot.started.seconds == 0 || json.size() == *most) continue;
    text += in.options.machine ? format_statistics_machine(slot, s) : format_statistics(slot);
    json.push_back(json_statistics(slot));
  }
  in.console.show(text, std::move(json));
  return 0;
}

Outcome<int> run_dbstatistics(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "dbstatistics");
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  auto statistics = in.session->ask_for<ctdb::DatabaseStatistics>(
      ControlOpcode::GetDbStatistics, in.session->node(), ctdb::encode_u32(number(database->id)));
  if (!statistics) return passed_on(statistics);
  in.console.show(format_database_statistics(database->name, *statistics),
                  json_database_statistics(database->name, *statistics));
  return 0;
}

}  // namespace tdbmesh::ctl
