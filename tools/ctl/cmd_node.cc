// Small questions to one node, and the verbs that need no daemon.

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "tools/client/text.h"
#include "tools/ctl/format_nodes.h"
#include "tools/ctl/verbs.h"
#include "transport/cluster_key.h"

#ifndef TDBMESH_VERSION
#define TDBMESH_VERSION "unknown"
#endif

namespace tdbmesh::ctl {

using ctdb::ControlOpcode;

Outcome<int> run_version(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "version");
  in.console.show("tdbmesh " TDBMESH_VERSION "\n", {{"version", TDBMESH_VERSION}});
  return 0;
}

Outcome<int> run_ping(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "ping");
  const Instant start = boot_time_now();
  auto reply = in.session->request(ControlOpcode::Ping, in.session->node());
  if (!reply) return passed_on(reply);
  if (reply->status < 0) return fail(fmt::format("Control PING failed, ret={}", reply->status));
  const double taken = std::chrono::duration<double>(boot_time_now() - start).count();
  const std::uint32_t node = number(in.session->node());
  in.console.show(fmt::format("response from {} time={:.6f} sec  ({} clients)\n", node, taken, reply->status),
                  {{"node", node}, {"seconds", taken}, {"clients", reply->status}});
  return 0;
}

Outcome<int> run_pnn(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "pnn");
  in.console.show(fmt::format("{}\n", number(in.session->node())), {{"pnn", number(in.session->node())}});
  return 0;
}

Outcome<int> run_leader(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "leader");
  auto leader = in.session->leader();
  if (!leader) return passed_on(leader);
  if (!*leader) {
    in.console.show("UNKNOWN\n", {{"leader", nullptr}});
  } else {
    in.console.show(fmt::format("{}\n", number(**leader)), {{"leader", number(**leader)}});
  }
  return 0;
}

Outcome<int> run_uptime(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "uptime");
  auto uptime = in.session->ask_for<ctdb::Uptime>(ControlOpcode::Uptime, in.session->node());
  if (!uptime) return passed_on(uptime);
  in.console.show(format_uptime(in.session->node(), *uptime), json_uptime(in.session->node(), *uptime));
  return 0;
}

Outcome<int> run_runstate(Invocation& in) {
  auto state = in.session->ask_u32(ControlOpcode::GetRunstate, in.session->node());
  if (!state) return passed_on(state);
  bool wanted = in.args.empty();
  for (const std::string& name : in.args) {
    const auto known = runstate_by_name(name);
    if (!known) {
      in.console.text(fmt::format("Invalid run state ({})\n", name));
      return fail(in.options.as_ctdb() ? "" : "the run states are: unknown init setup first_recovery startup running shutdown");
    }
    if (*known == *state) {
      wanted = true;
      break;
    }
  }
  const std::string name(runstate_name(*state));
  if (!wanted) {
    in.console.show(fmt::format("CTDB not in required run state (got {})\n", name), {{"runstate", name}, {"wanted", false}});
    return 1;
  }
  in.console.show(name + "\n", {{"runstate", name}});
  return 0;
}

Outcome<int> run_getcapabilities(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getcapabilities");
  auto bits = in.session->ask_u32(ControlOpcode::GetCapabilities, in.session->node());
  if (!bits) return passed_on(bits);
  const bool leader = (*bits & kCapabilityLeader) != 0;
  const bool lmaster = (*bits & kCapabilityLmaster) != 0;
  const bool witness = (*bits & kCapabilityWitness) != 0;
  const char s = in.options.separator;
  const std::string text =
      in.options.machine
          ? fmt::format("{0}LEADER{0}LMASTER{0}\n{0}{1}{0}{2}{0}\n", s, leader ? 1 : 0, lmaster ? 1 : 0)
          : fmt::format("LEADER: {}\nLMASTER: {}\n{}", leader ? "YES" : "NO", lmaster ? "YES" : "NO",
                        witness ? "WITNESS: YES\n" : "");
  in.console.show(text, {{"leader", leader}, {"lmaster", lmaster}, {"witness", witness}});
  return 0;
}

Outcome<int> run_getpid(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getpid");
  auto reply = in.session->request(ControlOpcode::GetPid, in.session->node());
  if (!reply) return passed_on(reply);
  if (reply->status < 0) return fail(fmt::format("Control GET_PID failed, ret={}", reply->status));
  in.console.show(fmt::format("{}\n", reply->status), {{"pid", reply->status}});
  return 0;
}

Outcome<int> run_getdebug(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getdebug");
  auto bytes = in.session->ask(ControlOpcode::GetDebug, in.session->node());
  if (!bytes) return passed_on(bytes);
  auto level = in.session->decoded(ControlOpcode::GetDebug, ctdb::decode_i32(*bytes));
  if (!level) return passed_on(level);
  in.console.show(debug_level_name(*level) + "\n", {{"debug_level", debug_level_name(*level)}});
  return 0;
}

Outcome<int> run_setdebug(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "setdebug");
  const auto level = debug_level_by_name(in.args[0]);
  if (!level) {
    return fail(fmt::format("Invalid debug level '{}'. Valid levels are:\n\tERROR | WARNING | NOTICE | INFO | DEBUG", in.args[0]));
  }
  auto done = in.session->ask(ControlOpcode::SetDebug, in.session->node(), ctdb::encode_i32(*level));
  if (!done) return passed_on(done);
  return 0;
}

Outcome<int> run_process_exists(Invocation& in) {
  if (in.args.empty() || in.args.size() > 2) return wrong_usage(in, "process-exists");
  const auto number_typed = parse_u32(in.args[0]);
  if (!number_typed && !in.options.as_ctdb()) return fail(fmt::format("Invalid PID {}: give a decimal number", in.args[0]));
  const auto pid = static_cast<std::int32_t>(number_typed.value_or(0));
  std::optional<std::uint64_t> srvid;
  if (in.args.size() == 2) {
    srvid = parse_u64(in.args[1]);
    if (!srvid) return fail(fmt::format("Invalid SRVID {}: give a number such as 0xFE00000000000002", in.args[1]));
  }
  auto reply = srvid ? in.session->request(ControlOpcode::CheckPidSrvid, in.session->node(),
                                           ctdb::encode(ctdb::PidSrvid{pid, Srvid{*srvid}}))
                     : in.session->request(ControlOpcode::ProcessExists, in.session->node(), ctdb::encode_i32(pid));
  if (!reply) return passed_on(reply);
  const bool exists = reply->status == 0;
  const std::string what = srvid ? fmt::format("PID {} with SRVID 0x{:x}", pid, *srvid) : fmt::format("PID {}", pid);
  in.console.show(fmt::format("{} {}\n", what, exists ? "exists" : "does not exist"), {{"pid", pid}, {"exists", exists}});
  return exists ? 0 : 1;
}

Outcome<int> run_getreclock(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getreclock");
  auto bytes = in.session->ask(ControlOpcode::GetReclockFile, in.session->node());
  if (!bytes) return passed_on(bytes);
  auto path = in.session->decoded(ControlOpcode::GetReclockFile, ctdb::decode_text(*bytes));
  if (!path) return passed_on(path);
  in.console.show(path->empty() ? "" : *path + "\n", {{"cluster_lock", path->empty() ? Json(nullptr) : Json(*path)}});
  return 0;
}

Outcome<int> run_listnodes(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "listnodes");
  const std::string path = config_dir(in.options.config_dir, in.options.as_ctdb()) + "/nodes";
  std::ifstream file(path);
  if (!file) return fail(fmt::format("Failed to read nodes file {}: create it, one address per line, or say --config-dir", path));
  std::stringstream content;
  content << file.rdbuf();
  const auto nodes = parse_nodes_file(content.str());
  Json json = Json::array();
  for (std::size_t pnn = 0; pnn < nodes.size(); ++pnn) {
    if (nodes[pnn]) json.push_back({{"pnn", pnn}, {"address", *nodes[pnn]}});
  }
  in.console.show(format_nodes_file(nodes, in.options.machine, in.options.separator), std::move(json));
  return 0;
}

Outcome<int> run_keygen(Invocation& in) {
  if (in.args.size() > 1) return wrong_usage(in, "keygen");
  const std::string path = in.args.empty() ? config_dir(in.options.config_dir, false) + "/cluster.key" : in.args[0];
  auto key = generate_cluster_key();
  if (!key) return fail("cannot make a key: " + key.error().context);
  if (auto saved = save_cluster_key(path, *key); !saved) return fail(saved.error().context);
  in.console.show(fmt::format("{} written; copy it to every node (mode 0600) and restart their daemons\n", path),
                  {{"file", path}, {"public", key->public_key}});
  return 0;
}

}  // namespace tdbmesh::ctl
