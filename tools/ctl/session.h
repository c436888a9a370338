#pragma once
// A connection to the local daemon for the length of one command, with the failures of CTDB's tool: what it
// prints and how it exits. Blocking, one thread.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ctl/node_words.h"
#include "transport/ctdb_client.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctl {

// The command ends: exit status and the line for stderr (empty: none; it has been said already).
struct Failure {
  int status = 1;
  std::string text;
  bool lost = false;  // the connection ended
};
template <class T = void>
using Outcome = tl::expected<T, Failure>;

[[nodiscard]] inline tl::unexpected<Failure> fail(std::string text, int status = 1) {
  return tl::unexpected<Failure>(Failure{status, std::move(text), false});
}
// Passes a failure on, whatever the value would have been.
template <class T>
[[nodiscard]] tl::unexpected<Failure> passed_on(const tl::expected<T, Failure>& failed) {
  return tl::unexpected<Failure>(failed.error());
}

struct NamedDatabase {
  DatabaseId id{};
  std::uint8_t flags = 0;  // ctdb::kDatabase...
  std::string name;
  [[nodiscard]] bool is_volatile() const {
    return (flags & (ctdb::kDatabasePersistent | ctdb::kDatabaseReplicated)) == 0;
  }
};

class Session {
 public:
  // Connects and asks for the own pnn.
  [[nodiscard]] static Outcome<Session> open(const std::string& socket, Duration timeout);

  [[nodiscard]] Pnn own() const { return own_; }
  [[nodiscard]] Pnn node() const { return node_; }  // the node of the command: own, or that of -n
  void set_node(Pnn node) { node_ = node; }
  [[nodiscard]] Duration timeout() const { return timeout_; }
  [[nodiscard]] ctdb::Client& client() { return client_; }

  // Is `pnn` there to be asked? Fails with "Node N does not exist" or "Node N has status ...".
  [[nodiscard]] Outcome<> check_node(std::uint32_t pnn);

  // One control and its reply, whatever the status. Fails only if no reply comes.
  [[nodiscard]] Outcome<ctdb::ReplyControl> request(ctdb::ControlOpcode opcode, Pnn to, BytesView data = {},
                                                    Srvid srvid = Srvid{});
  // One control that must be answered with status 0; its data.
  [[nodiscard]] Outcome<Bytes> ask(ctdb::ControlOpcode opcode, Pnn to, BytesView data = {}, Srvid srvid = Srvid{});
  // The same and decoded.
  template <class T>
  [[nodiscard]] Outcome<T> ask_for(ctdb::ControlOpcode opcode, Pnn to, BytesView data = {}) {
    auto bytes = ask(opcode, to, data);
    if (!bytes) return passed_on(bytes);
    return decoded(opcode, ctdb::decode<T>(*bytes));
  }
  [[nodiscard]] Outcome<std::uint32_t> ask_u32(ctdb::ControlOpcode opcode, Pnn to, BytesView data = {});
  template <class T>
  [[nodiscard]] Outcome<T> decoded(ctdb::ControlOpcode opcode, Result<T> value) {
    if (value) return std::move(*value);
    return fail("Control " + ctdb::to_string(opcode) + " returned data that does not decode: " + value.error().context +
                "; do tool and daemon have the same version?");
  }

  // The node map as the own node sees it; the next connected node's if the own one is banned.
  [[nodiscard]] Outcome<ctdb::NodeMap> node_map();
  // Pnn of the leader, from its broadcasts; nullopt if none came within the time limit.
  [[nodiscard]] Outcome<std::optional<Pnn>> leader() { return leader(timeout_); }
  [[nodiscard]] Outcome<std::optional<Pnn>> leader(Duration patience);
  // For a display: where the daemon can say at once that there is none (ours), an election gets a second, no more.
  [[nodiscard]] Outcome<std::optional<Pnn>> leader_now();

  [[nodiscard]] Outcome<std::vector<NamedDatabase>> databases(Pnn of);
  // By name or "0x..." id, on the own node.
  [[nodiscard]] Outcome<NamedDatabase> find_database(const std::string& name_or_id);
  [[nodiscard]] Outcome<std::string> text(ctdb::ControlOpcode opcode, Pnn to, DatabaseId database);

  // A srvid for answers to this process: different at every call.
  [[nodiscard]] Srvid temporary_srvid();

 private:
  Session(ctdb::Client client, Pnn own, Duration timeout)
      : client_(std::move(client)), own_(own), node_(own), timeout_(timeout) {}
  ctdb::Client client_;
  Pnn own_;
  Pnn node_;
  Duration timeout_;
  bool hears_leader_ = false;
  std::uint32_t temporary_ = 0;
};

// Where the socket is: as asked for, else $CTDB_SOCKET, else the first that exists of tdbmesh's and CTDB's.
[[nodiscard]] std::string socket_path(const std::string& asked);
// Likewise for the directory of `nodes`.
[[nodiscard]] std::string config_dir(const std::string& asked, bool as_ctdb);

}  // namespace tdbmesh::ctl
