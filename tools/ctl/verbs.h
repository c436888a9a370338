#pragma once
// The verbs of `tdbmesh` (and of `ctdb`): one table, one function each.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ctl/console.h"
#include "tools/ctl/options.h"
#include "tools/ctl/session.h"

namespace tdbmesh::ctl {

// What a verb gets. `session` is null for verbs that need no daemon.
struct Invocation {
  const Options& options;
  std::vector<std::string> args;  // without the verb
  Session* session = nullptr;
  Console& console;
};

enum class Needs {
  Nothing,  // no daemon
  OwnNode,  // the local daemon; -n is refused
  AnyNode,  // the local daemon, which forwards to the node of -n
};

struct Verb {
  std::string_view name;
  Needs needs = Needs::AnyNode;
  std::string_view arguments;
  std::string_view help;
  Outcome<int> (*run)(Invocation&) = nullptr;
  bool only_asks = true;  // changes nothing and prints at its end: may be run again if the connection breaks
};

[[nodiscard]] std::span<const Verb> all_verbs();
[[nodiscard]] const Verb* find_verb(std::string_view name);
[[nodiscard]] std::string usage_text(const std::string& program);
// The arguments do not fit the verb: one line that says how they should look.
[[nodiscard]] tl::unexpected<Failure> wrong_usage(const Invocation& in, std::string_view verb);

// Finds the verb, connects if it needs to, runs it (on each node with -n all), prints; the exit status.
[[nodiscard]] int run_command(const Options& options, Console& console, const Console::Sink& json_out);

// cmd_node.cc
Outcome<int> run_version(Invocation& in);
Outcome<int> run_ping(Invocation& in);
Outcome<int> run_pnn(Invocation& in);
Outcome<int> run_leader(Invocation& in);
Outcome<int> run_uptime(Invocation& in);
Outcome<int> run_runstate(Invocation& in);
Outcome<int> run_getcapabilities(Invocation& in);
Outcome<int> run_getpid(Invocation& in);
Outcome<int> run_getdebug(Invocation& in);
Outcome<int> run_setdebug(Invocation& in);
Outcome<int> run_process_exists(Invocation& in);
Outcome<int> run_getreclock(Invocation& in);
Outcome<int> run_listnodes(Invocation& in);
Outcome<int> run_reloadnodes(Invocation& in);
Outcome<int> run_keygen(Invocation& in);
// cmd_status.cc
Outcome<int> run_status(Invocation& in);
Outcome<int> run_nodestatus(Invocation& in);
Outcome<int> run_getvnnmap(Invocation& in);
// cmd_tunables.cc
Outcome<int> run_getvar(Invocation& in);
Outcome<int> run_setvar(Invocation& in);
Outcome<int> run_listvars(Invocation& in);
// cmd_statistics.cc
Outcome<int> run_statistics(Invocation& in);
Outcome<int> run_statisticsreset(Invocation& in);
Outcome<int> run_stats(Invocation& in);
Outcome<int> run_dbstatistics(Invocation& in);
// cmd_addresses.cc
Outcome<int> run_ip(Invocation& in);
Outcome<int> run_ipinfo(Invocation& in);
Outcome<int> run_ifaces(Invocation& in);
// cmd_move_addresses.cc
Outcome<int> run_moveip(Invocation& in);
Outcome<int> run_addip(Invocation& in);
Outcome<int> run_delip(Invocation& in);
Outcome<int> run_reloadips(Invocation& in);
Outcome<int> run_setifacelink(Invocation& in);
Outcome<int> run_gratarp(Invocation& in);
// cmd_tickles.cc
Outcome<int> run_addtickle(Invocation& in);
Outcome<int> run_deltickle(Invocation& in);
Outcome<int> run_gettickles(Invocation& in);
Outcome<int> run_tickle(Invocation& in);
// cmd_databases.cc
Outcome<int> run_getdbmap(Invocation& in);
Outcome<int> run_getdbstatus(Invocation& in);
Outcome<int> run_getdbseqnum(Invocation& in);
Outcome<int> run_attach(Invocation& in);
Outcome<int> run_detach(Invocation& in);
Outcome<int> run_setdbreadonly(Invocation& in);
Outcome<int> run_setdbsticky(Invocation& in);
Outcome<int> run_catdb(Invocation& in);
Outcome<int> run_cattdb(Invocation& in);
// cmd_backup.cc
Outcome<int> run_backupdb(Invocation& in);
Outcome<int> run_restoredb(Invocation& in);
Outcome<int> run_dumpdbbackup(Invocation& in);
Outcome<int> run_wipedb(Invocation& in);
// cmd_samba.cc
Outcome<int> run_samba(Invocation& in);
// cmd_lock.cc
Outcome<int> run_lock(Invocation& in);
// cmd_records.cc
Outcome<int> run_pfetch(Invocation& in);
Outcome<int> run_pstore(Invocation& in);
Outcome<int> run_pdelete(Invocation& in);
Outcome<int> run_ptrans(Invocation& in);
Outcome<int> run_readkey(Invocation& in);
Outcome<int> run_writekey(Invocation& in);
Outcome<int> run_deletekey(Invocation& in);
// cmd_operate.cc
Outcome<int> run_disable(Invocation& in);
Outcome<int> run_enable(Invocation& in);
Outcome<int> run_drain(Invocation& in);
Outcome<int> run_stop(Invocation& in);
Outcome<int> run_continue(Invocation& in);
Outcome<int> run_ban(Invocation& in);
Outcome<int> run_unban(Invocation& in);
Outcome<int> run_shutdown(Invocation& in);
Outcome<int> run_recover(Invocation& in);
Outcome<int> run_ipreallocate(Invocation& in);
// Has the leader assign the public addresses anew, and waits until it has.
Outcome<> reallocate_addresses(Session& session);

}  // namespace tdbmesh::ctl
