#include "tools/daemon/script_environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tdbmesh {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCtdbHelpers = "/usr/libexec/ctdb";
constexpr const char* kCtdbConfig = "/etc/ctdb";
// What CTDB's scripts use of its folder, and what is not configuration of the cluster.
constexpr const char* kScriptParts[] = {"functions",     "nfs-checks.d",         "nfs-linux-kernel-callout",
                                        "statd-callout", "debug-hung-script.sh", "script.options"};

std::string tool_path() {
  std::error_code ignored;
  const auto folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const auto beside = folder / "tdbmesh";
  const auto installed = folder.parent_path() / TDBMESH_BINDIR / "tdbmesh";
  return fs::exists(beside, ignored) ? beside.string() : installed.string();
}

void link_all(const fs::path& from, const fs::path& to) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(from, ignored)) {
    fs::create_symlink(entry.path(), to / entry.path().filename(), ignored);  // what is there already stays
  }
}

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// `ctdb-config get SECTION OPTION`: prints the value, or exits with 2 if it is not set. `validate`: what the daemon
// has read is valid.
void write_ctdb_config(const Config& config, const fs::path& path) {
  std::ofstream out(path, std::ios::trunc);
  const auto answer = [&](const char* key, const std::string& value) {
    if (!value.empty()) out << quoted(key) << ") echo " << quoted(value) << " ;;\n";
  };
  const std::string elsewhere = config.paths.runtime_dir + "/events/no-tdb-files";
  out << "#!/bin/sh\n[ \"$1\" = validate ] && exit 0\n[ \"$1\" = get ] || exit 22\ncase \"$2/$3\" in\n";
  answer("cluster/recovery lock", config.cluster_lock);
  answer("cluster/cluster lock", config.cluster_lock);
  answer("cluster/node address", config.address);
  answer("cluster/transport", "tcp");
  answer("database/volatile database directory", elsewhere);
  answer("database/persistent database directory", elsewhere);
  answer("database/state database directory", elsewhere);
  answer("logging/location", config.log_location);
  answer("event/debug script", config.event_debug_script);
  out << "*) exit 2 ;;\nesac\n";
  out.close();
  std::error_code ignored;
  fs::permissions(path, fs::perms(0755), ignored);
}

std::string script_base(const Config& config, const fs::path& folder) {
  std::error_code ignored;
  const fs::path own = config.paths.config_dir;
  if (fs::exists(own / "functions", ignored) || !fs::exists(fs::path(kCtdbConfig) / "functions", ignored)) return own;
  fs::create_directories(folder, ignored);
  link_all(own, folder);
  for (const char* name : kScriptParts) {
    const fs::path part = fs::path(kCtdbConfig) / name;
    if (fs::exists(part, ignored)) fs::create_symlink(part, folder / name, ignored);
  }
  return folder;
}

}  // namespace

bool any_script_enabled(const EventFolders& folders) {
  const auto scripts = list_scripts(folders);
  return scripts && std::any_of(scripts->begin(), scripts->end(), [](const EventScript& s) { return s.enabled; });
}

ScriptRunner::Settings prepare_scripts(const Config& config, Log& log) {
  std::error_code ignored;
  const fs::path folder = fs::path(config.paths.runtime_dir) / "events";
  const fs::path helpers = folder / "helpers";
  fs::remove_all(folder, ignored);
  fs::create_directories(helpers, ignored);
  fs::create_symlink(tool_path(), helpers / "ctdb", ignored);
  fs::create_symlink(tool_path(), helpers / "tdbmesh", ignored);
  write_ctdb_config(config, helpers / "ctdb-config");
  link_all(kCtdbHelpers, helpers);
  const std::string vardir = config.paths.state_dir + "/scripts";
  fs::create_directories(vardir, ignored);

  ScriptRunner::Settings settings;
  settings.folders = event_folders(config.paths.config_dir);
  const std::string base = script_base(config, folder / "base");
  const char* path = std::getenv("PATH");
  const auto set = [&](const char* name, const std::string& value) {
    settings.environment.push_back(fmt::format("{}={}", name, value));
  };
  set("PATH", helpers.string() + ":" + (path != nullptr ? path : "/usr/sbin:/usr/bin:/sbin:/bin"));
  set("HOME", "/root");
  set("LC_ALL", "C");
  set("CTDB_BASE", base);
  set("CTDB", (helpers / "ctdb").string());
  set("CTDB_HELPER_BINDIR", helpers.string());
  set("CTDB_SOCKET", config.paths.runtime_dir + "/ctdbd.socket");
  set("CTDB_SCRIPT_VARDIR", vardir);
  set("CTDB_VARDIR", config.paths.state_dir);
  set("CTDB_RUNDIR", config.paths.runtime_dir);
  set("CTDB_LOGGING", config.log_location);
  set("CTDB_DEBUGLEVEL", std::to_string(config.debug_level));
  set("CTDB_PNN", to_string(config.self));
  settings.debug_script =
      config.event_debug_script.empty() ? base + "/debug-hung-script.sh" : config.event_debug_script;
  settings.log = [&log](const std::string& line) { log.write(LogLevel::Notice, line); };
  settings.complain = [&log](const std::string& text) { log.write(LogLevel::Error, text); };
  return settings;
}

}  // namespace tdbmesh
