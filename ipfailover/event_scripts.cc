#include "ipfailover/event_scripts.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>

namespace tdbmesh {
namespace {

constexpr std::string_view kSuffix = ".script";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_executable_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0111) != 0;
}

// By file name, which is the order of running.
using Found = std::map<std::string, EventScript>;

void read_folder(const std::string& folder, Found& found) {
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string file = entry->d_name;
    if (!is_script_file(file)) continue;
    const std::string path = folder + "/" + file;
    found[file] = {file.substr(0, file.size() - kSuffix.size()), path, is_executable_file(path)};
  }
  ::closedir(directory);
}

std::string component_folder(const EventFolders& folders, const std::string& component) {
  return folders.config_dir + "/events/" + component;
}

bool is_component_name(const std::string& component) {
  return !component.empty() && component.size() < 64 && component.find('/') == std::string::npos && component[0] != '.';
}

Result<Found> find_scripts(const EventFolders& folders, const std::string& component) {
  if (!is_component_name(component)) return failure(Fault::NotFound, fmt::format("no events called {}", component));
  Found found;
  const std::string folder = component_folder(folders, component);
  if (component == "legacy") {
    read_folder(folders.config_dir + "/events", found);
  } else if (!is_directory(folder)) {
    return failure(Fault::NotFound, fmt::format("no folder {}", folder));
  }
  read_folder(folder, found);
  return found;
}

std::optional<std::string> resolved(const std::string& path) {
  char buffer[PATH_MAX];
  if (::realpath(path.c_str(), buffer) == nullptr) return std::nullopt;
  return std::string(buffer);
}

}  // namespace

EventFolders event_folders(const std::string& config_dir) {
  return {config_dir, {"/usr/share/tdbmesh/events", "/usr/share/ctdb/events/legacy"}};
}

bool is_script_file(const std::string& name) {
  return name.size() > 3 + kSuffix.size() && is_digit(name[0]) && is_digit(name[1]) && name[2] == '.' &&
         std::string_view(name).ends_with(kSuffix) && name.find('/') == std::string::npos;
}

Result<std::vector<EventScript>> list_scripts(const EventFolders& folders, const std::string& component) {
  auto found = find_scripts(folders, component);
  if (!found) return tl::unexpected<Error>(found.error());
  std::vector<EventScript> scripts;
  for (auto& [file, script] : *found) scripts.push_back(std::move(script));
  return scripts;
}

Result<ScriptListing> list_for_operator(const EventFolders& folders, const std::string& component) {
  auto found = find_scripts(folders, component);
  if (!found) return tl::unexpected<Error>(found.error());
  Found shipped;
  for (auto folder = folders.shipped.rbegin(); folder != folders.shipped.rend(); ++folder) read_folder(*folder, shipped);
  ScriptListing listing;
  for (auto& [file, script] : shipped) {
    // Linked to: then it is this one, under whatever name of ours.
    const auto linked = found->find(file);
    const bool same = linked != found->end() && resolved(linked->second.path) == resolved(script.path);
    script.enabled = same && linked->second.enabled;
    if (same) found->erase(linked);
    listing.shipped.push_back(script);
  }
  for (auto& [file, script] : *found) listing.own.push_back(std::move(script));
  return listing;
}

Result<> set_script_enabled(const EventFolders& folders, const std::string& component, const std::string& name,
                            bool enabled) {
  const std::string file = name + std::string(kSuffix);
  if (!is_script_file(file)) {
    return failure(Fault::Malformed, fmt::format("{} is no name of a script: expected NN.name, as in 50.samba", name));
  }
  auto found = find_scripts(folders, component);
  if (!found) return tl::unexpected<Error>(found.error());
  const auto at = found->find(file);
  if (at == found->end()) {
    if (!enabled) return {};
    for (const std::string& folder : folders.shipped) {
      const std::string source = folder + "/" + file;
      if (::access(source.c_str(), F_OK) != 0) continue;
      const std::string target = component_folder(folders, component) + "/" + file;
      (void)::mkdir((folders.config_dir + "/events").c_str(), 0755);
      (void)::mkdir(component_folder(folders, component).c_str(), 0755);
      if (::symlink(source.c_str(), target.c_str()) != 0) return system_failure("cannot make the link " + target);
      return {};
    }
    return failure(Fault::NotFound, fmt::format("no script {} in {} nor among the shipped ones", name, component));
  }
  const std::string& path = at->second.path;
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return system_failure("cannot look at " + path);
  if (S_ISLNK(status.st_mode)) {
    if (!enabled && ::unlink(path.c_str()) != 0) return system_failure("cannot remove the link " + path);
    return {};
  }
  if (!S_ISREG(status.st_mode)) {
    return failure(Fault::Refused, fmt::format("{} is neither a file nor a link", path));
  }
  // Who may read it may run it.
  const mode_t mode = enabled ? status.st_mode | ((status.st_mode & 0444) >> 2) : status.st_mode & ~mode_t{0111};
  if (mode != status.st_mode && ::chmod(path.c_str(), mode & 07777) != 0) return system_failure("cannot change " + path);
  return {};
}

}  // namespace tdbmesh
