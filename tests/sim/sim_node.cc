#include "tests/sim/sim_node.h"

#include <algorithm>
#include <fmt/format.h>

#include "recovery/force_without.h"
#include "tests/sim/node_cluster.h"
#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

namespace {
constexpr int kHeartbeatChannel = 1;
constexpr unsigned kMostSpins = 5000;
}

SimNode::SimNode(NodeCluster& cluster, Pnn pnn, MachineClock clock)
    : cluster_(cluster), pnn_(pnn), clock_(clock), store_(pnn), kernel_random_(number(pnn) + 77) {
  if (cluster.settings().addresses == 0) return;
  SimKernel::Hooks hooks;
  hooks.local = [this] { return local(); };
  hooks.lease_until = [this] { return gate_until_; };
  hooks.later = [this](Duration delay, std::function<void()> what) {
    in_life(cluster_.world().now() + delay, false, std::move(what));
  };
  hooks.tell = [this](const ipfailover::KernelEvent& event) {
    in_life(cluster_.world().now() + Duration(20), true, [this, event] { turn([&] { node_->on_kernel(event); }); });
  };
  hooks.random = [this](std::uint64_t bound) { return kernel_random_.below(bound); };
  kernel_ = std::make_unique<SimKernel>(std::move(hooks), cluster.settings().timing.drop_allowance);
  kernel_->no_supervisor = cluster.settings().plants.no_supervisor;
}

AddressView SimNode::addresses() {
  const Instant now = cluster_.world().now();
  if (kernel_ && frozen_until <= now) kernel_->supervise(clock_.local(frozen_until));
  // A machine that wakes after its lease has the allowance for dropping what it holds: until then the pause of the
  // whole machine, which is outside of what I7 promises, is not over (control plane, "what remains"). It counts by its own
  // clock, as the supervisor does.
  const bool frozen = clock_.local(frozen_until) + cluster_.settings().timing.drop_allowance > clock_.local(now);
  return {pnn_, frozen, kernel_.get()};
}

SimNode::~SimNode() = default;

// In the order of the supervisor process: others hear that the node is fenced when its addresses are gone.
void SimNode::fenced_by_supervisor() {
  gate_until_ = Instant::min();
  if (kernel_) kernel_->dropped_before_fenced();
}

Instant SimNode::local() const { return clock_.local(cluster_.world().now()); }

void SimNode::add_client(std::unique_ptr<SimClient> client) { clients_.push_back(std::move(client)); }

// ---- lives ----------------------------------------------------------------------------------------------

void SimNode::in_life(Instant when, bool loop, std::function<void()> what) {
  cluster_.world().at(when, [this, life = life_, loop, what = std::move(what)]() mutable {
    when_able(life, loop, std::move(what));
  });
}

void SimNode::when_able(std::uint64_t life, bool loop, std::function<void()> what) {
  if (life_ != life || node_ == nullptr) return;
  const Instant able = std::max({frozen_until, paused_until, loop ? stalled_until : Instant{}});
  if (able <= cluster_.world().now()) return what();
  cluster_.world().postpone(able, [this, life, loop, what = std::move(what)]() mutable {
    when_able(life, loop, std::move(what));
  });
}

NodesFile SimNode::nodes_file() const {
  const ClusterSettings& settings = cluster_.settings();
  NodesFile file;
  for (std::uint32_t i = 0; i < settings.nodes; ++i) {
    const bool deleted = cluster_.unlisted(Pnn{i});
    if (!deleted) file.cluster.nodes.push_back(Pnn{i});
    file.nodes.push_back({ctdb::v4_address(10, 0, 0, static_cast<std::uint8_t>(i + 1), 4379), deleted});
  }
  file.cluster.voters = file.cluster.nodes;
  file.cluster.digest = cluster_.file_number();
  if (settings.lock && (pnn_ == Pnn{0} || !settings.lock_only_at_node_0)) file.cluster.quorum = recovery::QuorumMode::LockVote;
  return file;
}

NodeConfig SimNode::config() {
  const ClusterSettings& settings = cluster_.settings();
  NodeConfig config;
  config.control.self = pnn_;
  NodesFile file = nodes_file();
  config.control.cluster = std::move(file.cluster);
  config.nodes = std::move(file.nodes);
  config.control.timing = settings.timing;
  config.control.flap_guard = false;
  config.control.seed = cluster_.world().random().next();
  if (settings.is_witness(pnn_)) {
    config.control.capabilities = kCapabilityWitness;
  } else {
    config.public_addresses = sim_addresses(settings.addresses);
  }
  config.records.vacuum_interval = settings.vacuum_interval;
  config.records.vacuum_batch = settings.vacuum_batch;
  config.records.hooks = settings.plants.records;
  config.commits.pull_limit = seconds(3);  // so that a fetch cut off by the last fault is tried again within the bound
  return config;
}

void SimNode::start() {
  if (node_ != nullptr || cluster_.unlisted(pnn_)) return;
  ++life_;
  ++store_life_;
  // What the disk had of the queue when the daemon died was never reported.
  store_.crash(cluster_.world().random().below(store_.memory().worker().queued() + 1));
  recovery::PersistedState state;
  if (!disk_.empty()) {
    auto loaded = recovery::decode_state(disk_);
    if (!loaded) return cluster_.fail("the state on disk does not decode");
    state = std::move(*loaded);
  }
  const ClusterSettings::Plants& plants = cluster_.settings().plants;
  if (plants.forget_accepted) state.accepted.reset();
  if (plants.forget_vote) {
    state.term = state.accepted ? state.accepted->generation.term : 0;
    state.voted_for = kNoPnn;
  }
  incarnation_ = state.begin_life(
      static_cast<std::uint64_t>(cluster_.world().now().time_since_epoch() / milliseconds(1)));
  disk_ = recovery::encode(state);
  gate_until_ = Instant::min();
  loop_due_ = kNever;
  to_write_.reset();
  writing_ = flushing_ = exiting_ = false;
  waiting_chains_.clear();
  connections_.clear();
  installed_ = accepted_ = Generation{};
  vacuumed_ = 0;
  drains_ = 0;
  cluster_.trace(pnn_, fmt::format("start, incarnation {}", incarnation_));
  const NodeConfig with = config();
  std::vector<Pnn> peers;
  for (std::uint32_t i = 0; i < cluster_.settings().nodes; ++i) {
    if (Pnn{i} != pnn_) peers.push_back(Pnn{i});
  }
  heart_ = std::make_unique<HeartbeatCore>(pnn_, incarnation_, peers, with.control.timing, local());
  heart_ticked_ = local();
  lock_ = std::make_unique<recovery::ClusterLock>(pnn_, with.control.timing, recovery::LockHelper{});
  lock_due_ = kNever;
  cluster_.network().process_started(pnn_, incarnation_, cluster_.settings().nodes);
  cluster_.silence().started(pnn_);
  disturbed_ = cluster_.world().now();
  node_ = std::make_unique<Node>(with, static_cast<NodeEnvironment&>(*this), std::move(state));
  if (kernel_) kernel_->daemon_started();
  ipfailover::AddressHolder::TestHooks holder_hooks;
  holder_hooks.keep_on_drop = cluster_.settings().plants.keep_addresses;
  holder_hooks.any_generation = cluster_.settings().plants.any_generation;
  node_->addresses().holder_for_tests().set_test_hooks(holder_hooks);
  ipfailover::AddressAssigner::TestHooks assigner_hooks;
  assigner_hooks.no_wait_for_released = cluster_.settings().plants.no_wait_for_released;
  assigner_hooks.ignore_numbers = cluster_.settings().plants.ignore_numbers;
  node_->addresses().assigner_for_tests().set_test_hooks(assigner_hooks);
  node_->start(local());
  turn(nullptr);
  schedule_heartbeat(local());
  for (auto& client : clients_) client->begin(cluster_.world().random().up_to(milliseconds(30)));
}

void SimNode::stop_daemon(bool machine) {
  if (node_ != nullptr) {
    cluster_.trace(pnn_, machine ? "the machine dies" : "the daemon dies");
    cluster_.lock().freed_by_death({pnn_, life_});
    ++life_;
    node_.reset();
    // The write under way may or may not have reached the disk; what waited behind it has not.
    if (writing_ && to_write_ && cluster_.world().random().chance(2)) disk_ = to_write_->first;
    cluster_.network().process_died(pnn_, cluster_.settings().nodes);
    connections_.clear();
    if (!machine) {
      for (auto& client : clients_) client->daemon_died();
    }
  }
  if (!machine) return;
  gate_until_ = Instant::min();
  if (kernel_) kernel_->machine_died();
  for (auto& client : clients_) client->machine_died();
}

// ---- turns ----------------------------------------------------------------------------------------------

void SimNode::turn(const std::function<void()>& event) {
  const Instant now = local();
  heart_->note_loop_progress(++turns_, now);
  node_->begin_turn(now);
  if (event) event();
  node_->end_turn();
  note();
  schedule_loop();
  if (exiting_) {
    exiting_ = false;
    cluster_.node_exited(*this);
  }
}

void SimNode::in_turn_soon(Duration delay, std::function<void()> event) {
  if (node_ == nullptr) return;
  in_life(cluster_.world().now() + delay, true, [this, event = std::move(event)] { turn(event); });
}

void SimNode::schedule_loop() {
  const Instant due = std::max(clock_.when(node_->next_wake()), cluster_.world().now() + Duration(1));
  if (due >= loop_due_) return;
  loop_due_ = due;
  in_life(due, true, [this, due] {
    if (loop_due_ != due) return;  // an earlier one was scheduled since, and has scheduled the next
    loop_due_ = kNever;
    turn(nullptr);
    if (node_ == nullptr || node_->next_wake() > local()) {
      spins_ = 0;
    } else if (++spins_ == kMostSpins) {
      cluster_.fail(fmt::format("the event loop of node {} turns without a pause and does nothing", number(pnn_)));
    }
  });
}

// What the checkers want to know of this turn.
void SimNode::note() {
  gate_until_ = heart_->gate_until();
  const View* view = node_->control().installed_view();
  if (const Member* me = view != nullptr ? view->member(pnn_) : nullptr) gate_member_ = *me;
  const bool leaves = node_->draining() || (node_->control().own_flags() & kFlagsInactive) != 0 || exiting_;
  const StoreFaults& broken = store_.memory().faults;
  if (leaves || slow_disk || broken.full || broken.failing) disturbed_ = cluster_.world().now();
  cluster_.note_leader(*this);
  cluster_.check_called_dead(*this);
  if (const View* accepted = node_->control().accepted_view(); accepted && accepted->generation != accepted_) {
    accepted_ = accepted->generation;
    cluster_.note_accepted(*this, *accepted);
  }
  if (view != nullptr && view->generation != installed_) {
    installed_ = view->generation;
    cluster_.note_installed(*this, *view);
  }
  if (std::exchange(drains_, node_->drains_completed()) < node_->drains_completed()) cluster_.note_drained(*this);
  if (!store_.erased.empty()) {
    const std::uint64_t vacuumed = node_->records().counters().vacuumed;
    if (vacuumed - vacuumed_ == store_.erased.size()) {
      for (const auto& key : store_.erased) cluster_.ghost().vacuumed(key, pnn_);
    }
    vacuumed_ = vacuumed;
    store_.erased.clear();
  }
  cluster_.stores_changed();
}

// ---- heartbeats and the gate ------------------------------------------------------------------------------

void SimNode::schedule_heartbeat(Instant at) {
  const Instant due = std::max(clock_.when(at), cluster_.world().now());
  in_life(due + cluster_.world().random().up_to(Duration(300)), false, [this] {
    std::vector<OutgoingHeartbeat> out;
    const bool was_away = local() - heart_ticked_ > cluster_.settings().timing.silence / 2;
    heart_ticked_ = local();
    const Instant next = heart_->tick(local(), out);
    gate_until_ = heart_->gate_until();
    send_heartbeats(out);
    if (was_away) in_life(cluster_.world().now(), true, [this] { turn([this] { node_->on_heartbeats(); }); });
    schedule_heartbeat(next);
  });
}

void SimNode::send_heartbeats(std::vector<OutgoingHeartbeat>& out) {
  for (auto& message : out) {
    SimNode* to = &cluster_.node(message.to);
    (void)cluster_.world().send(pnn_, message.to, kHeartbeatChannel, [to, from = pnn_, bytes = std::move(message.bytes)] {
      to->heartbeat_bytes(from, bytes);
    });
  }
}

void SimNode::heartbeat_bytes(Pnn from, Bytes bytes) {
  if (node_ == nullptr) return;
  in_life(cluster_.world().now(), false, [this, from, bytes = std::move(bytes)] {
    std::vector<OutgoingHeartbeat> out;
    const bool news = heart_->on_bytes(from, bytes, local(), out);
    // Who is not in the nodes file as this node has read it is not listened to.
    if (node_->control().files().digest == cluster_.file_number()) {
      cluster_.silence().heard(pnn_, from, cluster_.world().now());
    }
    gate_until_ = heart_->gate_until();
    send_heartbeats(out);
    if (!news) return;
    in_life(cluster_.world().now() + cluster_.world().random().up_to(milliseconds(1)), true,
            [this] { turn([this] { node_->on_heartbeats(); }); });
  });
}

void SimNode::note_incarnation(Pnn peer, Incarnation incarnation) { cluster_.network().note_life(pnn_, peer, incarnation); }

std::optional<HeartbeatTable> SimNode::heartbeats() {
  const Instant now = local();
  if (now - heart_ticked_ > cluster_.settings().timing.silence / 2) return std::nullopt;
  HeartbeatTable table = heart_->snapshot(now);
  for (const PeerHeartbeats& peer : table.peers) note_incarnation(peer.pnn, peer.incarnation);
  return table;
}

void SimNode::permit_gate(Generation) {
  heart_->permit_gate();
  gate_until_ = heart_->gate_until();
}

void SimNode::close_gate() {
  heart_->close_gate();
  gate_until_ = Instant::min();
}

// ---- links ----------------------------------------------------------------------------------------------

void SimNode::send(Pnn to, MessageKind kind, Bytes body) {
  cluster_.trace_message(pnn_, to, kind, body);
  if (kind == MessageKind::Control) {
    const auto message = recovery::decode_message(body);
    if (const auto* prepare = message ? std::get_if<recovery::Prepare>(&*message) : nullptr) {
      cluster_.note_proposed(*this, prepare->view);
    }
  }
  cluster_.network().send(pnn_, to, kind, std::move(body));
}

void SimNode::peer_lost(Pnn peer) { cluster_.network().forget(pnn_, peer); }

void SimNode::arrived(Pnn from, const SimNetwork::Message& message) {
  if (node_ == nullptr) return;
  in_life(cluster_.world().now() + Duration(50), true, [this, from, message] {
    turn([&] { node_->on_message(from, message.from_life, message.kind, message.body); });
  });
}

void SimNode::gap(Pnn from) {
  if (node_ == nullptr) return;
  in_life(cluster_.world().now() + Duration(50), true, [this, from] { turn([&] { node_->on_gap(from); }); });
}

// ---- disk -----------------------------------------------------------------------------------------------

Duration SimNode::disk_time() {
  Random& random = cluster_.world().random();
  const Duration hangs = std::max(Duration{0}, Duration(disk_hangs_until - cluster_.world().now()));
  return hangs + (slow_disk ? milliseconds(10) + random.up_to(milliseconds(70)) : Duration(200) + random.up_to(milliseconds(5)));
}

void SimNode::persist(std::uint64_t ticket, Bytes state) {
  // While one write is under way the newest of those that wait is kept.
  to_write_ = {std::move(state), ticket};
  if (!writing_) write_next();
}

void SimNode::write_next() {
  writing_ = true;
  in_life(cluster_.world().now() + disk_time(), false, [this, item = *to_write_] {
    disk_ = item.first;
    writing_ = false;
    if (to_write_ && to_write_->second > item.second) {
      write_next();
    } else {
      to_write_.reset();
    }
    in_life(cluster_.world().now(), true, [this, ticket = item.second] { turn([&] { node_->on_persisted(ticket); }); });
  });
}

void SimNode::submit(std::uint64_t ticket, DurableChange change) {
  if (report_unwritten) {
    in_life(cluster_.world().now() + disk_time(), true,
            [this, ticket] { turn([&] { node_->on_durable(ticket, Result<void>{}); }); });
    return;
  }
  store_.memory().worker().submit(ticket, std::move(change));
  if (!flushing_) flush_commits();
}

void SimNode::flush_commits() {
  flushing_ = true;
  const std::size_t batch = store_.memory().worker().queued();
  in_life(cluster_.world().now() + disk_time(), false, [this, batch] {
    flushing_ = false;
    cluster_.stores_changed();
    for (MemoryCompletion& done : store_.memory().worker().complete(batch)) {
      in_life(cluster_.world().now(), true,
              [this, done = std::move(done)] { turn([&] { node_->on_durable(done.ticket, done.result); }); });
    }
    if (store_.memory().worker().queued() > 0) flush_commits();
  });
}

// ---- chains ---------------------------------------------------------------------------------------------

void SimNode::wait_chain(DatabaseId database, Bytes key) {
  waiting_chains_.emplace(database, std::move(key));
  in_life(cluster_.world().now() + Duration(20), false, [this] { look_at_chains(); });
}

void SimNode::chain_released(DatabaseId) {
  if (node_ == nullptr || waiting_chains_.empty()) return;
  in_life(cluster_.world().now() + cluster_.world().random().up_to(Duration(100)), false, [this] { look_at_chains(); });
}

void SimNode::look_at_chains() {
  for (auto at = waiting_chains_.begin(); at != waiting_chains_.end();) {
    MemoryDatabase* database = store_.memory().find(at->first);
    if (database != nullptr) {
      if (!database->try_lock(at->second)) {
        ++at;
        continue;
      }
      database->unlock(at->second);
    }
    in_life(cluster_.world().now() + cluster_.world().random().up_to(Duration(100)), true, [this, which = *at] {
      turn([&] { node_->on_chain_free(which.first, which.second); });
    });
    at = waiting_chains_.erase(at);
  }
}

// ---- clients --------------------------------------------------------------------------------------------

ClientId SimNode::connect(SimClient& client, std::int32_t pid) {
  if (node_ == nullptr) return ClientId{};
  const ClientId id = cluster_.next_client();
  connections_[id] = &client;
  in_life(cluster_.world().now() + Duration(20), true,
          [this, id, pid] { turn([&] { node_->on_client_connect(id, pid); }); });
  return id;
}

void SimNode::disconnect(ClientId id) {
  if (connections_.erase(id) == 0) return;
  in_life(cluster_.world().now() + Duration(30), true, [this, id] { turn([&] { node_->on_client_gone(id); }); });
}

void SimNode::send_from_client(ClientId id, Bytes packet) {
  if (!connections_.contains(id)) return;
  in_life(cluster_.world().now() + Duration(30), true, [this, id, packet = std::move(packet)] {
    if (connections_.contains(id)) turn([&] { node_->on_client_packet(id, packet); });
  });
}

void SimNode::send_to_client(ClientId id, Bytes packet) {
  const auto at = connections_.find(id);
  if (at != connections_.end()) at->second->packet_coming(id, std::move(packet));
}

void SimNode::close_client(ClientId id) {
  const auto at = connections_.find(id);
  if (at == connections_.end()) return;
  at->second->closed_by_daemon(id);
  disconnect(id);
}

// ---- the operator, and what happens to the machine ------------------------------------------------------------

void SimNode::operator_says(const ctdb::ReqControl& control) {
  ctdb::Packet packet;
  packet.header.destnode = ctdb::kCurrentNode;
  packet.body = control;
  const ClientId operator_tool = cluster_.next_client();
  node_->on_client_connect(operator_tool, 1);
  node_->on_client_packet(operator_tool, ctdb::encode_packet(packet));
  node_->on_client_gone(operator_tool);
}

void SimNode::set_stopped(bool stopped) {
  ctdb::ReqControl control;
  control.opcode = stopped ? ctdb::ControlOpcode::StopNode : ctdb::ControlOpcode::ContinueNode;
  operator_says(control);
}

void SimNode::reload_nodes() {
  if (node_->control().files().digest == cluster_.file_number()) return;
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::ReloadNodesFile;
  operator_says(control);
}

void SimNode::ban(std::uint32_t how_many_seconds) {
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::SetBanState;
  control.data = ctdb::encode(ctdb::BanState{pnn_, how_many_seconds});
  operator_says(control);
}

void SimNode::recover() {
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::SetRecmode;
  control.data = ctdb::encode_u32(1);
  operator_says(control);
}

void SimNode::lose_disk() {
  disk_.clear();
  store_.lose_disk();
}

void SimNode::force_without(const std::set<Pnn>& lost) {
  auto state = recovery::decode_state(disk_);
  if (!state) return cluster_.fail("the state on disk does not decode");
  if (const auto forced = recovery::force_without(*state, pnn_, lost); !forced) return cluster_.fail(forced.error().context);
  disk_ = recovery::encode(*state);
}

bool SimNode::remembers() const {
  const auto state = recovery::decode_state(disk_);
  return state && !state->installed.is_none();
}

// ---- the cluster lock ---------------------------------------------------------------------------------------

void SimNode::try_cluster_lock(const recovery::LockRecord& record) {
  in_life(cluster_.world().now(), true, [this, record] {
    lock_event([&](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) { lock.want(record, now, out); });
  });
}

void SimNode::release_cluster_lock() {
  in_life(cluster_.world().now(), true, [this] {
    lock_event([](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) { lock.release(now, out); });
  });
}

void SimNode::kill_lock_helper() {
  if (node_ == nullptr) return;
  ++lock_helper_;
  cluster_.lock().let_go({pnn_, life_});
  in_life(cluster_.world().now(), true, [this] {
    lock_event([](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) { lock.on_helper_gone(now, out); });
  });
}

void SimNode::lock_event(const LockEvent& event) {
  recovery::LockActions actions;
  if (event) event(*lock_, local(), actions);
  lock_->on_tick(local(), actions);
  World& world = cluster_.world();
  const auto soon = [&] { return world.now() + milliseconds(1) + world.random().up_to(milliseconds(10)); };
  for (const recovery::LockAction& action : actions) {
    if (std::holds_alternative<recovery::StartHelper>(action)) {
      in_life(soon(), true, [this, helper = ++lock_helper_] {
        if (helper != lock_helper_) return;
        const bool got = cluster_.lock().take({pnn_, life_});
        cluster_.trace(pnn_, got ? "holds the cluster lock" : "does not get the cluster lock");
        lock_event([got](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) {
          lock.on_helper(got ? '0' : '1', now, out);
        });
      });
    } else if (std::holds_alternative<recovery::StopHelper>(action)) {
      ++lock_helper_;
      cluster_.lock().let_go({pnn_, life_});
    } else {
      const auto* write = std::get_if<recovery::WriteRegister>(&action);
      std::optional<Bytes> slot;
      if (write != nullptr) slot = write->own_slot;
      in_life(soon(), false, [this, slot = std::move(slot), helper = lock_helper_] { touch_register(slot, helper); });
    }
  }
  const recovery::LockStatus status = lock_->status();
  turn([&] { node_->on_lock(status); });
  if (lock_->next_wake() == kNever) return;
  const Instant due = clock_.when(lock_->next_wake());
  if (due >= lock_due_) return;
  lock_due_ = std::max(due, world.now() + Duration(1));
  in_life(lock_due_, true, [this, at = lock_due_] {
    if (lock_due_ != at) return;
    lock_due_ = kNever;
    lock_event(nullptr);
  });
}

void SimNode::touch_register(std::optional<Bytes> slot, std::uint64_t helper) {
  World& world = cluster_.world();
  if (cluster_.lock().is_cut(pnn_)) {  // the file system hangs
    return in_life(world.now() + milliseconds(50), false,
                   [this, slot = std::move(slot), helper] { touch_register(slot, helper); });
  }
  if (slot) cluster_.lock().write(pnn_, *slot);
  in_life(world.now(), true, [this, helper, slots = cluster_.lock().slots()] {
    if (helper != lock_helper_) return;
    lock_event([&slots](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) {
      lock.on_register(slots, now, out);
    });
  });
}

double SimNode::wall_clock() const { return std::chrono::duration<double>(local().time_since_epoch()).count(); }

void SimNode::log(LogLevel, const std::string& text) { cluster_.trace(pnn_, text); }

}  // namespace tdbmesh::sim
