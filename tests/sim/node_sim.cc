// Whole clusters in virtual time: production nodes, clients that use them as Samba does, faults. One run per seed:
// faults for some virtual seconds with the checkers on (node_cluster.h), then none, and all must be well and every
// client served within a bound. Arguments: arguments.h, or --help.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "tests/sim/arguments.h"
#include "tests/sim/node_cluster.h"
#include "tests/sim/plants.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::sim;

struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t violations = 0;
  NodeCluster::Counts counts;
  double virtual_seconds = 0;
  std::map<std::size_t, std::uint64_t> sizes;
};

// Beneath the node, or by hooks of its cores.
void plant(ClusterSettings::Plants& plants, const std::string& name) {
  plants.forget_vote = name == "forget-vote";
  plants.forget_accepted = name == "forget-accepted";
  plants.ignore_gate = name == "ignore-gate";
  plants.lie_about_disk = name == "lie-about-disk";
  plants.hide_attached = name == "hide-attached";
  plants.swallow_gaps = name == "swallow-gaps";
  plants.hide_missed = name == "hide-missed";
  plants.records.leaving_hands_over_owned_only = name == "leaver-forgets-copies";
  plants.records.leaving_does_not_ask = name == "leaver-does-not-ask";
  plants.keep_addresses = name == "keep-addresses";
  plants.no_supervisor = name == "no-supervisor";
  plants.no_wait_for_released = name == "no-wait-for-released";
  plants.ignore_numbers = name == "ignore-numbers";
  plants.any_generation = name == "any-generation";
}

// The sizes that people build most often.
std::size_t nodes_for(const SeededRun& run) {
  if (run.nodes != 0) return run.nodes;
  const std::size_t drawn[] = {3, 3, 3, 2, 4, 5, 3, 1, 3, 7, 3, 4, 2, 3, 9, 5};
  return drawn[run.seed % std::size(drawn)];
}

void run(const SeededRun& run, const Arguments& arguments, Totals& totals) {
  ClusterSettings settings;
  settings.nodes = nodes_for(run);
  // Every other cluster of two has the lock, when the seed decides.
  settings.lock = arguments.lock || (run.nodes == 0 && settings.nodes == 2 && run.seed / 16 % 2 == 0);
  settings.witness = arguments.witness;
  settings.lasting_cut = arguments.lasting_cut && settings.nodes > 2;
  settings.timing = timing_of(run.profile, run.seed);
  settings.trace = arguments.trace;
  settings.store_faults = arguments.store_faults;
  settings.addresses = run.addresses;
  // Smaller seeds stay what they were: planted bugs and seeds.txt count on them.
  settings.visitors = run.seed >= 10000 && run.seed % 2 == 1 && !settings.lasting_cut;  // detaching takes all nodes
  settings.change_nodes = run.seed >= 10000 && run.seed / 2 % 2 == 1 && !settings.lock;
  settings.asking = (run.seed >= 10000 && run.seed / 4 % 2 == 1) || arguments.plant == "hide-missed";
  settings.judge_silence = arguments.plant.empty() || arguments.plant == "call-dead-early" || arguments.plant == "impatient-prepare";
  settings.only_faults = arguments.only;
  plant(settings.plants, arguments.plant);
  NodeCluster cluster(run.seed, settings);
  const Duration well_within = settings.timing.silence * 10 + seconds(5);
  const bool fine = cluster.run_with_faults(seconds(run.seconds)) &&
                    cluster.run_until_well(well_within, seconds(15));
  const NodeCluster::Counts& counts = cluster.counts();
  ++totals.runs;
  totals.counts.views += counts.views;
  totals.counts.leaders += counts.leaders;
  ++totals.sizes[settings.nodes];
  for (const auto& [kind, count] : counts.faults) totals.counts.faults[kind] += count;
  totals.counts.operations += counts.operations;
  totals.counts.commits += counts.commits;
  totals.counts.leaves += counts.leaves;
  totals.counts.traverses += counts.traverses;
  totals.counts.detaches += counts.detaches;
  totals.counts.to_well = std::max(totals.counts.to_well, counts.to_well);
  totals.counts.round = std::max(totals.counts.round, counts.round);
  totals.virtual_seconds += std::chrono::duration<double>(cluster.world().now() - Instant(seconds(1000))).count();
  if (fine) return;
  ++totals.violations;
  if (!arguments.plant.empty()) std::fprintf(stderr, "noticed: ");
  std::fprintf(stderr, "seed %llu (%zu nodes, %lld s, %s): %s\n", static_cast<unsigned long long>(run.seed),
               settings.nodes, static_cast<long long>(run.seconds), run.profile.c_str(), cluster.violation().c_str());
  if (arguments.trace) return;
  std::fprintf(stderr, "before that, oldest first:\n%s", cluster.recent().c_str());
  std::fprintf(stderr, "replay: node_sim --seed %llu --nodes %zu --seconds %lld --profile %s --addresses %zu%s%s --trace\n",
               static_cast<unsigned long long>(run.seed), run.nodes, static_cast<long long>(run.seconds),
               run.profile.c_str(), run.addresses, arguments.lock ? " --lock" : arguments.witness ? " --witness" : "",
               arguments.lasting_cut ? " --lasting-cut" : "");
}

void print(const Totals& totals) {
  const auto in_seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  std::uint64_t faults = 0;
  for (const auto& [kind, count] : totals.counts.faults) faults += count;
  std::printf("%llu runs of %.2f virtual hours: %llu faults, %llu views, %llu leaders, %llu leaves in order, "
              "%llu operations, %llu commits, %llu traverses, %llu detaches; "
              "well after %.2f s and all served after %.2f s more at most; %llu violations\n",
              static_cast<unsigned long long>(totals.runs), totals.virtual_seconds / 3600,
              static_cast<unsigned long long>(faults), static_cast<unsigned long long>(totals.counts.views),
              static_cast<unsigned long long>(totals.counts.leaders),
              static_cast<unsigned long long>(totals.counts.leaves),
              static_cast<unsigned long long>(totals.counts.operations),
              static_cast<unsigned long long>(totals.counts.commits),
              static_cast<unsigned long long>(totals.counts.traverses),
              static_cast<unsigned long long>(totals.counts.detaches), in_seconds(totals.counts.to_well),
              in_seconds(totals.counts.round), static_cast<unsigned long long>(totals.violations));
  std::printf("clusters by size:");
  for (const auto& [size, count] : totals.sizes) std::printf(" %zu: %llu", size, static_cast<unsigned long long>(count));
  std::printf("\n");
  for (const auto& [kind, count] : totals.counts.faults) {
    std::printf("  fault %-24s %llu\n", kind.c_str(), static_cast<unsigned long long>(count));
  }
}

int list() {
  for (const std::string& kind : NodeCluster::fault_kinds()) std::printf("fault %s\n", kind.c_str());
  for (const PlantedBug& bug : planted_bugs()) {
    std::printf("planted bug %-30s %s, within %llu seeds: %s\n", bug.name, bug.program,
                static_cast<unsigned long long>(bug.within), bug.what);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse_arguments(argc, argv, "node", 20);
  if (arguments.list) return list();
  Totals totals;
  for (const SeededRun& each : arguments.runs) {
    run(each, arguments, totals);
    if (!arguments.plant.empty() && totals.violations > 0) break;
  }
  const auto begin = std::chrono::steady_clock::now();
  SeededRun fresh = arguments.pattern;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < arguments.for_seconds) {
    run(fresh, arguments, totals);
    ++fresh.seed;
  }
  if (arguments.for_seconds > 0) {
    std::printf("seeds %llu-%llu\n", static_cast<unsigned long long>(arguments.pattern.seed),
                static_cast<unsigned long long>(fresh.seed - 1));
  }
  print(totals);
  if (arguments.plant.empty()) return totals.violations == 0 ? 0 : 1;
  if (totals.violations > 0) return 0;
  std::fprintf(stderr, "the planted bug %s was not noticed\n", arguments.plant.c_str());
  return 1;
}
