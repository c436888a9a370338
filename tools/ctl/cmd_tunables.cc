// getvar, setvar, listvars.

#include <fmt/format.h>
#include <strings.h>

#include <cerrno>

#include "tools/client/text.h"
#include "tools/ctl/verbs.h"
#include "transport/ctdb_tunables.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

// The names that the node of the command lists, in its order.
Outcome<std::vector<std::string>> tunable_names(Session& session) {
  auto list = session.ask_for<ctdb::CountedText>(ControlOpcode::ListTunables, session.node());
  if (!list) return passed_on(list);
  std::vector<std::string> names;
  std::string_view rest = list->text;
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    if (colon != 0) names.emplace_back(rest.substr(0, colon));
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  for (const std::string& known : names) {
    if (strcasecmp(known.c_str(), name.c_str()) == 0) return true;
  }
  return false;
}

// CTDB says this on stdout.
tl::unexpected<Failure> no_such_tunable(Invocation& in, const std::string& name) {
  in.console.text(fmt::format("No such tunable {}\n", name));
  return fail(in.options.as_ctdb() ? "" : fmt::format("{} listvars shows the names", in.options.program));
}

Outcome<std::uint32_t> tunable_value(Session& session, const std::string& name) {
  return session.ask_u32(ControlOpcode::GetTunable, session.node(), ctdb::encode(ctdb::CountedText{name}));
}

std::string line(const std::string& name, std::uint32_t value) { return fmt::format("{:<26} = {}\n", name, value); }

}  // namespace

Outcome<int> run_getvar(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "getvar");
  auto names = tunable_names(*in.session);
  if (!names) return passed_on(names);
  if (!contains(*names, in.args[0])) return no_such_tunable(in, in.args[0]);
  auto value = tunable_value(*in.session, in.args[0]);
  if (!value) return passed_on(value);
  in.console.show(line(in.args[0], *value), {{in.args[0], *value}});
  return 0;
}

Outcome<int> run_setvar(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "setvar");
  auto names = tunable_names(*in.session);
  if (!names) return passed_on(names);
  if (!contains(*names, in.args[0])) return no_such_tunable(in, in.args[0]);
  const auto value = parse_u32(in.args[1]);
  if (!value) return fail(fmt::format("Invalid value {}: give a number", in.args[1]), EINVAL);
  auto reply = in.session->request(ControlOpcode::SetTunable, in.session->node(),
                                   ctdb::encode(ctdb::SetTunable{*value, in.args[0]}));
  if (!reply) return passed_on(reply);
  if (reply->status == 1) {
    in.console.text(fmt::format("Setting obsolete tunable variable '{}'\n", in.args[0]));
  } else if (reply->status != 0) {
    return fail(fmt::format("Control SET_TUNABLE failed, ret={} {}", reply->status, reply->error));
  }
  return 0;
}

Outcome<int> run_listvars(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "listvars");
  auto names = tunable_names(*in.session);
  if (!names) return passed_on(names);
  std::string text;
  Json json = Json::object();
  for (const std::string& name : *names) {
    auto value = tunable_value(*in.session, name);
    if (!value) return passed_on(value);
    text += line(name, *value);
    json[name] = *value;
  }
  in.console.show(text, std::move(json));
  return 0;
}

}  // namespace tdbmesh::ctl
