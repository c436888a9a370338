#include "tests/sim/asking_client.h"

#include <algorithm>
#include <fmt/format.h>

#include "tests/sim/node_cluster.h"

namespace tdbmesh::sim {

void AskingClient::start_round() {
  in_round_ = true;
  for (std::uint32_t i = 0; i < cluster_.settings().nodes; ++i) {
    if (cluster_.to_be_served(Pnn{i})) waiting_for_.insert(Pnn{i});
  }
}

Duration AskingClient::longest_wait() const {
  return asked_.empty() ? longest_ : std::max(longest_, Duration(cluster_.world().now() - asked_.begin()->second.when));
}

void AskingClient::ask() {
  doing_ = fmt::format("asking; without an answer: {}", waiting_for_.size());
  const Pnn whom = whom_ ? *whom_ : Pnn{static_cast<std::uint32_t>(random().below(cluster_.settings().nodes))};
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::GetPid;
  asked_.emplace(++last_, Asked{whom, cluster_.world().now()});
  request(control, [this, number = last_](const ctdb::Packet& packet) {
    const auto at = asked_.find(number);
    const Asked asked = at->second;
    asked_.erase(at);
    judge(asked);
    const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
    if (reply == nullptr || reply->status < 0) {
      ++refused_;
      return;
    }
    ++answered_;
    waiting_for_.erase(asked.whom);
  }, number(whom));
  if (!alive()) return;
  if (!asked_.empty()) judge(asked_.begin()->second);
  later(every_, [this] { ask(); });
}

// A node that is silent or whose loop hangs passes for lost after so long, lost messages show after a second.
void AskingClient::judge(const Asked& asked) {
  const Duration waited = cluster_.world().now() - asked.when;
  // The own daemon has to be awake for it.
  if (std::max({node_.paused_until, node_.stalled_until, node_.frozen_until}) > asked.when) return;
  longest_ = std::max(longest_, waited);
  const Timing& timing = cluster_.settings().timing;
  if (waited <= std::max(timing.loop_limit, timing.silence) + seconds(3)) return;
  cluster_.fail(fmt::format("a control of node {} for node {} waited for {} ms", number(node_.pnn()), number(asked.whom),
                            std::chrono::duration_cast<std::chrono::milliseconds>(waited).count()));
}

}  // namespace tdbmesh::sim
