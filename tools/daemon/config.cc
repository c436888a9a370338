#include "tools/daemon/config.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <set>

#include <fmt/format.h>

namespace tdbmesh {
namespace {

constexpr std::size_t kMostFileBytes = 1 << 20;
constexpr std::size_t kMostNodes = 256;
constexpr std::string_view kBlank = " \t\r";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// Calls `use` with each line, trimmed, and its number; stops at the first error.
template <class Use>
Result<> each_line(std::string_view text, Use&& use) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = text.find('\n');
    if (auto used = use(trimmed(text.substr(0, end)), number); !used) return used;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return {};
}

Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return system_failure("cannot open " + path);
  std::string text;
  char buffer[16384];
  Result<> outcome;
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) outcome = system_failure("cannot read " + path);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > kMostFileBytes) {
      outcome = failure(Fault::Malformed, path + ": larger than a configuration file can be (1 MiB)");
      break;
    }
  }
  ::close(fd);
  if (!outcome) return tl::unexpected(outcome.error());
  return text;
}

// The first of `names` in `directory` that is there, with its text; nullopt if none is.
struct Found {
  std::string path;
  std::string text;
};
Result<std::optional<Found>> read_first(const std::string& directory, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const std::string path = directory + "/" + name;
    auto text = read_file(path);
    if (text) return Found{path, std::move(*text)};
    if (text.error().fault != Fault::NotFound) return tl::unexpected(text.error());
  }
  return std::nullopt;
}

tl::unexpected<Error> at_line(const std::string& origin, int line, const std::string& what) {
  return failure(Fault::Malformed, fmt::format("{}:{}: {}", origin, line, what));
}

bool is_loopback(const ctdb::SockAddr& address) {
  if (address.family == ctdb::SockAddr::Family::V4) return address.bytes[0] == 127;
  return ctdb::to_string(address) == "::1";
}

// Sets self and address from `node address` or by looking which node lives here.
Result<> find_self(Config& config, const std::string& node_address, const std::string& nodes_file,
                   const IsLocal& is_local) {
  if (!node_address.empty()) {
    const auto wanted = ctdb::parse_address(node_address);
    for (std::size_t i = 0; i < config.nodes.size(); ++i) {
      if (config.nodes[i].deleted || !wanted || config.nodes[i].address != *wanted) continue;
      config.self = Pnn{static_cast<std::uint32_t>(i)};
      config.address = ctdb::to_string(*wanted);
      if (!is_local(config.address)) {
        return failure(Fault::NotFound, fmt::format("node address {} is not on this machine", node_address));
      }
      return {};
    }
    return failure(Fault::NotFound, fmt::format("node address {} is not in {}", node_address, nodes_file));
  }
  std::vector<std::size_t> here;
  for (std::size_t i = 0; i < config.nodes.size(); ++i) {
    if (!config.nodes[i].deleted && is_local(ctdb::to_string(config.nodes[i].address))) here.push_back(i);
  }
  if (here.empty()) {
    return failure(Fault::NotFound, fmt::format("none of the addresses in {} is on this machine", nodes_file));
  }
  if (here.size() > 1) {
    return failure(Fault::Refused,
                   fmt::format("{} and {} in {} are both on this machine; say which one is meant with"
                               " 'node address = ADDRESS' in section [cluster]",
                               ctdb::to_string(config.nodes[here[0]].address),
                               ctdb::to_string(config.nodes[here[1]].address), nodes_file));
  }
  config.self = Pnn{static_cast<std::uint32_t>(here[0])};
  config.address = ctdb::to_string(config.nodes[here[0]].address);
  return {};
}

Result<> find_key(Config& config) {
  const std::string path = config.paths.config_dir + "/cluster.key";
  if (config.security == Security::None) {
    config.notices.push_back("[transport] security = none: what nodes say to each other is neither encrypted nor authenticated");
    return {};
  }
  auto key = load_cluster_key(path);
  if (key) {
    config.key = std::move(*key);
    return {};
  }
  if (key.error().fault != Fault::NotFound) return tl::unexpected(key.error());
  bool all_loopback = true;
  for (const ConfiguredNode& node : config.nodes) all_loopback = all_loopback && (node.deleted || is_loopback(node.address));
  if (config.security == Security::Curve || !all_loopback) {
    return failure(Fault::NotFound,
                   fmt::format("there is no {}: run 'tdbmesh keygen' and put the same file on every node, or set"
                               " [transport] security = none in tdbmesh.conf",
                               path));
  }
  config.notices.push_back(fmt::format("there is no {}: connections on the loopback interface are not encrypted", path));
  return {};
}

}  // namespace

bool address_is_local(const std::string& address) {
  const auto wanted = ctdb::parse_address(address);
  if (!wanted) return false;
  if (wanted->family == ctdb::SockAddr::Family::V4 && wanted->bytes[0] == 127) {
    // All of 127/8 is here, though only one address of it stands on the interface.
    return true;
  }
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return false;
  bool found = false;
  for (const ifaddrs* one = all; one != nullptr && !found; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    if (one->ifa_addr->sa_family == AF_INET && wanted->family == ctdb::SockAddr::Family::V4) {
      sockaddr_in in{};
      std::memcpy(&in, one->ifa_addr, sizeof in);
      found = std::memcmp(&in.sin_addr, wanted->bytes.data(), 4) == 0;
    } else if (one->ifa_addr->sa_family == AF_INET6 && wanted->family == ctdb::SockAddr::Family::V6) {
      sockaddr_in6 in{};
      std::memcpy(&in, one->ifa_addr, sizeof in);
      found = std::memcmp(&in.sin6_addr, wanted->bytes.data(), 16) == 0;
    }
  }
  freeifaddrs(all);
  return found;
}

std::vector<PeerAddress> Config::peers() const {
  std::vector<PeerAddress> all;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!nodes[i].deleted) all.push_back({Pnn{static_cast<std::uint32_t>(i)}, ctdb::to_string(nodes[i].address)});
  }
  return all;
}

Result<std::vector<ConfiguredNode>> parse_nodes(std::string_view text, const std::string& origin) {
  std::vector<ConfiguredNode> nodes;
  std::map<ctdb::SockAddr, int> seen;
  auto read = each_line(text, [&](std::string_view line, int number) -> Result<> {
    if (line.empty()) return {};
    if (nodes.size() == kMostNodes) return at_line(origin, number, fmt::format("more than {} nodes", kMostNodes));
    ConfiguredNode node;
    node.deleted = line.front() == '#';
    const auto address = ctdb::parse_address(trimmed(node.deleted ? line.substr(1) : line));
    if (node.deleted) {
      // Whatever stands behind the '#', the number is taken.
      node.address = address.value_or(ctdb::v4_address(0, 0, 0, 0));
      nodes.push_back(node);
      return {};
    }
    if (!address) return at_line(origin, number, fmt::format("'{}' is not a numeric IP address", line));
    if (const auto [first, added] = seen.try_emplace(*address, number); !added) {
      return at_line(origin, number, fmt::format("{} is also in line {}", line, first->second));
    }
    node.address = *address;
    nodes.push_back(node);
    return {};
  });
  if (!read) return tl::unexpected(read.error());
  if (seen.empty()) return failure(Fault::Malformed, origin + ": no node in it; write one address per line");
  return nodes;
}

Result<std::map<ctdb::SockAddr, Pnn>> parse_home_nodes(std::string_view text, const std::string& origin) {
  std::map<ctdb::SockAddr, Pnn> homes;
  auto read = each_line(text, [&](std::string_view line, int number) -> Result<> {
    if (line.empty() || line.front() == '#') return {};
    const auto blank = line.find_first_of(kBlank);
    const auto address = ctdb::parse_address(line.substr(0, blank));
    const std::string_view rest = blank == std::string_view::npos ? std::string_view{} : trimmed(line.substr(blank));
    std::uint32_t pnn = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), pnn);
    if (!address || rest.empty() || error != std::errc() || end != rest.data() + rest.size()) {
      return at_line(origin, number, fmt::format("'{}' is not ADDRESS PNN", line));
    }
    if (!homes.emplace(*address, Pnn{pnn}).second) {
      return at_line(origin, number, fmt::format("{} has a home already", ctdb::to_string(*address)));
    }
    return {};
  });
  if (!read) return tl::unexpected(read.error());
  return homes;
}

Result<std::vector<ConfiguredAddress>> parse_public_addresses(std::string_view text, const std::string& origin) {
  std::vector<ConfiguredAddress> addresses;
  std::map<ctdb::SockAddr, int> seen;
  auto read = each_line(text, [&](std::string_view line, int number) -> Result<> {
    if (line.empty() || line.front() == '#') return {};
    const auto blank = line.find_first_of(kBlank);
    const std::string_view with_mask = line.substr(0, blank);
    const auto slash = with_mask.find('/');
    const auto address = ctdb::parse_address(with_mask.substr(0, slash));
    if (!address || slash == std::string_view::npos) {
      return at_line(origin, number, fmt::format("'{}' is not ADDRESS/BITS", with_mask));
    }
    const std::string_view mask = with_mask.substr(slash + 1);
    ConfiguredAddress parsed;
    parsed.address = *address;
    const std::uint32_t most = address->family == ctdb::SockAddr::Family::V4 ? 32 : 128;
    const auto [end, error] = std::from_chars(mask.data(), mask.data() + mask.size(), parsed.mask_bits);
    if (error != std::errc() || end != mask.data() + mask.size() || parsed.mask_bits == 0 || parsed.mask_bits > most) {
      return at_line(origin, number, fmt::format("'/{}' is not a prefix length from 1 to {}", mask, most));
    }
    std::string_view rest = blank == std::string_view::npos ? std::string_view{} : trimmed(line.substr(blank));
    if (rest.empty()) return at_line(origin, number, "no interface: write ADDRESS/BITS INTERFACE[,INTERFACE...]");
    if (rest.find_first_of(kBlank) != std::string_view::npos) {
      return at_line(origin, number, fmt::format("'{}': interfaces are separated by commas alone", rest));
    }
    std::set<std::string_view> names;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const std::string_view name = rest.substr(0, comma);
      rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
      if (name.empty() || name.size() > 15 || name.find('/') != std::string_view::npos || !names.insert(name).second) {
        return at_line(origin, number, fmt::format("'{}' is not an interface name, or stands there twice", name));
      }
      parsed.interfaces.emplace_back(name);
    }
    if (const auto [first, added] = seen.try_emplace(*address, number); !added) {
      return at_line(origin, number, fmt::format("{} is also in line {}", ctdb::to_string(*address), first->second));
    }
    addresses.push_back(std::move(parsed));
    return {};
  });
  if (!read) return tl::unexpected(read.error());
  return addresses;
}

Result<ctdb::Tunables> parse_tunables(std::string_view text, const std::string& origin,
                                      std::vector<std::string>& notices) {
  ctdb::Tunables tunables;
  auto read = each_line(text, [&](std::string_view line, int number) -> Result<> {
    if (line.empty() || line.front() == '#') return {};
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) return at_line(origin, number, "expected NAME=VALUE");
    const std::string_view name = trimmed(line.substr(0, equals));
    std::string_view digits = trimmed(line.substr(equals + 1));
    const auto tunable = ctdb::find_tunable(name);
    if (!tunable) return at_line(origin, number, fmt::format("unknown tunable '{}'", name));
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
      digits.remove_prefix(2);
      base = 16;
    }
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      return at_line(origin, number, fmt::format("'{}' is not a number for {}", trimmed(line.substr(equals + 1)), name));
    }
    if (ctdb::tunable_table()[static_cast<std::size_t>(*tunable)].obsolete) {
      notices.push_back(fmt::format("{}:{}: tunable {} is obsolete and has no effect", origin, number, name));
    }
    tunables[*tunable] = value;
    return {};
  });
  if (!read) return tl::unexpected(read.error());
  return tunables;
}

Result<std::vector<ConfiguredAddress>> read_public_addresses(const ConfigPaths& paths,
                                                             const std::vector<ConfiguredNode>& nodes) {
  const auto file = read_first(paths.config_dir, {"public_addresses"});
  if (!file) return tl::unexpected(file.error());
  if (!*file) return std::vector<ConfiguredAddress>{};
  auto addresses = parse_public_addresses((*file)->text, (*file)->path);
  if (!addresses) return addresses;
  for (const ConfiguredAddress& address : *addresses) {
    for (const ConfiguredNode& node : nodes) {
      if (node.deleted || !ctdb::same_host(node.address, address.address)) continue;
      return failure(Fault::Malformed, fmt::format("{}: {} is the address of a node", (*file)->path,
                                                   ctdb::to_string(address.address)));
    }
  }
  return addresses;
}

Result<Config> load_config(const ConfigPaths& paths, const IsLocal& is_local) {
  Config config;
  config.paths = paths;
  config.volatile_dir = paths.runtime_dir + "/volatile";
  config.persistent_dir = paths.state_dir + "/persistent";
  config.database_state_dir = paths.state_dir + "/state";

  const auto file = read_first(paths.config_dir, {"tdbmesh.conf", "ctdb.conf"});
  if (!file) return tl::unexpected(file.error());
  std::string node_address;
  if (*file) {
    config.file = (*file)->path;
    const bool ours = config.file.ends_with("/tdbmesh.conf");
    auto options = parse_options((*file)->text, config.file, ours, config);
    if (!options) return tl::unexpected(options.error());
    node_address = std::move(*options);
  } else {
    config.notices.push_back(fmt::format("there is neither tdbmesh.conf nor ctdb.conf in {}: all options have their defaults",
                                         paths.config_dir));
  }

  const std::string nodes_path = paths.config_dir + "/nodes";
  const auto nodes_text = read_file(nodes_path);
  if (!nodes_text) {
    if (nodes_text.error().fault != Fault::NotFound) return tl::unexpected(nodes_text.error());
    return failure(Fault::NotFound, fmt::format("there is no {}: write the address of each node into it, one per line,"
                                                " the same on all nodes", nodes_path));
  }
  auto nodes = parse_nodes(*nodes_text, nodes_path);
  if (!nodes) return tl::unexpected(nodes.error());
  config.nodes = std::move(*nodes);
  if (auto self = find_self(config, node_address, nodes_path, is_local ? is_local : IsLocal(address_is_local)); !self) {
    return tl::unexpected(self.error());
  }

  auto addresses = read_public_addresses(paths, config.nodes);
  if (!addresses) return tl::unexpected(addresses.error());
  config.public_addresses = std::move(*addresses);
  if (config.witness && !config.public_addresses.empty()) {
    return failure(Fault::Malformed, fmt::format("{}: a witness hosts no public addresses: remove {}/public_addresses on this "
                                                 "machine", config.file, paths.config_dir));
  }
  const auto homes = read_first(paths.config_dir, {"home_nodes"});
  if (!homes) return tl::unexpected(homes.error());
  if (*homes) {
    auto parsed = parse_home_nodes((*homes)->text, (*homes)->path);
    if (!parsed) return tl::unexpected(parsed.error());
    config.home_nodes = std::move(*parsed);
  }

  const auto tunables = read_first(paths.config_dir, {"tunables", "ctdb.tunables"});
  if (!tunables) return tl::unexpected(tunables.error());
  if (*tunables) {
    auto parsed = parse_tunables((*tunables)->text, (*tunables)->path, config.notices);
    if (!parsed) return tl::unexpected(parsed.error());
    config.tunables = *parsed;
  }

  if (auto key = find_key(config); !key) return tl::unexpected(key.error());
  if (config.quorum == QuorumChoice::Lock && config.cluster_lock.empty()) {
    return failure(Fault::Malformed, fmt::format("{}: quorum = lock needs a 'cluster lock' in section [cluster]", config.file));
  }
  return config;
}

}  // namespace tdbmesh
