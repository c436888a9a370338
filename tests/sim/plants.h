#pragma once
// The bugs that can be planted, in the cores (db/base/plants.h) and in what the simulation puts beneath them, each with
// the runs that must find it: so many nodes, under these kinds of faults, within the seeds 1 to `within`. Faults are
// aimed so that each is found in seconds; what a bug needs is more often a coincidence than a certain fault.

#include <string>
#include <vector>

#include "db/base/plants.h"

namespace tdbmesh::sim {

struct PlantedBug {
  const char* name;
  Plant plant;                    // None: beneath the node, see node_sim.cc
  const char* program;            // "node", "control", or "reconfigure": that with --reconfigure
  std::size_t nodes;
  std::int64_t seconds;           // of faults, per seed
  std::uint64_t within;           // seeds
  std::vector<std::string> only;  // kinds of faults; empty: all
  const char* what;
};

[[nodiscard]] const std::vector<PlantedBug>& planted_bugs();
[[nodiscard]] const PlantedBug* find_planted_bug(const std::string& name);

}  // namespace tdbmesh::sim
