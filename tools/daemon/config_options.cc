// The options of tdbmesh.conf and ctdb.conf: one table, one function per kind of value.

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>

#include "tools/daemon/config.h"
#include "tools/daemon/ini_file.h"

namespace tdbmesh {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::optional<bool> parse_bool(std::string_view text) {
  const std::string word = lower(text);
  if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
  if (word == "false" || word == "no" || word == "off" || word == "0") return false;
  return std::nullopt;
}

std::optional<std::uint32_t> parse_number(std::string_view text, std::uint32_t least, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) return std::nullopt;
  return value;
}

// What an option does with its value. An empty result is success; otherwise what the value should have been.
struct Target {
  Config& config;
  std::string& node_address;
  std::string name;  // "[section] -> option", for notices
  std::string value;
  void notice(const std::string& why) { config.notices.push_back(fmt::format("{} is accepted but has no effect: {}", name, why)); }
};
using Apply = std::function<std::string(Target&)>;

Apply flag(bool Config::*member) {
  return [member](Target& t) -> std::string {
    const auto value = parse_bool(t.value);
    if (!value) return "true or false";
    t.config.*member = *value;
    return {};
  };
}

Apply level(std::int32_t Config::*member) {
  return [member](Target& t) -> std::string {
    const auto value = parse_debug_level(t.value);
    if (!value) return "ERROR, WARNING, NOTICE, INFO or DEBUG";
    t.config.*member = *value;
    return {};
  };
}

Apply directory(std::string Config::*member) {
  return [member](Target& t) -> std::string {
    struct stat status {};
    if (t.value.front() != '/') return "an absolute path";
    if (stat(t.value.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return "a directory that exists";
    t.config.*member = t.value;
    return {};
  };
}

Apply without_effect(const char* why) {
  return [why](Target& t) -> std::string {
    t.notice(why);
    return {};
  };
}

std::string set_location(Target& t) {
  const std::string& value = t.value;
  if (value.starts_with("file:")) {
    if (value.size() < 7 || value[5] != '/') return "file:/ABSOLUTE/PATH, syslog or stderr";
    t.config.log_location = value;
    return {};
  }
  if (value == "stderr" || value == "syslog") {
    t.config.log_location = value;
    return {};
  }
  if (value == "syslog:nonblocking" || value == "syslog:udp" || value == "syslog:udp-rfc5424") {
    t.config.log_location = "syslog";
    t.config.notices.push_back(fmt::format("{} = {}: logging by syslog(3)", t.name, value));
    return {};
  }
  return "file:/ABSOLUTE/PATH, syslog or stderr";
}

std::string set_node_address(Target& t) {
  if (!ctdb::parse_address(t.value)) return "a numeric IP address";
  t.node_address = t.value;
  return {};
}

std::string set_transport(Target& t) {
  if (t.value == "tcp") return {};
  return "tcp";  // InfiniBand runs IP too
}

std::string set_leader_timeout(Target& t) {
  const auto value = parse_number(t.value, 1, 86400);
  if (!value) return "a number of seconds, at least 1";
  t.config.leader_timeout_s = *value;
  t.notice("a dead leader is found by heartbeats, see timing");
  return {};
}

std::string set_security(Target& t) {
  if (t.value != "curve" && t.value != "none") return "curve or none";
  t.config.security = t.value == "curve" ? Security::Curve : Security::None;
  return {};
}

std::string set_port(Target& t) {
  const auto value = parse_number(t.value, 1, 65534);
  if (!value) return "a port from 1 to 65534 (the next one is for heartbeats)";
  t.config.port = static_cast<std::uint16_t>(*value);
  return {};
}

std::string set_quorum(Target& t) {
  static const std::map<std::string, QuorumChoice> kChoices{
      {"majority", QuorumChoice::Majority}, {"lock", QuorumChoice::Lock}, {"none", QuorumChoice::None}};
  const auto choice = kChoices.find(t.value);
  if (choice == kChoices.end()) return "majority, lock or none";
  t.config.quorum = choice->second;
  t.config.quorum_given = true;
  return {};
}

std::string set_timing(Target& t) {
  if (t.value == "default") {
    t.config.timing = Timing::standard();
  } else if (t.value == "impatient") {
    t.config.timing = Timing::impatient();
  } else if (t.value == "patient") {
    t.config.timing = Timing::patient();
  } else {
    return "default, impatient or patient";
  }
  return {};
}

std::string set_cluster_lock(Target& t) {
  t.config.cluster_lock = t.value;
  return {};
}

std::string set_lock_register(Target& t) {
  if (t.value != "none" && t.value.front() != '/') return "an absolute path, or none";
  t.config.lock_register = t.value;
  return {};
}

std::string set_debug_script(Target& t) {
  // A bare file name in the configuration directory, whatever path was given.
  const std::string path = t.config.paths.config_dir + "/" + t.value.substr(t.value.rfind('/') + 1);
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return fmt::format("the name of a file in {}", t.config.paths.config_dir);
  t.config.event_debug_script = path;
  return {};
}

struct Option {
  bool ours_only = false;
  Apply apply;
};
using Options = std::map<std::string, Option>;

const std::map<std::string, Options>& sections() {
  static const std::map<std::string, Options> kSections{
      {"logging",
       {{"log level", {false, level(&Config::debug_level)}}, {"location", {false, set_location}}}},
      {"cluster",
       {{"transport", {false, set_transport}},
        {"node address", {false, set_node_address}},
        {"cluster lock", {false, set_cluster_lock}},
        {"recovery lock", {false, set_cluster_lock}},  // its name until CTDB 4.15
        {"leader timeout", {false, set_leader_timeout}},
        {"leader capability", {false, flag(&Config::leader_capability)}},
        {"lock register", {true, set_lock_register}},
        {"quorum", {true, set_quorum}},
        {"timing", {true, set_timing}},
        {"witness", {true, flag(&Config::witness)}}}},
      {"database",
       {{"volatile database directory", {false, directory(&Config::volatile_dir)}},
        {"persistent database directory", {false, directory(&Config::persistent_dir)}},
        {"state database directory", {false, directory(&Config::database_state_dir)}},
        {"lock debug script", {false, without_effect("no database is ever locked as a whole")}},
        {"tdb mutexes", {false, flag(&Config::tdb_mutexes)}}}},
      {"event", {{"debug script", {false, set_debug_script}}}},
      {"failover", {{"disabled", {false, flag(&Config::failover_disabled)}}}},
      {"legacy",
       {{"realtime scheduling", {false, flag(&Config::realtime_scheduling)}},
        {"lmaster capability", {false, flag(&Config::lmaster_capability)}},
        {"start as stopped", {false, flag(&Config::start_as_stopped)}},
        {"start as disabled", {false, flag(&Config::start_as_disabled)}},
        {"script log level", {false, level(&Config::script_debug_level)}}}},
      {"transport", {{"security", {true, set_security}}, {"port", {true, set_port}}}},
  };
  return kSections;
}

bool section_is_known(const std::string& name, bool ours) {
  if (name == "checks") return ours;
  return sections().contains(name) && (ours || name != "transport");
}

}  // namespace

std::optional<std::int32_t> parse_debug_level(std::string_view text) {
  static const std::map<std::string, std::int32_t, std::less<>> kLevels{
      {"err", 0}, {"error", 0}, {"warning", 1}, {"notice", 3}, {"info", 5}, {"debug", 10}};
  if (const auto named = kLevels.find(lower(text)); named != kLevels.end()) return named->second;
  if (const auto number = parse_number(text, 0, 10)) return static_cast<std::int32_t>(*number);
  return std::nullopt;
}

Result<std::string> parse_options(std::string_view text, const std::string& origin, bool ours,
                                  Config& config) {
  const auto ini = parse_ini(text, origin);
  if (!ini) return tl::unexpected(ini.error());
  for (const IniText::Section& section : ini->sections) {
    if (!section_is_known(section.name, ours)) {
      return failure(Fault::Malformed, fmt::format("{}:{}: unknown section [{}]", origin, section.line, section.name));
    }
  }
  std::string node_address;
  std::map<std::string, int> seen;
  for (const IniOption& given : ini->options) {
    const auto complain = [&](const std::string& what) {
      return failure(Fault::Malformed, fmt::format("{}:{}: {}", origin, given.line, what));
    };
    if (given.section.empty()) return complain(fmt::format("option \"{}\" stands before any [section]", given.name));
    if (given.section == "checks") {
      auto check = parse_check(given.name, given.value);
      if (!check) return complain(check.error().context);
      if (const auto [first, added] = seen.try_emplace("[checks] " + given.name, given.line); !added) {
        return complain(fmt::format("check {} was given in line {} already", given.name, first->second));
      }
      config.checks.push_back(std::move(*check));
      continue;
    }
    const Options& known = sections().at(given.section);
    const auto option = known.find(given.name);
    if (option == known.end() || (option->second.ours_only && !ours)) {
      return complain(fmt::format("unknown option [{}] -> \"{}\"", given.section, given.name));
    }
    const std::string name = fmt::format("[{}] -> {}", given.section, given.name);
    if (!given.has_value) {
      // CTDB passes over such a line, so a file that works there must work here.
      config.notices.push_back(fmt::format("{}:{}: {} has no '=' and is ignored", origin, given.line, name));
      continue;
    }
    if (given.value.empty()) return complain(fmt::format("empty value for {}", name));
    if (const auto [first, added] = seen.try_emplace(name, given.line); !added) {
      config.notices.push_back(fmt::format("{}:{}: {} replaces the value of line {}", origin, given.line, name, first->second));
    }
    Target target{config, node_address, name, given.value};
    if (const std::string wanted = option->second.apply(target); !wanted.empty()) {
      return complain(fmt::format("invalid value {} = {}: expected {}", name, given.value, wanted));
    }
  }
  return node_address;
}

}  // namespace tdbmesh
