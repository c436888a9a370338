#pragma once
// What event scripts find around them: CTDB's scripts expect a configuration folder with `functions` in it, helper
// programs in one folder, and `ctdb` on their path. At each start the daemon lays out <runtime>/events:
//
//   helpers/   ctdb -> our tool; ctdb-config: a small script with this configuration's answers; and links to the
//              other helpers of Debian's ctdb package, where it is installed
//   base/      only if the configuration folder has no `functions` of its own and CTDB's folder has: links to
//              everything of ours, and to what of CTDB's is not there
//
// and gives scripts these variables:
//
//   CTDB_BASE           the configuration folder, or base/
//   CTDB                helpers/ctdb, which is our tool; also first on PATH
//   CTDB_HELPER_BINDIR  helpers/
//   CTDB_SOCKET         the daemon's socket
//   CTDB_SCRIPT_VARDIR  <state>/scripts: scripts keep their state there (emptied by 00.ctdb at init)
//   CTDB_VARDIR         <state>;   CTDB_RUNDIR  <runtime>
//   CTDB_LOGGING        where we log;   CTDB_DEBUGLEVEL  how much
//   CTDB_PNN            the number of this node
//
// ctdb-config answers that the database directories are elsewhere: what stands in ours are no TDB files, and a
// script that checks them as such (00.ctdb) would call them broken and move them away.

#include "ipfailover/script_runner.h"
#include "tools/daemon/config.h"
#include "tools/daemon/logging.h"
#include "tools/daemon/node_environment.h"

namespace tdbmesh {

// `log` must outlive the runner.
[[nodiscard]] ScriptRunner::Settings prepare_scripts(const Config& config, Log& log);
[[nodiscard]] bool any_script_enabled(const EventFolders& folders);

}  // namespace tdbmesh
