#include "transport/arrivals.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

Envelope envelope(std::uint64_t sequence, std::uint64_t connection = 1, std::uint64_t session = 1, Incarnation incarnation = 1) {
  Envelope e;
  e.kind = static_cast<std::uint16_t>(MessageKind::Record);
  e.from = Pnn{1};
  e.incarnation = incarnation;
  e.session = session;
  e.connection = connection;
  e.sequence = sequence;
  return e;
}
Envelope counts(std::uint64_t sequence) {
  Envelope e = envelope(sequence);
  e.kind = Envelope::kCounts;
  return e;
}

constexpr Instant kStart{};

TEST(Arrivals, InOrderAreNeitherStaleNorAGap) {
  Arrivals arrivals;
  EXPECT_TRUE(arrivals.take(envelope(1)).new_life);
  for (std::uint64_t n = 2; n < 10; ++n) {
    const auto verdict = arrivals.take(envelope(n));
    EXPECT_FALSE(verdict.stale || verdict.gap || verdict.new_life);
  }
  EXPECT_EQ(arrivals.count(), (LinkCount{1, 9}));
}

TEST(Arrivals, AHoleIsAGapOnce) {
  Arrivals arrivals;
  EXPECT_TRUE(arrivals.take(envelope(2)).gap) << "the first is missing";
  EXPECT_TRUE(arrivals.take(envelope(5)).gap);
  EXPECT_FALSE(arrivals.take(envelope(6)).gap);
}

TEST(Arrivals, RepetitionsAndOlderConnectionsSessionsAndLivesAreStale) {
  Arrivals arrivals;
  (void)arrivals.take(envelope(1, 5, 5, 5));
  EXPECT_TRUE(arrivals.take(envelope(1, 5, 5, 5)).stale);
  EXPECT_TRUE(arrivals.take(envelope(2, 4, 5, 5)).stale);
  EXPECT_TRUE(arrivals.take(envelope(2, 5, 4, 5)).stale);
  EXPECT_TRUE(arrivals.take(envelope(2, 5, 5, 4)).stale);
  EXPECT_FALSE(arrivals.take(envelope(2, 5, 5, 5)).stale);
}

TEST(Arrivals, ANewSessionOfTheSameLifeIsAGapAndOneOfANewLifeIsNot) {
  Arrivals arrivals;
  (void)arrivals.take(envelope(1));
  EXPECT_TRUE(arrivals.take(envelope(1, 3, 2)).gap);
  const auto verdict = arrivals.take(envelope(1, 1, 1, 2));
  EXPECT_TRUE(verdict.new_life);
  EXPECT_FALSE(verdict.gap);
}

TEST(Arrivals, CountsShowALostTail) {
  Arrivals arrivals;
  (void)arrivals.take(envelope(1));
  EXPECT_FALSE(arrivals.take(counts(1)).gap);
  EXPECT_TRUE(arrivals.take(counts(2)).gap);
  EXPECT_FALSE(arrivals.take(counts(2)).gap);
  EXPECT_FALSE(arrivals.take(envelope(3)).gap);
}

TEST(Arrivals, CountsOfHeartbeatsAheadForLongAreALossOnce) {
  Arrivals arrivals;
  (void)arrivals.take(envelope(1));
  const LinkCount ahead{1, 2};
  EXPECT_FALSE(arrivals.is_behind(1, ahead, kStart));
  EXPECT_FALSE(arrivals.is_behind(1, ahead, kStart + Arrivals::kPatience / 2));
  EXPECT_TRUE(arrivals.is_behind(1, ahead, kStart + Arrivals::kPatience));
  EXPECT_FALSE(arrivals.is_behind(1, ahead, kStart + 3 * Arrivals::kPatience));
}

TEST(Arrivals, CountsAreNotBehindWhileSomethingArrives) {
  Arrivals arrivals;
  (void)arrivals.take(envelope(1));
  EXPECT_FALSE(arrivals.is_behind(1, {1, 5}, kStart));
  (void)arrivals.take(envelope(2));
  EXPECT_FALSE(arrivals.is_behind(1, {1, 5}, kStart + Arrivals::kPatience));
  EXPECT_TRUE(arrivals.is_behind(1, {1, 5}, kStart + 2 * Arrivals::kPatience));
}

}  // namespace
}  // namespace tdbmesh
