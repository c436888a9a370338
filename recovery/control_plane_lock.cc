// The control plane's side of the cluster lock: when it is wanted, and what people are told while it is waited for.

#include <fmt/format.h>

#include <algorithm>

#include "recovery/control_plane_impl.h"

namespace tdbmesh::recovery {
namespace {

// A lock changes hands within this time in every start and stop; longer is worth a word.
constexpr Duration kSilentWait = seconds(1);

std::string seconds_text(Duration d) { return fmt::format("{:.1f} s", std::chrono::duration<double>(d).count()); }

}  // namespace

// Two nodes: the leader, and whoever wants to become it, holds the lock; a follower lets it go. The register says
// what the lock has agreed to, before it counts.
void ControlPlane::Impl::run_lock() {
  if (cluster().quorum != QuorumMode::LockVote) return run_advisory_lock();
  if (lock_.newest && lock_.newest->generation > accepted_generation()) adopt(*lock_.newest);
  highest_term_ = std::max(highest_term_, lock_.highest_term);
  const bool wanted = active_self() && (election_.leading() || leader() == kNoPnn);
  if (!wanted) {
    if (lock_wanted_) out_->push_back(LockRelease{});
    lock_wanted_ = false;
    lock_ = LockStatus{};
    lock_waits_since_ = kNever;
    return;
  }
  watch_lock();
  LockRecord record;
  record.term = state_.term;
  if (const auto* c = std::get_if<Candidate>(&election_.role())) record.term = c->term;
  record.accepted = state_.accepted;
  const View* newest = accepted();
  const bool alone = newest != nullptr && newest->members.size() == 1 && newest->contains(self_);
  // Cleared only when a common view is in use and the last gate that rested on the lock has run out [ce 18].
  const bool common = installed_view_ && installed_view_->members.size() > 1 &&
                      installed_view_->generation == accepted_generation() && now_ > lock_gate_until_;
  record.in_use = alone || (lock_record_.in_use && !common);
  if (lock_wanted_ && record == lock_record_) return;
  lock_wanted_ = true;
  lock_record_ = record;
  out_->push_back(LockTry{std::move(record)});
}

// No vote hangs on it: held or not, stuck or lost, the cluster goes on. It is held so that another cluster that
// uses the same lock (a CTDB that was left running) is noticed here, and notices this one.
void ControlPlane::Impl::run_advisory_lock() {
  const bool wanted = config_.advisory_lock && election_.leading() && installed_view_ && active_self();
  if (wanted && !lock_wanted_) {
    lock_record_ = LockRecord{};
    out_->push_back(LockTry{lock_record_});
  } else if (!wanted && lock_wanted_) {
    out_->push_back(LockRelease{});
    lock_ = LockStatus{};
  }
  lock_wanted_ = wanted;
  const std::string said = lock_.held ? "held" : lock_.text;
  if (!wanted || said == advisory_told_) return;
  advisory_told_ = said;
  if (!lock_.held && !lock_.text.empty()) {
    log(LogLine::Level::Warning,
        "the cluster lock is not held here: " + lock_.text +
            " (nothing waits for it; if this stays, see whether another cluster, perhaps an old CTDB, is running)");
  } else if (lock_.held) {
    log(LogLine::Level::Info, "this node holds the cluster lock");
  }
}

std::string ControlPlane::Impl::lock_name() const {
  return config_.lock_name.empty() ? std::string("the cluster lock") : "the cluster lock " + config_.lock_name;
}

// Why the lock does not count at this moment.
std::string ControlPlane::Impl::lock_trouble() const {
  if (lock_.held) return "the file system that it lies on does not answer";
  if (lock_.text.empty()) return "the file system that it lies on has not answered yet";
  return lock_.text;
}

// Two nodes, the other one silent: until its lock is free nothing can be served here, and that is the file system's
// time, not ours. Said once when it begins, again when the reason changes, and when it is over.
void ControlPlane::Impl::watch_lock() {
  if (lock_vote()) {
    if (!lock_told_.empty()) {
      log(LogLine::Level::Info, fmt::format("this node holds {}, after {}", lock_name(), seconds_text(now_ - lock_waits_since_)));
    }
    lock_told_.clear();
    lock_waits_since_ = kNever;
    return;
  }
  if (lock_waits_since_ == kNever) lock_waits_since_ = now_;
  if (now_ - lock_waits_since_ < kSilentWait) return;
  std::string told = lock_trouble() + (quorum_reachable()
                                           ? "; both nodes serve without it, but this one could not go on alone"
                                           : "; it is free when the file system gives a dead node up, and until then "
                                             "nothing is served here");
  if (told == lock_told_) return;
  lock_told_ = std::move(told);
  log(LogLine::Level::Warning,
      fmt::format("waiting for {} for {} now: {}", lock_name(), seconds_text(now_ - lock_waits_since_), lock_told_));
}

std::string ControlPlane::Impl::lock_state(Instant now) const {
  if (!config_.advisory_lock) return {};
  const bool vote = cluster().quorum == QuorumMode::LockVote;
  if (vote ? lock_.held && lock_.lease_until > now : lock_.held) return "held by this node";
  if (!lock_wanted_) return "not held by this node";
  if (!vote) return "not held by this node: " + lock_trouble();
  return fmt::format("awaited for {}: {}",
                     seconds_text(lock_waits_since_ == kNever ? Duration(0) : now - lock_waits_since_), lock_trouble());
}

}  // namespace tdbmesh::recovery
