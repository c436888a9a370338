#pragma once
// From what the operator wrote (config.h) to what the daemon's parts are told.

#include "tools/daemon/config.h"
#include "tools/daemon/daemon_setup.h"
#include "tools/daemon/logging.h"

namespace tdbmesh {

// `log` must outlive the setup and the daemon.
[[nodiscard]] DaemonSetup setup_from_config(const Config& config, Log& log);

}  // namespace tdbmesh
