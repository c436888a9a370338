// Messages and controls: what the way to the local daemon and to another node's costs.

#include <array>

#include <fmt/format.h>

#include "workload.h"

namespace tdbmesh::bench {
namespace {

constexpr Srvid kForthSrvid{0xBEE0000000000010u};
constexpr Srvid kBackSrvid{0xBEE0000000000011u};

}  // namespace

// Two messages travel round the nodes in opposite directions, as in CTDB's own message_ring. The operations are
// messages received here; the durations are those of a whole round, divided by its hops.
void message_ring(ctdb::Client& client, const Options& options) {
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  struct Direction {
    Srvid srvid;
    std::uint32_t next;
    Clock::time_point last{};
  };
  std::array directions{Direction{kForthSrvid, (number(own) + 1) % options.nodes},
                        Direction{kBackSrvid, (number(own) + options.nodes - 1) % options.nodes}};
  for (const Direction& direction : directions) or_die(client.register_srvid(direction.srvid), "REGISTER_SRVID");
  Run run(options);
  for (const Direction& direction : directions) {
    if (number(own) == 0) or_die(client.send_message(direction.next, direction.srvid, "go"), "message");
  }
  std::uint64_t received = 0;
  while (!run.over()) {
    const auto message = client.wait_message(std::nullopt, run.left());
    if (!message && message.error().fault == Fault::Busy) break;
    if (!message) die(message.error().context);
    Direction& direction = directions[message->srvid == kForthSrvid ? 0 : 1];
    or_die(client.send_message(direction.next, direction.srvid, "go"), "message");
    ++received;
    const auto now = Clock::now();
    if (direction.last != Clock::time_point{}) run.add((now - direction.last) / options.nodes);
    direction.last = now;
  }
  run.count(received);
  run.report("msg", own);
}

// The control PING to one node, one after the other.
void ping(ctdb::Client& client, const Options& options) {
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  Run run(options);
  for (auto before = Clock::now(); before < run.end();) {
    // The status of a PING is the number of clients there.
    if (or_die(client.control(ctdb::ControlOpcode::Ping, options.node), "PING").status < 0) die("PING failed");
    const auto after = Clock::now();
    run.add(after - before);
    before = after;
  }
  run.report("ping", own);
}

}  // namespace tdbmesh::bench
