#include "recovery/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tdbmesh::recovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Timing kTiming{};
Instant at(Duration d) { return Instant(seconds(100)) + d; }

// Four nodes; this one is 0, and all hear each other.
class Members : public testing::Test {
 protected:
  Members() {
    for (std::uint32_t i = 1; i < 4; ++i) {
      PeerHeartbeats peer;
      peer.pnn = Pnn{i};
      peer.incarnation = 5;
      peer.last_heard = peer.silent_since = at(Duration(0));
      peer.hears_me = true;
      peer.heartbeat_seq = 1;
      for (std::uint32_t other = 0; other < 4; ++other) {
        if (other != i) peer.hears.push_back(Pnn{other});
      }
      table.peers.push_back(peer);
    }
    update();
  }
  PeerHeartbeats& peer(std::uint32_t pnn) { return table.peers[pnn - 1]; }
  void update() { members.update(table); }
  void cut(std::uint32_t a, std::uint32_t b) {
    std::erase(peer(a).hears, Pnn{b});
    std::erase(peer(b).hears, Pnn{a});
    update();
  }
  HeartbeatTable table;
  Membership members{Pnn{0}, kTiming};
  const std::set<Pnn> all{Pnn{0}, Pnn{1}, Pnn{2}, Pnn{3}};
};

TEST_F(Members, SilenceCountsFromTheLimitOnAndNotBefore) {
  EXPECT_TRUE(members.alive(Pnn{1}, at(kTiming.silence - Duration(1))));
  EXPECT_FALSE(members.alive(Pnn{1}, at(kTiming.silence)));
  EXPECT_EQ(members.next_loss(at(Duration(0))), at(kTiming.silence));
}

TEST_F(Members, ABrokenConnectionIsALossUntilTheNextHeartbeatOfThatLife) {
  members.note_reset(Pnn{1}, peer(1).incarnation);
  EXPECT_FALSE(members.alive(Pnn{1}, at(Duration(0))));
  update();
  EXPECT_FALSE(members.alive(Pnn{1}, at(Duration(0)))) << "nothing new was heard";
  peer(1).heartbeat_seq = 2;
  update();
  EXPECT_TRUE(members.alive(Pnn{1}, at(Duration(0))));
}

TEST_F(Members, AConnectionThatAnEarlierLifeBrokeOffSaysNothingOfTheNextOne) {
  const Incarnation before = peer(1).incarnation;
  peer(1).incarnation = before + 1;
  update();
  members.note_reset(Pnn{1}, before);  // seen late: this node's own loop hung
  EXPECT_TRUE(members.alive(Pnn{1}, at(Duration(0))));
}

TEST_F(Members, TheSupervisorsWordEndsThatLifeAndNoLaterOne) {
  members.note_fenced(Pnn{1}, 5);
  EXPECT_FALSE(members.alive(Pnn{1}, at(Duration(0))));
  peer(1).incarnation = 6;
  update();
  EXPECT_TRUE(members.alive(Pnn{1}, at(Duration(0))));
}

TEST_F(Members, WhoDoesNotHearThisNodeIsAliveAndNotReachable) {
  peer(2).hears_me = false;
  update();
  EXPECT_TRUE(members.alive(Pnn{2}, at(Duration(0))));
  EXPECT_FALSE(members.reachable(Pnn{2}, at(Duration(0))));
  EXPECT_THAT(members.trouble(Pnn{2}, at(Duration(0))), HasSubstr("one-way"));
}

TEST_F(Members, ALinkIsMissedOnlyAfterAWhile) {
  cut(1, 2);
  EXPECT_THAT(members.not_in_clique(all, at(Duration(0))), IsEmpty());
  EXPECT_THAT(members.not_in_clique(all, at(kTiming.link_patience - Duration(1))), IsEmpty());
  EXPECT_THAT(members.not_in_clique(all, at(kTiming.link_patience)), ElementsAre(Pnn{2})) << "of two alike the higher one";
}

TEST_F(Members, WhoMissesMostGoesFirst) {
  cut(1, 2);
  cut(1, 3);
  EXPECT_THAT(members.not_in_clique(all, at(Duration(0))), IsEmpty());
  EXPECT_THAT(members.not_in_clique(all, at(kTiming.link_patience)), ElementsAre(Pnn{1}));
}

TEST(Flapping, WhoWasRemovedTooOftenWaitsLongerEachTimeAndIsForgivenSlowly) {
  FlapGuard guard;
  const Pnn node{1};
  for (int i = 0; i < 3; ++i) guard.removed(node, at(seconds(i)));
  EXPECT_EQ(guard.held_until(node), Instant::min());
  guard.removed(node, at(seconds(3)));
  EXPECT_EQ(guard.held_until(node), at(seconds(4)));
  guard.removed(node, at(seconds(5)));
  EXPECT_EQ(guard.held_until(node), at(seconds(7)));
  for (int i = 0; i < 10; ++i) guard.removed(node, at(seconds(8)));
  EXPECT_EQ(guard.held_until(node), at(seconds(68))) << "a minute at most";
  // A minute as a member halves what the next time adds to.
  guard.member(node, at(seconds(100)));
  guard.member(node, at(seconds(160)));
  for (int i = 0; i < 3; ++i) guard.removed(node, at(seconds(200)));
  EXPECT_EQ(guard.held_until(node), at(seconds(68))) << "three times in a minute are free";
  guard.removed(node, at(seconds(200)));
  EXPECT_EQ(guard.held_until(node), at(seconds(260)));
}

}  // namespace
}  // namespace tdbmesh::recovery
