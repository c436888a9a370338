// samba check: collects what samba_check.h judges, from this node.

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tools/ctl/samba_check.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

namespace fs = std::filesystem;

// What a fixed command prints, errors to `errors`.
struct Said {
  int status = -1;
  std::string text;
};
Said run(const char* command) {
  Said said;
  std::FILE* pipe = ::popen(command, "r");
  if (pipe == nullptr) return said;
  std::array<char, 4096> part{};
  for (std::size_t got = 0; (got = std::fread(part.data(), 1, part.size(), pipe)) > 0;) said.text.append(part.data(), got);
  const int status = ::pclose(pipe);
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return said;
}

// With our shim, unless the caller preloads something.
Said run_with_shim(const std::string& command) {
  return run(("LD_PRELOAD=${LD_PRELOAD:-libtdbmesh-tdb.so} " + command + " </dev/null").c_str());
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) found.push_back(line);
  return found;
}

std::string resolved(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return std::move(all).str();
}

// The kind of shared file system that `path` is on; empty if it is on a local one or is not there.
std::string cluster_file_system(const std::string& path) {
  struct statfs about {};
  if (path.empty() || ::statfs(path.c_str(), &about) != 0) return {};
  switch (static_cast<unsigned long>(about.f_type) & 0xFFFFFFFFu) {
    case NFS_SUPER_MAGIC: return "NFS";
    case CEPH_SUPER_MAGIC: return "CephFS";
    case OCFS2_SUPER_MAGIC: return "OCFS2";
    case FUSE_SUPER_MAGIC: return "FUSE, such as GlusterFS";
    case SMB_SUPER_MAGIC: case SMB2_SUPER_MAGIC: case CIFS_SUPER_MAGIC: return "SMB";
    case 0x01161970: return "GFS2";
    case 0x0BD00BD0: return "Lustre";
    case 0x47504653: return "GPFS";
    default: return {};
  }
}

// Those of this node: a container on the same machine has its own Samba.
std::vector<SambaProcess> processes() {
  std::vector<SambaProcess> found;
  std::error_code error;
  const fs::path here = fs::read_symlink("/proc/self/ns/pid", error);
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::string name = content(entry.path() / "comm");
    if (!name.empty()) name.pop_back();
    if (!is_samba_process(name)) continue;
    const fs::path there = fs::read_symlink(entry.path() / "ns" / "pid", error);
    if (!error && there != here) continue;
    const std::string maps = content(entry.path() / "maps");
    // A process that ends meanwhile, or a zombie, has none; one of another user cannot be read.
    const std::string status = content(entry.path() / "status");
    if (maps.empty() && (status.empty() || status.find("\nState:\tZ") != std::string::npos)) continue;
    found.push_back({std::atoi(pid.c_str()), name, maps.empty() ? SambaProcess::Shim::Unknown : shim_in_maps(maps)});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return found;
}

SambaFacts collect(const Options& options) {
  SambaFacts facts;
  const std::string socket = socket_path(options.socket);
  if (auto session = Session::open(socket, options.timeout())) {
    facts.daemon_answers = true;
    facts.daemon_socket = resolved(socket);
  }
  // "Version 4.17.12-Debian"
  const Said version = run("smbd -V 2>/dev/null");
  if (version.status == 0 && version.text.starts_with("Version ")) {
    facts.smbd_version = version.text.substr(8, version.text.find('\n') - 8);
  }
  facts.shim_found = run_with_shim("/bin/true 2>&1").text.empty();
  // Settings may be in the registry, which is one of our databases: these need the shim as Samba does.
  const Said conf = run_with_shim("testparm -sv 2>/dev/null");
  facts.global = parse_global(conf.text);
  const std::vector<std::string> complaints = lines(run_with_shim("testparm -s 2>&1 >/dev/null").text);
  if (conf.status != 0 || facts.global.empty()) {
    facts.configuration_error = conf.status == 127  ? "testparm is not installed"
                                : complaints.empty() ? fmt::format("testparm ended with {}", conf.status)
                                                     : complaints.back();
    const char* elsewhere = std::getenv("SMB_CONF_PATH");
    facts.global = parse_global(content(elsewhere == nullptr ? "/etc/samba/smb.conf" : elsewhere));
  }
  for (const std::string& line : complaints) {
    if (line.starts_with("Unknown parameter") || line.starts_with("ERROR")) {
      facts.configuration_complaints.push_back(line);
    }
  }
  // Outside the cluster this would make a database of its own.
  if (facts.daemon_answers && facts.global["clustering"] == "Yes") {
    const std::string keys = run_with_shim("dbwrap_tool --persistent secrets.tdb listkeys 2>/dev/null").text;
    facts.sid_owners = secrets_of("SID", keys);
    facts.joined = secrets_of("MACHINE_PASSWORD", keys);
  }
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) == 0) facts.host_name = host.data();
  facts.host_name = facts.host_name.substr(0, facts.host_name.find('.'));
  std::string wanted = facts.global["ctdbd socket"];
  if (wanted.empty()) wanted = "/run/ctdb/ctdbd.socket";
  struct stat about {};
  facts.samba_socket_there = ::stat(wanted.c_str(), &about) == 0 && S_ISSOCK(about.st_mode);
  facts.samba_socket = resolved(wanted);
  for (const char* folder : {"private dir", "lock directory", "state directory", "cache directory", "pid directory"}) {
    const auto at = facts.global.find(folder);
    if (at == facts.global.end()) continue;
    if (const std::string kind = cluster_file_system(at->second); !kind.empty()) facts.shared_folders[folder] = kind;
  }
  facts.processes = processes();
  return facts;
}

const char* word(Finding::Level level) {
  switch (level) {
    case Finding::Level::Good: return "ok";
    case Finding::Level::Warning: return "warning";
    case Finding::Level::Error: return "ERROR";
  }
  return "?";
}

}  // namespace

Outcome<int> run_samba(Invocation& in) {
  if (in.args.size() != 1 || in.args[0] != "check") return wrong_usage(in, "samba");
  int errors = 0;
  int warnings = 0;
  Json list = Json::array();
  std::string text;
  for (const Finding& finding : check_samba(collect(in.options))) {
    errors += finding.level == Finding::Level::Error ? 1 : 0;
    warnings += finding.level == Finding::Level::Warning ? 1 : 0;
    text += fmt::format("{:<8} {:<10} {}\n", word(finding.level), finding.subject, finding.text);
    if (!finding.remedy.empty()) text += fmt::format("{:<20}to do: {}\n", "", finding.remedy);
    Json entry{{"level", finding.level == Finding::Level::Error ? "error" : word(finding.level)},
               {"subject", finding.subject}, {"text", finding.text}};
    if (!finding.remedy.empty()) entry["remedy"] = finding.remedy;
    list.push_back(std::move(entry));
  }
  text += fmt::format("{} error(s), {} warning(s)\n", errors, warnings);
  in.console.show(text, {{"findings", std::move(list)}, {"errors", errors}, {"warnings", warnings}});
  return errors == 0 ? 0 : 1;
}

}  // namespace tdbmesh::ctl
