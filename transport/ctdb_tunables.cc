#include "transport/ctdb_tunables.h"

#include <strings.h>

namespace tdbmesh::ctdb {
namespace {

constexpr std::array<TunableInfo, kTunableCount> kTable = {{
    {"MaxRedirectCount", 3, true},
    {"SeqnumInterval", 1000},
    {"ControlTimeout", 60},
    {"TraverseTimeout", 20},
    {"KeepaliveInterval", 5},
    {"KeepaliveLimit", 5},
    {"RecoverTimeout", 30},
    {"RecoverInterval", 1},
    {"ElectionTimeout", 3},
    {"TakeoverTimeout", 9},
    {"MonitorInterval", 15},
    {"TickleUpdateInterval", 20},
    {"EventScriptTimeout", 30},
    {"MonitorTimeoutCount", 20},
    {"EventScriptUnhealthyOnTimeout", 0, true},
    {"RecoveryGracePeriod", 120},
    {"RecoveryBanPeriod", 300},
    {"DatabaseHashSize", 100001},
    {"DatabaseMaxDead", 5},
    {"RerecoveryTimeout", 10},
    {"EnableBans", 1},
    {"DeterministicIPs", 0, true},
    {"ReclockPingPeriod", 60, true},
    {"NoIPFailback", 0},
    {"DisableIPFailover", 0, true},
    {"VerboseMemoryNames", 0},
    {"RecdPingTimeout", 60},
    {"RecdFailCount", 10},
    {"LogLatencyMs", 0},
    {"RecLockLatencyMs", 1000},
    {"RecoveryDropAllIPs", 120},
    {"VerifyRecoveryLock", 1, true},
    {"VacuumInterval", 10},
    {"VacuumMaxRunTime", 120},
    {"RepackLimit", 10000},
    {"VacuumLimit", 5000, true},
    {"MaxQueueDropMsg", 1000000},
    {"AllowUnhealthyDBRead", 0},
    {"StatHistoryInterval", 1},
    {"DeferredAttachTO", 120},
    {"VacuumFastPathCount", 60},
    {"LCP2PublicIPs", 1, true},
    {"AllowClientDBAttach", 1},
    {"RecoverPDBBySeqNum", 1, true},
    {"DeferredRebalanceOnNodeAdd", 300, true},
    {"FetchCollapse", 1},
    {"HopcountMakeSticky", 50},
    {"StickyDuration", 600},
    {"StickyPindown", 200},
    {"NoIPTakeover", 0},
    {"DBRecordCountWarn", 100000},
    {"DBRecordSizeWarn", 10000000},
    {"DBSizeWarn", 100000000},
    {"PullDBPreallocation", 10485760},
    {"NoIPHostOnAllDisabled", 1, true},
    {"Samba3AvoidDeadlocks", 0, true},
    {"TDBMutexEnabled", 1, true},
    {"LockProcessesPerDB", 200},
    {"RecBufferSizeLimit", 1000000},
    {"QueueBufferSize", 1024},
    {"IPAllocAlgorithm", 2},
    {"AllowMixedVersions", 0},
}};

std::string make_list() {
  std::string list;
  for (std::size_t i = 0; i < kTunableCount; ++i) {
    const auto tunable = static_cast<Tunable>(i);
    // Listed right behind RepackLimit, five places before its own.
    if (tunable == Tunable::VacuumFastPathCount || kTable[i].obsolete) continue;
    list.append(":").append(kTable[i].name);
    if (tunable == Tunable::RepackLimit) list.append(":VacuumFastPathCount");
  }
  return list;
}

// u32 length with NUL, text, NUL.
void put_counted(ByteWriter& out, std::string_view text) {
  out.put(static_cast<std::uint32_t>(text.size() + 1)).put_bytes(text).put_zeros(1);
}
Result<std::string> get_counted(ByteReader& in) {
  const BytesView text = in.get_bytes(in.get<std::uint32_t>());
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "bad length of a name");
  return decode_text(text);
}

}  // namespace

std::span<const TunableInfo, kTunableCount> tunable_table() { return kTable; }

std::optional<Tunable> find_tunable(std::string_view name) {
  for (std::size_t i = 0; i < kTunableCount; ++i) {
    const std::string_view known = kTable[i].name;
    if (known.size() == name.size() && strncasecmp(known.data(), name.data(), name.size()) == 0) {
      return static_cast<Tunable>(i);
    }
  }
  return std::nullopt;
}

const std::string& tunable_list() {
  static const std::string list = make_list();
  return list;
}

Tunables::Tunables() : values{} {
  for (std::size_t i = 0; i < kTunableCount; ++i) values[i] = kTable[i].initial;
}

Bytes encode(const Tunables& value) {
  ByteWriter out;
  for (const std::uint32_t number : value.values) out.put(number);
  return std::move(out).take();
}
template <>
Result<Tunables> decode<Tunables>(BytesView bytes) {
  ByteReader in(bytes);
  Tunables tunables;
  for (auto& number : tunables.values) number = in.get<std::uint32_t>();
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "bad list of tunables");
  return tunables;
}

Bytes encode(const CountedText& value) {
  ByteWriter out;
  put_counted(out, value.text);
  return std::move(out).take();
}
template <>
Result<CountedText> decode<CountedText>(BytesView bytes) {
  ByteReader in(bytes);
  auto text = get_counted(in);
  if (!text) return tl::unexpected(text.error());
  return CountedText{std::move(*text)};
}

Bytes encode(const SetTunable& value) {
  ByteWriter out;
  out.put(value.value);
  put_counted(out, value.name);
  return std::move(out).take();
}
template <>
Result<SetTunable> decode<SetTunable>(BytesView bytes) {
  ByteReader in(bytes);
  SetTunable request;
  request.value = in.get<std::uint32_t>();
  auto name = get_counted(in);
  if (!name) return tl::unexpected(name.error());
  request.name = std::move(*name);
  return request;
}

}  // namespace tdbmesh::ctdb
