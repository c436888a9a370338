#include "tools/ctl/samba_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace tdbmesh::ctl {
namespace {

using Level = Finding::Level;
constexpr const char* kTriedVersion = "4.17.";
constexpr const char* kShimName = "libtdbmesh-tdb.so";

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Blanks do not count in smb.conf's names: "idmap config * : backend" is written in several ways.
std::string name_of(const std::string& text) {
  std::string name;
  for (const char c : lower(text)) {
    if (c == ':' && !name.empty() && name.back() == ' ') name.pop_back();
    if (c == ' ' && (name.empty() || name.back() == ' ' || name.back() == ':')) continue;
    name += c;
  }
  return trimmed(name);
}

bool is_yes(const std::string& value) {
  const std::string v = lower(value);
  return v == "yes" || v == "true" || v == "1" || v == "on";
}

class Check {
 public:
  explicit Check(const SambaFacts& facts) : facts_(facts) {}

  std::vector<Finding> run() {
    check_daemon();
    check_version();
    if (facts_.configuration_error.empty()) {
      check_clustering();
      check_name();
      check_idmap();
      check_passdb();
      check_domain();
      check_folders();
      for (const std::string& complaint : facts_.configuration_complaints) {
        add(Level::Warning, "smb.conf", complaint, "mend it; testparm says more");
      }
    } else if (!samba_finds_us() && !facts_.global.empty()) {
      // What is in the registry cannot be read without the cluster; smb.conf itself says why.
      check_clustering();
    } else if (facts_.shim_found) {
      add(Level::Error, "smb.conf", "cannot be read: " + facts_.configuration_error, "run testparm and mend what it says");
    }
    check_processes();
    return std::move(findings_);
  }

 private:
  void add(Level level, std::string subject, std::string text, std::string remedy = {}) {
    findings_.push_back({level, std::move(subject), std::move(text), std::move(remedy)});
  }
  [[nodiscard]] std::string value(const std::string& name) const {
    const auto at = facts_.global.find(name);
    return at == facts_.global.end() ? std::string() : at->second;
  }

  [[nodiscard]] bool samba_finds_us() const {
    return facts_.daemon_answers && facts_.samba_socket_there && facts_.samba_socket == facts_.daemon_socket;
  }

  void check_daemon() {
    if (facts_.daemon_answers) return add(Level::Good, "daemon", "answers at " + facts_.daemon_socket);
    add(Level::Error, "daemon", "tdbmeshd does not answer", "systemctl start tdbmesh, then look into its log");
  }

  void check_version() {
    const std::string& version = facts_.smbd_version;
    if (version.empty()) return add(Level::Error, "version", "smbd is not installed", "install the package samba");
    if (version.starts_with(kTriedVersion)) return add(Level::Good, "version", "Samba " + version);
    add(Level::Warning, "version", fmt::format("Samba {}; only {}x was tried with tdbmesh", version, kTriedVersion),
        "try it on a test cluster before you trust it");
  }

  void check_clustering() {
    if (is_yes(value("clustering"))) {
      add(Level::Good, "smb.conf", "clustering = yes");
    } else if (lower(value("config backend")) == "registry") {
      add(Level::Error, "smb.conf", "`config backend = registry` makes Samba forget `clustering` and open a registry of its own",
          "put `clustering = yes`, `ctdbd socket` and `include = registry` into [global] of smb.conf in its place, on every node");
    } else {
      add(Level::Error, "smb.conf", "clustering is off: this Samba has databases of its own",
          "set `clustering = yes` in [global] on every node and restart Samba");
    }
    const std::string socket = value("ctdbd socket");
    if (!facts_.samba_socket_there) {
      add(Level::Error, "smb.conf", fmt::format("ctdbd socket: there is no socket at {}", socket.empty() ? "CTDB's place" : socket),
          "set `ctdbd socket = /run/tdbmesh/ctdbd.socket` in [global] on every node (or where tdbmeshd has its runtime "
          "folder), and start tdbmesh before Samba");
    } else if (facts_.daemon_answers && !samba_finds_us()) {
      add(Level::Error, "smb.conf",
          fmt::format("ctdbd socket is {}, but tdbmeshd listens at {}", facts_.samba_socket, facts_.daemon_socket),
          "set `ctdbd socket = " + facts_.daemon_socket + "` in [global] on every node");
    } else {
      add(Level::Good, "smb.conf", "ctdbd socket = " + (socket.empty() ? facts_.samba_socket : socket));
    }
  }

  // All nodes are one server to their clients: one name, one SID.
  void check_name() {
    const std::string name = value("netbios name");
    if (name.empty()) return;
    if (lower(name) == lower(facts_.host_name).substr(0, 15)) {
      add(Level::Warning, "name", fmt::format("netbios name = {} is the name of this host; the other nodes will have other names", name),
          "set one `netbios name` for the whole cluster in [global] on every node, and restart Samba");
    } else {
      add(Level::Good, "name", "netbios name = " + name);
    }
    std::string others;
    for (const std::string& owner : facts_.sid_owners) {
      if (lower(owner) != lower(name) && lower(owner) != lower(value("workgroup"))) others += (others.empty() ? "" : ", ") + owner;
    }
    if (others.empty()) return;
    add(Level::Error, "name", fmt::format("secrets.tdb has SIDs of other servers too ({}): a node has or had another netbios name", others),
        "set the same `netbios name` on every node and restart Samba, then `tdbmesh pdelete secrets.tdb SECRETS/SID/NAME` for "
        "each name that is another");
  }

  void check_idmap() {
    const std::string backend = lower(value("idmap config *:backend"));
    if (backend == "tdb" || backend.empty()) {
      add(Level::Error, "idmap", "idmap config * : backend = tdb hands out ids on each node by itself",
          "set `idmap config * : backend = tdb2` (or autorid), with the same range on every node, before ids are in use");
    } else {
      add(Level::Good, "idmap", "idmap config * : backend = " + backend);
    }
    if ((backend == "tdb2" || backend == "autorid") && value("idmap config *:range").empty()) {
      add(Level::Error, "idmap", "idmap config * has no range, so no id can be handed out",
          "set `idmap config * : range = 1000000-1999999`, the same on every node");
    }
  }

  void check_passdb() {
    const std::string backend = value("passdb backend");
    const std::string module = backend.substr(0, backend.find(':'));  // an address may follow
    if (module == "tdbsam" || module == "ldapsam") return add(Level::Good, "passdb", "passdb backend = " + backend);
    if (backend.empty()) return add(Level::Good, "passdb", "passdb backend = tdbsam");
    add(Level::Error, "passdb", fmt::format("passdb backend = {} is not the same on all nodes", backend),
        "set `passdb backend = tdbsam` and bring the accounts over with pdbedit -i");
  }

  // To a domain all nodes are one machine: one of them joins, and the password is in the secrets of all.
  [[nodiscard]] bool is_member() const {
    const std::string security = lower(value("security"));
    return security == "ads" || security == "domain";
  }
  void check_domain() {
    if (!is_member()) return;
    const std::string domain = value("workgroup");
    const bool joined = std::any_of(facts_.joined.begin(), facts_.joined.end(),
                                    [&](const std::string& one) { return lower(one) == lower(domain); });
    if (joined) {
      add(Level::Good, "domain", "the cluster is a member of " + domain);
    } else if (samba_finds_us()) {
      add(Level::Error, "domain", fmt::format("security = {}, but the cluster is not a member of {}", value("security"), domain),
          "on one node `net ads join -U Administrator` (with the shim), then restart Samba on all");
    }
    const std::string method = lower(value("kerberos method"));
    if (method.find("keytab") != std::string::npos) {
      add(Level::Warning, "domain",
          fmt::format("kerberos method = {}: a keytab is a file of one node; when another node changes the machine's password, "
                      "Kerberos fails here", value("kerberos method")),
          "set `kerberos method = secrets only` on every node");
    }
  }

  void check_folders() {
    for (const auto& [folder, kind] : facts_.shared_folders) {
      add(Level::Error, "smb.conf", fmt::format("{} = {} is on a shared file system ({})", folder, value(folder), kind),
          fmt::format("put `{}` on a disk of the node: what must be common is in the cluster's databases", folder));
    }
    if (facts_.shared_folders.empty()) add(Level::Good, "smb.conf", "private, lock, state and cache folders are local");
  }

  void check_processes() {
    if (!facts_.shim_found) {
      add(Level::Error, "shim", fmt::format("the loader does not find {}", kShimName),
          "install tdbmesh with `cmake --install build/release --prefix /usr`, then run ldconfig");
    }
    int good = 0;
    bool smbd = false;
    bool winbindd = false;
    std::map<std::pair<SambaProcess::Shim, std::string>, std::string> kinds;  // how and who -> pids
    for (const SambaProcess& process : facts_.processes) {
      smbd = smbd || process.name == "smbd";
      winbindd = winbindd || process.name == "winbindd";
      good += process.shim == SambaProcess::Shim::Loaded ? 1 : 0;
      std::string& pids = kinds[{process.shim, process.name}];
      pids += (pids.empty() ? "" : " ") + std::to_string(process.pid);
    }
    for (const auto& [kind, pids] : kinds) {
      const std::string who = fmt::format("{} (process {})", kind.second, pids);
      switch (kind.first) {
        case SambaProcess::Shim::Loaded: break;
        case SambaProcess::Shim::Absent:
          add(Level::Error, "shim", fmt::format("{} runs without {}", who, kShimName),
              fmt::format("start it with LD_PRELOAD={}: install the systemd drop-ins that come with tdbmesh, systemctl "
                          "daemon-reload, and restart the service", kShimName));
          break;
        case SambaProcess::Shim::Replaced:
          add(Level::Warning, "shim", fmt::format("{} uses a {} that was replaced since it was started", who, kShimName),
              "restart the service, so that it runs the installed version");
          break;
        case SambaProcess::Shim::Unknown:
          add(Level::Warning, "shim", "cannot see what " + who + " has loaded", "run the check as root");
          break;
      }
    }
    if (good > 0) add(Level::Good, "shim", fmt::format("{} is loaded in {} of {} processes", kShimName, good, facts_.processes.size()));
    if (!smbd) {
      add(Level::Warning, "processes", "no smbd is running on this node", "systemctl start smbd nmbd winbind");
    } else if (!winbindd && is_member()) {
      add(Level::Error, "processes", "no winbindd is running on this node: users of the domain cannot log in", "systemctl start winbind");
    }
  }

  const SambaFacts& facts_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> check_samba(const SambaFacts& facts) { return Check(facts).run(); }

std::map<std::string, std::string> parse_global(const std::string& testparm_output) {
  std::map<std::string, std::string> values;
  std::istringstream in(testparm_output);
  bool global = false;
  for (std::string line; std::getline(in, line);) {
    const std::string text = trimmed(line);
    if (text.empty() || text.front() == '#' || text.front() == ';') continue;
    if (text.front() == '[') {
      global = lower(text) == "[global]";
      continue;
    }
    const auto equals = text.find('=');
    if (global && equals != std::string::npos) values[name_of(text.substr(0, equals))] = trimmed(text.substr(equals + 1));
  }
  return values;
}

std::vector<std::string> secrets_of(const std::string& kind, const std::string& keys) {
  const std::string prefix = "SECRETS/" + kind + "/";
  std::vector<std::string> owners;
  std::istringstream in(keys);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(prefix)) owners.push_back(line.substr(prefix.size()));
  }
  std::sort(owners.begin(), owners.end());
  return owners;
}

SambaProcess::Shim shim_in_maps(const std::string& maps) {
  auto found = SambaProcess::Shim::Absent;
  std::istringstream in(maps);
  for (std::string line; std::getline(in, line);) {
    if (line.find(kShimName) == std::string::npos) continue;
    if (!line.ends_with(" (deleted)")) return SambaProcess::Shim::Loaded;
    found = SambaProcess::Shim::Replaced;
  }
  return found;
}

bool is_samba_process(const std::string& name) {
  return name == "smbd" || name == "nmbd" || name == "winbindd" || name == "smbd-notifyd" || name == "cleanupd" ||
         name == "samba-dcerpcd" || name.starts_with("rpcd_");
}

}  // namespace tdbmesh::ctl
