#pragma once
// One node: the protocol state of a tdbmesh daemon and nothing else. It wires the cores together (who is in
// charge: recovery/; records and commits: db/; clients: transport/) and turns what they ask for into calls
// of its NodeEnvironment. The daemon and the simulator run this same class.
//
// Threads: one; every event comes from the event loop. Time: each event carries the time of the loop's turn.
// Nothing blocks and nothing waits inside an event; what takes time comes back as an event.
//
// A turn:   begin_turn(now), then any number of events, then end_turn(); next_wake() says when the next turn
// is due at the latest.

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "db/base/log_throttle.h"
#include "tools/daemon/node_parts.h"
#include "transport/ctdb_wire.h"

namespace tdbmesh {

class Node final : public LinkListener, private NodeServices {
 public:
  // `state`: what was durable, with the incarnation of this life already written.
  Node(NodeConfig config, NodeEnvironment& env, recovery::PersistedState state);
  ~Node() override;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Once, before any other event: attaches the persistent databases that are on disk, says hello.
  void start(Instant now);

  void begin_turn(Instant now);
  void end_turn();
  [[nodiscard]] Instant next_wake() const;

  // The heartbeat thread saw something that the cores decide on; also called for every due wake-up.
  void on_heartbeats();

  // ---- clients ----
  void on_client_connect(ClientId client, std::int32_t pid);
  void on_client_packet(ClientId client, BytesView packet);
  void on_client_gone(ClientId client);

  // ---- other nodes ----
  void on_message(Pnn from, Incarnation incarnation, MessageKind kind, BytesView body) override;
  void on_gap(Pnn peer) override;
  void on_reset(Pnn peer, Incarnation incarnation) override;

  // ---- results ----
  void on_persisted(std::uint64_t ticket);
  void on_durable(std::uint64_t ticket, const Result<void>& result);
  void on_chain_free(DatabaseId database, BytesView key);
  void on_lock(const recovery::LockStatus& status);
  void on_kernel(const ipfailover::KernelEvent& event);  // public addresses: ipfailover/address_kernel.h
  void on_event(std::uint64_t ticket, const EventResult& result);
  void on_check(const std::string& check, bool ok, const std::string& reason);  // a built-in check changed
  // The supervisor of another node says that its daemon is dead and fenced.
  void on_fenced(Pnn pnn, Incarnation incarnation);

  // Orderly end (SIGTERM, `shutdown`): NodeEnvironment::exit follows when what only this node has was handed over,
  // at the latest after NodeConfig::drain_limit and the time of a view change.
  void shut_down() override;

  // ---- introspection, for the simulator's checkers and the daemon's log ----
  [[nodiscard]] const recovery::ControlPlane& control() const { return control_; }
  [[nodiscard]] const RecordRouter& records() const { return records_; }
  [[nodiscard]] Databases& databases() { return databases_; }
  [[nodiscard]] bool gate_open() const { return gate_open_; }
  [[nodiscard]] bool draining() const { return leave_.has_value(); }
  // How often this node has handed over everything before it left.
  [[nodiscard]] std::uint64_t drains_completed() const { return drains_completed_; }
  [[nodiscard]] NodeAddresses& addresses() { return addresses_; }

 private:
  struct OpenCall {
    ClientId client{};
    ctdb::Header header;
    ctdb::CallId callid{};
    DatabaseId database{};
    Instant since{};
  };

  // NodeServices
  [[nodiscard]] Pnn self() const override { return config_.self(); }
  [[nodiscard]] Instant now() const override { return now_; }
  [[nodiscard]] std::vector<Pnn> members() const override;
  [[nodiscard]] std::vector<Pnn> connected() const override;
  void send_relay(Pnn to, const RelayPayload& payload) override;
  void deliver(Srvid srvid, BytesView data) override;
  void send_message(Pnn to, Srvid srvid, BytesView data) override;
  void reply(const ReplyTo& to, std::int32_t status, Bytes data, std::string error) override;
  void run_event(EventRequest request, EventDone done) override;
  void note(const std::string& subject, std::string text) override;
  void leave_out(Pnn pnn, const std::string& reason) override;
  void run(RecordActions actions) override;
  void run(CommitActions actions) override;
  void run(recovery::Actions actions) override;
  void leave(NodeFlags flags) override;
  void stay(NodeFlags flags) override;

  // node_leave.cc: leaving in order
  void drain_and_set(NodeFlags flags);
  void drain_and_end();
  void begin_leave();
  void look_at_leave();
  void end_leave();

  // node_reload.cc
  [[nodiscard]] std::string reload_nodes() override;
  void look_at_peers();

  // node.cc: turns, links, timers
  bool open_what_is_on_disk();
  void tick_control();
  [[nodiscard]] Instant control_wake() const;
  void handle_relay(Pnn from, const RelayPayload& payload);
  void look_at_gate();
  void look_at_serving();
  void await_view();  // requests that were held or come now wait for the whole of view_patience
  void database_opened(Databases::Attached& attached);
  [[nodiscard]] std::string detach_here(DatabaseId id);
  [[nodiscard]] std::uint32_t generation_for_clients() const;
  [[nodiscard]] bool is_connected(Pnn pnn) const;
  [[nodiscard]] bool is_member(Pnn pnn) const;  // of the view in use
  void note_peers(const HeartbeatTable& table);
  void end_controls(Pnn pnn, const std::string& why);  // that wait for the node
  void ask_again(Pnn pnn);                             // what a disconnect does not answer
  void answers_may_be_lost(Pnn peer);
  void tell_missed();
  void every_second();
  void heed_tunables();

  // node_actions.cc: what the cores ask for
  void carry_out(recovery::Action& action);
  void install(const View& view);
  void settle_questions(const View& view);
  void report_persisted();
  void report_durable();
  void report_copies_if_quiet();
  void report_dropped_if_empty();
  void answer_call(AnswerCall& answer);
  void answer_commit(const CommitAnswer& answer);

  // node_events.cc: scripts, health, decisions
  void run(const NodeHealth::Actions& actions);
  void health_event_done(EventKind kind, const EventResult& result);
  void answer_trivial_events();
  void tell_health_of_serving();
  void tick_health();
  void note_flags();
  void note_view(const View& view);

  // node_catch_up.cc: persistent copies brought near to a member's before this node joins
  void begin_catch_up(Pnn source);
  void catch_up_copies(const CopiesKnown& known);
  void catch_up_next();
  void catch_up_settled(const std::string& failure);
  void catch_up_tick();

  // node_clients.cc: packets of clients
  void handle_call(ClientId client, const ctdb::Header& header, ctdb::ReqCall call);
  void handle_message(const ctdb::Header& header, const ctdb::ReqMessage& message);
  void handle_control(ClientId client, const ctdb::Header& header, const ctdb::ReqControl& control);
  void run_control(const ControlRequest& request);
  void reply_to_call(ClientId client, const ctdb::Header& header, ctdb::CallId callid, const RecordHeader& record,
                     BytesView value);
  void fail_call(ClientId client, const ctdb::Header& header, std::string text);
  void send_packet(ClientId client, Bytes packet);
  bool handle_daemon_message(Srvid srvid, BytesView data);
  void answer_on_srvid(Pnn to, Srvid srvid, std::int32_t value);

  NodeConfig config_;
  NodeEnvironment& env_;
  Instant now_{};

  recovery::ControlPlane control_;
  NodeHealth health_;
  DecisionLog decisions_;
  Clients clients_;
  Databases databases_;
  RecordRouter records_;
  Commits commits_;
  Attachments attachments_;
  Traverses traverses_;
  Detaches detaches_;
  RemoteControls remote_controls_;
  DatabaseRestore restore_;
  NodeAddresses addresses_;

  std::map<CallId, OpenCall> calls_;
  std::uint64_t last_call_ = 0;
  LogThrottle undecodable_;  // by process: packets that are none
  CommitReplies commit_replies_;
  std::uint64_t last_commit_ = 0;

  // Actions of the control plane wait here while earlier ones are carried out, so that their order holds.
  std::deque<recovery::Action> control_actions_;
  bool carrying_out_ = false;
  std::vector<Generation> copies_asked_;        // AskCopies that wait until no write is under way
  std::vector<std::uint64_t> drops_asked_;      // DropVolatile that wait until all is empty
  std::map<DatabaseId, Generation> settling_;
  std::deque<std::uint64_t> persisted_;         // wait until dropped addresses are out of the kernel
  std::deque<std::pair<std::uint64_t, Result<void>>> durable_;  // wait until the installed view is durable

  std::map<std::uint64_t, EventDone> event_runs_;  // by ticket
  std::uint64_t last_event_ = 0;
  NodeFlags flags_to_come_ = 0;  // stop or ban that waits until the public addresses are elsewhere
  // Draining: what is to happen when it is done.
  struct Leave {
    NodeFlags flags = 0;    // set then
    bool shut_down = false;
    Instant until{};
  };
  std::optional<Leave> leave_;
  std::uint64_t drains_completed_ = 0;
  bool gate_permitted_ = false;  // by the control plane
  std::vector<std::uint64_t> events_done_;  // without a shell for scripts: answered in the next turn
  bool health_knows_serving_ = false;
  std::map<Pnn, NodeFlags> flags_noted_;
  std::uint64_t flags_noted_at_ = 0;  // event of the control plane

  struct CatchingUp {
    Pnn source{};
    Instant ask_again{};
    unsigned asked = 0;
    std::deque<commit::Copies::Copy> left;  // still to be fetched
    std::optional<DatabaseId> fetching;
    Instant since{};
    Commits::Fetched before;
  };
  std::optional<CatchingUp> catching_up_;

  std::deque<RelayPayload> to_self_;            // relays to this node, handled in the next turn
  struct ConnectedPeer {
    Incarnation life = 0;    // in which it was heard last
    Instant since{};         // ... and when for the first time
    bool has_heard = false;  // this node
    bool deaf = false;       // it does not hear this node any more, or still not
  };
  std::map<Pnn, ConnectedPeer> connected_peers_;
  std::set<Pnn> missed_from_;  // gaps that the senders have not been told of
  Instant tell_missed_at_ = Instant::min();
  std::map<Pnn, std::string> removed_nodes_;    // gone from the nodes file, but not yet from the configuration
  bool disk_opened_ = false;                    // all databases found on disk are open
  std::string disk_trouble_;
  std::string reported_disk_;                   // ... as the leader was told
  Instant open_again_ = Instant::min();
  bool gate_open_ = false;
  // A view is in use, none is on its way, and the lease holds: what clients are told as recovery mode NORMAL.
  bool serving_ = false;
  // view_patience counts from here: the last moment it served, or could begin to hope for a view.
  Instant patience_from_{};
  Instant no_table_until_ = Instant::min();  // the heartbeats were too old when they were asked for
  Instant second_ = kNever;                     // next once-a-second work
  Instant seqnums_ = kNever;                    // next look at changed seqnums
  Instant ban_ends_ = kNever;

  ctdb::Tunables tunables_;
  std::int32_t debug_level_;
  ctdb::Statistics statistics_;
  std::vector<ctdb::Statistics> statistics_history_;
  double started_ = 0;
  double recovery_started_ = 0;
  double recovery_finished_ = 0;
  NodeParts parts_;
  ControlTable controls_;
};

}  // namespace tdbmesh
