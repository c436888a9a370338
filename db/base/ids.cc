#include "db/base/ids.h"

#include <fmt/format.h>

namespace tdbmesh {

std::uint32_t client_generation(Generation g) {
  if (g.is_none()) return kInvalidClientGeneration;
  // splitmix64's finisher: neighbouring generations must look different to people who compare them by eye.
  std::uint64_t x = g.term * 0x9E3779B97F4A7C15u + g.serial;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  // CTDB's own generations are positive 31-bit numbers; tools print them with %u, some scripts with %d.
  const auto mixed = static_cast<std::uint32_t>((x ^ (x >> 31)) & 0x7FFFFFFFu);
  return mixed < 2 ? mixed + 2 : mixed;
}

std::string to_string(Pnn p) { return p == kNoPnn ? "none" : fmt::format("{}", number(p)); }
std::string to_string(Generation g) { return fmt::format("{}.{}", g.term, g.serial); }
std::string to_string(DatabaseId d) { return fmt::format("0x{:08x}", number(d)); }

}  // namespace tdbmesh
