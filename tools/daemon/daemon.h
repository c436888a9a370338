#pragma once
// The shell around a Node: event loop, client socket, mesh, heartbeat thread, store, commit worker, state
// file. It turns what they say into events of the Node, and holds no rule of any protocol.
//
// Threads: everything here runs in the thread that calls run(), except what the parts do for themselves.

#include <memory>
#include <string>

#include "db/base/result.h"
#include "tools/daemon/daemon_setup.h"

namespace tdbmesh {

class Daemon {
 public:
  // Takes the runtime and state directories (another daemon on them is an error), starts all parts, listens.
  // When it returns, the client socket answers.
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(DaemonSetup setup);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Until an orderly end: SIGTERM, SIGINT, the `shutdown` control. Returns the exit status.
  int run();

 private:
  class Impl;
  explicit Daemon(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tdbmesh
