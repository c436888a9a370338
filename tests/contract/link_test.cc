// What every Link promises (transport/link.h), whatever carries it. An implementation joins by a network
// class with start, stop, link, heard and until; see tests/support/mesh_network.h.

#include "transport/link.h"

#include <set>

#include <gtest/gtest.h>

#include "tests/support/mesh_network.h"

namespace tdbmesh {
namespace {

constexpr Pnn kZero{0};
constexpr Pnn kOne{1};

template <class Network>
class LinkContract : public testing::Test {
 protected:
  Network network_{3};
};

using Networks = testing::Types<MeshNetwork>;
TYPED_TEST_SUITE(LinkContract, Networks);

TYPED_TEST(LinkContract, MessagesArriveInOrderWithSenderAndKind) {
  auto& network = this->network_;
  network.start(0, 5);
  network.start(1, 9);
  std::vector<Bytes> sent;
  for (int i = 0; i < 2000; ++i) {
    sent.push_back(fmt::format("message {}", i));
    network.link(0).send(kOne, MessageKind::Record, sent.back());
    // The queue of this network is short: keep well within it, since room is given back in batches.
    ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().size() + 20 > sent.size(); }));
  }
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().size() == sent.size(); }));
  EXPECT_EQ(network.heard(1).bodies(), sent);
  for (const Heard& event : network.heard(1).events) {
    if (event.what != Heard::Message) continue;
    EXPECT_EQ(event.from, kZero);
    EXPECT_EQ(event.incarnation, 5u);
    EXPECT_EQ(event.kind, MessageKind::Record);
  }
  EXPECT_EQ(network.heard(1).count(Heard::Gap), 0u);
}

TYPED_TEST(LinkContract, BodiesOfAnySizeArriveUnchanged) {
  auto& network = this->network_;
  network.start(0, 1);
  network.start(1, 1);
  const std::vector<Bytes> sent{"", Bytes(1, '\0'), Bytes(4096, 'a'), Bytes(4097, 'b'), Bytes(8 << 20, '\xff'), "end"};
  for (const Bytes& body : sent) network.link(0).send(kOne, MessageKind::Commit, body);
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().size() == sent.size(); }));
  EXPECT_EQ(network.heard(1).bodies(), sent);
}

TYPED_TEST(LinkContract, BothDirectionsAreIndependent) {
  auto& network = this->network_;
  network.start(0, 1);
  network.start(1, 1);
  network.link(0).send(kOne, MessageKind::Control, "there");
  network.link(1).send(kZero, MessageKind::Control, "back");
  ASSERT_TRUE(network.until([&] { return !network.heard(0).bodies().empty() && !network.heard(1).bodies().empty(); }));
  EXPECT_EQ(network.heard(0).bodies(), std::vector<Bytes>{"back"});
  EXPECT_EQ(network.heard(1).bodies(), std::vector<Bytes>{"there"});
}

TYPED_TEST(LinkContract, AFullQueueDropsAndBothEndsSeeAGap) {
  auto& network = this->network_;
  network.start(0, 1);
  for (int i = 0; i < MeshNetwork::kMostQueued * 4; ++i) {
    network.link(0).send(kOne, MessageKind::Record, fmt::format("{:05}", i));
  }
  ASSERT_TRUE(network.until([&] { return network.heard(0).count(Heard::Gap) > 0; }));
  network.start(1, 1);
  ASSERT_TRUE(network.until([&] { return network.heard(1).count(Heard::Gap) > 0; }));
  const auto bodies = network.heard(1).bodies();
  EXPECT_TRUE(std::ranges::is_sorted(bodies));
  EXPECT_EQ(std::set<Bytes>(bodies.begin(), bodies.end()).size(), bodies.size());
  EXPECT_LT(bodies.size(), MeshNetwork::kMostQueued * 4u);
}

TYPED_TEST(LinkContract, AfterALossLaterMessagesStillArrive) {
  auto& network = this->network_;
  network.start(0, 1);
  for (int i = 0; i < MeshNetwork::kMostQueued * 2; ++i) network.link(0).send(kOne, MessageKind::Record, "early");
  network.start(1, 1);
  ASSERT_TRUE(network.until([&] { return network.heard(1).count(Heard::Gap) > 0; }));
  const auto gaps = network.heard(1).count(Heard::Gap);
  network.link(0).send(kOne, MessageKind::Record, "late");
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().back() == "late"; }));
  EXPECT_EQ(network.heard(1).count(Heard::Gap), gaps);
}

TYPED_TEST(LinkContract, ARestartedPeerSpeaksWithItsNewIncarnation) {
  auto& network = this->network_;
  network.start(0, 1);
  network.start(1, 1);
  network.link(1).send(kZero, MessageKind::Control, "before");
  ASSERT_TRUE(network.until([&] { return network.heard(0).bodies().size() == 1; }));
  network.stop(1);
  network.start(1, 2);
  network.link(1).send(kZero, MessageKind::Control, "after");
  ASSERT_TRUE(network.until([&] { return network.heard(0).bodies().size() == 2; }));
  EXPECT_EQ(network.heard(0).events.back().incarnation, 2u);
  EXPECT_EQ(network.heard(0).count(Heard::Gap), 0u);
}

TYPED_TEST(LinkContract, NothingIsRepeatedWhenAPeerComesBack) {
  auto& network = this->network_;
  network.start(0, 1);
  network.start(1, 1);
  for (int i = 0; i < 20; ++i) network.link(0).send(kOne, MessageKind::Record, fmt::format("{:05}", i));
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().size() == 20; }));
  network.stop(1);
  for (int i = 20; i < 40; ++i) network.link(0).send(kOne, MessageKind::Record, fmt::format("{:05}", i));
  network.start(1, 2);
  network.link(1).send(kZero, MessageKind::Control, "here again");
  ASSERT_TRUE(network.until([&] { return network.heard(0).bodies().size() == 1; }));
  network.link(0).send(kOne, MessageKind::Record, "99999");
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().back() == "99999"; }));
  const auto bodies = network.heard(1).bodies();
  EXPECT_TRUE(std::ranges::is_sorted(bodies));
  EXPECT_EQ(std::set<Bytes>(bodies.begin(), bodies.end()).size(), bodies.size());
}

TYPED_TEST(LinkContract, APeerThatStopsIsReportedAsResetOfThatLife) {
  auto& network = this->network_;
  network.start(0, 1);
  network.start(1, 7);
  network.link(0).send(kOne, MessageKind::Control, "hello");
  network.link(1).send(kZero, MessageKind::Control, "in this life");
  ASSERT_TRUE(network.until([&] { return network.heard(1).bodies().size() == 1 && network.heard(0).bodies().size() == 1; }));
  network.heard(0).events.clear();
  network.stop(1);
  EXPECT_TRUE(network.until([&] { return network.heard(0).count(Heard::Reset) > 0; }));
  EXPECT_EQ(network.heard(0).events.front().from, kOne);
  EXPECT_EQ(network.heard(0).events.front().incarnation, 7u);
}

}  // namespace
}  // namespace tdbmesh
