#pragma once
// The numbers of CTDB's client protocol: controls, message addresses (srvids), special destinations and the
// flags of calls and controls. Constants and their names only; pure.

#include <cstdint>
#include <string>
#include <string_view>

#include "db/base/ids.h"

namespace tdbmesh::ctdb {

// TDBMESH_CTDB_CONTROLS(X): X(enumerator, number, NAME, obsolete). An obsolete control is answered with
// status -1, like a number that was never assigned; it is listed so that a message can name it.
#define TDBMESH_CTDB_CONTROLS(X)                               \
  X(ProcessExists, 0, "PROCESS_EXISTS", false)                 \
  X(Statistics, 1, "STATISTICS", false)                        \
  X(Ping, 3, "PING", false)                                    \
  X(GetDbPath, 4, "GETDBPATH", false)                          \
  X(GetVnnMap, 5, "GETVNNMAP", false)                          \
  X(SetVnnMap, 6, "SETVNNMAP", false)                          \
  X(GetDebug, 7, "GET_DEBUG", false)                           \
  X(SetDebug, 8, "SET_DEBUG", false)                           \
  X(GetDbMap, 9, "GET_DBMAP", false)                           \
  X(GetNodeMapV4, 10, "GET_NODEMAPv4", true)                   \
  X(SetDmaster, 11, "SET_DMASTER", true)                       \
  X(PullDb, 13, "PULL_DB", true)                               \
  X(PushDb, 14, "PUSH_DB", true)                               \
  X(GetRecmode, 15, "GET_RECMODE", false)                      \
  X(SetRecmode, 16, "SET_RECMODE", false)                      \
  X(StatisticsReset, 17, "STATISTICS_RESET", false)            \
  X(DbAttach, 18, "DB_ATTACH", false)                          \
  X(SetCall, 19, "SET_CALL", true)                             \
  X(TraverseStart, 20, "TRAVERSE_START", false)                \
  X(TraverseAll, 21, "TRAVERSE_ALL", false)                    \
  X(TraverseData, 22, "TRAVERSE_DATA", false)                  \
  X(RegisterSrvid, 23, "REGISTER_SRVID", false)                \
  X(DeregisterSrvid, 24, "DEREGISTER_SRVID", false)            \
  X(GetDbName, 25, "GET_DBNAME", false)                        \
  X(EnableSeqnum, 26, "ENABLE_SEQNUM", false)                  \
  X(UpdateSeqnum, 27, "UPDATE_SEQNUM", false)                  \
  X(DumpMemory, 29, "DUMP_MEMORY", false)                      \
  X(GetPid, 30, "GET_PID", false)                              \
  X(GetRecmaster, 31, "GET_RECMASTER", true)                   \
  X(SetRecmaster, 32, "SET_RECMASTER", true)                   \
  X(Freeze, 33, "FREEZE", false)                               \
  X(Thaw, 34, "THAW", true)                                    \
  X(GetPnn, 35, "GET_PNN", false)                              \
  X(Shutdown, 36, "SHUTDOWN", false)                           \
  X(GetMonmode, 37, "GET_MONMODE", true)                       \
  X(TakeoverIpV4, 42, "TAKEOVER_IPv4", true)                   \
  X(ReleaseIpV4, 43, "RELEASE_IPv4", true)                     \
  X(TcpClient, 44, "TCP_CLIENT", false)                        \
  X(TcpAdd, 45, "TCP_ADD", false)                              \
  X(TcpRemove, 46, "TCP_REMOVE", false)                        \
  X(Startup, 47, "STARTUP", false)                             \
  X(SetTunable, 48, "SET_TUNABLE", false)                      \
  X(GetTunable, 49, "GET_TUNABLE", false)                      \
  X(ListTunables, 50, "LIST_TUNABLES", false)                  \
  X(GetPublicIpsV4, 51, "GET_PUBLIC_IPSv4", true)              \
  X(ModifyFlags, 52, "MODIFY_FLAGS", false)                    \
  X(GetAllTunables, 53, "GET_ALL_TUNABLES", false)             \
  X(KillTcp, 54, "KILL_TCP", true)                             \
  X(GetTcpTickleList, 55, "GET_TCP_TICKLE_LIST", false)        \
  X(SetTcpTickleList, 56, "SET_TCP_TICKLE_LIST", false)        \
  X(RegisterServerId, 57, "REGISTER_SERVER_ID", true)          \
  X(UnregisterServerId, 58, "UNREGISTER_SERVER_ID", true)      \
  X(CheckServerId, 59, "CHECK_SERVER_ID", true)                \
  X(GetServerIdList, 60, "GET_SERVER_ID_LIST", true)           \
  X(DbAttachPersistent, 61, "DB_ATTACH_PERSISTENT", false)     \
  X(PersistentStore, 62, "PERSISTENT_STORE", true)             \
  X(UpdateRecord, 63, "UPDATE_RECORD", false)                  \
  X(SendGratuitousArp, 64, "SEND_GRATUITOUS_ARP", false)       \
  X(TransactionStart, 65, "TRANSACTION_START", true)           \
  X(TransactionCommit, 66, "TRANSACTION_COMMIT", true)         \
  X(WipeDatabase, 67, "WIPE_DATABASE", false)                  \
  X(Uptime, 69, "UPTIME", false)                               \
  X(StartRecovery, 70, "START_RECOVERY", false)                \
  X(EndRecovery, 71, "END_RECOVERY", false)                    \
  X(ReloadNodesFile, 72, "RELOAD_NODES_FILE", false)           \
  X(TryDeleteRecords, 74, "TRY_DELETE_RECORDS", false)         \
  X(EnableMonitor, 75, "ENABLE_MONITOR", true)                 \
  X(DisableMonitor, 76, "DISABLE_MONITOR", true)               \
  X(AddPublicIp, 77, "ADD_PUBLIC_IP", false)                   \
  X(DelPublicIp, 78, "DEL_PUBLIC_IP", false)                   \
  X(RunEventScripts, 79, "RUN_EVENTSCRIPTS", true)             \
  X(GetCapabilities, 80, "GET_CAPABILITIES", false)            \
  X(StartPersistentUpdate, 81, "START_PERSISTENT_UPDATE", false)   \
  X(CancelPersistentUpdate, 82, "CANCEL_PERSISTENT_UPDATE", false) \
  X(Trans2Commit, 83, "TRANS2_COMMIT", true)                   \
  X(Trans2Finished, 84, "TRANS2_FINISHED", true)               \
  X(Trans2Error, 85, "TRANS2_ERROR", true)                     \
  X(Trans2CommitRetry, 86, "TRANS2_COMMIT_RETRY", true)        \
  X(RecdPing, 87, "RECD_PING", false)                          \
  X(ReleaseIp, 88, "RELEASE_IP", false)                        \
  X(TakeoverIp, 89, "TAKEOVER_IP", false)                      \
  X(GetPublicIps, 90, "GET_PUBLIC_IPS", false)                 \
  X(GetNodeMap, 91, "GET_NODEMAP", false)                      \
  X(GetEventScriptStatus, 96, "GET_EVENT_SCRIPT_STATUS", true) \
  X(TraverseKill, 97, "TRAVERSE_KILL", false)                  \
  X(RecdReclockLatency, 98, "RECD_RECLOCK_LATENCY", false)     \
  X(GetReclockFile, 99, "GET_RECLOCK_FILE", false)             \
  X(SetReclockFile, 100, "SET_RECLOCK_FILE", true)             \
  X(StopNode, 101, "STOP_NODE", false)                         \
  X(ContinueNode, 102, "CONTINUE_NODE", false)                 \
  X(SetNatgwState, 103, "SET_NATGWSTATE", true)                \
  X(SetLmasterRole, 104, "SET_LMASTERROLE", false)             \
  X(SetRecmasterRole, 105, "SET_RECMASTERROLE", false)         \
  X(EnableScript, 107, "ENABLE_SCRIPT", true)                  \
  X(DisableScript, 108, "DISABLE_SCRIPT", true)                \
  X(SetBanState, 109, "SET_BAN_STATE", false)                  \
  X(GetBanState, 110, "GET_BAN_STATE", false)                  \
  X(SetDbPriority, 111, "SET_DB_PRIORITY", true)               \
  X(GetDbPriority, 112, "GET_DB_PRIORITY", true)               \
  X(TransactionCancel, 113, "TRANSACTION_CANCEL", true)        \
  X(RegisterNotify, 114, "REGISTER_NOTIFY", false)             \
  X(DeregisterNotify, 115, "DEREGISTER_NOTIFY", false)         \
  X(Trans2Active, 116, "TRANS2_ACTIVE", true)                  \
  X(GetLog, 117, "GET_LOG", true)                              \
  X(ClearLog, 118, "CLEAR_LOG", true)                          \
  X(Trans3Commit, 119, "TRANS3_COMMIT", false)                 \
  X(GetDbSeqnum, 120, "GET_DB_SEQNUM", false)                  \
  X(DbSetHealthy, 121, "DB_SET_HEALTHY", false)                \
  X(DbGetHealth, 122, "DB_GET_HEALTH", false)                  \
  X(GetPublicIpInfo, 123, "GET_PUBLIC_IP_INFO", false)         \
  X(GetIfaces, 124, "GET_IFACES", false)                       \
  X(SetIfaceLinkState, 125, "SET_IFACE_LINK_STATE", false)     \
  X(TcpAddDelayedUpdate, 126, "TCP_ADD_DELAYED_UPDATE", false) \
  X(GetStatHistory, 127, "GET_STAT_HISTORY", false)            \
  X(ScheduleForDeletion, 128, "SCHEDULE_FOR_DELETION", false)  \
  X(SetDbReadonly, 129, "SET_DB_READONLY", false)              \
  X(CheckSrvids, 130, "CHECK_SRVIDS", true)                    \
  X(TraverseStartExt, 131, "TRAVERSE_START_EXT", false)        \
  X(GetDbStatistics, 132, "GET_DB_STATISTICS", false)          \
  X(SetDbSticky, 133, "SET_DB_STICKY", false)                  \
  X(ReloadPublicIps, 134, "RELOAD_PUBLIC_IPS", false)          \
  X(TraverseAllExt, 135, "TRAVERSE_ALL_EXT", false)            \
  X(ReceiveRecords, 136, "RECEIVE_RECORDS", true)              \
  X(Ipreallocated, 137, "IPREALLOCATED", false)                \
  X(GetRunstate, 138, "GET_RUNSTATE", false)                   \
  X(DbDetach, 139, "DB_DETACH", false)                         \
  X(GetNodesFile, 140, "GET_NODES_FILE", false)                \
  X(DbFreeze, 141, "DB_FREEZE", false)                         \
  X(DbThaw, 142, "DB_THAW", false)                             \
  X(DbTransactionStart, 143, "DB_TRANSACTION_START", false)    \
  X(DbTransactionCommit, 144, "DB_TRANSACTION_COMMIT", false)  \
  X(DbTransactionCancel, 145, "DB_TRANSACTION_CANCEL", false)  \
  X(DbPull, 146, "DB_PULL", false)                             \
  X(DbPushStart, 147, "DB_PUSH_START", false)                  \
  X(DbPushConfirm, 148, "DB_PUSH_CONFIRM", false)              \
  X(DbOpenFlags, 149, "DB_OPEN_FLAGS", false)                  \
  X(DbAttachReplicated, 150, "DB_ATTACH_REPLICATED", false)    \
  X(CheckPidSrvid, 151, "CHECK_PID_SRVID", false)              \
  X(TunnelRegister, 152, "TUNNEL_REGISTER", false)             \
  X(TunnelDeregister, 153, "TUNNEL_DEREGISTER", false)         \
  X(VacuumFetch, 154, "VACUUM_FETCH", false)                   \
  X(DbVacuum, 155, "DB_VACUUM", false)                         \
  X(EchoData, 156, "ECHO_DATA", false)                         \
  X(DisableNode, 157, "DISABLE_NODE", false)                   \
  X(EnableNode, 158, "ENABLE_NODE", false)                     \
  X(TcpClientDisconnected, 159, "TCP_CLIENT_DISCONNECTED", false)  \
  X(TcpClientPassed, 160, "TCP_CLIENT_PASSED", false)          \
  X(StartIpreallocate, 161, "START_IPREALLOCATE", false)

enum class ControlOpcode : std::uint32_t {
#define TDBMESH_X(enumerator, value, name, obsolete) enumerator = value,
  TDBMESH_CTDB_CONTROLS(TDBMESH_X)
#undef TDBMESH_X
};

// "GETDBPATH"; "CONTROL_999" for a number without a name.
[[nodiscard]] std::string to_string(ControlOpcode opcode);
// Has a number of the table and is not obsolete. What is not known is answered with status -1 and no data.
[[nodiscard]] bool is_known(ControlOpcode opcode);

// REQ_CONTROL flags.
inline constexpr std::uint32_t kControlNoReply = 0x00000001;
inline constexpr std::uint32_t kControlOnlyAvailable = 0x00010000;   // GET_PUBLIC_IPS
inline constexpr std::uint32_t kControlAttachRecovery = 0x00020000;  // DB_ATTACH family

// REQ_CALL: what to do with the record, and how.
enum class CallId : std::uint32_t { Null = 0xFF000001, Fetch = 0xFF000002, FetchWithHeader = 0xFF000003 };
inline constexpr std::uint32_t kCallImmediateMigration = 0x1;
inline constexpr std::uint32_t kCallVacuumMigration = 0x2;
inline constexpr std::uint32_t kCallWantReadonly = 0x4;

// REQ_TUNNEL flags.
inline constexpr std::uint32_t kTunnelRequest = 0x1;
inline constexpr std::uint32_t kTunnelReply = 0x2;
inline constexpr std::uint32_t kTunnelNoReply = 0x10;

// Destinations that are not a pnn. Broadcasts include the sender's own node.
inline constexpr std::uint32_t kCurrentNode = 0xF0000001;
inline constexpr std::uint32_t kBroadcastAll = 0xF0000002;
inline constexpr std::uint32_t kBroadcastActive = 0xF0000003;
inline constexpr std::uint32_t kBroadcastConnected = 0xF0000004;
inline constexpr std::uint32_t kMulticast = 0xF0000005;  // never on the wire
inline constexpr std::uint32_t kUnknownPnn = 0xFFFFFFFF;
[[nodiscard]] constexpr bool is_broadcast(std::uint32_t destnode) {
  return destnode == kBroadcastAll || destnode == kBroadcastActive || destnode == kBroadcastConnected;
}

inline constexpr Srvid kSrvidAll{0xFFFFFFFFFFFFFFFFu};
inline constexpr Srvid kSrvidRecovery{0xF001000000000000u};
inline constexpr Srvid kSrvidBanning{0xF002000000000000u};
inline constexpr Srvid kSrvidElection{0xF100000000000000u};
inline constexpr Srvid kSrvidLeader{0xF101000000000000u};
inline constexpr Srvid kSrvidReconfigure{0xF200000000000000u};
inline constexpr Srvid kSrvidReleaseIp{0xF300000000000000u};
inline constexpr Srvid kSrvidTakeIp{0xF301000000000000u};
inline constexpr Srvid kSrvidIpreallocated{0xF302000000000000u};
inline constexpr Srvid kSrvidStartIpreallocate{0xF303000000000000u};
inline constexpr Srvid kSrvidSetNodeFlags{0xF400000000000000u};
inline constexpr Srvid kSrvidRecdUpdateIp{0xF500000000000000u};
inline constexpr Srvid kSrvidVacuumFetch{0xF700000000000000u};
inline constexpr Srvid kSrvidDetachDatabase{0xF701000000000000u};
inline constexpr Srvid kSrvidMemDump{0xF800000000000000u};
inline constexpr Srvid kSrvidPushNodeFlags{0xF900000000000000u};
inline constexpr Srvid kSrvidReloadNodes{0xFA00000000000000u};
inline constexpr Srvid kSrvidTakeoverRun{0xFB00000000000000u};
inline constexpr Srvid kSrvidRebalanceNode{0xFB01000000000000u};
inline constexpr Srvid kSrvidDisableTakeoverRuns{0xFB03000000000000u};
inline constexpr Srvid kSrvidDisableRecoveries{0xFB04000000000000u};
inline constexpr Srvid kSrvidDisableIpCheck{0xFC00000000000000u};
inline constexpr Srvid kSrvidSambaNotify{0xFE00000000000000u};
inline constexpr Srvid kSrvidSambaNotifyProxy{0xFE00000000000001u};
inline constexpr Srvid kSrvidSambaProcess{0xFE00000000000002u};
// Prefixes: the ctdb tool's temporary addresses (0xCE01, restoredb's pushes 0xCE02) and its traverses.
inline constexpr Srvid kSrvidToolPrefix{0xCE00000000000000u};
inline constexpr Srvid kSrvidToolTemporary{0xCE01000000000000u};
inline constexpr Srvid kSrvidToolPush{0xCE02000000000000u};
inline constexpr Srvid kSrvidClientLibraryPrefix{0xBE00000000000000u};

// "LEADER", "PID 1234", or the number in hex.
[[nodiscard]] std::string srvid_name(Srvid srvid);

}  // namespace tdbmesh::ctdb
