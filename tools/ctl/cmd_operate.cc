// Verbs that change what a node does: disable, enable, drain, stop, continue, ban, unban, shutdown, recover,
// ipreallocate.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "tools/client/text.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {

// Repeats the question for as long as the command may run: a leader that has just changed may not have heard it.
Outcome<> reallocate_addresses(Session& session) {
  const Srvid answers = session.temporary_srvid();
  if (auto done = session.client().register_srvid(answers, session.timeout()); !done) {
    return fail("cannot listen for the leader's answer: " + done.error().context);
  }
  const Bytes question = ctdb::encode(ctdb::SrvidMessage{session.own(), answers});
  std::int32_t result = 0;
  while (true) {
    if (auto sent = session.client().send_message(ctdb::kBroadcastConnected, ctdb::kSrvidTakeoverRun, question); !sent) {
      return fail("connection to daemon closed, exiting: see the daemon's log for the reason");
    }
    auto answer = session.client().wait_message(answers, session.timeout());
    if (!answer && answer.error().fault != Fault::Busy) {
      return fail("connection to daemon closed, exiting: see the daemon's log for the reason");
    }
    if (!answer) continue;
    const auto value = ctdb::decode_i32(answer->data);
    if (!value) continue;
    result = *value;
    break;
  }
  (void)session.client().deregister_srvid(answers, session.timeout());
  if (result < 0) {
    return fail(fmt::format("IP reallocation failed, ret={}: the leader's log says why; try {} again later", result,
                            "ipreallocate"),
                (-result) & 0xFF);
  }
  return {};
}

namespace {

using ctdb::ControlOpcode;

constexpr Duration kPollEvery = std::chrono::milliseconds(50);

// Sends `opcode` and waits until `flag` of the node of the command is as wanted in the node map.
Outcome<int> change_flag(Session& session, ControlOpcode opcode, BytesView data, NodeFlags flag, bool wanted,
                         Console& console, const char* already) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  const std::uint32_t pnn = number(session.node());
  if (((map->nodes[pnn].flags & flag) != 0) == wanted) {
    console.complain(fmt::format("Node {} is {}", pnn, already));
    return 0;
  }
  if (auto done = session.ask(opcode, session.node(), data); !done) return passed_on(done);
  while (true) {
    auto now = session.node_map();
    if (!now) return passed_on(now);
    if (((now->nodes[pnn].flags & flag) != 0) == wanted) break;
    std::this_thread::sleep_for(kPollEvery);
  }
  if (auto done = reallocate_addresses(session); !done) return passed_on(done);
  return 0;
}

Outcome<int> ban(Invocation& in, std::uint32_t for_seconds) {
  const Bytes state = ctdb::encode(ctdb::BanState{in.session->node(), for_seconds});
  return change_flag(*in.session, ControlOpcode::SetBanState, state, kFlagBanned, for_seconds != 0, in.console,
                     for_seconds != 0 ? "already banned" : "not banned");
}

}  // namespace

Outcome<int> run_disable(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "disable");
  return change_flag(*in.session, ControlOpcode::DisableNode, {}, kFlagDisabled, true, in.console, "already disabled");
}

Outcome<int> run_enable(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "enable");
  return change_flag(*in.session, ControlOpcode::EnableNode, {}, kFlagDisabled, false, in.console, "not disabled");
}

Outcome<int> run_stop(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "stop");
  return change_flag(*in.session, ControlOpcode::StopNode, {}, kFlagStopped, true, in.console, "already stopped");
}

Outcome<int> run_continue(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "continue");
  return change_flag(*in.session, ControlOpcode::ContinueNode, {}, kFlagStopped, false, in.console, "not stopped");
}

Outcome<int> run_ban(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "ban");
  const auto time = parse_u32(in.args[0]);
  if (!time) return fail(fmt::format("Invalid ban time {}: give a number of seconds", in.args[0]), EINVAL);
  if (*time == 0) return fail("Ban time cannot be zero", EINVAL);
  return ban(in, *time);
}

Outcome<int> run_unban(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "unban");
  return ban(in, 0);
}

// Before maintenance or an upgrade: disabled, and not done before the addresses answer elsewhere.
Outcome<int> run_drain(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "drain");
  Session& session = *in.session;
  const std::uint32_t pnn = number(session.node());
  if (auto done = change_flag(session, ControlOpcode::DisableNode, {}, kFlagDisabled, true, in.console, "already disabled");
      !done) {
    return done;
  }
  const auto until = std::chrono::steady_clock::now() + session.timeout();
  while (true) {
    auto list = session.ask_for<ctdb::PublicIpList>(ControlOpcode::GetPublicIps, session.node());
    if (!list) return passed_on(list);
    const auto here = std::find_if(list->addresses.begin(), list->addresses.end(),
                                   [&](const auto& ip) { return ip.pnn == session.node(); });
    if (here == list->addresses.end()) break;
    if (std::chrono::steady_clock::now() >= until) {
      const std::string ip = ctdb::to_string(here->address);
      return fail(fmt::format("Node {} still hosts {}: {} why ip {} says why; stopped now, its clients lose it", pnn, ip,
                              in.options.program, ip));
    }
    std::this_thread::sleep_for(kPollEvery);
  }
  in.console.show(fmt::format("Node {} is disabled and hosts no public address: it can be stopped\n", pnn),
                  {{"node", pnn}, {"drained", true}});
  return 0;
}

Outcome<int> run_shutdown(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "shutdown");
  Session& session = *in.session;
  auto sent = session.client().control_no_reply(ControlOpcode::Shutdown, number(session.node()));
  if (!sent) return fail("cannot ask the daemon to shut down: " + sent.error().context);
  if (session.node() != session.own()) return 0;
  // The end of the connection is the daemon's word that it is done.
  while (true) {
    auto message = session.client().wait_message(std::nullopt, ctdb::kForever);
    if (!message && message.error().fault != Fault::Busy) return 0;
  }
}

Outcome<int> run_recover(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "recover");
  Session& session = *in.session;
  auto leader = session.leader();
  if (!leader) return passed_on(leader);
  if (!*leader) {
    return fail(fmt::format("No leader, so nobody can recover the databases: {} status -v says what the cluster waits for",
                            in.options.program));
  }
  auto before = session.ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, **leader);
  if (!before) return passed_on(before);
  auto asked = session.ask(ControlOpcode::SetRecmode, session.node(), ctdb::encode_u32(1));
  if (!asked) return passed_on(asked);
  while (true) {
    auto mode = session.request(ControlOpcode::GetRecmode, **leader);
    if (!mode) return passed_on(mode);
    auto now = session.ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, **leader);
    if (!now) return passed_on(now);
    if (mode->status == 0 && now->generation != kInvalidClientGeneration && now->generation != before->generation) return 0;
    std::this_thread::sleep_for(kPollEvery);
  }
}

Outcome<int> run_ipreallocate(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "ipreallocate");
  if (auto done = reallocate_addresses(*in.session); !done) return passed_on(done);
  return 0;
}

}  // namespace tdbmesh::ctl
