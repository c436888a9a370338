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
  // Everybody is heard in each beat until then, except who hears nobody.
  void beat_until(Duration when) {
    while (true) {
      beaten = std::min(beaten + kTiming.heartbeat, when);
      for (PeerHeartbeats& peer : table.peers) {
        if (!silent.contains(peer.pnn)) peer.last_heard = peer.silent_since = at(beaten);
      }
      table.at = at(beaten);
      update();
      if (beaten == when) return;
    }
  }
  std::set<Pnn> not_in_clique(Duration when) {
    beat_until(when);
    return members.not_in_clique(wanted, in_the_view, at(when));
  }
  Duration beaten{0};
  std::set<Pnn> silent;
  HeartbeatTable table;
  Membership members{Pnn{0}, kTiming};
  std::set<Pnn> wanted{Pnn{0}, Pnn{1}, Pnn{2}, Pnn{3}};
  std::set<Pnn> in_the_view = wanted;
};

TEST_F(Members, SilenceCountsFromTheLimitOnAndNotBefore) {
  table.at = at(kTiming.silence);
  update();
  EXPECT_TRUE(members.alive(Pnn{1}, at(kTiming.silence - Duration(1))));
  EXPECT_FALSE(members.alive(Pnn{1}, at(kTiming.silence)));
  EXPECT_EQ(members.next_loss(at(Duration(0))), at(kTiming.silence));
}

// After a pause of the machine an event may come before the heartbeats that were received meanwhile.
TEST_F(Members, NobodyIsSilentForNotHavingBeenLookedAt) {
  table.at = at(kTiming.silence - Duration(1));
  update();
  EXPECT_TRUE(members.alive(Pnn{1}, at(3 * kTiming.silence)));
  EXPECT_EQ(members.trouble(Pnn{1}, at(3 * kTiming.silence)), "");
  table.at = at(3 * kTiming.silence);
  update();
  EXPECT_FALSE(members.alive(Pnn{1}, at(3 * kTiming.silence)));
  EXPECT_NE(members.trouble(Pnn{1}, at(3 * kTiming.silence)), "");
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
  EXPECT_THAT(not_in_clique(Duration(0)), IsEmpty());
  EXPECT_THAT(not_in_clique(kTiming.link_patience - Duration(1)), IsEmpty());
  EXPECT_THAT(not_in_clique(kTiming.link_patience), ElementsAre(Pnn{2})) << "of two alike the higher one";
}

TEST_F(Members, WhoMissesMostGoesFirst) {
  cut(1, 2);
  cut(1, 3);
  EXPECT_THAT(not_in_clique(Duration(0)), IsEmpty());
  EXPECT_THAT(not_in_clique(kTiming.link_patience), ElementsAre(Pnn{1}));
}

TEST_F(Members, WhoComesPushesNobodyOutOverALink) {
  cut(1, 3);
  in_the_view.erase(Pnn{1});
  EXPECT_THAT(not_in_clique(Duration(0)), ElementsAre(Pnn{1})) << "or it would be in when that is decided";
  EXPECT_THAT(not_in_clique(kTiming.link_patience), ElementsAre(Pnn{1}));
}

// Or it would be let in, left out after a while, and let in again, for ever.
TEST_F(Members, WhoWasLeftOutForALinkStaysOutUntilItHasIt) {
  cut(1, 3);
  EXPECT_THAT(not_in_clique(Duration(0)), IsEmpty());
  EXPECT_THAT(not_in_clique(kTiming.link_patience), ElementsAre(Pnn{3}));
  // It comes in as new; until it is ready to, it is nobody that the leader wants.
  in_the_view.erase(Pnn{3});
  wanted.erase(Pnn{3});
  EXPECT_THAT(not_in_clique(2 * kTiming.link_patience), IsEmpty());
  wanted.insert(Pnn{3});
  EXPECT_THAT(not_in_clique(2 * kTiming.link_patience), ElementsAre(Pnn{3}));
  peer(1).hears.push_back(Pnn{3});
  EXPECT_THAT(not_in_clique(3 * kTiming.link_patience), ElementsAre(Pnn{3})) << "in one direction";
  peer(3).hears.push_back(Pnn{1});
  EXPECT_THAT(not_in_clique(3 * kTiming.link_patience), IsEmpty());
}

// A leader that has just been elected need not wait anew.
TEST_F(Members, LinksAreWatchedBeforeAnybodyAsks) {
  cut(1, 2);
  beat_until(kTiming.link_patience + kTiming.heartbeat);
  EXPECT_THAT(not_in_clique(kTiming.link_patience + kTiming.heartbeat), ElementsAre(Pnn{2}));
}

TEST_F(Members, ALinkThatWasNotLookedAtForLongIsNotBrokenSinceBefore) {
  cut(1, 2);
  EXPECT_THAT(not_in_clique(Duration(0)), IsEmpty());
  beaten = 2 * kTiming.link_patience;  // this node hung
  EXPECT_THAT(not_in_clique(2 * kTiming.link_patience), IsEmpty());
  EXPECT_THAT(not_in_clique(3 * kTiming.link_patience - kTiming.heartbeat), IsEmpty());
  EXPECT_THAT(not_in_clique(3 * kTiming.link_patience), ElementsAre(Pnn{2}));
}

TEST_F(Members, OfWhoIsNotHeardHereOnlyWhatOthersSayIsKnown) {
  silent = {Pnn{2}, Pnn{3}};
  beat_until(kTiming.silence);
  const Instant now = at(kTiming.silence);
  EXPECT_TRUE(members.broken(Pnn{0}, Pnn{2}, now));
  EXPECT_FALSE(members.broken(Pnn{1}, Pnn{2}, now));
  EXPECT_FALSE(members.broken(Pnn{2}, Pnn{3}, now));
  EXPECT_TRUE(members.heard_by_anybody(Pnn{2}, now));
  std::erase(peer(1).hears, Pnn{2});
  update();
  EXPECT_TRUE(members.broken(Pnn{2}, Pnn{1}, now));
  EXPECT_FALSE(members.heard_by_anybody(Pnn{2}, now)) << "what a silent node said last is old";
}

TEST_F(Members, AnotherLeaderMayHaveMoreMembers) {
  EXPECT_EQ(members.circle(Pnn{0}, wanted, at(Duration(0))), 4u);
  silent = {Pnn{2}, Pnn{3}};
  beat_until(kTiming.silence);
  EXPECT_EQ(members.circle(Pnn{0}, wanted, at(kTiming.silence)), 2u);
  EXPECT_EQ(members.circle(Pnn{1}, wanted, at(kTiming.silence)), 3u) << "without node 0, which misses two";
}

TEST_F(Members, ALeaderOfACircleIsInIt) {
  cut(1, 2);
  cut(1, 3);
  EXPECT_EQ(members.circle(Pnn{0}, wanted, at(Duration(0))), 3u);
  EXPECT_EQ(members.circle(Pnn{1}, wanted, at(Duration(0))), 2u);
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
