#pragma once
// Runs the built-in checks (service_check.h), each on its own beat, without blocking: sockets in the event loop,
// programs by the ScriptRunner. Tells every change, and the first result of each.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ipfailover/script_runner.h"
#include "ipfailover/service_check.h"
#include "transport/event_loop.h"

namespace tdbmesh {

class ServiceChecks {
 public:
  using Report = std::function<void(const std::string& name, bool ok, const std::string& reason)>;
  // `report` is called from the loop, never from inside the constructor. `runner` must outlive this.
  ServiceChecks(EventLoop& loop, ScriptRunner& runner, std::vector<ServiceCheck> checks, Report report);
  ~ServiceChecks();
  ServiceChecks(const ServiceChecks&) = delete;
  ServiceChecks& operator=(const ServiceChecks&) = delete;

 private:
  struct Probe;
  void begin(Probe& probe);
  void on_ready(Probe& probe, std::uint32_t ready);
  void read_answer(Probe& probe);
  void end(Probe& probe, bool ok, const std::string& reason);

  EventLoop& loop_;
  ScriptRunner& runner_;
  Report report_;
  std::vector<std::unique_ptr<Probe>> probes_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace tdbmesh
