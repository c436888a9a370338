// What the real mesh promises beyond the contract of Link: who is let in, and that no loss goes unseen.

#include "transport/mesh.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/support/mesh_network.h"
#include "tests/support/tcp_relay.h"
#include "tests/support/zmq_end.h"
#include "transport/envelope.h"
#include "transport/zmtp_receiver.h"

namespace tdbmesh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class MeshOfNodes : public testing::Test {
 protected:
  // Node 0 still talks to node 1.
  void expect_unharmed() {
    network_.start(1, 50);
    network_.greet(1, 0);
    network_.greet(0, 1);
  }
  bool refused(const std::string& reason) {
    return network_.until([&] {
      return std::ranges::any_of(network_.reports(0), [&](const std::string& line) {
        return line.find(reason) != std::string::npos;
      });
    });
  }
  MeshNetwork network_{3};
};

// A TCP connection to node 0, from `source`.
int connect_plain(const std::string& source) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  inet_pton(AF_INET, source.c_str(), &from.sin_addr);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&from), sizeof from), 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(MeshNetwork::kPort);
  inet_pton(AF_INET, MeshNetwork::address(0).c_str(), &to.sin_addr);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return fd;
}

TEST_F(MeshOfNodes, RefusesAPeerWithAnotherKey) {
  network_.start(0, 1);
  MeshOptions stranger = network_.options(2, 1);
  stranger.key = generate_cluster_key().value();
  network_.start(2, std::move(stranger));
  network_.link(2).send(Pnn{0}, MessageKind::Control, "let me in");
  EXPECT_TRUE(refused("refused a connection from " + MeshNetwork::address(2) + ": does not hold our cluster key"));
  EXPECT_TRUE(network_.heard(0).bodies().empty());
  expect_unharmed();
}

TEST_F(MeshOfNodes, LetsAPeerInOnceItHasTheRightKey) {
  network_.start(0, 1);
  MeshOptions stranger = network_.options(2, 1);
  stranger.key = generate_cluster_key().value();
  network_.start(2, std::move(stranger));
  ASSERT_TRUE(refused(MeshNetwork::address(2)));
  network_.stop(2);
  network_.start(2, 2);
  network_.greet(2, 0);
  network_.greet(0, 2);
}

TEST_F(MeshOfNodes, RefusesAPeerWithoutEncryption) {
  network_.start(0, 1);
  MeshOptions plain = network_.options(2, 1);
  plain.key.reset();
  network_.start(2, std::move(plain));
  network_.link(2).send(Pnn{0}, MessageKind::Control, "let me in");
  EXPECT_TRUE(refused(MeshNetwork::address(2)));
  EXPECT_TRUE(network_.heard(0).bodies().empty());
  expect_unharmed();
}

TEST_F(MeshOfNodes, RefusesAnAddressThatIsNoNode) {
  network_.start(0, 1);
  MeshOptions stranger = network_.options(2, 1);
  stranger.address = MeshNetwork::address(7);
  network_.start(2, std::move(stranger));
  network_.link(2).send(Pnn{0}, MessageKind::Control, "let me in");
  EXPECT_TRUE(refused("refused a connection from " + MeshNetwork::address(7) + ": no node has this address"));
  EXPECT_TRUE(network_.heard(0).bodies().empty());
  expect_unharmed();
}

TEST_F(MeshOfNodes, SurvivesRandomBytesAndReportsThemOncePerAddress) {
  network_.start(0, 1);
  for (int i = 0; i < 20; ++i) {
    const int fd = connect_plain(MeshNetwork::address(8));
    Bytes noise;
    for (std::size_t n = 0; n < 5000; ++n) noise.push_back(static_cast<char>(n * 7919u + static_cast<unsigned>(i)));
    (void)!::send(fd, noise.data(), noise.size(), MSG_NOSIGNAL);
    ::close(fd);
  }
  ASSERT_TRUE(network_.until([&] { return network_.mesh(0).statistics().rejected >= 20; }));
  // One line per address. The address of a client that was gone at once cannot be had: then it is "unknown", or,
  // where its descriptor already serves another connection of this process, that one's.
  const std::vector<std::string>& lines = network_.reports(0);
  EXPECT_THAT(lines.size(), testing::AllOf(testing::Ge(1u), testing::Le(3u)));
  EXPECT_EQ(std::set<std::string>(lines.begin(), lines.end()).size(), lines.size());
  EXPECT_THAT(network_.reports(0), testing::Each(HasSubstr("refused a connection from ")));
  expect_unharmed();
}

TEST_F(MeshOfNodes, SurvivesAClientThatSaysNothing) {
  network_.start(0, 1);
  const int fd = connect_plain(MeshNetwork::address(8));
  expect_unharmed();
  ::close(fd);
  EXPECT_TRUE(refused(MeshNetwork::address(8)));
}

TEST_F(MeshOfNodes, EndsAConnectionThatDoesNotGetOnWithItsHandshake) {
  network_.start(0, 1);
  const int fd = connect_plain(MeshNetwork::address(8));
  EXPECT_EQ(::send(fd, "\xff", 1, MSG_NOSIGNAL), 1);
  EXPECT_TRUE(refused("refused a connection from " + MeshNetwork::address(8) + ": did not say who it is within 3 seconds"));
  ::close(fd);
}

TEST_F(MeshOfNodes, StrangersThatSayNothingTakeNoPlaceFromPeers) {
  network_.start(0, 1);
  std::vector<int> strangers;
  for (std::size_t i = 0; i < 2 * ZmtpReceiver::kMostStrangers; ++i) strangers.push_back(connect_plain(MeshNetwork::address(8)));
  EXPECT_TRUE(refused("refused a connection from " + MeshNetwork::address(8) + ": too many connections"));
  expect_unharmed();
  for (const int fd : strangers) ::close(fd);
}

TEST_F(MeshOfNodes, SilentConnectionsFromAPeersAddressMakeRoomForThePeer) {
  network_.start(0, 1);
  std::vector<int> silent;
  for (std::size_t i = 0; i < 3 * ZmtpReceiver::kMostPerPeer; ++i) silent.push_back(connect_plain(MeshNetwork::address(1)));
  expect_unharmed();
  for (const int fd : silent) ::close(fd);
}

TEST_F(MeshOfNodes, WhatIsLeftInAConnectionThatANewerOneReplacesIsReadFirst) {
  network_.start(0, 1);
  network_.start(1, 1);
  network_.greet(1, 0);
  // All of it is on the wire, and node 0 looks only when the next connection is there too.
  for (int i = 0; i < 40; ++i) network_.link(1).send(Pnn{0}, MessageKind::Record, fmt::format("{:02}", i));
  network_.turn(0);
  network_.mesh(1).reset_peer(Pnn{0});
  network_.link(1).send(Pnn{0}, MessageKind::Record, "after");
  ASSERT_TRUE(network_.until([&] { return network_.heard(0).bodies().back() == "after"; }));
  EXPECT_EQ(network_.heard(0).bodies().size(), 42u);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 0u);
}

TEST_F(MeshOfNodes, ServesLoopbackWithoutEncryptionByAddress) {
  MeshNetwork plain(2, false);
  plain.start(0, 1);
  plain.start(1, 1);
  plain.greet(0, 1);
  plain.greet(1, 0);
  MeshOptions stranger = plain.options(1, 1);
  stranger.address = MeshNetwork::address(7);
  plain.start(2, std::move(stranger));
  plain.link(2).send(Pnn{0}, MessageKind::Control, "let me in");
  ASSERT_TRUE(plain.until([&] { return !plain.reports(0).empty(); }));
  EXPECT_THAT(plain.reports(0).front(), HasSubstr("no node has this address"));
  EXPECT_EQ(plain.heard(0).bodies().size(), 1u);
}

// Node 2's place, with the cluster key, but by hand.
class Insider : public ZmqEnd {
 public:
  explicit Insider(const MeshNetwork& network) { push_to(0, network.key(), 2); }
};

Envelope envelope_of(std::uint32_t from, std::uint64_t sequence) {
  Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(MessageKind::Control);
  envelope.from = Pnn{from};
  envelope.incarnation = 1;
  envelope.session = 1;
  envelope.connection = 2;
  envelope.sequence = sequence;
  return envelope;
}

TEST_F(MeshOfNodes, DropsAnEnvelopeThatNamesAnotherSender) {
  network_.start(0, 1);
  Insider insider(network_);
  insider.send({encode_envelope(envelope_of(1, 1)) + "as node 1"});
  insider.send({encode_envelope(envelope_of(2, 1)) + "as myself"});
  ASSERT_TRUE(network_.until([&] { return !network_.heard(0).bodies().empty(); }));
  EXPECT_THAT(network_.heard(0).bodies(), ElementsAre("as myself"));
  EXPECT_EQ(network_.mesh(0).statistics().dropped_forged, 1u);
}

TEST_F(MeshOfNodes, DropsWhatDoesNotDecode) {
  network_.start(0, 1);
  Insider insider(network_);
  insider.send({"rubbish"});
  insider.send({encode_envelope(envelope_of(2, 1)), "two frames"});
  insider.send({encode_envelope(envelope_of(2, 1)), "and", "three"});
  insider.send({encode_envelope(envelope_of(2, 1)) + "good"});
  ASSERT_TRUE(network_.until([&] { return !network_.heard(0).bodies().empty(); }));
  EXPECT_THAT(network_.heard(0).bodies(), ElementsAre("good"));
  EXPECT_EQ(network_.mesh(0).statistics().dropped_malformed, 3u);
}

TEST_F(MeshOfNodes, RefusesRepetitionsAndOlderConnectionsAndLives) {
  network_.start(0, 1);
  Insider insider(network_);
  Envelope envelope = envelope_of(2, 1);
  envelope.incarnation = 3;
  envelope.connection = 5;
  insider.send({encode_envelope(envelope) + "first"});
  insider.send({encode_envelope(envelope) + "again"});
  Envelope older = envelope;
  older.connection = 4;
  older.sequence = 2;
  insider.send({encode_envelope(older) + "older connection"});
  older = envelope;
  older.incarnation = 2;
  older.sequence = 2;
  insider.send({encode_envelope(older) + "older life"});
  envelope.sequence = 2;
  insider.send({encode_envelope(envelope) + "second"});
  ASSERT_TRUE(network_.until([&] { return network_.heard(0).bodies().size() >= 2; }));
  EXPECT_THAT(network_.heard(0).bodies(), ElementsAre("first", "second"));
  EXPECT_EQ(network_.mesh(0).statistics().dropped_stale, 3u);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 0u);
}

TEST_F(MeshOfNodes, ARemovedPeerIsHeardNoMoreAndAnAddedOneIs) {
  network_.start(0, 1);
  network_.start(1, 1);
  network_.greet(1, 0);
  auto without = network_.addresses();
  without.erase(without.begin() + 1);
  network_.mesh(0).set_peers(without);
  network_.link(1).send(Pnn{0}, MessageKind::Control, "still here?");
  ASSERT_TRUE(refused("refused a connection from " + MeshNetwork::address(1) + ": no node has this address"));
  EXPECT_THAT(network_.heard(0).bodies(), ElementsAre("hello"));
  network_.mesh(0).set_peers(network_.addresses());
  network_.greet(1, 0);
  network_.greet(0, 1);
}

TEST_F(MeshOfNodes, ResettingAPeerDiscardsItsQueueAndThatIsSeen) {
  network_.start(0, 1);
  network_.link(0).send(Pnn{1}, MessageKind::Record, "stale");
  network_.mesh(0).reset_peer(Pnn{1});
  network_.link(0).send(Pnn{1}, MessageKind::Record, "fresh");
  network_.start(1, 1);
  ASSERT_TRUE(network_.until([&] { return !network_.heard(1).bodies().empty(); }));
  EXPECT_THAT(network_.heard(1).bodies(), ElementsAre("fresh"));
  EXPECT_EQ(network_.heard(1).count(Heard::Gap), 1u);
}

TEST_F(MeshOfNodes, ANewIncarnationGetsNothingMeantForTheEarlierOne) {
  network_.start(0, 1);
  network_.mesh(0).note_incarnation(Pnn{1}, 4);
  network_.link(0).send(Pnn{1}, MessageKind::Record, "for life 4");
  network_.mesh(0).note_incarnation(Pnn{1}, 5);
  network_.mesh(0).note_incarnation(Pnn{1}, 5);
  network_.link(0).send(Pnn{1}, MessageKind::Record, "for life 5");
  network_.start(1, 5);
  ASSERT_TRUE(network_.until([&] { return !network_.heard(1).bodies().empty(); }));
  EXPECT_THAT(network_.heard(1).bodies(), ElementsAre("for life 5"));
  EXPECT_EQ(network_.heard(1).count(Heard::Gap), 0u);
}

// Node 0 reaches node 1 through a relay that can swallow what passes.
class MeshThroughARelay : public MeshOfNodes {
 protected:
  void SetUp() override {
    MeshOptions detour = network_.options(0, 1);
    detour.peers[1].address = MeshNetwork::address(20);
    network_.start(0, std::move(detour));
    network_.start(1, 1);
    network_.greet(0, 1);
  }

  TcpRelay relay_{MeshNetwork::address(20), MeshNetwork::address(0), MeshNetwork::address(1), MeshNetwork::kPort};
};

TEST_F(MeshThroughARelay, ATailLostWithTheConnectionShowsAfterTheReconnect) {
  relay_.swallow();
  network_.link(0).send(Pnn{1}, MessageKind::Record, "lost");
  ASSERT_TRUE(network_.until([&] { return relay_.swallowed() > 0; }));
  EXPECT_EQ(network_.heard(1).count(Heard::Gap), 0u);
  relay_.cut();
  ASSERT_TRUE(network_.until([&] { return network_.heard(1).count(Heard::Gap) > 0; }));
  EXPECT_GE(network_.heard(0).count(Heard::Reset), 1u);
  network_.link(0).send(Pnn{1}, MessageKind::Record, "next");
  ASSERT_TRUE(network_.until([&] { return network_.heard(1).bodies().size() == 2; }));
  EXPECT_THAT(network_.heard(1).bodies(), ElementsAre("hello", "next"));
  EXPECT_EQ(network_.heard(1).count(Heard::Gap), 1u);
}

TEST_F(MeshThroughARelay, ABreakThatLosesNothingIsNoGap) {
  const std::size_t before = relay_.accepted();
  relay_.cut();
  // What is sent before the broken connection is quite gone may be lost with it, which would be a gap and rightly so.
  ASSERT_TRUE(network_.until([&] { return relay_.accepted() > before && network_.heard(0).count(Heard::Reset) > 0; }));
  network_.greet(0, 1);
  EXPECT_EQ(network_.heard(1).count(Heard::Gap), 0u);
}

TEST_F(MeshOfNodes, CountsThatStayAheadAreAGapOnce) {
  network_.start(0, 1);
  network_.start(1, 1);
  network_.greet(1, 0);
  const Instant now = boot_time_now();
  const LinkCount received = network_.mesh(0).received_count(Pnn{1});
  EXPECT_EQ(received, network_.mesh(1).sent_count(Pnn{0}));
  const LinkCount ahead{received.session, received.sent + 1};
  auto& mesh = network_.mesh(0);
  mesh.check_counts(Pnn{1}, 1, received, now);
  mesh.check_counts(Pnn{1}, 1, ahead, now);
  mesh.check_counts(Pnn{1}, 1, ahead, now + Mesh::kCountsPatience / 2);
  network_.turn(0);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 0u);
  mesh.check_counts(Pnn{1}, 1, ahead, now + Mesh::kCountsPatience);
  mesh.check_counts(Pnn{1}, 1, ahead, now + 2 * Mesh::kCountsPatience);
  mesh.check_counts(Pnn{1}, 1, ahead, now + 3 * Mesh::kCountsPatience);
  network_.turn(0);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 1u);
}

TEST_F(MeshOfNodes, SaysWhenItsAddressIsTakenOrForeign) {
  network_.start(0, 1);
  Recorder recorder;
  auto second = Mesh::open(network_.loop(), network_.options(0, 2), recorder);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().fault, Fault::Busy);
  MeshOptions foreign = network_.options(1, 1);
  foreign.address = "192.0.2.1";
  auto third = Mesh::open(network_.loop(), std::move(foreign), recorder);
  ASSERT_FALSE(third);
  EXPECT_THAT(third.error().context, HasSubstr("not on this machine"));
}

}  // namespace
}  // namespace tdbmesh
