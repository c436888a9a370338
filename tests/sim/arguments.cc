#include "tests/sim/arguments.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "db/base/random.h"
#include "tests/sim/plants.h"

namespace tdbmesh::sim {

namespace {

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(2);
}

void read_file(const std::string& path, const std::string& program, Arguments& arguments) {
  std::ifstream file(path);
  if (!file) stop("cannot read " + path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    std::istringstream words(line);
    std::string name;
    if (line.empty() || line[0] == '#' || !(words >> name)) continue;
    SeededRun run;
    if (!(words >> run.nodes >> run.seconds >> run.profile >> run.seed)) {
      stop(path + ", line " + std::to_string(number) + ": not PROGRAM NODES SECONDS PROFILE SEED [ADDRESSES]");
    }
    if (words >> std::ws; !words.eof() && !(words >> run.addresses)) {
      stop(path + ", line " + std::to_string(number) + ": what follows the seed is not a number of addresses");
    }
    if (name == program) arguments.runs.push_back(run);
  }
  if (arguments.runs.empty()) stop(path + " has no line for " + program);
}

void read_range(const std::string& range, std::uint64_t& first, std::uint64_t& last) {
  char* end = nullptr;
  first = last = std::strtoull(range.c_str(), &end, 10);
  if (*end == '-') last = std::strtoull(end + 1, &end, 10);
  if (end == range.c_str() || *end != '\0' || last < first) stop("--seeds takes A-B, not " + range);
}

}  // namespace

const std::vector<std::string>& profiles() {
  static const std::vector<std::string> names{"standard", "impatient", "patient", "long-lease", "any"};
  return names;
}

Timing timing_of(const std::string& profile, std::uint64_t seed) {
  if (profile == "any") {
    // Mostly as shipped.
    const char* drawn[] = {"standard", "standard", "standard", "impatient", "patient", "long-lease"};
    return timing_of(drawn[Random(seed ^ 0x7469u).below(std::size(drawn))], seed);
  }
  if (profile == "impatient") return Timing::impatient();
  if (profile == "patient") return Timing::patient();
  Timing timing;
  // Longer than the silence that makes a node lost, so that every removal has to wait.
  if (profile == "long-lease") timing.lease = milliseconds(700);
  return timing;
}

Arguments parse_arguments(int argc, char** argv, const std::string& program, std::int64_t default_seconds) {
  Arguments arguments;
  std::uint64_t seed = 0;
  std::string range;
  std::string file;
  bool no_store_faults = false;
  arguments.pattern.seconds = default_seconds;
  arguments.pattern.profile = "standard";
  CLI::App app("Simulated clusters in virtual time, one run per seed; 0: no checker objected");
  auto* one = app.add_option("--seed", seed, "replay one run");
  app.add_option("--seeds", range, "A-B: these, one after the other (1-20)")->excludes(one);
  app.add_option("--file", file, "the lines of this file: see tests/sim/arguments.h");
  app.add_option("--for", arguments.for_seconds, "fresh seeds from --seed on (0: from the clock) for so many seconds of real time");
  app.add_option("--nodes", arguments.pattern.nodes, "1 to 9; 0: as the seed says")->check(CLI::Range(0, 9));
  app.add_option("--seconds", arguments.pattern.seconds, "virtual seconds of faults");
  app.add_option("--profile", arguments.pattern.profile, "timing")->check(CLI::IsMember(profiles()));
  app.add_option("--plant", arguments.plant, "with this planted bug: succeeds iff a checker objects, and stops there");
  app.add_option("--only", arguments.only, "only faults of these kinds")->delimiter(',');
  app.add_flag("--reconfigure", arguments.reconfigure, "five machines, of which 2 to 5 are in the nodes file, which changes");
  app.add_flag("--lock", arguments.lock, "two nodes, the cluster lock is the third vote");
  app.add_flag("--witness", arguments.witness, "two servers and a witness");
  app.add_flag("--lasting-cut", arguments.lasting_cut, "one direction of a link stays cut when the faults end (three nodes and more)");
  app.add_flag("--trace", arguments.trace, "all that happens, on stderr");
  app.add_flag("--no-store-faults", no_store_faults, "stores never fail or fill up");
  app.add_option("--addresses", arguments.pattern.addresses, "public addresses that every node may host")->check(CLI::Range(0, 64));
  app.add_flag("--list", arguments.list, "the planted bugs and kinds of faults");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  arguments.store_faults = !no_store_faults;
  if (!arguments.plant.empty()) {
    const PlantedBug* bug = find_planted_bug(arguments.plant);
    if (bug == nullptr) stop("no bug is called " + arguments.plant + ": --list names them");
#ifdef TDBMESH_PLANTS
    plant_bug(bug->plant);
#else
    // What control_plane_sim plants it hands in by hooks.
    if (bug->plant != Plant::None && program == "node") stop("node_sim has no bugs in its cores: use node_sim_planted");
#endif
    // What was not said on the command line is as in the table.
    if (app.count("--nodes") == 0) arguments.pattern.nodes = bug->nodes;
    if (app.count("--seconds") == 0) arguments.pattern.seconds = bug->seconds;
    if (arguments.only.empty()) arguments.only = bug->only;
    if (bug->program == std::string("reconfigure")) arguments.reconfigure = true;
    if (range.empty()) range = "1-" + std::to_string(bug->within);
    arguments.store_faults = false;
  }
  if (arguments.lock) arguments.pattern.nodes = 2;
  if (arguments.witness) arguments.pattern.nodes = 3;
  if (arguments.reconfigure) arguments.pattern.nodes = 5;
  arguments.pattern.seed = seed;
  if (seed == 0) {
    arguments.pattern.seed = arguments.for_seconds > 0 ? static_cast<std::uint64_t>(std::time(nullptr)) * 1000 : 1;
  }
  if (arguments.for_seconds > 0) {
    std::printf("first seed %llu\n", static_cast<unsigned long long>(arguments.pattern.seed));
    std::fflush(stdout);
  }
  if (!file.empty()) {
    read_file(file, program, arguments);
  } else if (arguments.for_seconds <= 0) {
    std::uint64_t first = seed;
    std::uint64_t last = seed;
    if (one->count() == 0) read_range(range.empty() ? "1-20" : range, first, last);
    for (std::uint64_t s = first; s <= last; ++s) {
      arguments.runs.push_back(arguments.pattern);
      arguments.runs.back().seed = s;
    }
  }
  return arguments;
}

}  // namespace tdbmesh::sim
