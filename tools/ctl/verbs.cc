#include "tools/ctl/verbs.h"

#include "tools/ctl/verbs_events.h"

#include <fmt/format.h>

#include <array>

namespace tdbmesh::ctl {
namespace {

constexpr auto kVerbs = std::to_array<Verb>({
    {"version", Needs::Nothing, "", "show version of tdbmesh", run_version},
    {"status", Needs::AnyNode, "", "show node status; -v: with reasons", run_status},
    {"uptime", Needs::AnyNode, "", "show node uptime", run_uptime},
    {"ping", Needs::AnyNode, "", "ping a node", run_ping},
    {"runstate", Needs::AnyNode, "[setup|first_recovery|startup|running]", "get/check runstate of a node", run_runstate},
    {"getvar", Needs::AnyNode, "<name>", "get a tunable variable", run_getvar},
    {"setvar", Needs::AnyNode, "<name> <value>", "set a tunable variable", run_setvar, false},
    {"listvars", Needs::AnyNode, "", "list tunable variables", run_listvars},
    {"statistics", Needs::AnyNode, "", "show statistics", run_statistics},
    {"statisticsreset", Needs::AnyNode, "", "reset statistics", run_statisticsreset, false},
    {"stats", Needs::AnyNode, "[count]", "show rolling statistics", run_stats},
    {"ip", Needs::AnyNode, "[all]", "show public ips", run_ip},
    {"ipinfo", Needs::AnyNode, "<ip>", "show public ip details", run_ipinfo},
    {"ifaces", Needs::AnyNode, "", "show interfaces", run_ifaces},
    {"moveip", Needs::AnyNode, "<ip> <node>", "move an ip address to another node", run_moveip, false},
    {"addip", Needs::AnyNode, "<ip/mask> <iface>", "add an ip address to a node", run_addip, false},
    {"delip", Needs::AnyNode, "<ip>", "delete an ip address from a node", run_delip, false},
    {"reloadips", Needs::AnyNode, "[all|<pnn-list>]", "reload the public addresses file", run_reloadips, false},
    {"setifacelink", Needs::AnyNode, "<iface> up|down", "set interface link status", run_setifacelink, false},
    {"gratarp", Needs::AnyNode, "<ip> <interface>", "send a gratuitous arp", run_gratarp, false},
    {"tickle", Needs::Nothing, "<srcip:port> <dstip:port>", "send a tcp tickle ack", run_tickle, false},
    {"gettickles", Needs::AnyNode, "<ip> [<port>]", "get the list of tickles", run_gettickles},
    {"addtickle", Needs::AnyNode, "<ip>:<port> <ip>:<port>", "add a tickle", run_addtickle, false},
    {"deltickle", Needs::AnyNode, "<ip>:<port> <ip>:<port>", "delete a tickle", run_deltickle, false},
    {"process-exists", Needs::AnyNode, "<pid> [<srvid>]", "check if a process exists on a node", run_process_exists},
    {"getdbmap", Needs::AnyNode, "", "show attached databases", run_getdbmap},
    {"getdbstatus", Needs::AnyNode, "<dbname|dbid>", "show database status", run_getdbstatus},
    {"catdb", Needs::OwnNode, "<dbname|dbid>", "dump cluster-wide database", run_catdb, false},
    {"cattdb", Needs::OwnNode, "<dbname|dbid>", "dump local copy of a database", run_cattdb, false},
    {"getvnnmap", Needs::AnyNode, "", "show which node is lmaster of which slot", run_getvnnmap},
    {"getcapabilities", Needs::AnyNode, "", "show node capabilities", run_getcapabilities},
    {"pnn", Needs::OwnNode, "", "show the pnn of the current node", run_pnn},
    {"setdebug", Needs::AnyNode, "ERROR|WARNING|NOTICE|INFO|DEBUG", "set debug level", run_setdebug, false},
    {"getdebug", Needs::AnyNode, "", "get debug level", run_getdebug},
    {"attach", Needs::OwnNode, "<dbname> [persistent|replicated]", "attach a database", run_attach, false},
    {"detach", Needs::OwnNode, "<dbname|dbid>...", "detach volatile databases from the cluster", run_detach, false},
    {"getpid", Needs::AnyNode, "", "get daemon process ID", run_getpid},
    {"disable", Needs::AnyNode, "", "disable a node", run_disable, false},
    {"enable", Needs::AnyNode, "", "enable a node", run_enable, false},
    {"drain", Needs::AnyNode, "", "disable a node and wait until it hosts no public ip", run_drain, false},
    {"stop", Needs::AnyNode, "", "stop a node", run_stop, false},
    {"continue", Needs::AnyNode, "", "continue a stopped node", run_continue, false},
    {"ban", Needs::AnyNode, "<bantime>", "ban a node", run_ban, false},
    {"unban", Needs::AnyNode, "", "unban a node", run_unban, false},
    {"shutdown", Needs::AnyNode, "", "shutdown the daemon", run_shutdown, false},
    {"recover", Needs::AnyNode, "", "force recovery", run_recover, false},
    {"sync", Needs::AnyNode, "", "run ip reallocation (deprecated)", run_ipreallocate, false},
    {"ipreallocate", Needs::AnyNode, "", "run ip reallocation", run_ipreallocate, false},
    {"listnodes", Needs::Nothing, "", "list nodes in the cluster", run_listnodes},
    {"reloadnodes", Needs::AnyNode, "", "take up the changed nodes file on all nodes", run_reloadnodes, false},
    {"backupdb", Needs::OwnNode, "<dbname|dbid> <file>", "backup a database into a file", run_backupdb, false},
    {"restoredb", Needs::OwnNode, "<file> [<dbname>]", "restore a database from a file", run_restoredb, false},
    {"dumpdbbackup", Needs::Nothing, "<file>", "dump database from a backup file", run_dumpdbbackup, false},
    {"wipedb", Needs::OwnNode, "<dbname|dbid>", "wipe the contents of a database.", run_wipedb, false},
    {"leader", Needs::AnyNode, "", "show the pnn of the leader", run_leader},
    {"getreclock", Needs::AnyNode, "", "get cluster lock file", run_getreclock},
    {"setdbreadonly", Needs::AnyNode, "<dbname|dbid>", "enable readonly records", run_setdbreadonly, false},
    {"setdbsticky", Needs::AnyNode, "<dbname|dbid>", "enable sticky records", run_setdbsticky, false},
    {"pfetch", Needs::OwnNode, "<dbname|dbid> <key>", "fetch record from persistent database", run_pfetch},
    {"pstore", Needs::OwnNode, "<dbname|dbid> <key> <value>", "write record to persistent database", run_pstore, false},
    {"pdelete", Needs::OwnNode, "<dbname|dbid> <key>", "delete record from persistent database", run_pdelete, false},
    {"ptrans", Needs::OwnNode, "<dbname|dbid> [<file>]", "update a persistent database (from file or stdin)", run_ptrans, false},
    {"readkey", Needs::OwnNode, "<dbname|dbid> <key> [readonly]", "read value of a database key", run_readkey, false},
    {"writekey", Needs::OwnNode, "<dbname|dbid> <key> <value>", "write value for a database key", run_writekey, false},
    {"deletekey", Needs::OwnNode, "<dbname|dbid> <key>", "delete a database key", run_deletekey, false},
    {"getdbseqnum", Needs::OwnNode, "<dbname|dbid>", "get database sequence number", run_getdbseqnum},
    {"nodestatus", Needs::AnyNode, "[all|<pnn-list>]", "show and return node status", run_nodestatus},
    {"dbstatistics", Needs::AnyNode, "<dbname|dbid>", "show database statistics", run_dbstatistics},
    {"event", Needs::Nothing, "status|run|script ...", "event status COMPONENT EVENT; event run SECONDS COMPONENT EVENT\n"
     "                                                   [ARGUMENT...]; event script list|enable|disable COMPONENT [SCRIPT]",
     run_event, false},
    {"scriptstatus", Needs::Nothing, "[<event>]", "show how the event's scripts ran last (monitor)", run_scriptstatus},
    {"checktcpport", Needs::Nothing, "<port>", "check if a port can be bound (98: somebody listens)", run_checktcpport},
    {"why", Needs::AnyNode, "ip <ip>|node <pnn>|unhealthy", "show the last decisions and their reasons", run_why},
    {"lock", Needs::Nothing, "check <path>", "does a file system's lock exclude? run it on two nodes", run_lock, false},
    {"samba", Needs::Nothing, "check", "look whether Samba on this node is set up for tdbmesh", run_samba, false},
    {"keygen", Needs::Nothing, "[<file>]", "make the key that the nodes share (cluster.key)", run_keygen, false},
});

}  // namespace

std::span<const Verb> all_verbs() { return kVerbs; }

const Verb* find_verb(std::string_view name) {
  for (const Verb& verb : kVerbs) {
    if (verb.name == name) return &verb;
  }
  return nullptr;
}

std::string usage_text(const std::string& program) {
  std::string text = fmt::format(
      "Usage: {0} [OPTION...] VERB [ARGUMENT...]\n"
      "  -n, --node=N|all         the node to ask (default: this one)\n"
      "  -t, --timelimit=SEC      time limit of one request (10)\n"
      "  -T, --maxruntime=SEC     time limit of the command (120, or $CTDB_TIMEOUT)\n"
      "  -X, -Y                   machine readable output\n"
      "  -x, --separator=CHAR     separator of machine readable output (|)\n"
      "      --json               output as JSON\n"
      "  -v, --verbose            more output\n"
      "  -d, --debug=LEVEL        accepted\n"
      "      --socket=PATH        the daemon's socket ($CTDB_SOCKET, /run/tdbmesh/ctdbd.socket,\n"
      "                           /run/ctdb/ctdbd.socket)\n"
      "      --config-dir=DIR     where the nodes file and cluster.key are (/etc/tdbmesh, /etc/ctdb)\n"
      "  -?, --help               this text\n\n"
      "Verbs:\n",
      program);
  for (const Verb& verb : kVerbs) text += fmt::format("  {:<15} {:<28}  {}\n", verb.name, verb.arguments, verb.help);
  return text;
}

tl::unexpected<Failure> wrong_usage(const Invocation& in, std::string_view verb) {
  const Verb* known = find_verb(verb);
  return fail(fmt::format("Usage: {} {}{}{}", in.options.program, verb, known->arguments.empty() ? "" : " ", known->arguments));
}

}  // namespace tdbmesh::ctl
