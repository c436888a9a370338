#pragma once
// Node states as CTDB's clients see them (bits of the node map), and the words the tools print.

#include <cstdint>

namespace tdbmesh {

using NodeFlags = std::uint32_t;
inline constexpr NodeFlags kFlagDisconnected = 0x01;
inline constexpr NodeFlags kFlagUnhealthy = 0x02;
inline constexpr NodeFlags kFlagDisabled = 0x04;  // by the operator ("permanently disabled")
inline constexpr NodeFlags kFlagBanned = 0x08;
inline constexpr NodeFlags kFlagDeleted = 0x10;
inline constexpr NodeFlags kFlagStopped = 0x20;
inline constexpr NodeFlags kFlagsInactive = kFlagDisconnected | kFlagBanned | kFlagDeleted | kFlagStopped;

inline constexpr std::uint32_t kCapabilityLeader = 0x1;
inline constexpr std::uint32_t kCapabilityLmaster = 0x2;
inline constexpr std::uint32_t kCapabilityWitness = 0x100;  // ours: a member for its vote, with neither of the two above

enum class RunState : std::uint32_t { Unknown = 0, Init, Setup, FirstRecovery, Startup, Running, Shutdown };

}  // namespace tdbmesh
