#pragma once
// The packets by which a machine says "this address is here now": pure functions from values to bytes.
//
//   announcements  Ethernet frames: gratuitous ARP as request and as reply (some devices learn from one only), and
//                  the unsolicited neighbour advertisement of IPv6 (RFC 4861 7.2.6)
//   TCP            whole IP packets with one bare segment: the tickle (an ACK that fits no connection, which the peer
//                  must answer) and the reset

#include <array>
#include <cstdint>

#include "db/base/bytes.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

using MacAddress = std::array<std::uint8_t, 6>;

enum class ArpKind : std::uint16_t { Request = 1, Reply = 2 };

// 60 bytes, to the broadcast address. `address` must be IPv4.
[[nodiscard]] Bytes gratuitous_arp(const Address& address, const MacAddress& own, ArpKind kind);
// 86 bytes, to all nodes. `address` must be IPv6.
[[nodiscard]] Bytes neighbour_advertisement(const Address& address, const MacAddress& own);

struct TcpSegment {
  Address from;  // with ports; both of one family
  Address to;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  bool reset = false;  // else ACK
  friend bool operator==(const TcpSegment&, const TcpSegment&) = default;
};

// An IPv4 (40 bytes) or IPv6 (60 bytes) packet with its checksums.
[[nodiscard]] Bytes tcp_packet(const TcpSegment& segment);

// The Internet checksum (RFC 1071) of `bytes`, added to `start`; in host order, ready to be stored big-endian.
[[nodiscard]] std::uint16_t internet_checksum(BytesView bytes, std::uint32_t start = 0);

}  // namespace tdbmesh::ipfailover
