#include "tools/ctl/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "tools/client/text.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

std::string base_name(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// The word behind "could not convert: -n = foo" that CLI11 complains of.
std::string invalid(const std::string& what, const std::string& why) {
  return fmt::format("Invalid option {}: {}", what, why);
}

}  // namespace

std::variant<Options, StopHere> parse_options(const std::string& argv0, std::vector<std::string> arguments,
                                              const std::string& environment_timeout) {
  Options o;
  o.program = base_name(argv0);
  if (!environment_timeout.empty()) {
    if (const auto limit = parse_u32(environment_timeout)) o.max_runtime = static_cast<int>(*limit & 0x7FFFFFFF);
  }

  CLI::App app;
  app.set_help_flag();  // our own: the list of verbs belongs to it
  bool help = false;
  bool dash_y = false;
  bool dash_x_upper = false;
  std::string node;
  std::string timelimit;
  std::string max_runtime;
  std::string separator;
  app.add_flag("-?,--help,--usage", help);
  app.add_option("-d,--debug", o.debug_level);
  app.add_option("-t,--timelimit", timelimit);
  app.add_option("-n,--node", node);
  app.add_flag("-Y", dash_y);
  app.add_option("-x,--separator", separator);
  app.add_flag("-X", dash_x_upper);
  app.add_flag("-v,--verbose", o.verbose);
  app.add_option("-T,--maxruntime", max_runtime);
  app.add_flag("--json", o.json);
  app.add_option("--socket", o.socket);
  app.add_option("--config-dir", o.config_dir);
  app.add_option("words", o.words);

  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::ExtrasError&) {
    const auto extras = app.remaining();
    return StopHere{1, invalid(extras.empty() ? "" : extras.front(), "unknown option")};
  } catch (const CLI::ParseError& error) {
    return StopHere{1, fmt::format("Invalid option: {}; see {} --help", error.what(), o.program)};
  }
  if (help) return StopHere{0, usage_text(o.program)};

  o.machine = dash_y || dash_x_upper;
  if (!separator.empty()) o.separator = separator.front();
  if (!node.empty()) {
    if (node == "all" && !o.as_ctdb()) {
      o.all_nodes = true;
    } else if (const auto number = parse_u32(node)) {
      o.node = *number;
    } else {
      return StopHere{1, invalid(node, "invalid numeric value")};
    }
  }
  for (const auto& [text, target] : {std::pair{&timelimit, &o.timelimit}, std::pair{&max_runtime, &o.max_runtime}}) {
    if (text->empty()) continue;
    const auto value = parse_u32(*text);
    if (!value || *value > 1000000000u) return StopHere{1, invalid(*text, "invalid numeric value")};
    *target = static_cast<int>(*value);
  }
  if (o.words.empty()) return StopHere{1, usage_text(o.program)};
  return o;
}

}  // namespace tdbmesh::ctl
