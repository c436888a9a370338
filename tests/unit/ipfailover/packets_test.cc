// Golden packets, written out byte by byte from the RFCs, and the checksums checked by summing again.

#include "ipfailover/packets.h"

#include <gtest/gtest.h>

#include <string>

#include "ipfailover/supervisor_messages.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr MacAddress kMac{0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

std::string hex(BytesView bytes) {
  std::string out;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

Address address(const char* text, std::uint16_t port = 0) { return *ctdb::parse_address(text, port); }

// A packet whose checksum is right sums to zero, its pseudo header included.
std::uint16_t sum_with_pseudo_header(BytesView packet, std::size_t header, std::size_t addresses_at, std::size_t length,
                                     std::uint8_t protocol) {
  Bytes all(packet.substr(addresses_at, 2 * length));
  const std::size_t payload = packet.size() - header;
  all += {0, 0, static_cast<char>(payload >> 8), static_cast<char>(payload), 0, 0, 0, static_cast<char>(protocol)};
  all += packet.substr(header);
  return internet_checksum(all);
}

TEST(Packets, AGratuitousArpRequestAsksForItself) {
  EXPECT_EQ(hex(gratuitous_arp(address("10.1.2.3"), kMac, ArpKind::Request)),
            "ffffffffffff" "021122334455" "0806"
            "0001" "0800" "06" "04" "0001"
            "021122334455" "0a010203" "000000000000" "0a010203"
            "000000000000000000000000000000000000");
}

TEST(Packets, AGratuitousArpReplyNamesItsOwnHardwareTwice) {
  EXPECT_EQ(hex(gratuitous_arp(address("10.1.2.3"), kMac, ArpKind::Reply)),
            "ffffffffffff" "021122334455" "0806"
            "0001" "0800" "06" "04" "0002"
            "021122334455" "0a010203" "021122334455" "0a010203"
            "000000000000000000000000000000000000");
}

TEST(Packets, ANeighbourAdvertisementOverridesCaches) {
  const Bytes frame = neighbour_advertisement(address("fd00::5"), kMac);
  ASSERT_EQ(frame.size(), 86u);
  EXPECT_EQ(hex(frame.substr(0, 54)),
            "333300000001" "021122334455" "86dd"
            "60000000" "0020" "3a" "ff"
            "fd000000000000000000000000000005" "ff020000000000000000000000000001");
  EXPECT_EQ(hex(frame.substr(54, 2)), "8800");
  EXPECT_EQ(hex(frame.substr(58)), "20000000" "fd000000000000000000000000000005" "0201" "021122334455");
  EXPECT_EQ(sum_with_pseudo_header(BytesView(frame).substr(14), 40, 8, 16, 58), 0);
}

TEST(Packets, ATickleIsABareAckFromServerToClient) {
  const Bytes packet = tcp_packet({address("10.1.2.3", 445), address("10.1.2.99", 40000), 0, 0, false});
  ASSERT_EQ(packet.size(), 40u);
  EXPECT_EQ(hex(packet.substr(0, 10)), "45000028000040004006");
  EXPECT_EQ(hex(packet.substr(12, 8)), "0a0102030a010263");
  EXPECT_EQ(hex(packet.substr(20, 16)), "01bd9c40" "00000000" "00000000" "5010" "0400");
  EXPECT_EQ(internet_checksum(BytesView(packet).substr(0, 20)), 0) << "of the IP header";
  EXPECT_EQ(sum_with_pseudo_header(packet, 20, 12, 4, 6), 0) << "of the segment";
}

TEST(Packets, ATickleOverIpv6HasThePseudoHeaderOfIpv6) {
  const Bytes packet = tcp_packet({address("fd00::5", 445), address("fd00::99", 40000), 0, 0, false});
  ASSERT_EQ(packet.size(), 60u);
  EXPECT_EQ(hex(packet.substr(0, 8)), "6000000000140640");
  EXPECT_EQ(sum_with_pseudo_header(packet, 40, 8, 16, 6), 0);
}

TEST(Packets, AResetCarriesItsNumbers) {
  const Bytes packet = tcp_packet({address("10.1.2.3", 1), address("10.1.2.4", 2), 0x01020304, 0x05060708, true});
  EXPECT_EQ(hex(packet.substr(24, 12)), "01020304" "05060708" "5004" "0000");
  EXPECT_EQ(sum_with_pseudo_header(packet, 20, 12, 4, 6), 0);
}

TEST(Packets, TheChecksumIsThatOfTheRfc) {
  // RFC 1071, section 3: the sum is ddf2, the checksum its complement.
  EXPECT_EQ(internet_checksum(Bytes("\x00\x01\xf2\x03\xf4\xf5\xf6\xf7", 8)), 0x220d);
  EXPECT_EQ(internet_checksum(Bytes("\x01", 1)), 0xFEFF) << "an odd byte is the high one";
}

// ---- what daemon and supervisor say to each other ----

std::vector<supervisor::Command> all_commands() {
  using namespace supervisor;
  Setup setup;
  setup.self = Pnn{2};
  setup.incarnation = 7;
  setup.address = "10.0.0.3";
  setup.port = 4380;
  setup.peers = {{Pnn{0}, "10.0.0.1"}, {Pnn{2}, "10.0.0.3"}};
  setup.key = ClusterKey{"public", "secret"};
  setup.gate_path = "/run/tdbmesh/gate";
  setup.daemon_pid = 4711;
  setup.lifetime = 3;
  setup.drop_allowance = milliseconds(50);
  setup.announce_after = {milliseconds(50), seconds(1)};
  return {setup,
          Configure{{{address("10.1.0.1"), 24, {"eth0", "eth1"}}, {address("fd00::1"), 64, {"eth2"}}}},
          Take{5, {address("10.1.0.1"), 24, "eth0"}, Instant(milliseconds(99))},
          Release{6, address("fd00::1")},
          DropAll{7},
          Announce{address("10.1.0.1"), "eth1"},
          Ping{8}};
}

std::vector<supervisor::Report> all_reports() {
  using namespace supervisor;
  return {Taken{1, address("10.1.0.1"), ""},
          Released{2, address("10.1.0.1"), "no"},
          Dropped{3, {address("10.1.0.1"), address("fd00::1")}, "left"},
          Lapsed{{address("fd00::1")}, milliseconds(3)},
          Lost{address("10.1.0.1"), "gone"},
          Pong{9},
          Notice{true, "text"}};
}

TEST(SupervisorMessages, EveryCommandComesBackAsItWas) {
  for (const supervisor::Command& command : all_commands()) {
    const auto decoded = supervisor::decode_command(encode(command));
    ASSERT_TRUE(decoded) << command.index();
    EXPECT_EQ(*decoded, command) << command.index();
  }
}

TEST(SupervisorMessages, EveryReportComesBackAsItWas) {
  for (const supervisor::Report& report : all_reports()) {
    const auto decoded = supervisor::decode_report(encode(report));
    ASSERT_TRUE(decoded) << report.index();
    EXPECT_EQ(*decoded, report) << report.index();
  }
}

TEST(SupervisorMessages, NoTruncatedMessageDecodes) {
  for (const supervisor::Command& command : all_commands()) {
    const Bytes bytes = encode(command);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(supervisor::decode_command(BytesView(bytes).substr(0, size))) << command.index() << " at " << size;
    }
  }
  for (const supervisor::Report& report : all_reports()) {
    const Bytes bytes = encode(report);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(supervisor::decode_report(BytesView(bytes).substr(0, size))) << report.index() << " at " << size;
    }
  }
}

}  // namespace
}  // namespace tdbmesh::ipfailover
