#pragma once
// Names one connection of a client process to its daemon.

#include <cstdint>

namespace tdbmesh {

// Never 0 for a connection (0 means "not a client" in CTDB's packets), and not used again while the connection
// lives or for 2^32 connections after.
enum class ClientId : std::uint32_t {};
[[nodiscard]] constexpr std::uint32_t number(ClientId c) { return static_cast<std::uint32_t>(c); }

}  // namespace tdbmesh
