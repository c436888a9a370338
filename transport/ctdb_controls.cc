#include "transport/ctdb_controls.h"

#include <fmt/format.h>

namespace tdbmesh::ctdb {
namespace {

struct SrvidName {
  Srvid srvid;
  const char* name;
};

constexpr SrvidName kSrvidNames[] = {
    {kSrvidAll, "ALL"},
    {kSrvidBanning, "BANNING"},
    {kSrvidElection, "ELECTION"},
    {kSrvidLeader, "LEADER"},
    {kSrvidReconfigure, "RECONFIGURE"},
    {kSrvidReleaseIp, "RELEASE_IP"},
    {kSrvidTakeIp, "TAKE_IP"},
    {kSrvidIpreallocated, "IPREALLOCATED"},
    {kSrvidStartIpreallocate, "START_IPREALLOCATE"},
    {kSrvidSetNodeFlags, "SET_NODE_FLAGS"},
    {kSrvidRecdUpdateIp, "RECD_UPDATE_IP"},
    {kSrvidVacuumFetch, "VACUUM_FETCH"},
    {kSrvidDetachDatabase, "DETACH_DATABASE"},
    {kSrvidMemDump, "MEM_DUMP"},
    {kSrvidPushNodeFlags, "PUSH_NODE_FLAGS"},
    {kSrvidReloadNodes, "RELOAD_NODES"},
    {kSrvidTakeoverRun, "TAKEOVER_RUN"},
    {kSrvidRebalanceNode, "REBALANCE_NODE"},
    {kSrvidDisableTakeoverRuns, "DISABLE_TAKEOVER_RUNS"},
    {kSrvidDisableRecoveries, "DISABLE_RECOVERIES"},
    {kSrvidDisableIpCheck, "DISABLE_IP_CHECK"},
    {kSrvidSambaNotify, "SAMBA_NOTIFY"},
    {kSrvidSambaNotifyProxy, "SAMBA_NOTIFY_PROXY"},
    {kSrvidSambaProcess, "SAMBA_PROCESS"},
};

// Addresses with the top byte 0 are process ids.
constexpr std::uint64_t kPidRangeEnd = 0x0100000000000000u;

}  // namespace

std::string to_string(ControlOpcode opcode) {
  switch (opcode) {
#define TDBMESH_X(enumerator, value, name, obsolete) \
  case ControlOpcode::enumerator:                    \
    return name;
    TDBMESH_CTDB_CONTROLS(TDBMESH_X)
#undef TDBMESH_X
  }
  return fmt::format("CONTROL_{}", static_cast<std::uint32_t>(opcode));
}

bool is_known(ControlOpcode opcode) {
  switch (opcode) {
#define TDBMESH_X(enumerator, value, name, obsolete) \
  case ControlOpcode::enumerator:                    \
    return !(obsolete);
    TDBMESH_CTDB_CONTROLS(TDBMESH_X)
#undef TDBMESH_X
  }
  return false;
}

std::string srvid_name(Srvid srvid) {
  for (const auto& known : kSrvidNames) {
    if (known.srvid == srvid) return known.name;
  }
  if (number(srvid) < kPidRangeEnd) return fmt::format("PID {}", number(srvid));
  return fmt::format("0x{:016x}", number(srvid));
}

}  // namespace tdbmesh::ctdb
