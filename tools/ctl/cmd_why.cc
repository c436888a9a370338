// why: the last decisions about a node or an address, with their times, from those who took them.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <optional>
#include <sstream>

#include "tools/client/text.h"
#include "tools/ctl/verbs_events.h"

namespace tdbmesh::ctl {
namespace {

constexpr ctdb::ControlOpcode kWhy{10011};  // tools/daemon/controls_events.cc

struct Line {
  double time = 0;
  Pnn said_by{};
  std::string text;
};

void add_answers(Session& session, const std::vector<Pnn>& nodes, const std::string& subject, std::vector<Line>& lines) {
  for (const Pnn node : nodes) {
    auto reply = session.request(kWhy, node, ctdb::encode_text(subject));
    if (!reply || reply->status != 0) continue;  // one that does not answer has nothing to say
    std::istringstream in(std::string(reply->data.substr(0, reply->data.find('\0'))));
    for (std::string text; std::getline(in, text);) {
      const auto tab = text.find('\t');
      if (tab == std::string::npos) continue;
      lines.push_back({std::atof(text.substr(0, tab).c_str()), node, text.substr(tab + 1)});
    }
  }
}

// One that does not answer may have it.
bool is_public(Session& session, const std::vector<Pnn>& nodes, const ctdb::SockAddr& address) {
  return std::any_of(nodes.begin(), nodes.end(), [&](Pnn node) {
    const auto list = session.ask_for<ctdb::PublicIpList>(ctdb::ControlOpcode::GetPublicIps, node);
    return !list || std::any_of(list->addresses.begin(), list->addresses.end(),
                                [&](const auto& ip) { return ip.address == address; });
  });
}

std::string date(double time) {
  const auto seconds = static_cast<std::time_t>(time);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char text[40];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
  return fmt::format("{}.{:03}", text, static_cast<int>((time - std::floor(time)) * 1000));
}

}  // namespace

Outcome<int> run_why(Invocation& in) {
  Session& session = *in.session;
  const auto& args = in.args;
  std::string subject;
  std::vector<Pnn> asked;
  std::optional<ctdb::SockAddr> address;
  auto map = session.node_map();
  if (!map) return passed_on(map);
  const auto connected = [&](Pnn pnn) {
    return std::any_of(map->nodes.begin(), map->nodes.end(), [&](const auto& node) {
      return node.pnn == pnn && (node.flags & (kFlagDisconnected | kFlagDeleted)) == 0;
    });
  };
  if (args.size() == 1 && args[0] == "unhealthy") {
    subject = "unhealthy";
    asked = {session.node()};
  } else if (args.size() == 2 && args[0] == "node") {
    const auto pnn = parse_u32(args[1]);
    if (!pnn || *pnn >= map->nodes.size()) return fail(fmt::format("Node {} does not exist", args[1]));
    subject = "node " + args[1];
    asked = {session.node()};
    if (Pnn{*pnn} != session.node() && connected(Pnn{*pnn})) asked.push_back(Pnn{*pnn});
  } else if (args.size() == 2 && args[0] == "ip") {
    address = ctdb::parse_address(args[1]);
    if (!address) return fail(fmt::format("{} is no numeric address", args[1]));
    subject = "ip " + ctdb::to_string(*address);
    for (const auto& node : map->nodes) {
      if (connected(node.pnn)) asked.push_back(node.pnn);
    }
  } else {
    return wrong_usage(in, "why");
  }
  std::vector<Line> lines;
  add_answers(session, asked, subject, lines);
  if (lines.empty() && address && !is_public(session, asked, *address)) {
    return fail(fmt::format("No node has {} in its public_addresses (see `tdbmesh ip all`)", args[1]));
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.time < b.time; });
  std::string text;
  Json json = Json::array();
  for (const Line& line : lines) {
    text += fmt::format("{} node {}: {}\n", date(line.time), number(line.said_by), line.text);
    json.push_back({{"time", line.time}, {"node", number(line.said_by)}, {"text", line.text}});
  }
  if (lines.empty()) {
    text = subject == "unhealthy" ? "This node is healthy, and always was\n"
                                  : fmt::format("Nothing was decided about {} since the daemons were started\n", subject);
  }
  in.console.show(text, std::move(json));
  return 0;
}

}  // namespace tdbmesh::ctl
