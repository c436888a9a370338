#pragma once
// What the operator typed: CTDB's options, ours, the verb and its arguments. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/time.h"

namespace tdbmesh::ctl {

struct Options {
  std::string program = "tdbmesh";      // base name of argv[0]; "ctdb" is understood as a role
  std::optional<std::uint32_t> node;    // -n N
  bool all_nodes = false;               // -n all (not as ctdb, which never had it)
  int timelimit = 10;                   // -t, seconds per request
  int max_runtime = 120;                // -T, seconds; 0: no limit
  bool machine = false;                 // -X or -Y
  char separator = '|';                 // -x
  bool verbose = false;                 // -v
  bool json = false;
  std::string debug_level;              // -d; accepted, the tool logs nothing
  std::string socket;                   // --socket; empty: see socket_path()
  std::string config_dir;               // --config-dir; empty: see config_dir()
  std::vector<std::string> words;       // verb and arguments

  [[nodiscard]] bool as_ctdb() const { return program == "ctdb"; }
  [[nodiscard]] Duration timeout() const { return seconds(timelimit); }
};

// The command line ends here: print `text` (to stdout if status is 0) and exit.
struct StopHere {
  int status = 0;
  std::string text;
};

// `arguments` without argv[0]. `environment_timeout` is CTDB_TIMEOUT or empty.
[[nodiscard]] std::variant<Options, StopHere> parse_options(const std::string& argv0,
                                                            std::vector<std::string> arguments,
                                                            const std::string& environment_timeout);

}  // namespace tdbmesh::ctl
