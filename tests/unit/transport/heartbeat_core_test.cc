#include <gtest/gtest.h>

#include "transport/heartbeat_core.h"

namespace tdbmesh {
namespace {

const Pnn n0{0}, n1{1};
const Timing kTiming;
const Generation g1{1, 1}, g2{2, 1};

Instant at(std::int64_t ms) { return Instant(seconds(50) + milliseconds(ms)); }

// Two nodes whose clocks agree and whose messages the test carries by hand.
struct Pair {
  HeartbeatCore a{n0, 1, {n1}, kTiming, at(0)};
  HeartbeatCore b{n1, 1, {n0}, kTiming, at(0)};

  Pair() {
    for (HeartbeatCore* core : {&a, &b}) {
      core->set_voters({{n0, n1}, 2, Instant::min()});
      core->set_support({1, {{n0, {1, g1}}, {n1, {1, g1}}}});
      Announcement said;
      said.installed = said.accepted = g1;
      core->set_announcement(said);
    }
    a.permit_gate();
  }
  // a's heartbeat of `sent` reaches b then, and b's answer is back at `back`.
  void exchange(std::int64_t sent, std::int64_t back) {
    std::vector<OutgoingHeartbeat> out, answers, none;
    a.note_loop_progress(++turns, at(sent));
    b.note_loop_progress(turns, at(sent));
    a.tick(at(sent), out);
    for (const auto& m : out) b.on_bytes(n0, m.bytes, at(sent), answers);
    std::vector<OutgoingHeartbeat> own;
    b.tick(at(sent), own);
    for (const auto& m : own) a.on_bytes(n1, m.bytes, at(sent), none);
    for (const auto& m : answers) a.on_bytes(n1, m.bytes, at(back), none);
  }
  std::uint64_t turns = 0;
};

TEST(Heartbeat, TheLeaseCountsFromWhenItWasAskedFor) {
  Pair pair;
  pair.exchange(100, 101);
  pair.exchange(200, 290);
  EXPECT_EQ(pair.a.gate_until(), at(200) + kTiming.lease);
}

TEST(Heartbeat, MembershipAloneGivesNoSupport) {
  Pair pair;
  pair.b.set_support({2, {{n0, {1, g2}}, {n1, {1, g1}}}});  // a joined anew and has not installed that yet
  pair.exchange(100, 101);
  EXPECT_EQ(pair.a.gate_until(), Instant::min());
  pair.b.set_support({3, {{n0, {2, g1}}, {n1, {1, g1}}}});  // another life of a
  pair.exchange(200, 201);
  EXPECT_EQ(pair.a.gate_until(), Instant::min());
}

TEST(Heartbeat, WhoIsNotSupportedAnyMoreLapses) {
  Pair pair;
  pair.exchange(100, 101);
  pair.b.set_support({2, {{n1, {1, g1}}}});
  pair.exchange(200, 201);
  EXPECT_EQ(pair.a.gate_until(), at(100) + kTiming.lease);
  EXPECT_EQ(pair.b.snapshot(at(250)).peer(n0)->last_supported, at(100));
}

TEST(Heartbeat, AClosedGateDoesNotOpenByWhatWasAskedBefore) {
  Pair pair;
  std::vector<OutgoingHeartbeat> first, answers, out;
  pair.exchange(100, 101);
  pair.a.tick(at(200), first);
  for (const auto& m : first) pair.b.on_bytes(n0, m.bytes, at(200), answers);
  pair.a.close_gate();
  pair.a.permit_gate();
  for (const auto& m : answers) pair.a.on_bytes(n1, m.bytes, at(210), out);
  EXPECT_EQ(pair.a.gate_until(), Instant::min());
}

TEST(Heartbeat, ANodeThatStartsCountsEverybodyAsJustSupported) {
  const HeartbeatCore core(n0, 1, {n1}, kTiming, at(0));
  EXPECT_EQ(core.snapshot(at(10)).peer(n1)->last_supported, at(0));
}

TEST(Heartbeat, SilenceIsALossOnlyIfThisThreadWasAwake) {
  Pair pair;
  pair.exchange(100, 101);
  std::vector<OutgoingHeartbeat> out;
  for (int ms = 200; ms <= 600; ms += 50) pair.a.tick(at(ms), out);
  EXPECT_TRUE(pair.a.snapshot(at(600)).peer(n1)->alive(at(600), kTiming));
  EXPECT_FALSE(pair.a.snapshot(at(602)).peer(n1)->alive(at(602), kTiming));

  Pair paused;
  paused.exchange(100, 101);
  paused.a.tick(at(2000), out);
  EXPECT_TRUE(paused.a.snapshot(at(2001)).peer(n1)->alive(at(2001), kTiming));
}

// What it says of this node's silence was true, and is over.
TEST(Heartbeat, APeerHasTimeToHearThisNodeAgainAfterAnOwnPause) {
  Pair pair;
  pair.exchange(100, 101);
  pair.exchange(200, 201);
  const std::int64_t awake = 750;
  const auto limit = awake + kTiming.silence.count() / 1000;
  for (std::int64_t ms = 250; ms <= limit + 100; ms += 50) {  // nothing that `a` sends arrives any more
    std::vector<OutgoingHeartbeat> from_b, none;
    pair.b.note_loop_progress(static_cast<std::uint64_t>(ms), at(ms));
    pair.b.tick(at(ms), from_b);
    if (ms < awake) continue;
    for (const auto& m : from_b) pair.a.on_bytes(n1, m.bytes, at(ms), none);
    const bool hears = pair.a.snapshot(at(ms)).peer(n1)->hears_me;
    if (ms < limit) {
      EXPECT_TRUE(hears) << ms;
    } else if (ms == limit + 100) {
      EXPECT_FALSE(hears);
    }
  }
}

TEST(Heartbeat, AStalledLoopAsksForNothingAndSaysSo) {
  Pair pair;
  pair.exchange(100, 101);
  std::vector<OutgoingHeartbeat> out, answers;
  pair.a.tick(at(2200), out);
  pair.b.note_loop_progress(99, at(2200));
  for (const auto& m : out) pair.b.on_bytes(n0, m.bytes, at(2200), answers);
  EXPECT_TRUE(pair.b.snapshot(at(2200)).peer(n0)->stalled);
  for (const auto& m : answers) EXPECT_FALSE(decode_heartbeat_packet(m.bytes)->answer->supported);
}

TEST(Heartbeat, AClockThatStoodStillClosesTheGate) {
  Pair pair;
  pair.exchange(100, 101);
  pair.exchange(200, 201);
  ASSERT_GT(pair.a.gate_until(), at(201));
  Heartbeat m;
  m.from = n1;
  m.incarnation = 1;
  m.seq = 99;
  m.sent = at(3000);  // three seconds passed over there, 100 ms here
  std::vector<OutgoingHeartbeat> out;
  pair.a.on_bytes(n1, encode(m), at(300), out);
  EXPECT_EQ(pair.a.gate_until(), Instant::min());
  EXPECT_EQ(pair.a.snapshot(at(300)).clock_jumps, 1u);
}

TEST(Heartbeat, TheLockVoteNeverOutlastsTheLockLease) {
  HeartbeatCore core(n0, 1, {n1}, kTiming, at(0));
  Announcement said;
  said.installed = g1;
  core.set_announcement(said);
  core.set_support({1, {{n0, {1, g1}}}});
  core.set_voters({{n0, n1}, 2, at(150)});
  core.permit_gate();
  std::vector<OutgoingHeartbeat> out;
  core.tick(at(100), out);
  EXPECT_EQ(core.gate_until(), at(150));
}

// What of `packets` are heartbeats, and not answers.
std::size_t beats_in(const std::vector<OutgoingHeartbeat>& packets) {
  std::size_t count = 0;
  for (const auto& packet : packets) count += decode_heartbeat_packet(packet.bytes)->heartbeat.has_value() ? 1 : 0;
  return count;
}

TEST(Heartbeat, OneThatIsDueSoonGoesAlongWithTheAnswer) {
  Pair pair;
  pair.exchange(100, 101);
  std::vector<OutgoingHeartbeat> out, back, later;
  pair.b.tick(at(200), out);  // b's beat is at 200, 300, ...
  out.clear();
  pair.a.tick(at(260), out);  // a is late, or its beat is another
  for (const auto& m : out) pair.b.on_bytes(n0, m.bytes, at(260), back);
  EXPECT_EQ(back.size(), 2u) << "the answer and the own heartbeat";
  EXPECT_EQ(beats_in(back), 1u);
  EXPECT_EQ(pair.b.beat_due(), at(370)) << "a little more than a beat later: a's next one comes first";
  pair.b.tick(at(300), later);
  EXPECT_TRUE(later.empty());
  pair.b.tick(at(370), later);
  EXPECT_EQ(beats_in(later), 1u) << "without a's it goes by itself";
}

TEST(Heartbeat, OneThatIsNotDueSoonStays) {
  Pair pair;
  pair.exchange(100, 101);
  std::vector<OutgoingHeartbeat> out, back;
  pair.b.tick(at(200), out);
  out.clear();
  pair.a.tick(at(240), out);
  for (const auto& m : out) pair.b.on_bytes(n0, m.bytes, at(240), back);
  EXPECT_EQ(beats_in(back), 0u);
  EXPECT_EQ(pair.b.beat_due(), at(300));
}

TEST(HeartbeatCodec, ComesBackAndRefusesEveryTruncation) {
  Heartbeat m;
  m.from = n1;
  m.incarnation = 3;
  m.seq = 4;
  m.sent = at(5);
  m.loop_age = milliseconds(6);
  m.stalled = true;
  m.link = {7, 8};
  m.hears = {n0, Pnn{2}};
  m.said.term = 9;
  m.said.installed = g1;
  m.said.accepted = g2;
  m.said.leading = true;
  m.said.leader = n1;
  m.said.flags = 2;
  m.said.addresses = {"10.1.1.1"};
  const Bytes bytes = encode(m);
  const auto back = decode_heartbeat_packet(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back->heartbeat, m);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_heartbeat_packet(BytesView(bytes).substr(0, length)).has_value());
  }
  HeartbeatAnswer answer{n1, 3, 1, 4, at(5), 9, true, false};
  EXPECT_EQ(*decode_heartbeat_packet(encode(answer))->answer, answer);
}

TEST(HeartbeatCodec, BytesOfStrangersAreCountedAndIgnored) {
  HeartbeatCore core(n0, 1, {n1}, kTiming, at(0));
  std::vector<OutgoingHeartbeat> out;
  Heartbeat m;
  m.from = Pnn{5};
  m.incarnation = 1;
  core.on_bytes(Pnn{5}, encode(m), at(1), out);
  core.on_bytes(n1, encode(m), at(1), out);
  core.on_bytes(n1, "garbage", at(1), out);
  EXPECT_EQ(core.malformed(), 3u);
  EXPECT_TRUE(out.empty());
}

TEST(Heartbeat, ASupervisorsWordEndsALifeAndNoLaterOne) {
  Pair pair;
  std::vector<OutgoingHeartbeat> out;
  pair.exchange(100, 101);
  EXPECT_TRUE(pair.b.on_bytes(n0, encode(Fenced{n0, 1}), at(110), out)) << "the loop is to look at once";
  EXPECT_EQ(pair.b.snapshot(at(110)).peer(n0)->fenced, 1u);
  EXPECT_FALSE(pair.b.on_bytes(n0, encode(Fenced{n0, 1}), at(111), out)) << "no news";
  // The next life comes up, and an old supervisor's word arrives late.
  Heartbeat next;
  next.from = n0;
  next.incarnation = 2;
  next.seq = 1;
  next.sent = at(120);
  pair.b.on_bytes(n0, encode(next), at(120), out);
  EXPECT_FALSE(pair.b.on_bytes(n0, encode(Fenced{n0, 1}), at(130), out));
  const HeartbeatTable table = pair.b.snapshot(at(130));
  EXPECT_EQ(table.peer(n0)->incarnation, 2u);
  EXPECT_EQ(table.peer(n0)->fenced, 1u) << "still known: of the life before";
}

TEST(Heartbeat, NobodySaysOfAnotherThatItIsDead) {
  Pair pair;
  std::vector<OutgoingHeartbeat> out;
  pair.exchange(100, 101);
  EXPECT_FALSE(pair.b.on_bytes(n0, encode(Fenced{n1, 1}), at(110), out));
  EXPECT_EQ(pair.b.malformed(), 1u);
  const Bytes whole = encode(Fenced{n0, 1});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode_heartbeat_packet(BytesView(whole).substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace tdbmesh
