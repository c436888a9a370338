#pragma once
// Time as the cores see it. There is deliberately no now(): whoever needs the time must be handed it, which
// is what makes a run repeatable. Shells read CLOCK_BOOTTIME (it counts suspend); wall time is never used
// for a decision.

#include <chrono>
#include <cstdint>

namespace tdbmesh {

struct CoreClock {
  using duration = std::chrono::microseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<CoreClock>;
  static constexpr bool is_steady = true;
};

using Instant = CoreClock::time_point;
using Duration = CoreClock::duration;

inline constexpr Instant kNever = Instant::max();

[[nodiscard]] constexpr Duration milliseconds(std::int64_t n) { return std::chrono::milliseconds(n); }
[[nodiscard]] constexpr Duration seconds(std::int64_t n) { return std::chrono::seconds(n); }

// Reads CLOCK_BOOTTIME. For shells only; cores never call it.
[[nodiscard]] Instant boot_time_now();

}  // namespace tdbmesh
