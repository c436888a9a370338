// Our own control behind `tdbmesh why`.

#include <fmt/format.h>

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

// Request: "node N", "ip ADDRESS" or "unhealthy", ended by a NUL. Reply: lines "SECONDS<TAB>TEXT", oldest first; for
// "unhealthy" the reasons of this moment come last, with the time of now, where they are others than at the last change.
void why(NodeParts& node, const ControlRequest& request) {
  const std::string subject(request.data.substr(0, request.data.find('\0')));
  const bool unhealthy = subject == "unhealthy";
  std::string text;
  const auto add = [&](double time, const std::string& line) { text += fmt::format("{:.3f}\t{}\n", time, line); };
  const std::string about = unhealthy ? DecisionLog::node(node.services.self()) : subject;
  std::string newest;
  for (const Decision& decision : node.decisions.about(about, unhealthy ? DecisionLog::kMost : 20)) {
    if (unhealthy && decision.text.find("healthy") == std::string::npos) continue;
    add(decision.time, decision.text);
    newest = decision.text;
  }
  if (const std::string now = fmt::format("{}", fmt::join(node.health.reasons(), "; ")); unhealthy && !now.empty() && now != newest) {
    add(node.env.wall_clock(), "now " + now);
  }
  node.services.reply(request.reply, 0, ctdb::encode_text(text));
}

}  // namespace

void add_event_controls(ControlTable& table) { table[kControlWhy] = why; }

}  // namespace tdbmesh
