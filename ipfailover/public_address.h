#pragma once
// A public address as this room speaks of it: a host address (port and scope 0), how long its network prefix is,
// and on which interfaces it may stand. Plain values.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/ctdb_address.h"

namespace tdbmesh::ipfailover {

// Canonical: port 0, scope 0. Made with host_only() wherever bytes come in from outside.
using Address = ctdb::SockAddr;

[[nodiscard]] inline Address host_only(Address address) {
  address.port = 0;
  address.scope = 0;
  return address;
}

inline constexpr std::size_t kMaxPublicAddresses = 1024;      // of a cluster
inline constexpr std::size_t kMaxInterfacesOfAddress = 64;
inline constexpr std::size_t kMaxInterfaceName = 15;          // bytes; the kernel's IFNAMSIZ without its NUL
inline constexpr std::size_t kMaxConnectionsOfAddress = 65536;

// A line of public_addresses: what this node may host.
struct PublicAddress {
  Address address;
  std::uint8_t prefix = 32;              // bits of the network: 0..32, IPv6 0..128
  std::vector<std::string> interfaces;   // in the order in which they were written
  friend bool operator==(const PublicAddress&, const PublicAddress&) = default;
};

}  // namespace tdbmesh::ipfailover
