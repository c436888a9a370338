#pragma once
// The command line that the simulations share, and the file of seeds.
//
// One line of seeds.txt is one run: "PROGRAM NODES SECONDS PROFILE SEED [ADDRESSES]", PROGRAM `node` or `control`; a `#`
// begins a comment, and the lines above a seed say what it found. A program runs the lines that carry its name. A seed
// replays a run only as long as the simulation draws the same random numbers: after a change of faults or
// workloads it is one more run; what it found is kept by a test of its own.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/timing.h"

namespace tdbmesh::sim {

struct SeededRun {
  std::uint64_t seed = 0;
  std::size_t nodes = 0;         // 0: as the seed says
  std::int64_t seconds = 0;      // of faults
  std::string profile;           // see profiles(); "any": as the seed says
  std::size_t addresses = 0;     // public addresses; only nodes have them, not control planes alone
};

struct Arguments {
  std::vector<SeededRun> runs;   // in order; empty with --for
  SeededRun pattern;             // what `runs` have in common; `seed` is the first
  std::string plant;
  std::vector<std::string> only; // kinds of faults; empty: all
  bool lock = false;
  bool witness = false;
  bool reconfigure = false;
  bool lasting_cut = false;
  bool trace = false;
  bool store_faults = true;
  double for_seconds = 0;        // real time; fresh seeds from pattern.seed on until it is over
  bool list = false;
};

// Ends the process on --help and on a mistake. `program`: the name of its lines in the file.
[[nodiscard]] Arguments parse_arguments(int argc, char** argv, const std::string& program, std::int64_t default_seconds);

[[nodiscard]] const std::vector<std::string>& profiles();
// "any" draws one by the seed.
[[nodiscard]] Timing timing_of(const std::string& profile, std::uint64_t seed);

}  // namespace tdbmesh::sim
