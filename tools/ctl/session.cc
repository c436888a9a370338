#include "tools/ctl/session.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tools/client/text.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

constexpr int kTimedOut = ETIMEDOUT;

bool exists(const std::string& path) {
  struct stat info{};
  return stat(path.c_str(), &info) == 0;
}

Failure lost_or_late(ControlOpcode opcode, Pnn to, const Error& error) {
  if (error.fault == Fault::Busy) {
    return {kTimedOut, fmt::format("Control {} failed to node {}, ret={}", ctdb::to_string(opcode), number(to), kTimedOut), false};
  }
  if (error.fault == Fault::Unreachable) {
    return {1, "connection to daemon closed, exiting: see the daemon's log for the reason", true};
  }
  return {1, fmt::format("Control {} failed to node {}: {}", ctdb::to_string(opcode), number(to), error.context), false};
}

}  // namespace

std::string socket_path(const std::string& asked) {
  if (!asked.empty()) return asked;
  if (const char* environment = std::getenv("CTDB_SOCKET"); environment != nullptr && *environment != '\0') {
    return environment;
  }
  static const std::string ours = "/run/tdbmesh/ctdbd.socket";
  static const std::string ctdbs = "/run/ctdb/ctdbd.socket";
  return !exists(ours) && exists(ctdbs) ? ctdbs : ours;
}

std::string config_dir(const std::string& asked, bool as_ctdb) {
  if (!asked.empty()) return asked;
  if (const char* base = std::getenv("CTDB_BASE"); base != nullptr && *base != '\0') return base;
  static const std::string ours = "/etc/tdbmesh";
  static const std::string ctdbs = "/etc/ctdb";
  const bool have_ours = exists(ours + "/nodes");
  if (as_ctdb && exists(ctdbs + "/nodes")) return ctdbs;
  return !have_ours && exists(ctdbs + "/nodes") ? ctdbs : ours;
}

Outcome<Session> Session::open(const std::string& socket, Duration timeout) {
  auto client = ctdb::Client::connect(socket);
  if (!client) {
    return fail(fmt::format("Failed to connect to CTDB daemon ({})\n"
                            "Is tdbmeshd running on this node? Start it (systemctl start tdbmesh), or name its socket "
                            "with --socket",
                            socket));
  }
  auto own = client->pnn(ctdb::kForever);
  if (!own) return fail("Failed to get the own node number from the daemon: " + own.error().context);
  return Session(std::move(*client), *own, timeout);
}

Outcome<ctdb::ReplyControl> Session::request(ControlOpcode opcode, Pnn to, BytesView data, Srvid srvid) {
  auto reply = client_.control(opcode, number(to), data, timeout_, {.srvid = srvid, .flags = 0});
  if (!reply) return tl::unexpected<Failure>(lost_or_late(opcode, to, reply.error()));
  return std::move(*reply);
}

Outcome<Bytes> Session::ask(ControlOpcode opcode, Pnn to, BytesView data, Srvid srvid) {
  auto reply = request(opcode, to, data, srvid);
  if (!reply) return passed_on(reply);
  if (reply->status != 0) {
    std::string text = fmt::format("Control {} failed, ret={}", ctdb::to_string(opcode), reply->status);
    if (!reply->error.empty()) text += ": " + reply->error;
    return fail(std::move(text), reply->status == -1 ? 1 : (reply->status & 0xFF));
  }
  return std::move(reply->data);
}

Outcome<std::uint32_t> Session::ask_u32(ControlOpcode opcode, Pnn to, BytesView data) {
  auto bytes = ask(opcode, to, data);
  if (!bytes) return passed_on(bytes);
  return decoded(opcode, ctdb::decode_u32(*bytes));
}

Outcome<ctdb::NodeMap> Session::node_map() {
  auto map = ask_for<ctdb::NodeMap>(ControlOpcode::GetNodeMap, own_);
  if (!map) return map;
  if (number(own_) >= map->nodes.size()) {
    return fail(fmt::format("PNN {} is not in the node map: does the nodes file list this node?", number(own_)));
  }
  // A banned node's own picture of the cluster is out of date.
  if ((map->nodes[number(own_)].flags & kFlagBanned) == 0) return map;
  for (const auto& node : map->nodes) {
    if (node.pnn == own_ || (node.flags & (kFlagDisconnected | kFlagDeleted)) != 0) continue;
    return ask_for<ctdb::NodeMap>(ControlOpcode::GetNodeMap, node.pnn);
  }
  return map;
}

Outcome<> Session::check_node(std::uint32_t pnn) {
  auto map = node_map();
  if (!map) return passed_on(map);
  if (pnn >= map->nodes.size()) return fail(fmt::format("Node {} does not exist", pnn));
  const NodeFlags flags = map->nodes[pnn].flags;
  if ((flags & (kFlagDisconnected | kFlagDeleted)) != 0) {
    return fail(fmt::format("Node {} has status {}", pnn, flags_text(flags)));
  }
  return {};
}

Outcome<std::optional<Pnn>> Session::leader_now() {
  constexpr ControlOpcode kGetLeader{10003};  // tdbmesh's own; CTDB answers -1
  constexpr Duration kElection = seconds(1);
  auto reply = request(kGetLeader, own_);
  if (!reply) return passed_on(reply);
  const auto pnn = ctdb::decode_u32(reply->data);
  if (reply->status != 0 || !pnn) return leader();
  if (*pnn != ctdb::kUnknownPnn) return std::optional<Pnn>{Pnn{*pnn}};
  return leader(std::min(timeout_, kElection));
}

Outcome<std::optional<Pnn>> Session::leader(Duration patience) {
  if (!hears_leader_) {
    if (auto done = client_.register_srvid(ctdb::kSrvidLeader, timeout_); !done) {
      return tl::unexpected<Failure>(lost_or_late(ControlOpcode::RegisterSrvid, own_, done.error()));
    }
    hears_leader_ = true;
  }
  const Instant deadline = boot_time_now() + patience;
  while (true) {
    const Instant now = boot_time_now();
    if (now >= deadline) return std::optional<Pnn>{};
    auto message = client_.wait_message(ctdb::kSrvidLeader, deadline - now);
    if (!message) {
      if (message.error().fault == Fault::Busy) return std::optional<Pnn>{};
      return tl::unexpected<Failure>(lost_or_late(ControlOpcode::RegisterSrvid, own_, message.error()));
    }
    const auto pnn = ctdb::decode_u32(message->data);
    // An election in progress announces nobody: wait for its result.
    if (pnn && *pnn != ctdb::kUnknownPnn) return std::optional<Pnn>{Pnn{*pnn}};
  }
}

Outcome<std::string> Session::text(ControlOpcode opcode, Pnn to, DatabaseId database) {
  auto bytes = ask(opcode, to, ctdb::encode_u32(number(database)));
  if (!bytes) return passed_on(bytes);
  return decoded(opcode, ctdb::decode_text(*bytes));
}

Outcome<std::vector<NamedDatabase>> Session::databases(Pnn of) {
  auto map = ask_for<ctdb::DatabaseMap>(ControlOpcode::GetDbMap, of);
  if (!map) return passed_on(map);
  std::vector<NamedDatabase> found;
  for (const auto& database : map->databases) {
    auto name = text(ControlOpcode::GetDbName, of, database.id);
    if (!name) return passed_on(name);
    found.push_back({database.id, database.flags, std::move(*name)});
  }
  return found;
}

Outcome<NamedDatabase> Session::find_database(const std::string& name_or_id) {
  auto map = ask_for<ctdb::DatabaseMap>(ControlOpcode::GetDbMap, own_);
  if (!map) return passed_on(map);
  const auto id = name_or_id.starts_with("0x") ? parse_u32(name_or_id) : std::nullopt;
  for (const auto& database : map->databases) {
    if (id && number(database.id) != *id) continue;
    auto name = text(ControlOpcode::GetDbName, own_, database.id);
    if (!name) return passed_on(name);
    if (id || *name == name_or_id) return NamedDatabase{database.id, database.flags, std::move(*name)};
  }
  return fail(fmt::format("No database matching '{}' found", name_or_id));
}

Srvid Session::temporary_srvid() {
  const auto pid = static_cast<std::uint64_t>(getpid()) & 0xFFFF;
  return Srvid{number(ctdb::kSrvidToolTemporary) | (pid << 16) | ++temporary_};
}

}  // namespace tdbmesh::ctl
