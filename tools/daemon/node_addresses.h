#pragma once
// Public addresses in a node: joins the takeover cores (ipfailover/address_holder.h, address_assigner.h) with the
// kernel, the links, event runs and clients, and keeps the tickle lists. Part of Node, on its thread; Node calls the
// members named after its events in the order in which they happen. A node without public addresses (its own or, as
// leader, those of others) costs nothing.

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ipfailover/address_assigner.h"
#include "ipfailover/address_holder.h"
#include "ipfailover/tickle_lists.h"
#include "recovery/control_plane.h"
#include "tools/daemon/node_config.h"
#include "tools/daemon/node_environment.h"
#include "tools/daemon/node_services.h"
#include "transport/ctdb_controls.h"
#include "transport/ctdb_tunables.h"

namespace tdbmesh {

class NodeAddresses {
 public:
  NodeAddresses(const NodeConfig& config, NodeEnvironment& env, NodeServices& services,
                const recovery::ControlPlane& control, const ctdb::Tunables& tunables);

  // ---- events of the node ----
  void start();
  void prepare(const View& view);
  void install(const View& view);
  void installed_by_all(Generation generation);
  void lost_leader();
  void drop(const std::string& why);
  void gate_changed(bool open);
  void on_message(Pnn from, BytesView body);
  void on_kernel(const ipfailover::KernelEvent& event);
  void on_client_gone(ClientId client);
  void end_turn();
  [[nodiscard]] Instant next_wake() const;

  // Orderly leaving (stop, ban, shutdown): addresses move to other nodes first, then `then` is called; at the latest after
  // release_limit, with the addresses dropped. At once if there are none.
  // `for_good`: the daemon ends. Otherwise the node takes addresses again when it is neither stopped nor banned.
  void leave(bool for_good, std::function<void()> then);
  void stay();  // `continue`, `unban`: what leave() still waits for is given up, unless it was for good

  // ---- what controls ask ----
  [[nodiscard]] const ipfailover::AddressHolder& holder() const { return holder_; }
  [[nodiscard]] const ipfailover::TickleLists& tickles() const { return tickles_; }
  // Who hosts the address, as far as this node knows.
  [[nodiscard]] Pnn host_of(const ipfailover::Address& address) const;
  // `moveip` to this or another node; the reply follows when it stands there, or cannot.
  void move(const ipfailover::Address& address, Pnn to, const ReplyTo& reply);
  // TAKEOVER_RUN, which every node hears and the leader answers with its pnn when all is settled. Kept for as long as
  // the tool waits: `stop` of the leader asks while the next one is still being found.
  void takeover_run(const ctdb::SrvidMessage& asked);
  void reconfigure(std::vector<ipfailover::PublicAddress> addresses);
  bool set_link(const std::string& interface, bool up);
  // Event `startipreallocate`, then START_IPREALLOCATE to this node's clients, then `then`.
  void start_ipreallocate(std::function<void()> then);
  bool announce(const ipfailover::Address& address, const std::string& interface);  // false: no kernel here
  // TCP_CLIENT: remembered for the client, and told to all. -1: hosted elsewhere.
  std::int32_t client_connected(ClientId client, const ctdb::Connection& connection);
  void client_disconnected(ClientId client, const ctdb::Connection& connection, bool keep_tickle);
  void add_tickle(const ctdb::Connection& connection, bool tell_others);
  void remove_tickle(const ctdb::Connection& connection, bool tell_others);
  void replace_tickles(const ctdb::TickleList& list);
  ipfailover::AddressHolder& holder_for_tests() { return holder_; }
  ipfailover::AddressAssigner& assigner_for_tests() { return assigner_; }

 private:
  void run(ipfailover::HolderActions actions);
  void run(ipfailover::AssignerActions actions);
  void send(Pnn to, const ipfailover::TakeoverMessage& message);
  void handle(Pnn from, const ipfailover::TakeoverMessage& message);
  void pump();
  void hosted(const ipfailover::Hosted& what);
  void unhosted(const ipfailover::Unhosted& what);
  void update_assigner();
  void look_at_leaving();
  void push_tickles();
  // To the log, and for `tdbmesh why ip` with the address left out.
  void note(const ipfailover::Address& address, const std::string& text);
  void tell_connection(ctdb::ControlOpcode opcode, const ctdb::Connection& connection);
  void fail_moves(const std::string& why);
  void begin_takeover_runs();

  const NodeConfig& config_;
  NodeEnvironment& env_;
  NodeServices& services_;
  const recovery::ControlPlane& control_;
  const ctdb::Tunables& tunables_;
  ipfailover::AddressKernel* kernel_;
  ipfailover::AddressHolder holder_;
  ipfailover::AddressAssigner assigner_;
  ipfailover::AssignerSettings assigner_settings_;
  ipfailover::TickleLists tickles_;
  std::map<ClientId, std::set<ctdb::Connection>> of_clients_;
  std::set<ipfailover::Address> changed_tickles_;
  Instant push_tickles_at_ = kNever;
  std::deque<ipfailover::TakeoverMessage> to_self_;
  bool pumping_ = false;
  bool gate_open_ = false;
  Instant renewed_ = Instant::min();
  struct Leave {
    bool for_good = false;
    std::function<void()> then;
  };
  std::vector<Leave> leaving_;
  bool for_good_ = false;
  Instant leave_by_ = kNever;
  bool dropped_to_leave_ = false;
  std::map<std::uint64_t, ReplyTo> moves_;
  struct TakeoverRun {
    ctdb::SrvidMessage asked;
    Instant until{};  // nobody waits for the answer after
  };
  std::deque<TakeoverRun> runs_to_begin_;
  std::map<std::uint64_t, TakeoverRun> runs_;  // this node leads and is at it
  std::uint64_t last_id_ = 0;
};

}  // namespace tdbmesh
