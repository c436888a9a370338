#pragma once
// Socket addresses as CTDB's clients pass them (28 bytes, client protocol sheet 8.1). Pure values.
//
// A SockAddr is canonical: family, address, port and (IPv6) scope, nothing else. Decoding throws away the
// unused bytes, which Samba leaves uninitialised, and turns v4-in-v6 into v4; so == means the same address.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "db/base/bytes.h"
#include "db/base/result.h"

namespace tdbmesh::ctdb {

inline constexpr std::size_t kSockAddrSize = 28;

struct SockAddr {
  enum class Family : std::uint8_t { None, V4, V6 };
  Family family = Family::None;
  std::array<std::uint8_t, 16> bytes{};  // network order; IPv4 uses the first four
  std::uint16_t port = 0;                // host order
  std::uint32_t scope = 0;               // IPv6 interface index
  friend auto operator<=>(const SockAddr&, const SockAddr&) = default;
};

[[nodiscard]] SockAddr v4_address(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                                  std::uint16_t port = 0);
// "10.0.0.1", "fd00::1", "::ffff:10.0.0.1" (becomes v4). No port, no scope, no name look-up.
[[nodiscard]] std::optional<SockAddr> parse_address(std::string_view text, std::uint16_t port = 0);
// "10.0.0.1:445", "[fd00::1]:445" and, as the ctdb tool writes it, "fd00::1:445".
[[nodiscard]] std::optional<SockAddr> parse_address_and_port(std::string_view text);
// As inet_ntop writes it. None: "0.0.0.0".
[[nodiscard]] std::string to_string(const SockAddr& address);
// With ":PORT" behind, IPv6 in the tool's way without brackets.
[[nodiscard]] std::string to_string_with_port(const SockAddr& address);
[[nodiscard]] bool same_host(const SockAddr& a, const SockAddr& b);  // all but the port

void put_address(ByteWriter& out, const SockAddr& address);
// An unknown family fails the reader.
[[nodiscard]] SockAddr get_address(ByteReader& in);

}  // namespace tdbmesh::ctdb
