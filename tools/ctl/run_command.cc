// One command from its words to its exit status.

#include <fmt/format.h>

#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

int report(const Failure& failure, Console& console) {
  if (!failure.text.empty()) console.complain(failure.text);
  return failure.status == 0 ? 1 : failure.status;
}

// The nodes that -n all means: those that can answer.
Outcome<std::vector<Pnn>> connected_nodes(Session& session) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  std::vector<Pnn> nodes;
  for (const auto& node : map->nodes) {
    if ((node.flags & (kFlagDisconnected | kFlagDeleted)) == 0) nodes.push_back(node.pnn);
  }
  return nodes;
}

int run_on_all(const Verb& verb, Invocation& in, Session& session, const Console::Sink& json_out) {
  auto nodes = connected_nodes(session);
  if (!nodes) return report(nodes.error(), in.console);
  int worst = 0;
  Json results = Json::array();
  for (const Pnn node : *nodes) {
    session.set_node(node);
    if (!in.options.machine) in.console.text(fmt::format(">> NODE: {} <<\n", number(node)));
    auto status = verb.run(in);
    const int code = status ? *status : report(status.error(), in.console);
    worst = std::max(worst, code);
    Json entry{{"node", number(node)}, {"status", code}};
    Json result = in.console.take_json();
    if (status) entry["result"] = std::move(result);
    results.push_back(std::move(entry));
  }
  if (in.options.json) json_out(json_text(results, 2));
  return worst;
}

}  // namespace

int run_command(const Options& options, Console& console, const Console::Sink& json_out) {
  const std::string& name = options.words.front();
  const Verb* verb = find_verb(name);
  if (verb == nullptr) {
    console.complain(options.as_ctdb() ? fmt::format("Unknown command '{}'", name)
                                       : fmt::format("Unknown command '{}'; {} --help lists the verbs", name, options.program));
    return 1;
  }
  const bool node_given = options.node.has_value() || options.all_nodes;
  if (node_given && verb->needs == Needs::Nothing) {
    console.complain(fmt::format("Cannot specify node for command {}", name));
    return 1;
  }
  Invocation in{options, {options.words.begin() + 1, options.words.end()}, nullptr, console};

  std::optional<Session> session;
  const auto connect = [&]() -> Outcome<> {
    auto opened = Session::open(socket_path(options.socket), options.timeout());
    if (!opened) return passed_on(opened);
    session.emplace(std::move(*opened));
    in.session = &*session;
    if (!options.node) return {};
    if (auto there = session->check_node(*options.node); !there) return there;
    session->set_node(Pnn{*options.node});
    return {};
  };
  if (verb->needs != Needs::Nothing) {
    if (node_given && verb->needs == Needs::OwnNode) {
      console.complain(fmt::format("Node cannot be specified for command {}", name));
      return 1;
    }
    if (auto connected = connect(); !connected) return report(connected.error(), console);
    if (options.all_nodes) return run_on_all(*verb, in, *session, json_out);
  }
  auto status = verb->run(in);
  // A daemon that leaves the cluster's view drops its clients. It answers again at once, and what it now has
  // to say is what the operator wants to know.
  if (!status && status.error().lost && verb->only_asks) {
    if (auto connected = connect(); connected) status = verb->run(in);
  }
  if (!status) return report(status.error(), console);
  if (options.json) json_out(json_text(console.take_json(), 2));
  return *status;
}

}  // namespace tdbmesh::ctl
