// Whole clusters of record cores against random faults, and the same with rules left out: each must be noticed.

#include <gtest/gtest.h>

#include "tests/unit/db/record_world.h"

namespace tdbmesh::test {
namespace {

void survive(WorldOptions options, unsigned runs) {
  RecordCounters sum;
  std::uint64_t left = 0;
  for (unsigned seed = 1; seed <= runs; ++seed) {
    options.seed = seed;
    RecordWorld world(options);
    if (!world.run().empty()) {
      options.trace = true;
      FAIL() << RecordWorld(options).run();
    }
    sum += world.counters();
    left += world.left_in_order();
  }
  std::printf("grants %lu reads %lu forwards %lu misses %lu settles %lu adopted %lu delegations %lu vacuumed %lu left %lu\n",
              sum.grants_in, sum.reads_in, sum.forwards, sum.misses, sum.settles, sum.adopted, sum.delegations,
              sum.vacuumed, left);
}

TEST(OwnershipRuns, CalmClusterServesEverybody) {
  WorldOptions options;
  options.crashes = options.view_changes = options.losses = options.full_stores = options.leaves = false;
  survive(options, 300);
}

TEST(OwnershipRuns, ThreeNodesSurviveEveryFault) { survive(WorldOptions{}, 1500); }

TEST(OwnershipRuns, FourNodesSurviveEveryFault) {
  WorldOptions options;
  options.nodes = 4;
  options.steps = 900;
  survive(options, 500);
}

TEST(OwnershipRuns, OneKeyUnderContention) {
  WorldOptions options;
  options.keys = 1;
  options.clients = 3;
  survive(options, 700);
}

TEST(OwnershipRuns, NodesThatLeaveAllTheTimeTakeNothingWithThem) {
  WorldOptions options;
  options.leave_every = 40;
  options.nodes = 4;
  survive(options, 400);
}

class RecordPlants : public testing::TestWithParam<Plant> {};

TEST_P(RecordPlants, AreNoticed) {
  WorldOptions options;
  options.plant = GetParam();
  options.keys = 1;
  options.full_stores = options.plant == Plant::UnstoredLeavesNoBackup;
  // Any view change would repair what a loss broke.
  if (options.plant == Plant::LossWithoutView) options.crashes = options.view_changes = options.leaves = false;
  for (unsigned seed = 1; seed <= 3000; ++seed) {
    options.seed = seed;
    const std::string noticed = RecordWorld(options).run();
    if (!noticed.empty()) {
      RecordProperty("noticed", noticed.substr(0, noticed.find('\n')));
      return;
    }
  }
  FAIL() << "not noticed in 3000 runs";
}

INSTANTIATE_TEST_SUITE_P(Rules, RecordPlants,
                         testing::Values(Plant::InstallWithoutLeases, Plant::OldGrantAccepted,
                                         Plant::MajorityOfAnswers, Plant::ForwardWithoutAfter,
                                         Plant::KeepsRecordsOnReturn, Plant::LossWithoutView,
                                         Plant::MigratedFlagLost, Plant::RevokeSkipped,
                                         Plant::LeaverForgetsCopies, Plant::LeaverDoesNotAsk,
                                         Plant::UnstoredLeavesNoBackup));

}  // namespace
}  // namespace tdbmesh::test
