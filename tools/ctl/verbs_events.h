#pragma once
// The verbs about event scripts and decisions: cmd_events.cc, cmd_why.cc.

#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {

Outcome<int> run_event(Invocation& in);
Outcome<int> run_scriptstatus(Invocation& in);
Outcome<int> run_checktcpport(Invocation& in);
Outcome<int> run_why(Invocation& in);

}  // namespace tdbmesh::ctl
