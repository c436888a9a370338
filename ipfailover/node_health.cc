#include "ipfailover/node_health.h"

#include <algorithm>

namespace tdbmesh {

namespace {

constexpr Duration kFirstRetry = seconds(1);

std::string because(const EventResult& result) {
  if (result.outcome == EventResult::Outcome::TimedOut) return result.script + " did not end in time";
  const std::string what = result.script.empty() ? "the scripts cannot be run" : result.script + " failed";
  return result.output.empty() ? what : what + ": " + result.output;
}

}  // namespace

NodeHealth::NodeHealth(bool anything, std::vector<std::string> checks) : anything_(anything), healthy_(!anything), monitor_ok_(!anything) {
  for (std::string& check : checks) failing_checks_[std::move(check)] = "not checked yet";
}

void NodeHealth::start(Actions& out) { out.run.push_back(EventKind::Setup); }

void NodeHealth::serving(bool yes, Instant now, Actions& out) {
  serving_ = yes;
  if (!yes) return;
  if (stage_ == Stage::AwaitView) {
    stage_ = Stage::Startup;
    wake_ = now;
  }
  tick(now, out);
}

void NodeHealth::view_change_began(Actions& out) {
  if (stage_ < Stage::Startup || stage_ == Stage::Shutdown || start_recovery_runs_) return;
  start_recovery_runs_ = true;
  out.run.push_back(EventKind::StartRecovery);
}

void NodeHealth::view_in_use(Actions& out) {
  if (stage_ < Stage::Startup || stage_ == Stage::Shutdown || recovered_runs_) return;
  recovered_runs_ = true;
  out.run.push_back(EventKind::Recovered);
}

void NodeHealth::tick(Instant now, Actions& out) {
  if (now < wake_ || !serving_) return;
  if (stage_ == Stage::Startup && !starting_) {
    wake_ = kNever;
    starting_ = true;
    out.run.push_back(EventKind::Startup);
  } else if (stage_ == Stage::Running && !monitoring_) {
    wake_ = kNever;
    monitoring_ = true;
    out.run.push_back(EventKind::Monitor);
  }
}

void NodeHealth::on_result(EventKind kind, const EventResult& result, Instant now, const HealthSettings& settings,
                           Actions& out) {
  switch (kind) {
    case EventKind::Setup:
      if (stage_ != Stage::Setup) return;
      stage_ = Stage::AwaitView;
      out.notify.push_back("setup");
      if (!result.ok()) monitor_reason_ = "setup: " + because(result);
      return serving(serving_, now, out);
    case EventKind::Startup:
      starting_ = false;
      if (stage_ != Stage::Startup) return;
      if (!result.ok()) {
        monitor_reason_ = "startup: " + because(result);
        wake_ = now + kStartupRetry;
        return;
      }
      stage_ = Stage::Running;
      wake_ = now;
      monitor_reason_ = "not monitored yet";
      out.notify.push_back("startup");
      return tick(now, out);
    case EventKind::Monitor: {
      monitoring_ = false;
      if (stage_ != Stage::Running) return;
      const bool timed_out = result.outcome == EventResult::Outcome::TimedOut;
      timeouts_ = timed_out ? timeouts_ + 1 : (result.outcome == EventResult::Outcome::Cancelled ? timeouts_ : 0);
      if (result.ok()) {
        monitor_ok_ = true;
        monitor_reason_.clear();
      } else if (result.outcome == EventResult::Outcome::Failed ||
                 (timed_out && timeouts_ >= std::max(settings.timeouts, 1u))) {
        monitor_ok_ = false;
        monitor_reason_ = because(result);
      }
      const Duration usual = std::max<Duration>(settings.interval, seconds(1));
      if (result.outcome == EventResult::Outcome::Cancelled) {
        wake_ = now + std::min<Duration>(usual, kFirstRetry);
      } else if (monitor_ok_) {
        backoff_ = kFirstRetry;
        wake_ = now + usual;
      } else {
        backoff_ = std::min(usual, std::max<Duration>(backoff_, kFirstRetry));
        wake_ = now + backoff_;
        backoff_ *= 2;
      }
      return judge(out);
    }
    case EventKind::StartRecovery: start_recovery_runs_ = false; return;
    case EventKind::Recovered: recovered_runs_ = false; return;
    case EventKind::Shutdown: out.may_leave = true; return;
    default: return;
  }
}

void NodeHealth::on_check(const std::string& check, bool ok, const std::string& reason, Actions& out) {
  if (ok) {
    failing_checks_.erase(check);
  } else {
    failing_checks_[check] = reason;
  }
  judge(out);
}

void NodeHealth::shut_down(Actions& out) {
  if (stage_ == Stage::Shutdown) return;
  stage_ = Stage::Shutdown;
  wake_ = kNever;
  out.run.push_back(EventKind::Shutdown);
}

void NodeHealth::judge(Actions& out) {
  if (stage_ == Stage::Shutdown) return;
  const bool healthy = (stage_ == Stage::Running || !anything_) && monitor_ok_ && failing_checks_.empty();
  if (healthy == healthy_) return;
  healthy_ = healthy;
  out.flag_changed = true;
  out.notify.push_back(healthy ? "healthy" : "unhealthy");
}

std::vector<std::string> NodeHealth::reasons() const {
  std::vector<std::string> lines;
  if (healthy_) return lines;
  if (!monitor_ok_ && !monitor_reason_.empty()) lines.push_back("unhealthy: " + monitor_reason_);
  for (const auto& [check, reason] : failing_checks_) lines.push_back("unhealthy: check " + check + ": " + reason);
  return lines;
}

}  // namespace tdbmesh
