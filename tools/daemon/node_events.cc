// Event runs: who asked, and the answers.

#include "tools/daemon/node.h"

namespace tdbmesh {

void Node::run_event(EventRequest request, EventDone done) {
  const std::uint64_t ticket = ++last_event_;
  event_runs_.emplace(ticket, std::move(done));
  env_.run_event(ticket, std::move(request), seconds(std::max(tunables_[ctdb::Tunable::EventScriptTimeout], 1u)));
}

void Node::on_event(std::uint64_t ticket, const EventResult& result) {
  const auto run = event_runs_.find(ticket);
  if (run == event_runs_.end()) return;
  const EventDone done = std::move(run->second);
  event_runs_.erase(run);
  if (done) done(result);
}

}  // namespace tdbmesh
