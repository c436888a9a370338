#pragma once
// Is this node fit to serve? Drives the events of a node's life and turns their results into its UNHEALTHY flag.
// Pure: the owner hands in time and results and carries out the actions.
//
//   setup -> (first view in use) -> startup -> running -> shutdown
//
//  * From the start until startup and one monitor run have succeeded the node is unhealthy, so that it hosts no
//    address before its services are up. Where nothing is configured to be run or checked it is healthy at once.
//  * startup is tried again every kStartupRetry until it succeeds.
//  * monitor runs every `interval`; while the node is unhealthy after 1, 2, 4, ... seconds, so that it comes back
//    soon. Not while no view is in use here. A failure makes the node unhealthy at once, as CTDB; a timeout
//    only after `timeouts` of them in a row; a cancelled run says nothing.
//  * Built-in checks report a change at once, between monitor runs. Healthy means: monitor and all checks are.
//  * startrecovery and recovered run around each view change once startup has begun; a change that comes while they
//    wait adds none.

#include <map>
#include <string>
#include <vector>

#include "db/base/time.h"
#include "ipfailover/event_requests.h"

namespace tdbmesh {

struct HealthSettings {
  Duration interval = seconds(15);  // MonitorInterval
  std::uint32_t timeouts = 20;      // MonitorTimeoutCount
};

class NodeHealth {
 public:
  static constexpr Duration kStartupRetry = seconds(5);

  struct Actions {
    std::vector<EventKind> run;  // ask for these, in order; results come back by on_result()
    std::vector<std::string> notify;  // "setup", "startup", "healthy", "unhealthy"
    bool flag_changed = false;        // healthy() differs from before
    bool may_leave = false;           // the shutdown event is over
  };
  enum class Stage { Setup, AwaitView, Startup, Running, Shutdown };

  // `anything`: scripts or checks are configured.
  NodeHealth(bool anything, std::vector<std::string> checks);

  void start(Actions& out);
  // A view is in use (or none is any more): told whenever it changes.
  void serving(bool yes, Instant now, Actions& out);
  void view_change_began(Actions& out);
  void view_in_use(Actions& out);
  void on_result(EventKind kind, const EventResult& result, Instant now, const HealthSettings& settings, Actions& out);
  void on_check(const std::string& check, bool ok, const std::string& reason, Actions& out);
  void shut_down(Actions& out);
  void tick(Instant now, Actions& out);
  // While nothing is served nothing runs, however long it is due.
  [[nodiscard]] Instant next_wake() const { return serving_ ? wake_ : kNever; }

  [[nodiscard]] bool healthy() const { return healthy_; }
  [[nodiscard]] Stage stage() const { return stage_; }
  // Why it is unhealthy, one line each; empty if it is not.
  [[nodiscard]] std::vector<std::string> reasons() const;

 private:
  void judge(Actions& out);

  bool anything_;
  Stage stage_ = Stage::Setup;
  bool serving_ = false;
  bool healthy_;
  bool monitor_ok_;
  bool monitoring_ = false;  // a run is under way
  std::string monitor_reason_ = "its services have not been started yet";
  std::map<std::string, std::string> failing_checks_;  // name -> reason
  std::uint32_t timeouts_ = 0;
  Duration backoff_{};
  bool starting_ = false;
  bool start_recovery_runs_ = false;
  bool recovered_runs_ = false;
  Instant wake_ = kNever;
};

}  // namespace tdbmesh
