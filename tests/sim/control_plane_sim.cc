// Whole control planes in virtual time, under faults. One run per seed: faults for some virtual seconds with the
// checkers on (one leader per term, one content per generation, no open gate outside the newest view, no
// acknowledged commit lost), then none, and all must be well within a bound.
//
//   control_plane_sim --seeds A-B [--nodes N] [--seconds S] [--profile default|impatient|patient]
//   control_plane_sim --lock --seeds A-B            two nodes with the cluster lock as the third vote
//   control_plane_sim --seed N [--trace]            replays one
//   control_plane_sim --file seeds.txt              seeds that once found something: "nodes seed" per line
//   control_plane_sim --plant NAME --seeds A-B      with a planted bug; succeeds iff a checker objects

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/sim/control_cluster.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::sim;

struct Arguments {
  std::uint64_t first = 1;
  std::uint64_t last = 20;
  std::size_t nodes = 0;  // 0: 1 to 5 by seed
  std::int64_t seconds = 60;
  std::string plant;
  std::string file;
  std::string profile = "default";
  bool lock = false;
  bool trace = false;
};

struct Totals {
  std::uint64_t runs = 0;
  ControlCluster::Counts counts;
  Duration longest{0};
};

bool run(std::uint64_t seed, const Arguments& arguments, Totals& totals, std::string& violation) {
  ClusterOptions options;
  options.nodes = arguments.nodes != 0 ? arguments.nodes : 1 + seed % 5;
  options.timing = arguments.profile == "impatient" ? Timing::impatient()
                   : arguments.profile == "patient" ? Timing::patient()
                                                    : Timing::standard();
  options.trace = arguments.trace;
  if (arguments.lock) {
    options.nodes = 2;
    options.quorum = recovery::QuorumMode::LockVote;
  }
  options.heartbeat_hooks.lease_from_arrival = arguments.plant == "lease-from-arrival";
  options.heartbeat_hooks.support_ignores_join = arguments.plant == "support-ignores-join";
  options.plane_hooks.skip_fence = arguments.plant == "skip-fence";
  options.plane_hooks.skip_carriers = arguments.plant == "skip-carriers";
  options.plane_hooks.forget_vote = arguments.plant == "forget-vote";
  ControlCluster cluster(seed, options);
  const bool fine = cluster.run_with_faults(seconds(arguments.seconds)) &&
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
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (name == "--seed") {
      arguments.first = arguments.last = std::strtoull(value().c_str(), nullptr, 10);
    } else if (name == "--seeds") {
      const std::string range = value();
      arguments.first = std::strtoull(range.c_str(), nullptr, 10);
      const auto dash = range.find('-');
      arguments.last = dash == std::string::npos ? arguments.first : std::strtoull(range.c_str() + dash + 1, nullptr, 10);
    } else if (name == "--nodes") {
      arguments.nodes = std::strtoull(value().c_str(), nullptr, 10);
    } else if (name == "--seconds") {
      arguments.seconds = std::strtoll(value().c_str(), nullptr, 10);
    } else if (name == "--plant") {
      arguments.plant = value();
    } else if (name == "--profile") {
      arguments.profile = value();
    } else if (name == "--file") {
      arguments.file = value();
    } else if (name == "--lock") {
      arguments.lock = true;
      arguments.nodes = 2;
    } else if (name == "--trace") {
      arguments.trace = true;
    } else {
      std::fprintf(stderr, "unknown argument %s: see the head of control_plane_sim.cc\n", name.c_str());
      return 2;
    }
  }
  Totals totals;
  std::uint64_t violations = 0;
  const auto one = [&](std::uint64_t seed, const Arguments& with) {
    std::string violation;
    if (run(seed, with, totals, violation)) return;
    ++violations;
    if (with.plant.empty()) {
      std::fprintf(stderr, "seed %llu (%zu nodes, %lld s, %s): %s\n", static_cast<unsigned long long>(seed),
                   with.nodes != 0 ? with.nodes : 1 + seed % 5, static_cast<long long>(with.seconds),
                   with.profile.c_str(), violation.c_str());
    }
  };
  if (!arguments.file.empty()) {
    std::ifstream file(arguments.file);
    std::string line;
    while (std::getline(file, line)) {
      std::istringstream words(line);
      Arguments with = arguments;
      std::uint64_t seed = 0;
      if (line.empty() || line[0] == '#' || !(words >> with.nodes >> seed)) continue;
      one(seed, with);
    }
  } else {
    for (std::uint64_t seed = arguments.first; seed <= arguments.last; ++seed) {
      one(seed, arguments);
      if (!arguments.plant.empty() && violations > 0) break;
    }
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
