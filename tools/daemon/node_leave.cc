// Leaving in order (stop, ban, shutdown): first the public addresses move to other nodes. Then the clients are shut
// out, but the node stays a member until the others have what only it had. Then, or when its time is up, it does what
// it was told; being alive, it closes its gate itself, so nobody waits for its lease.

#include <fmt/format.h>

#include "tools/daemon/node.h"

namespace tdbmesh {

void Node::leave(NodeFlags flags) {
  if ((control_.own_flags() & flags) == flags) return;
  flags_to_come_ |= flags;
  addresses_.leave(false, [this] {
    if (flags_to_come_ != 0) drain_and_set(std::exchange(flags_to_come_, 0));
  });
}

// The addresses are elsewhere.
void Node::drain_and_set(NodeFlags flags) {
  if (leave_) {
    leave_->flags |= flags;
    return;
  }
  leave_ = Leave{flags, false, now_ + config_.drain_limit};
  begin_leave();
}

// The shutdown scripts are over.
void Node::drain_and_end() {
  if (leave_) {
    leave_->shut_down = true;
    return;
  }
  leave_ = Leave{0, true, now_ + config_.drain_limit};
  begin_leave();
}

void Node::begin_leave() {
  // Alone there is nobody to leave anything to, and outside a view nothing to leave.
  if (members().size() < 2) return end_leave();
  env_.log(LogLevel::Notice, "leaving in order: clients wait, and the other nodes take over the records of this one");
  env_.close_gate();
  look_at_gate();
  run(records_.drain(true, now_));
  run(commits_.drain(true, now_));
  if (leave_) look_at_leave();
}

void Node::look_at_leave() {
  const bool member = control_.installed_view() != nullptr;
  if (member && records_.drained() && commits_.drained()) {
    ++drains_completed_;
    env_.log(LogLevel::Notice, "everything is handed over");
    return end_leave();
  }
  if (!member) return end_leave();  // left out meanwhile
  if (records_.drain_hopeless()) {
    env_.log(LogLevel::Notice, "all nodes leave: nobody takes over the records of this one");
    return end_leave();
  }
  if (now_ < leave_->until) return;
  env_.log(LogLevel::Warning, fmt::format("leaving although {} after {} ms: the newest version of some records may be "
                                          "lost to the cluster",
                                          records_.drained() ? "commits are under way" : "not all records are handed over",
                                          std::chrono::duration_cast<std::chrono::milliseconds>(config_.drain_limit).count()));
  end_leave();
}

void Node::end_leave() {
  const Leave leave = *std::exchange(leave_, std::nullopt);
  recovery::Actions actions;
  if (leave.flags != 0) control_.set_flags(control_.own_flags() | leave.flags, now_, actions);
  if (leave.shut_down) control_.begin_shutdown(now_, actions);
  run(std::move(actions));
}

void Node::stay(NodeFlags flags) {
  flags_to_come_ &= ~flags;
  if (leave_) {
    leave_->flags &= ~flags;
    if (leave_->flags == 0 && !leave_->shut_down) leave_.reset();
  }
  recovery::Actions actions;
  if ((control_.own_flags() & flags) != 0) {
    await_view();
    control_.set_flags(control_.own_flags() & ~flags, now_, actions);
  }
  run(std::move(actions));
  if (leave_ || (control_.own_flags() & (kFlagStopped | kFlagBanned)) != 0) return;
  run(records_.drain(false, now_));
  run(commits_.drain(false, now_));
  const View* view = control_.accepted_view();
  if (gate_permitted_) env_.permit_gate(view == nullptr ? Generation{} : view->generation);
  look_at_gate();
  if (flags_to_come_ == 0) addresses_.stay();
}

}  // namespace tdbmesh
