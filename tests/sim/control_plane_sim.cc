// Whole control planes in virtual time, under faults. One run per seed: faults for some virtual seconds with the
// checkers on (one leader per term, one content per generation, no open gate outside the newest view, no
// acknowledged commit lost), then none, and all must be well within a bound.
//
// Arguments: arguments.h, or --help.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "tests/sim/arguments.h"
#include "tests/sim/control_cluster.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::sim;

struct Totals {
  std::uint64_t runs = 0;
  ControlCluster::Counts counts;
  Duration longest{0};
};

std::size_t nodes_for(const SeededRun& run) { return run.nodes != 0 ? run.nodes : 1 + run.seed % 5; }

bool run(const SeededRun& run, const Arguments& arguments, Totals& totals, std::string& violation) {
  ClusterOptions options;
  options.nodes = nodes_for(run);
  options.timing = timing_of(run.profile, run.seed);
  options.trace = arguments.trace;
  if (arguments.lock) {
    options.nodes = 2;
    options.quorum = recovery::QuorumMode::LockVote;
  }
  options.heartbeat_hooks.lease_from_arrival = arguments.plant == "lease-from-arrival";
  options.heartbeat_hooks.support_ignores_join = arguments.plant == "support-ignores-join";
  options.plane_hooks.skip_fence = arguments.plant == "skip-fence";
  options.plane_hooks.skip_carriers = arguments.plant == "skip-carriers";
  ControlCluster cluster(run.seed, options);
  const bool fine = cluster.run_with_faults(seconds(run.seconds)) &&
                    cluster.run_until_well(options.timing.silence * 10 + tdbmesh::seconds(3));
  violation = cluster.violation();
  ++totals.runs;
  totals.counts.views += cluster.counts().views;
  totals.counts.leaders += cluster.counts().leaders;
  totals.counts.commits += cluster.counts().commits;
  totals.counts.faults += cluster.counts().faults;
  totals.longest = std::max(totals.longest, cluster.time_to_well());
  return fine;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse_arguments(argc, argv, "control", 60);
  Totals totals;
  std::uint64_t violations = 0;
  const auto one = [&](const SeededRun& each) {
    std::string violation;
    if (run(each, arguments, totals, violation)) return;
    ++violations;
    std::fprintf(stderr, "%sseed %llu (%zu nodes, %lld s, %s): %s\n", arguments.plant.empty() ? "" : "noticed: ",
                 static_cast<unsigned long long>(each.seed), nodes_for(each), static_cast<long long>(each.seconds),
                 each.profile.c_str(), violation.c_str());
  };
  for (const SeededRun& each : arguments.runs) {
    one(each);
    if (!arguments.plant.empty() && violations > 0) break;
  }
  const auto begin = std::chrono::steady_clock::now();
  for (SeededRun fresh = arguments.pattern;
       std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < arguments.for_seconds;
       ++fresh.seed) {
    one(fresh);
  }
  std::printf("%llu runs, %llu faults, %llu views, %llu leaders, %llu commits, %llu violations, well after %.2f s at most\n",
              static_cast<unsigned long long>(totals.runs), static_cast<unsigned long long>(totals.counts.faults),
              static_cast<unsigned long long>(totals.counts.views), static_cast<unsigned long long>(totals.counts.leaders),
              static_cast<unsigned long long>(totals.counts.commits), static_cast<unsigned long long>(violations),
              std::chrono::duration<double>(totals.longest).count());
  if (!arguments.plant.empty()) {
    if (violations == 0) std::fprintf(stderr, "the planted bug %s was not noticed\n", arguments.plant.c_str());
    return violations > 0 ? 0 : 1;
  }
  return violations == 0 ? 0 : 1;
}
