#pragma once
// The field's own numbers as types of their own, so that a pnn never lands where a database id belongs.
// All are plain values: copy them freely, from any thread.

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace tdbmesh {

// Physical node number: the line of the node in the `nodes` file, counted from 0. Never reused for another
// machine while that line stands.
enum class Pnn : std::uint32_t {};
inline constexpr Pnn kNoPnn{0xFFFFFFFFu};
[[nodiscard]] constexpr std::uint32_t number(Pnn p) { return static_cast<std::uint32_t>(p); }

// hash(name + NUL), as CTDB computes it (see hash.h).
enum class DatabaseId : std::uint32_t {};
[[nodiscard]] constexpr std::uint32_t number(DatabaseId d) { return static_cast<std::uint32_t>(d); }

// Address of a message inside a node: a registration of a client (CTDB's srvid).
enum class Srvid : std::uint64_t {};
[[nodiscard]] constexpr std::uint64_t number(Srvid s) { return static_cast<std::uint64_t>(s); }

// Record sequence number: grows at every hand-over of a volatile record.
using Rsn = std::uint64_t;

// One life of a daemon: +1 at each start, persisted before anything is sent. Never 0 for a live daemon.
using Incarnation = std::uint64_t;

// Number of a view. Ordered; no two views share one, because a term has one leader and serials grow.
struct Generation {
  std::uint64_t term = 0;
  std::uint32_t serial = 0;
  friend constexpr auto operator<=>(const Generation&, const Generation&) = default;
  [[nodiscard]] constexpr bool is_none() const { return term == 0 && serial == 0; }
};

// The 32-bit generation that CTDB's clients see. Never 0 and never 1, which to them means "invalid".
[[nodiscard]] std::uint32_t client_generation(Generation g);
inline constexpr std::uint32_t kInvalidClientGeneration = 1;

[[nodiscard]] std::string to_string(Pnn p);
[[nodiscard]] std::string to_string(Generation g);
[[nodiscard]] std::string to_string(DatabaseId d);  // 0x%08x, as the ctdb tool prints it

}  // namespace tdbmesh
