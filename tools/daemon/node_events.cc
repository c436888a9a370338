// Event runs, the node's health, and the decisions that `tdbmesh why` tells.

#include <fmt/format.h>

#include <algorithm>

#include "tools/daemon/node.h"

namespace tdbmesh {

// ---- event runs -----------------------------------------------------------------------------------------

void Node::run_event(EventRequest request, EventDone done) {
  const std::uint64_t ticket = ++last_event_;
  event_runs_.emplace(ticket, std::move(done));
  if (!config_.events) {
    events_done_.push_back(ticket);
    return;
  }
  env_.run_event(ticket, std::move(request), seconds(std::max(tunables_[ctdb::Tunable::EventScriptTimeout], 1u)));
}

void Node::on_event(std::uint64_t ticket, const EventResult& result) {
  const auto run = event_runs_.find(ticket);
  if (run == event_runs_.end()) return;
  const EventDone done = std::move(run->second);
  event_runs_.erase(run);
  if (done) done(result);
}

void Node::answer_trivial_events() {
  std::vector<std::uint64_t> done;
  done.swap(events_done_);
  for (const std::uint64_t ticket : done) on_event(ticket, EventResult{});
}

// ---- health ---------------------------------------------------------------------------------------------

void Node::run(const NodeHealth::Actions& actions) {
  if (actions.flag_changed) {
    std::string why;
    for (const std::string& reason : health_.reasons()) why += (why.empty() ? "" : "; ") + reason;
    note(DecisionLog::node(self()), health_.healthy() ? "healthy: all scripts and checks succeed" : why);
    env_.log(health_.healthy() ? LogLevel::Notice : LogLevel::Warning,
             health_.healthy() ? "this node is healthy" : "this node is " + why);
    const NodeFlags flags = control_.own_flags();
    recovery::Actions out;
    control_.set_flags(health_.healthy() ? flags & ~kFlagUnhealthy : flags | kFlagUnhealthy, now_, out);
    run(std::move(out));
  }
  for (const std::string& word : actions.notify) env_.notify(word);
  for (const EventKind kind : actions.run) {
    run_event(plain_event(kind), [this, kind](const EventResult& result) { health_event_done(kind, result); });
  }
  if (actions.may_leave) {
    note(DecisionLog::node(self()), "leaves the cluster: shut down");
    drain_and_end();
  }
}

void Node::health_event_done(EventKind kind, const EventResult& result) {
  if (!result.ok() && result.outcome != EventResult::Outcome::Cancelled && kind != EventKind::Monitor) {
    note(DecisionLog::node(self()), fmt::format("event {} {}: {} {}", event_name(kind),
                                                result.outcome == EventResult::Outcome::TimedOut ? "timed out" : "failed",
                                                result.script, result.output));
  }
  HealthSettings settings;
  settings.interval = seconds(tunables_[ctdb::Tunable::MonitorInterval]);
  settings.timeouts = tunables_[ctdb::Tunable::MonitorTimeoutCount];
  NodeHealth::Actions actions;
  health_.on_result(kind, result, now_, settings, actions);
  run(actions);
}

void Node::on_check(const std::string& check, bool ok, const std::string& reason) {
  NodeHealth::Actions actions;
  health_.on_check(check, ok, reason, actions);
  run(actions);
}

void Node::tell_health_of_serving() {
  if (serving_ == health_knows_serving_) return;
  health_knows_serving_ = serving_;
  NodeHealth::Actions actions;
  health_.serving(serving_, now_, actions);
  run(actions);
}

void Node::tick_health() {
  if (health_.next_wake() > now_) return;
  NodeHealth::Actions actions;
  health_.tick(now_, actions);
  run(actions);
}

// Addresses first: whoever takes them over serves before the services here end.
void Node::shut_down() {
  addresses_.leave(true, [this] {
    NodeHealth::Actions actions;
    health_.shut_down(actions);
    run(actions);
  });
}

// ---- decisions ------------------------------------------------------------------------------------------

void Node::note(const std::string& subject, std::string text) {
  decisions_.note(subject, std::move(text), env_.wall_clock());
}

void Node::note_flags() {
  if (std::exchange(flags_noted_at_, control_.events()) == control_.events()) return;
  for (std::uint32_t i = 0; i < config_.nodes.size(); ++i) {
    if (config_.nodes[i].deleted) continue;
    const Pnn pnn{i};
    const NodeFlags now = pnn == self() ? control_.own_flags() : control_.flags_of(pnn);
    const auto [at, first] = flags_noted_.try_emplace(pnn, now);
    if (first || at->second == now) continue;
    // Of its own health this node has told already, and why.
    const NodeFlags told = pnn == self() ? kFlagUnhealthy : 0;
    const NodeFlags gone = at->second & ~now & ~told;
    const NodeFlags came = now & ~at->second & ~told;
    at->second = now;
    std::string text;
    const auto name = [&](NodeFlags flag, const char* word) {
      if ((came & flag) != 0) text += fmt::format("{}became {}", text.empty() ? "" : ", ", word);
      if ((gone & flag) != 0) text += fmt::format("{}is no longer {}", text.empty() ? "" : ", ", word);
    };
    name(kFlagDisconnected, "disconnected");
    if ((came & kFlagDisconnected) != 0) text += fmt::format(" ({})", control_.why_disconnected(pnn));
    name(kFlagUnhealthy, "unhealthy");
    name(kFlagDisabled, "disabled");
    name(kFlagBanned, "banned");
    name(kFlagStopped, "stopped");
    if (!text.empty()) note(DecisionLog::node(pnn), std::move(text));
  }
}

void Node::note_view(const View& view) {
  std::string who;
  for (const Member& member : view.members) who += (who.empty() ? "" : " ") + to_string(member.pnn);
  for (std::uint32_t i = 0; i < config_.nodes.size(); ++i) {
    if (config_.nodes[i].deleted) continue;
    note(DecisionLog::node(Pnn{i}), fmt::format("{} view {} (nodes {}, leader {})",
                                                view.member(Pnn{i}) != nullptr ? "is in" : "is not in",
                                                to_string(view.generation), who, to_string(view.leader)));
  }
}

}  // namespace tdbmesh
