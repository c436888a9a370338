#include "recovery/cluster_lock.h"

#include <gtest/gtest.h>

namespace tdbmesh::recovery {
namespace {

const Pnn n0{0}, n1{1};
Instant at(std::int64_t ms) { return Instant(seconds(10) + milliseconds(ms)); }

LockRecord record(std::uint64_t term, bool in_use = false) { return {term, std::nullopt, in_use}; }
Bytes slot(std::uint64_t claim, const LockRecord& r) { return *encode(LockSlot{claim, r}); }

struct Fixture : testing::Test {
  ClusterLock lock{n0, Timing{}, LockHelper{}};
  LockActions out;
  std::map<Pnn, Bytes> slots;

  // Carries the last action out and answers it.
  void answer_register(std::int64_t ms) {
    if (const auto* write = std::get_if<WriteRegister>(&out.back())) slots[n0] = write->own_slot;
    out.clear();
    lock.on_register(slots, at(ms), out);
  }
  void acquire(std::int64_t ms, const LockRecord& r) {
    lock.want(r, at(ms), out);
    ASSERT_TRUE(std::holds_alternative<StartHelper>(out.back()));
    out.clear();
    lock.on_helper('0', at(ms + 1), out);
    answer_register(ms + 2);  // read
    answer_register(ms + 3);  // written
  }
};
using ClusterLockVote = Fixture;

TEST_F(ClusterLockVote, CountsOnlyWithTheRegisterWritten) {
  lock.want(record(5), at(0), out);
  out.clear();
  lock.on_helper('0', at(1), out);
  EXPECT_FALSE(lock.status().held);
  answer_register(2);
  EXPECT_FALSE(lock.status().held);
  answer_register(3);
  EXPECT_TRUE(lock.status().held);
  EXPECT_EQ(lock.status().written, record(5));
  EXPECT_EQ(lock.status().lease_until, at(2) + kLockLease);  // from the begin of the write
}

TEST_F(ClusterLockVote, TellsWhatTheOtherHolderHadAgreedTo) {
  View view;
  view.generation = {7, 2};
  slots[n1] = slot(4, {6, view, true});
  acquire(0, record(8));
  EXPECT_EQ(lock.status().newest->generation, view.generation);
  EXPECT_EQ(lock.status().highest_term, 7u);
  EXPECT_GT(lock.status().wait_until, at(1) + kLockLease);
  EXPECT_EQ(decode_lock_slot(slots[n0])->claim, 5u);
}

TEST_F(ClusterLockVote, WaitsForNobodyWhoseGateDidNotRestOnIt) {
  slots[n1] = slot(4, record(6, false));
  acquire(0, record(8));
  EXPECT_EQ(lock.status().wait_until, Instant::min());
}

TEST_F(ClusterLockVote, IsGivenUpWhenSomebodyHasClaimedItSince) {
  acquire(0, record(5));
  slots[n1] = slot(9, record(6));
  out.clear();
  lock.on_tick(at(600), out);  // probe
  answer_register(601);
  EXPECT_FALSE(lock.status().held);
  EXPECT_TRUE(std::holds_alternative<StopHelper>(out.back()));
}

TEST_F(ClusterLockVote, AChangedRecordIsWrittenAtOnceAndTheOldOneCountsUntilThen) {
  acquire(0, record(5));
  out.clear();
  lock.want(record(5, true), at(100), out);
  ASSERT_TRUE(std::holds_alternative<WriteRegister>(out.back()));
  EXPECT_FALSE(lock.status().written.in_use);
  answer_register(101);
  EXPECT_TRUE(lock.status().written.in_use);
}

TEST_F(ClusterLockVote, EndsWithItsHelperAtOnceAndIsTriedAgainEachSecond) {
  acquire(0, record(5));
  out.clear();
  lock.on_helper_gone(at(200), out);
  EXPECT_FALSE(lock.status().held);
  lock.on_tick(at(700), out);
  EXPECT_TRUE(out.empty());
  lock.on_tick(at(1200), out);
  EXPECT_TRUE(std::holds_alternative<StartHelper>(out.back()));
}

TEST_F(ClusterLockVote, WhileItIsTriedAgainNobodyIsToldThatItIsNotWanted) {
  acquire(0, record(5));
  lock.release(at(100), out);
  EXPECT_EQ(lock.status().text, "not wanted");
  lock.want(record(6), at(5000), out);
  EXPECT_EQ(lock.status().text, "");
}

TEST_F(ClusterLockVote, AForeignHelperHasNoRegister) {
  ClusterLock foreign(n0, Timing{}, {.has_register = false, .foreign = true});
  foreign.want(record(5), at(0), out);
  out.clear();
  foreign.on_helper('0', at(1), out);
  EXPECT_TRUE(out.empty());
  EXPECT_TRUE(foreign.status().held);
  EXPECT_EQ(foreign.status().written, record(5));
}

// A helper that queues: each refused attempt leaves an entry that refuses whoever comes within `kEntry` after it.
TEST_F(ClusterLockVote, AForeignHelperWhoseRefusedAttemptsQueueGetsItAfterTheOtherNodeIsGone) {
  constexpr Duration kEntry = seconds(9);
  ClusterLock foreign(n0, Timing{}, {.has_register = false, .foreign = true});
  const Instant other_gone = at(2000);
  Instant blocked_until = other_gone;
  foreign.want(record(5), at(0), out);
  int attempts = 0;
  for (int i = 0; i < 50 && !foreign.status().held; ++i) {
    const Instant now = attempts == 0 ? at(0) : foreign.next_wake();
    if (attempts > 0) foreign.on_tick(now, out);
    ASSERT_TRUE(std::holds_alternative<StartHelper>(out.back()));
    out.clear();
    ++attempts;
    const bool taken = now >= blocked_until;
    if (!taken) blocked_until = now + kEntry;
    foreign.on_helper(taken ? '0' : '1', now, out);
  }
  EXPECT_TRUE(foreign.status().held);
  EXPECT_EQ(attempts, kForeignRefusals + 1);
}

TEST_F(ClusterLockVote, OurOwnHelperIsTriedSoonAfterItsFirstRefusalsAndEachSecondInTheEnd) {
  lock.want(record(5), at(0), out);
  Duration wait{0};
  int attempts = 0;
  for (Instant now = at(0); now < at(60'000); ++attempts) {
    ASSERT_TRUE(std::holds_alternative<StartHelper>(out.back()));
    out.clear();
    lock.on_helper('1', now, out);
    wait = lock.next_wake() - now;
    EXPECT_LE(wait, std::max<Duration>(kLockFirstRetry, (now - at(0)) / 8));
    now = lock.next_wake();
    lock.on_tick(now, out);
  }
  EXPECT_EQ(wait, kLockRetry);
  EXPECT_LT(attempts, 100);
  lock.on_helper('1', at(69'000), out);
  // Another time is another wait.
  lock.release(at(70'000), out);
  lock.want(record(6), at(80'000), out);
  ASSERT_TRUE(std::holds_alternative<StartHelper>(out.back()));
  lock.on_helper('1', at(80'001), out);
  EXPECT_EQ(lock.next_wake(), at(80'001) + kLockFirstRetry);
}

TEST(ClusterLockSlot, DamagedOrEmptyReadsAsNothing) {
  Bytes bytes = slot(3, record(4));
  EXPECT_EQ(decode_lock_slot(bytes)->record, record(4));
  bytes[25] = static_cast<char>(bytes[25] ^ 4);
  EXPECT_FALSE(decode_lock_slot(bytes).has_value());
  EXPECT_FALSE(decode_lock_slot("").has_value());
}

}  // namespace
}  // namespace tdbmesh::recovery
