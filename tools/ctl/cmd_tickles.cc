// addtickle, deltickle, gettickles, tickle: the connections that a new host of an address makes its clients renew.

#include <fmt/format.h>

#include <cerrno>
#include <iostream>
#include <sstream>

#include "ipfailover/raw_sender.h"
#include "tools/client/text.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

constexpr std::size_t kMostConnections = 100'000;  // of one call
constexpr std::size_t kLongestLine = 256;

Outcome<ctdb::SockAddr> endpoint(const std::string& word) {
  const auto address = ctdb::parse_address_and_port(word);
  if (!address) return fail(fmt::format("Invalid IP address {}", word));
  return *address;
}

Outcome<ctdb::Connection> connection(const std::string& from, const std::string& to) {
  auto client = endpoint(from);
  if (!client) return passed_on(client);
  auto server = endpoint(to);
  if (!server) return passed_on(server);
  if (client->family != server->family) return fail(fmt::format("{} and {} are not of one kind", from, to));
  return ctdb::Connection{*client, *server};
}

// SRC DST from the command line, or one pair a line from stdin: event scripts know many.
Outcome<std::vector<ctdb::Connection>> connections(const Invocation& in, std::string_view verb) {
  std::vector<ctdb::Connection> all;
  if (in.args.size() == 2) {
    auto one = connection(in.args[0], in.args[1]);
    if (!one) return passed_on(one);
    all.push_back(*one);
    return all;
  }
  if (!in.args.empty()) return wrong_usage(in, verb);
  for (std::string line; std::getline(std::cin, line);) {
    if (line.size() > kLongestLine || all.size() >= kMostConnections) return fail("too much input: give one pair of IP:PORT a line");
    std::istringstream words(line);
    std::string from;
    std::string to;
    if (!(words >> from)) continue;
    words >> to;
    auto one = connection(from, to);
    if (!one) return passed_on(one);
    all.push_back(*one);
  }
  return all;
}

Outcome<int> tell(Invocation& in, std::string_view verb, ControlOpcode opcode, const char* what) {
  auto all = connections(in, verb);
  if (!all) return passed_on(all);
  int failed = 0;
  for (const ctdb::Connection& c : *all) {
    auto done = in.session->ask(opcode, in.session->node(), ctdb::encode(c));
    if (done) continue;
    if (done.error().lost) return passed_on(done);
    in.console.complain(done.error().text);
    ++failed;
  }
  if (failed != 0) return fail(fmt::format("Failed to {} connection: {} of {} refused; is the address public?", what, failed, all->size()));
  return 0;
}

}  // namespace

Outcome<int> run_addtickle(Invocation& in) { return tell(in, "addtickle", ControlOpcode::TcpAddDelayedUpdate, "register"); }
Outcome<int> run_deltickle(Invocation& in) { return tell(in, "deltickle", ControlOpcode::TcpRemove, "unregister"); }

Outcome<int> run_gettickles(Invocation& in) {
  if (in.args.empty() || in.args.size() > 2) return wrong_usage(in, "gettickles");
  auto address = ctdb::parse_address(in.args[0]);
  if (!address) return fail(fmt::format("Invalid IP address {}", in.args[0]));
  if (in.args.size() == 2) {
    const auto port = parse_u32(in.args[1]);
    if (!port || *port > 65535) return fail(fmt::format("Invalid port {}", in.args[1]), EINVAL);
    address->port = static_cast<std::uint16_t>(*port);
  }
  auto answer = in.session->ask_for<ctdb::TickleList>(ControlOpcode::GetTcpTickleList, in.session->node(), ctdb::encode(*address));
  if (!answer) {
    if (answer.error().lost) return passed_on(answer);
    in.console.complain(answer.error().text);
    return fail("Failed to get list of connections");
  }
  const char s = in.options.separator;
  std::string text;
  if (in.options.machine) {
    // spelt as CTDB spells it: scripts compare
    text = fmt::format("{0}Source IP{0}Port{0}Destiation IP{0}Port{0}\n", s);
  } else {
    text = fmt::format("Connections for IP: {}\nNum connections: {}\n", ctdb::to_string(*address), answer->connections.size());
  }
  const auto shown = [](const ctdb::SockAddr& a) {
    return a.family == ctdb::SockAddr::Family::V6 ? fmt::format("[{}]:{}", ctdb::to_string(a), a.port)
                                                  : fmt::format("{}:{}", ctdb::to_string(a), a.port);
  };
  Json list = Json::array();
  for (const ctdb::Connection& c : answer->connections) {
    if (in.options.machine) {
      text += fmt::format("{0}{1}{0}{2}{0}{3}{0}{4}{0}\n", s, ctdb::to_string(c.client), c.client.port,
                          ctdb::to_string(c.server), c.server.port);
    } else {
      text += fmt::format("SRC: {}   DST: {}\n", shown(c.client), shown(c.server));
    }
    list.push_back({{"source", ctdb::to_string(c.client)}, {"source_port", c.client.port},
                    {"destination", ctdb::to_string(c.server)}, {"destination_port", c.server.port}});
  }
  in.console.show(text, Json{{"address", ctdb::to_string(*address)}, {"connections", std::move(list)}});
  return 0;
}

// Without the daemon: one bare ACK from SRC to DST for each, which DST has to answer.
Outcome<int> run_tickle(Invocation& in) {
  auto all = connections(in, "tickle");
  if (!all) return passed_on(all);
  ipfailover::RawSender sender;
  for (const ctdb::Connection& c : *all) {
    if (auto sent = sender.send({c.client, c.server, 0, 0, false}); !sent) {
      return fail(fmt::format("Failed to send a tickle ACK: {}; it needs root", sent.error().context));
    }
  }
  return 0;
}

}  // namespace tdbmesh::ctl
