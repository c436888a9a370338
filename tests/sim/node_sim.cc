// Whole clusters in virtual time: production nodes, clients that use them as Samba does, faults. One run per seed:
// faults for some virtual seconds with the checkers on (node_cluster.h), then none, and all must be well and every
// client served within a bound.
//
//   node_sim --seeds A-B [--nodes N] [--seconds S] [--no-store-faults]
//   node_sim --seed N [--trace]            replays one; the trace goes to stderr
//   node_sim --file node_seeds.txt         seeds that once found something: "nodes seconds seed" per line
//   node_sim --plant NAME --seeds A-B      with a planted bug; succeeds iff a checker objects

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/sim/node_cluster.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::sim;

struct Arguments {
  std::uint64_t first = 1;
  std::uint64_t last = 20;
  std::size_t nodes = 0;  // 0: 1 to 5 by seed
  std::int64_t seconds = 20;
  std::string plant;
  std::string file;
  bool store_faults = true;
  bool trace = false;
};

struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t violations = 0;
  NodeCluster::Counts counts;
  double virtual_seconds = 0;
};

bool plant(ClusterSettings& settings, const std::string& name) {
  if (name.empty()) return true;
  const std::pair<const char*, bool*> known[] = {
      {"keep-records", &settings.plants.store.keep_on_drop},
      {"ignore-gate", &settings.plants.ignore_gate},
      {"lie-about-disk", &settings.plants.lie_about_disk},
      {"hide-attached", &settings.plants.hide_attached},
      {"swallow-gaps", &settings.plants.swallow_gaps},
      {"lease-from-arrival", &settings.heartbeat_hooks.lease_from_arrival},
      {"support-ignores-join", &settings.heartbeat_hooks.support_ignores_join},
  };
  for (const auto& [known_name, flag] : known) {
    if (name != known_name) continue;
    *flag = true;
    return true;
  }
  std::fprintf(stderr, "no bug is called %s: see plant() in node_sim.cc\n", name.c_str());
  return false;
}

std::size_t nodes_for(std::uint64_t seed, const Arguments& arguments) {
  return arguments.nodes != 0 ? arguments.nodes : 1 + seed % 5;
}

void run(std::uint64_t seed, const Arguments& arguments, Totals& totals) {
  ClusterSettings settings;
  settings.nodes = nodes_for(seed, arguments);
  settings.trace = arguments.trace;
  settings.store_faults = arguments.store_faults;
  if (!plant(settings, arguments.plant)) std::exit(2);
  NodeCluster cluster(seed, settings);
  const Duration well_within = settings.timing.silence * 10 + seconds(5);
  const bool fine = cluster.run_with_faults(seconds(arguments.seconds)) &&
                    cluster.run_until_well(well_within, seconds(15));
  const NodeCluster::Counts& counts = cluster.counts();
  ++totals.runs;
  totals.counts.views += counts.views;
  totals.counts.leaders += counts.leaders;
  totals.counts.faults += counts.faults;
  totals.counts.operations += counts.operations;
  totals.counts.commits += counts.commits;
  totals.counts.to_well = std::max(totals.counts.to_well, counts.to_well);
  totals.counts.round = std::max(totals.counts.round, counts.round);
  totals.virtual_seconds += std::chrono::duration<double>(cluster.world().now() - Instant(seconds(1000))).count();
  if (fine) return;
  ++totals.violations;
  if (!arguments.plant.empty()) std::fprintf(stderr, "noticed: ");
  std::fprintf(stderr, "seed %llu (%zu nodes, %lld s): %s\n", static_cast<unsigned long long>(seed), settings.nodes,
               static_cast<long long>(arguments.seconds), cluster.violation().c_str());
}

bool parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
    if (name == "--seed") {
      arguments.first = arguments.last = std::strtoull(value().c_str(), nullptr, 10);
    } else if (name == "--seeds") {
      const std::string range = value();
      arguments.first = arguments.last = std::strtoull(range.c_str(), nullptr, 10);
      const auto dash = range.find('-');
      if (dash != std::string::npos) arguments.last = std::strtoull(range.c_str() + dash + 1, nullptr, 10);
    } else if (name == "--nodes") {
      arguments.nodes = std::min<std::size_t>(std::strtoull(value().c_str(), nullptr, 10), 9);
    } else if (name == "--seconds") {
      arguments.seconds = std::strtoll(value().c_str(), nullptr, 10);
    } else if (name == "--plant") {
      arguments.plant = value();
    } else if (name == "--file") {
      arguments.file = value();
    } else if (name == "--no-store-faults") {
      arguments.store_faults = false;
    } else if (name == "--trace") {
      arguments.trace = true;
    } else {
      std::fprintf(stderr, "unknown argument %s: see the head of node_sim.cc\n", name.c_str());
      return false;
    }
  }
  return true;
}

void run_file(const Arguments& arguments, Totals& totals) {
  std::ifstream file(arguments.file);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", arguments.file.c_str());
    std::exit(2);
  }
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    Arguments with = arguments;
    std::uint64_t seed = 0;
    if (line.empty() || line[0] == '#' || !(words >> with.nodes >> with.seconds >> seed)) continue;
    run(seed, with, totals);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse(argc, argv, arguments)) return 2;
  Totals totals;
  if (!arguments.file.empty()) {
    run_file(arguments, totals);
  } else {
    for (std::uint64_t seed = arguments.first; seed <= arguments.last; ++seed) {
      run(seed, arguments, totals);
      if (!arguments.plant.empty() && totals.violations > 0) break;
    }
  }
  const auto in_seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  std::printf("%llu runs of %.2f virtual hours: %llu faults, %llu views, %llu leaders, %llu operations, %llu commits; "
              "well after %.2f s and all served after %.2f s more at most; %llu violations\n",
              static_cast<unsigned long long>(totals.runs), totals.virtual_seconds / 3600,
              static_cast<unsigned long long>(totals.counts.faults), static_cast<unsigned long long>(totals.counts.views),
              static_cast<unsigned long long>(totals.counts.leaders),
              static_cast<unsigned long long>(totals.counts.operations),
              static_cast<unsigned long long>(totals.counts.commits), in_seconds(totals.counts.to_well),
              in_seconds(totals.counts.round), static_cast<unsigned long long>(totals.violations));
  if (arguments.plant.empty()) return totals.violations == 0 ? 0 : 1;
  if (totals.violations > 0) return 0;
  std::fprintf(stderr, "the planted bug %s was not noticed\n", arguments.plant.c_str());
  return 1;
}
