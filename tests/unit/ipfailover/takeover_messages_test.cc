#include "ipfailover/takeover_messages.h"

#include <gtest/gtest.h>

namespace tdbmesh::ipfailover {
namespace {

const Address kV4 = ctdb::v4_address(10, 1, 2, 3);
const Address kV6 = *ctdb::parse_address("fd00::9");

std::vector<TakeoverMessage> one_of_each() {
  const Generation g{7, 3};
  HostReport report;
  report.generation = g;
  report.no_takeover = true;
  report.flags = kFlagDisabled;
  report.entries = {{kV4, "10.1.2.0/24 eth0", true, false}, {kV6, "fd00::/64 eth0 eth1", false, true}};
  return {report,
          TakeAddress{g, kV4, 5},
          AddressTaken{g, kV6, 5},
          TakeFailed{g, kV4, 6, "no such interface"},
          ReleaseAddress{g, kV4, 7},
          AddressReleased{g, kV4, 7},
          AddressLost{g, kV6, 8, "its lifetime passed"},
          HostTable{g, {{kV4, Pnn{2}}, {kV6, kNoPnn}}},
          MoveWish{g, 99, kV4, Pnn{1}},
          MoveAnswer{g, 99, "no"},
          RunStarts{g}};
}

TEST(TakeoverMessages, EveryKindComesBackAsItWas) {
  const auto messages = one_of_each();
  ASSERT_EQ(messages.size(), std::variant_size_v<TakeoverMessage>);
  for (const TakeoverMessage& message : messages) {
    const auto back = decode_takeover_message(encode(message));
    ASSERT_TRUE(back.has_value()) << describe(message);
    EXPECT_EQ(*back, message) << describe(message);
  }
}

TEST(TakeoverMessages, EveryTruncationAndEveryTailIsRefused) {
  for (const TakeoverMessage& message : one_of_each()) {
    const Bytes bytes = encode(message);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_FALSE(decode_takeover_message(BytesView(bytes).substr(0, length)).has_value()) << describe(message);
    }
    EXPECT_FALSE(decode_takeover_message(bytes + "\x01").has_value()) << describe(message);
  }
}

TEST(TakeoverMessages, AnAddressHasOneSpellingOnly) {
  Address mapped = kV6;
  mapped.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
  EXPECT_FALSE(decode_takeover_message(encode(TakeAddress{{7, 3}, mapped, 1})).has_value());
  EXPECT_FALSE(decode_takeover_message(encode(TakeAddress{{7, 3}, Address{}, 1})).has_value());
}

TEST(TakeoverMessages, MoreAddressesThanAClusterMayHaveAreRefused) {
  HostTable table;
  for (std::size_t i = 0; i <= kMaxPublicAddresses; ++i) table.entries.push_back({kV4, Pnn{0}});
  EXPECT_FALSE(decode_takeover_message(encode(table)).has_value());
  table.entries.pop_back();
  EXPECT_TRUE(decode_takeover_message(encode(table)).has_value());
}

TEST(TakeoverMessages, AReportWithAnAddressTwiceIsRefused) {
  HostReport report;
  report.entries = {{kV4, "n", true, false}, {kV4, "n", true, true}};
  EXPECT_FALSE(decode_takeover_message(encode(report)).has_value());
}

}  // namespace
}  // namespace tdbmesh::ipfailover
