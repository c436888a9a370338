#include "ipfailover/process_tree.h"

#include <dirent.h>
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

namespace tdbmesh {
namespace {

constexpr std::size_t kMostDescribed = 64;
constexpr std::size_t kMostText = 16 * 1024;

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  char state = '?';
};

std::string read_small(const std::string& path, std::size_t most) {
  std::ifstream in(path, std::ios::binary);
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

std::map<pid_t, Process> all_processes() {
  std::map<pid_t, Process> all;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return all;
  while (const dirent* entry = ::readdir(proc)) {
    const auto pid = static_cast<pid_t>(std::atoi(entry->d_name));
    if (pid <= 0) continue;
    const std::string stat = read_small(fmt::format("/proc/{}/stat", pid), 1024);
    // The name stands in parentheses and may contain some itself.
    const auto end = stat.rfind(')');
    if (end == std::string::npos) continue;
    Process process;
    process.pid = pid;
    if (std::sscanf(stat.c_str() + end + 1, " %c %d %d", &process.state, &process.parent, &process.group) == 3) {
      all[pid] = process;
    }
  }
  ::closedir(proc);
  return all;
}

std::vector<Process> tree_of(pid_t root) {
  const auto all = all_processes();
  std::vector<Process> tree;
  std::set<pid_t> taken;
  if (const auto at = all.find(root); at != all.end()) {
    tree.push_back(at->second);
    taken.insert(root);
  }
  for (const auto& [pid, process] : all) {
    if (process.group == root && taken.insert(pid).second) tree.push_back(process);
  }
  for (std::size_t i = 0; i < tree.size(); ++i) {
    for (const auto& [pid, process] : all) {
      if (process.parent == tree[i].pid && taken.insert(pid).second) tree.push_back(process);
    }
  }
  return tree;
}

}  // namespace

std::vector<pid_t> process_tree(pid_t root) {
  std::vector<pid_t> pids;
  for (const Process& process : tree_of(root)) pids.push_back(process.pid);
  return pids;
}

std::string describe_tree(pid_t root) {
  std::string text;
  std::size_t described = 0;
  for (const Process& process : tree_of(root)) {
    if (++described > kMostDescribed || text.size() > kMostText) return text + "...\n";
    std::string command = read_small(fmt::format("/proc/{}/cmdline", process.pid), 256);
    for (char& c : command) {
      if (c == '\0' || c == '\n') c = ' ';
    }
    const std::string wchan = read_small(fmt::format("/proc/{}/wchan", process.pid), 128);
    text += fmt::format("pid {} (parent {}) {} waits in {}: {}\n", process.pid, process.parent, process.state,
                        wchan.empty() || wchan == "0" ? "-" : wchan, command);
    const std::string stack = read_small(fmt::format("/proc/{}/stack", process.pid), 1024);
    for (std::size_t at = 0; at < stack.size();) {
      const auto end = std::min(stack.find('\n', at), stack.size());
      text += "    " + stack.substr(at, end - at) + "\n";
      at = end + 1;
    }
  }
  return text;
}

void kill_tree(pid_t root) {
  // Stopped first, so that nothing is born between the look and the blow; a second look finds what was.
  for (int round = 0; round < 3; ++round) {
    const auto pids = process_tree(root);
    for (const pid_t pid : pids) ::kill(pid, SIGSTOP);
    if (round == 2 || process_tree(root).size() <= pids.size()) break;
  }
  for (const pid_t pid : process_tree(root)) ::kill(pid, SIGKILL);
  ::kill(-root, SIGKILL);
}

}  // namespace tdbmesh
