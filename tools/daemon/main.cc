// tdbmeshd: reads the configuration, goes into the background, runs a Daemon.

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "tools/daemon/background.h"
#include "tools/daemon/config.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/logging.h"
#include "tools/daemon/setup_from_config.h"

namespace tdbmesh {
namespace {

// Samba keeps two connections a process and each database costs the daemon a few descriptors.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = std::max<rlim_t>(limit.rlim_max, 65536);
  rlimit raised{wanted, wanted};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return;
  limit.rlim_cur = limit.rlim_max;  // without the right to raise the ceiling: up to it
  setrlimit(RLIMIT_NOFILE, &limit);
}

// LMDB asks for 2 MB of zeros per environment and uses next to nothing of it. Mapped, that costs nothing; out of the heap,
// where glibc moves such blocks once one of them was freed, it is written and stays: 2 MB of memory per database.
void keep_large_blocks_mapped() { mallopt(M_MMAP_THRESHOLD, 512 * 1024); }

int run(const ConfigPaths& paths, bool foreground, const std::vector<std::uint32_t>& lost) {
  Result<Config> config = load_config(paths);
  if (!config) {
    std::fprintf(stderr, "tdbmeshd: %s\n", config.error().context.c_str());
    return 1;
  }
  std::error_code ignored;  // a directory that cannot be made shows at the first file in it, with its name
  std::filesystem::create_directories(paths.state_dir, ignored);
  std::filesystem::create_directories(paths.runtime_dir, ignored);
  raise_descriptor_limit();
  keep_large_blocks_mapped();
  ::umask(077);

  Background background = Background::foreground();
  if (!foreground) {
    Result<Background> entered = Background::enter();
    if (!entered) {
      std::fprintf(stderr, "tdbmeshd: %s\n", entered.error().context.c_str());
      return 1;
    }
    background = *entered;
  }
  Result<std::unique_ptr<Log>> log = Log::open(config->log_location, config->debug_level);
  if (!log) {
    background.failed(log.error().context);
    return 1;
  }
  Log& out = **log;
  out.write(LogLevel::Notice, fmt::format("tdbmesh {} starts as node {} ({})", TDBMESH_VERSION, to_string(config->self),
                                          config->address));
  for (const std::string& notice : config->notices) out.write(LogLevel::Notice, notice);

  DaemonSetup setup = setup_from_config(*config, out);
  for (const std::uint32_t pnn : lost) setup.force_without.insert(Pnn{pnn});
  Result<std::unique_ptr<Daemon>> daemon = Daemon::start(std::move(setup));
  if (!daemon) {
    out.write(LogLevel::Error, "cannot start: " + daemon.error().context);
    background.failed(daemon.error().context);
    return 1;
  }
  background.ready();
  const int status = (*daemon)->run();
  daemon->reset();
  out.write(LogLevel::Notice, "tdbmeshd ends");
  return status;
}

}  // namespace
}  // namespace tdbmesh

int main(int argc, char** argv) {
  tdbmesh::ConfigPaths paths;
  bool foreground = false;
  bool version = false;
  CLI::App app{"tdbmeshd: the daemon of a tdbmesh node"};
  app.add_option("--config-dir", paths.config_dir, "configuration files (a CTDB node's /etc/ctdb works too)")
      ->capture_default_str();
  app.add_option("--state-dir", paths.state_dir, "what must survive a reboot")->capture_default_str();
  app.add_option("--runtime-dir", paths.runtime_dir, "socket, pid file, volatile databases")->capture_default_str();
  app.add_flag("--foreground,-i", foreground, "stay in the foreground");
  std::vector<std::uint32_t> lost;
  app.add_option("--force-without", lost,
                 "go on without these nodes (1,2), although they were a majority: they are lost for good, with their disks")
      ->delimiter(',');
  app.add_flag("--version", version, "print the version");
  CLI11_PARSE(app, argc, argv);
  if (version) {
    std::printf("%s\n", TDBMESH_VERSION);
    return 0;
  }
  return tdbmesh::run(paths, foreground, lost);
}
