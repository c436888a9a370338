#pragma once
// CTDB's tunables: names, defaults, and how clients read and set them (client protocol sheet 8.14, 7.5). Pure.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctdb {

inline constexpr std::size_t kTunableCount = 62;

// Index into the structure that GET_ALL_TUNABLES answers.
enum class Tunable : std::uint32_t {
  MaxRedirectCount, SeqnumInterval, ControlTimeout, TraverseTimeout, KeepaliveInterval, KeepaliveLimit,
  RecoverTimeout, RecoverInterval, ElectionTimeout, TakeoverTimeout, MonitorInterval, TickleUpdateInterval,
  EventScriptTimeout, MonitorTimeoutCount, EventScriptUnhealthyOnTimeout, RecoveryGracePeriod,
  RecoveryBanPeriod, DatabaseHashSize, DatabaseMaxDead, RerecoveryTimeout, EnableBans, DeterministicIPs,
  ReclockPingPeriod, NoIPFailback, DisableIPFailover, VerboseMemoryNames, RecdPingTimeout, RecdFailCount,
  LogLatencyMs, RecLockLatencyMs, RecoveryDropAllIPs, VerifyRecoveryLock, VacuumInterval, VacuumMaxRunTime,
  RepackLimit, VacuumLimit, MaxQueueDropMsg, AllowUnhealthyDBRead, StatHistoryInterval, DeferredAttachTO,
  VacuumFastPathCount, LCP2PublicIPs, AllowClientDBAttach, RecoverPDBBySeqNum, DeferredRebalanceOnNodeAdd,
  FetchCollapse, HopcountMakeSticky, StickyDuration, StickyPindown, NoIPTakeover, DBRecordCountWarn,
  DBRecordSizeWarn, DBSizeWarn, PullDBPreallocation, NoIPHostOnAllDisabled, Samba3AvoidDeadlocks,
  TDBMutexEnabled, LockProcessesPerDB, RecBufferSizeLimit, QueueBufferSize, IPAllocAlgorithm,
  AllowMixedVersions,
};

struct TunableInfo {
  std::string_view name;
  std::uint32_t initial = 0;
  bool obsolete = false;  // not listed; setting it is accepted with status 1
};

// In the order of the enumeration.
[[nodiscard]] std::span<const TunableInfo, kTunableCount> tunable_table();
// Upper and lower case are the same.
[[nodiscard]] std::optional<Tunable> find_tunable(std::string_view name);
// ":SeqnumInterval:ControlTimeout:...": the 818 characters of LIST_TUNABLES, in the order of `listvars`.
[[nodiscard]] const std::string& tunable_list();

struct Tunables {
  std::array<std::uint32_t, kTunableCount> values;
  Tunables();  // the defaults
  [[nodiscard]] std::uint32_t operator[](Tunable t) const { return values[static_cast<std::size_t>(t)]; }
  std::uint32_t& operator[](Tunable t) { return values[static_cast<std::size_t>(t)]; }
  friend bool operator==(const Tunables&, const Tunables&) = default;
};
TDBMESH_PAYLOAD(Tunables);  // 248 bytes

// GET_TUNABLE's request; LIST_TUNABLES' reply has the same layout: u32 length with NUL, text, NUL.
struct CountedText {
  std::string text;
  friend bool operator==(const CountedText&, const CountedText&) = default;
};
TDBMESH_PAYLOAD(CountedText);

struct SetTunable {
  std::uint32_t value = 0;
  std::string name;
  friend bool operator==(const SetTunable&, const SetTunable&) = default;
};
TDBMESH_PAYLOAD(SetTunable);

}  // namespace tdbmesh::ctdb
