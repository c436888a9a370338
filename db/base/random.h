#pragma once
// Seeded random numbers for the cores. Our own bounded draw: the standard distributions may differ between
// libraries, and a seed must replay the same run everywhere.

#include <cstdint>

#include "db/base/time.h"

namespace tdbmesh {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // splitmix64.
  std::uint64_t next() {
    std::uint64_t x = (state_ += 0x9E3779B97F4A7C15u);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  // 0 .. bound-1; bound > 0. The bias of the modulus is below 2^-32 for the bounds we use.
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  bool chance(std::uint64_t one_in) { return below(one_in) == 0; }
  // 0 .. most, inclusive.
  Duration up_to(Duration most) { return Duration(static_cast<std::int64_t>(below(static_cast<std::uint64_t>(most.count()) + 1))); }

 private:
  std::uint64_t state_;
};

}  // namespace tdbmesh
