// Whole clusters of record cores against random faults, and the same with rules left out: each must be noticed.

#include <gtest/gtest.h>

#include "tests/unit/db/record_world.h"

namespace tdbmesh::test {
namespace {

void survive(WorldOptions options, unsigned runs) {
  RecordCounters sum;
  for (unsigned seed = 1; seed <= runs; ++seed) {
    options.seed = seed;
    RecordWorld world(options);
    if (!world.run().empty()) {
      options.trace = true;
      FAIL() << RecordWorld(options).run();
    }
    sum += world.counters();
  }
  std::printf("grants %lu reads %lu forwards %lu misses %lu settles %lu adopted %lu delegations %lu vacuumed %lu\n",
              sum.grants_in, sum.reads_in, sum.forwards, sum.misses, sum.settles, sum.adopted, sum.delegations,
              sum.vacuumed);
}

TEST(OwnershipRuns, CalmClusterServesEverybody) {
  WorldOptions options;
  options.crashes = options.view_changes = options.losses = false;
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

}  // namespace
}  // namespace tdbmesh::test
