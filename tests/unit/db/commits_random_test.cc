// Clusters of commit cores against random faults, and the same with rules left out: each must be noticed.

#include <gtest/gtest.h>

#include "tests/unit/db/commit_world.h"

namespace tdbmesh::test {
namespace {

TEST(CommitRuns, AcknowledgedCommitsSurviveEveryFault) {
  std::size_t acknowledged = 0;
  std::uint64_t cut = 0;
  std::uint64_t settles = 0;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    CommitWorld world(seed, CommitPlant::None);
    ASSERT_EQ(world.run(800), "");
    acknowledged += world.acknowledged();
    cut += world.cut();
    settles += world.settles();
  }
  // The runs are worth something only if all this happened in them.
  EXPECT_GT(acknowledged, 4000u);
  EXPECT_GT(cut, 100u);
  EXPECT_GT(settles, 500u);
}

class CommitPlants : public testing::TestWithParam<CommitPlant> {};

TEST_P(CommitPlants, AreNoticed) {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    if (!CommitWorld(seed, GetParam()).run(800).empty()) return;
  }
  FAIL() << "not noticed in 1500 runs";
}

INSTANTIATE_TEST_SUITE_P(Rules, CommitPlants,
                         testing::Values(CommitPlant::MajorityDurable, CommitPlant::VersionsBeforeQuiet,
                                         CommitPlant::HighestSeqnumWins, CommitPlant::NoSettle,
                                         CommitPlant::FailureDuringChange));

}  // namespace
}  // namespace tdbmesh::test
