// Our own control behind `tdbmesh why`.

#include <fmt/format.h>

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

// Request: "node N", "ip ADDRESS" or "unhealthy", ended by a NUL. Reply: lines "SECONDS<TAB>TEXT", oldest first; for
// "unhealthy" the reasons of this moment come last, with the time of now.
void why(NodeParts& node, const ControlRequest& request) {
  const std::string subject(request.data.substr(0, request.data.find('\0')));
  const bool unhealthy = subject == "unhealthy";
  std::string text;
  const auto add = [&](double time, const std::string& line) { text += fmt::format("{:.3f}\t{}\n", time, line); };
  const std::string about = unhealthy ? DecisionLog::node(node.services.self()) : subject;
  for (const Decision& decision : node.decisions.about(about, unhealthy ? DecisionLog::kMost : 20)) {
    if (!unhealthy || decision.text.find("healthy") != std::string::npos) add(decision.time, decision.text);
  }
  if (unhealthy) {
    for (const std::string& reason : node.health.reasons()) add(node.env.wall_clock(), "now " + reason);
  }
  node.services.reply(request.reply, 0, ctdb::encode_text(text));
}

}  // namespace

void add_event_controls(ControlTable& table) { table[kControlWhy] = why; }

}  // namespace tdbmesh
