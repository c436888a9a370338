#include "ipfailover/packets.h"

#include "db/base/check.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr MacAddress kEverybody{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
constexpr MacAddress kNobody{};
constexpr MacAddress kAllNodesMac{0x33, 0x33, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 16> kAllNodes{0xFF, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr std::size_t kSmallestFrame = 60;  // Ethernet pads to it; some drivers do not
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kIcmpV6 = 58;
constexpr std::uint16_t kWindow = 1024;     // not 0: that would read as "send nothing"

class Writer {
 public:
  Writer& u8(std::uint8_t v) {
    out_.push_back(static_cast<char>(v));
    return *this;
  }
  Writer& u16(std::uint32_t v) { return u8(static_cast<std::uint8_t>(v >> 8)).u8(static_cast<std::uint8_t>(v)); }
  Writer& u32(std::uint32_t v) { return u16(v >> 16).u16(v & 0xFFFF); }
  template <class Array>
  Writer& raw(const Array& bytes, std::size_t count) {
    out_.append(reinterpret_cast<const char*>(bytes.data()), count);
    return *this;
  }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

void store_u16(Bytes& bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<char>(value >> 8);
  bytes[at + 1] = static_cast<char>(value & 0xFF);
}

std::uint32_t sum_of(BytesView bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(bytes[i]);
    sum += i % 2 == 0 ? std::uint32_t{byte} << 8 : byte;
  }
  return sum;
}

bool is_v4(const Address& a) { return a.family == Address::Family::V4; }
std::size_t length_of(const Address& a) { return is_v4(a) ? 4 : 16; }

// Sum of the pseudo header that TCP and ICMPv6 cover.
template <class Array>
std::uint32_t pseudo_header(const Array& from, const Array& to, std::size_t length, std::uint8_t protocol,
                            std::size_t payload) {
  Writer out;
  out.raw(from, length).raw(to, length);
  out.u32(static_cast<std::uint32_t>(payload)).u32(protocol);
  return sum_of(out.take());
}

}  // namespace

std::uint16_t internet_checksum(BytesView bytes, std::uint32_t start) {
  std::uint32_t sum = start + sum_of(bytes);
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

Bytes gratuitous_arp(const Address& address, const MacAddress& own, ArpKind kind) {
  TDBMESH_CHECK(is_v4(address));
  Writer out;
  out.raw(kEverybody, 6).raw(own, 6).u16(0x0806);
  out.u16(1).u16(0x0800).u8(6).u8(4).u16(static_cast<std::uint16_t>(kind));
  out.raw(own, 6).raw(address.bytes, 4);
  // RFC 5227: a request leaves the target's hardware address empty; in a reply it is our own.
  out.raw(kind == ArpKind::Request ? kNobody : own, 6).raw(address.bytes, 4);
  Bytes frame = out.take();
  frame.resize(kSmallestFrame, '\0');
  return frame;
}

Bytes neighbour_advertisement(const Address& address, const MacAddress& own) {
  TDBMESH_CHECK(address.family == Address::Family::V6);
  constexpr std::size_t kPayload = 32;
  Writer icmp;
  icmp.u8(136).u8(0).u16(0);
  icmp.u32(0x20000000);  // override what is cached; not solicited, not a router
  icmp.raw(address.bytes, 16);
  icmp.u8(2).u8(1).raw(own, 6);  // target link-layer address
  Bytes message = icmp.take();
  store_u16(message, 2, internet_checksum(message, pseudo_header(address.bytes, kAllNodes, 16, kIcmpV6, kPayload)));
  Writer out;
  out.raw(kAllNodesMac, 6).raw(own, 6).u16(0x86DD);
  out.u32(0x60000000).u16(kPayload).u8(kIcmpV6).u8(255);  // neighbours accept hop limit 255 only
  out.raw(address.bytes, 16).raw(kAllNodes, 16);
  return out.take() + message;
}

Bytes tcp_packet(const TcpSegment& segment) {
  TDBMESH_CHECK(segment.from.family == segment.to.family && segment.from.family != Address::Family::None);
  constexpr std::size_t kHeader = 20;
  Writer tcp;
  tcp.u16(segment.from.port).u16(segment.to.port).u32(segment.sequence).u32(segment.acknowledgement);
  tcp.u8(5 << 4).u8(segment.reset ? 0x04 : 0x10).u16(segment.reset ? 0 : kWindow).u16(0).u16(0);
  Bytes message = tcp.take();
  const std::size_t length = length_of(segment.from);
  store_u16(message, 16,
            internet_checksum(message, pseudo_header(segment.from.bytes, segment.to.bytes, length, kTcp, kHeader)));
  Writer out;
  if (is_v4(segment.from)) {
    out.u8(0x45).u8(0).u16(20 + kHeader).u16(0).u16(0x4000).u8(64).u8(kTcp).u16(0);
    out.raw(segment.from.bytes, 4).raw(segment.to.bytes, 4);
    Bytes ip = out.take();
    store_u16(ip, 10, internet_checksum(ip));
    return ip + message;
  }
  out.u32(0x60000000).u16(kHeader).u8(kTcp).u8(64);
  out.raw(segment.from.bytes, 16).raw(segment.to.bytes, 16);
  return out.take() + message;
}

}  // namespace tdbmesh::ipfailover
