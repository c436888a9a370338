#include "transport/ctdb_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace tdbmesh::ctdb {
namespace {

constexpr std::uint16_t kFamilyNone = 0;
constexpr std::uint16_t kFamilyV4 = 2;
constexpr std::uint16_t kFamilyV6 = 10;
constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

// Ports stand in network order on the wire, whatever the host's.
std::uint16_t swapped(std::uint16_t port) { return ntohs(port); }

BytesView view(const std::uint8_t* bytes, std::size_t count) {
  return {reinterpret_cast<const char*>(bytes), count};
}

void canonicalise(SockAddr& address) {
  if (address.family == SockAddr::Family::V6 &&
      std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin())) {
    address.family = SockAddr::Family::V4;
    std::copy(address.bytes.begin() + 12, address.bytes.end(), address.bytes.begin());
  }
  if (address.family == SockAddr::Family::V4) {
    std::fill(address.bytes.begin() + 4, address.bytes.end(), std::uint8_t{0});
    address.scope = 0;
  }
}

}  // namespace

SockAddr v4_address(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, std::uint16_t port) {
  SockAddr address;
  address.family = SockAddr::Family::V4;
  address.bytes = {a, b, c, d};
  address.port = port;
  return address;
}

std::optional<SockAddr> parse_address(std::string_view text, std::uint16_t port) {
  const std::string terminated(text);
  if (terminated.find('\0') != std::string::npos) return std::nullopt;
  SockAddr address;
  address.port = port;
  if (inet_pton(AF_INET, terminated.c_str(), address.bytes.data()) == 1) {
    address.family = SockAddr::Family::V4;
  } else if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) {
    address.family = SockAddr::Family::V6;
  } else {
    return std::nullopt;
  }
  canonicalise(address);
  return address;
}

std::optional<SockAddr> parse_address_and_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size()) return std::nullopt;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return parse_address(host, port);
}

std::string to_string(const SockAddr& address) {
  char text[INET6_ADDRSTRLEN] = "0.0.0.0";
  if (address.family == SockAddr::Family::V4) inet_ntop(AF_INET, address.bytes.data(), text, sizeof(text));
  if (address.family == SockAddr::Family::V6) inet_ntop(AF_INET6, address.bytes.data(), text, sizeof(text));
  return text;
}

std::string to_string_with_port(const SockAddr& address) {
  return fmt::format("{}:{}", to_string(address), address.port);
}

bool same_host(const SockAddr& a, const SockAddr& b) {
  SockAddr other = b;
  other.port = a.port;
  return a == other;
}

void put_address(ByteWriter& out, const SockAddr& address) {
  switch (address.family) {
    case SockAddr::Family::None: out.put_zeros(kSockAddrSize); return;
    case SockAddr::Family::V4:
      out.put(kFamilyV4).put(swapped(address.port)).put_bytes(view(address.bytes.data(), 4)).put_zeros(20);
      return;
    case SockAddr::Family::V6:
      out.put(kFamilyV6).put(swapped(address.port)).put(std::uint32_t{0});
      out.put_bytes(view(address.bytes.data(), 16)).put(address.scope);
      return;
  }
}

SockAddr get_address(ByteReader& in) {
  ByteReader raw(in.get_bytes(kSockAddrSize));
  SockAddr address;
  const auto family = raw.get<std::uint16_t>();
  const auto port = swapped(raw.get<std::uint16_t>());
  if (!raw.ok() || (family != kFamilyNone && family != kFamilyV4 && family != kFamilyV6)) {
    in.fail();
    return address;
  }
  if (family == kFamilyNone) return address;
  address.port = port;
  if (family == kFamilyV4) {
    address.family = SockAddr::Family::V4;
    const BytesView bytes = raw.get_bytes(4);
    std::copy(bytes.begin(), bytes.end(), address.bytes.begin());
  } else {
    address.family = SockAddr::Family::V6;
    raw.skip(4);  // flow information: says nothing about who it is
    const BytesView bytes = raw.get_bytes(16);
    std::copy(bytes.begin(), bytes.end(), address.bytes.begin());
    address.scope = raw.get<std::uint32_t>();
  }
  canonicalise(address);
  return address;
}

}  // namespace tdbmesh::ctdb
