#pragma once
// `tdbmesh samba check`: what is wrong with Samba on this node, and what to do about it. Pure: cmd_samba.cc collects
// the facts.

#include <map>
#include <string>
#include <vector>

namespace tdbmesh::ctl {

struct SambaProcess {
  int pid = 0;
  std::string name;  // as /proc/PID/comm has it
  enum class Shim { Unknown, Absent, Loaded, Replaced } shim = Shim::Unknown;  // Replaced: its file is another one now
};

struct SambaFacts {
  bool daemon_answers = false;
  std::string daemon_socket;        // where ours listens, with links resolved
  std::string smbd_version;         // "4.17.12-Debian"; empty: smbd is not installed
  std::string configuration_error;  // why smb.conf could not be read; empty: it was
  std::vector<std::string> configuration_complaints;  // what testparm says of it all the same
  // [global] of smb.conf, with defaults; of the file alone if it could not be read as a whole. Names in lower case without
  // blanks around.
  std::map<std::string, std::string> global;
  std::string samba_socket;         // what its `ctdbd socket` leads to, with links resolved
  bool samba_socket_there = false;
  std::map<std::string, std::string> shared_folders;  // "private dir" -> kind of cluster file system, where it is on one
  std::string host_name;                // without its domain
  std::vector<std::string> sid_owners;  // names that secrets.tdb, which all nodes share, has a SID of
  std::vector<std::string> joined;      // domains that it has a password of this machine for
  bool shim_found = true;               // the loader finds it where LD_PRELOAD names it without a folder
  std::vector<SambaProcess> processes;
};

struct Finding {
  enum class Level { Good, Warning, Error } level = Level::Good;
  std::string subject;  // "smb.conf", "shim", ...
  std::string text;     // what is so
  std::string remedy;   // what to do; empty if nothing
};

[[nodiscard]] std::vector<Finding> check_samba(const SambaFacts& facts);

// The [global] section of what `testparm -sv` prints.
[[nodiscard]] std::map<std::string, std::string> parse_global(const std::string& testparm_output);
// The names NAME of the records SECRETS/`kind`/NAME in what `dbwrap_tool secrets.tdb listkeys` prints.
[[nodiscard]] std::vector<std::string> secrets_of(const std::string& kind, const std::string& keys);
// From /proc/PID/maps.
[[nodiscard]] SambaProcess::Shim shim_in_maps(const std::string& maps);
// Is this the name of a process of Samba that uses databases?
[[nodiscard]] bool is_samba_process(const std::string& name);

}  // namespace tdbmesh::ctl
