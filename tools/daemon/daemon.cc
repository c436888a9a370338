#include "tools/daemon/daemon.h"

#include <fmt/format.h>
#include <net/if.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <fstream>
#include <map>
#include <set>

#include "db/chain_waiter.h"
#include "db/commit_worker_thread.h"
#include "db/gate.h"
#include "db/lmdb_store.h"
#include "ipfailover/address_shell.h"
#include "ipfailover/eventd_server.h"
#include "ipfailover/service_checks.h"
#include "recovery/cluster_lock_keeper.h"
#include "recovery/force_without.h"
#include "recovery/state_file.h"
#include "tools/daemon/node.h"
#include "transport/client_server.h"
#include "transport/event_loop.h"
#include "transport/heartbeat_thread.h"
#include "transport/mesh.h"
#include "transport/realtime.h"

namespace tdbmesh {
namespace {

// An orderly end hands over what it can; when the others do not answer it must still come to an end.
constexpr Duration kShutdownLimit = seconds(10);
constexpr Duration kMaintainEvery = seconds(10);
constexpr Duration kNotifyLimit = seconds(30);

std::uint64_t boot_nanoseconds(Instant t) {
  if (t <= Instant{}) return 0;
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(t.time_since_epoch()).count());
}

}  // namespace

class Daemon::Impl final : public NodeEnvironment, public ClientListener, public LinkListener {
 public:
  explicit Impl(DaemonSetup setup) : setup_(std::move(setup)) {}

  ~Impl() override {
    // The heartbeat thread goes first: it must not renew the gate of a daemon that is half gone.
    heartbeats_.reset();
    if (gate_) gate_->close();
    lock_.reset();
    checks_.reset();
    eventd_.reset();
    runner_.reset();
    node_.reset();
    addresses_.reset();
    mesh_.reset();
    server_.reset();
    if (signal_fd_ >= 0) ::close(signal_fd_);
    remove_pid_file();
  }

  Result<void> start();
  int run();

  // NodeEnvironment
  Link& link() override { return *mesh_; }
  DatabaseStore& store() override { return *store_; }
  CommitWorker& commit_worker() override { return *worker_; }
  std::optional<HeartbeatTable> heartbeats() override {
    std::optional<HeartbeatTable> table = heartbeats_->snapshot(loop_->now());
    if (table) tell_mesh(*table);
    return table;
  }
  void with_heartbeats(const std::function<void(HeartbeatCore&)>& use) override {
    heartbeats_->with_core([&](HeartbeatCore& core) { use(core); });
  }
  void permit_gate(Generation generation) override { heartbeats_->permit_gate(generation); }
  void close_gate() override { heartbeats_->close_gate(); }
  Instant gate_until() const override {
    return Instant{std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(gate_->open_until()))};
  }
  Result<NodesFile> read_nodes_file() override { return setup_.read_nodes_file(); }
  Result<std::vector<ConfiguredAddress>> read_public_addresses() override { return setup_.read_public_addresses(); }
  bool interface_exists(const std::string& name) const override { return ::if_nametoindex(name.c_str()) != 0; }
  void set_peers(const std::vector<PeerAddress>& peers) override {
    if (peers == setup_.peers) return;
    setup_.peers = peers;
    // Not from within the handling of a message of a peer that goes.
    loop_->defer([this] {
      mesh_->set_peers(setup_.peers);
      heartbeats_->set_peers(setup_.peers, loop_->now());
      if (addresses_) addresses_->set_peers(setup_.peers);
    });
  }
  void peer_lost(Pnn peer) override { mesh_->reset_peer(peer); }
  void persist(std::uint64_t ticket, Bytes state) override { state_->write(std::move(state), ticket); }
  void wait_chain(DatabaseId database, Bytes key) override;
  void send_to_client(ClientId client, Bytes packet) override { server_->send(client, std::move(packet)); }
  void close_client(ClientId client) override { server_->close(client); }
  void try_cluster_lock(const recovery::LockRecord& record) override {
    if (lock_) lock_->want(record);
  }
  void release_cluster_lock() override {
    if (lock_) lock_->release();
  }
  void run_event(std::uint64_t ticket, EventRequest request, Duration limit) override {
    runner_->run("legacy", std::string(event_name(request.kind)), std::move(request.arguments), limit, false,
                 [this, ticket](const EventResult& result, std::int32_t) {
                   in_turn([&] { node_->on_event(ticket, result); });
                 });
  }
  void notify(const std::string& word) override {
    if (::access(setup_.notify_script.c_str(), X_OK) != 0) return;
    notifications_.push_back(word);
    if (notifications_.size() == 1) notify_next();
  }
  bool process_exists(std::int32_t pid) const override { return ::kill(pid, 0) == 0 || errno == EPERM; }
  double wall_clock() const override {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  }
  ipfailover::AddressKernel* address_kernel() override { return addresses_.get(); }
  void log(LogLevel level, const std::string& text) override { setup_.log(level, text); }
  void set_debug_level(std::int32_t level) override { setup_.set_debug_level(level); }
  void exit() override { loop_->stop(); }

  // ClientListener
  void on_connect(ClientId client, std::int32_t pid) override {
    in_turn([&] { node_->on_client_connect(client, pid); });
  }
  void on_packet(ClientId client, BytesView packet) override {
    in_turn([&] { node_->on_client_packet(client, packet); });
  }
  void on_disconnect(ClientId client) override {
    in_turn([&] { node_->on_client_gone(client); });
  }

  // LinkListener: the mesh's, passed on inside a turn of the node.
  void on_message(Pnn from, Incarnation incarnation, MessageKind kind, BytesView body) override {
    in_turn([&] { node_->on_message(from, incarnation, kind, body); });
  }
  void on_gap(Pnn peer) override {
    in_turn([&] { node_->on_gap(peer); });
  }
  void on_reset(Pnn peer, Incarnation incarnation) override {
    in_turn([&] { node_->on_reset(peer, incarnation); });
  }

 private:
  template <class Event>
  void in_turn(Event&& event) {
    if (!turn_open_) {
      turn_open_ = true;
      node_->begin_turn(loop_->now());
      loop_->defer([this] { end_turn(); });
    }
    event();
  }
  void end_turn() {
    turn_open_ = false;
    node_->end_turn();
    const Instant next = node_->next_wake();
    if (next == wake_at_ && wake_at_ > loop_->now()) return;
    loop_->cancel(wake_);
    wake_at_ = next;
    wake_ = loop_->at(next, [this] {
      wake_at_ = kNever;
      in_turn([] {});
    });
  }
  void tell_mesh(const HeartbeatTable& table);
  Result<Incarnation> begin_incarnation(recovery::PersistedState& state);
  Result<void> start_supervisor(Incarnation incarnation);
  Result<void> write_pid_file();
  void remove_pid_file() const;
  Result<void> watch_parts();
  Result<void> begin_events();
  void notify_next();
  Result<void> watch_signals();
  void on_signal();
  void maintain();
  void on_state_failure(const Error& error);

  DaemonSetup setup_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<GateKeeper> gate_;
  std::unique_ptr<recovery::StateFile> state_;
  std::unique_ptr<LmdbStore> store_;
  std::unique_ptr<CommitWorkerThread> worker_;
  std::unique_ptr<ChainWaiter> chain_waiter_;
  std::unique_ptr<ipfailover::AddressShell> addresses_;
  std::unique_ptr<HeartbeatThread> heartbeats_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<ScriptRunner> runner_;
  std::deque<std::string> notifications_;  // the first is being told
  std::unique_ptr<EventdServer> eventd_;
  std::unique_ptr<ServiceChecks> checks_;
  std::unique_ptr<ClientServer> server_;
  std::unique_ptr<recovery::ClusterLockKeeper> lock_;
  std::map<std::pair<DatabaseId, std::uint32_t>, std::set<Bytes>> waiting_for_chain_;
  bool turn_open_ = false;
  EventLoop::Timer wake_;
  Instant wake_at_ = kNever;
  int signal_fd_ = -1;
  bool shutting_down_ = false;
  int exit_status_ = 0;
};

Result<void> Daemon::Impl::start() {
  Result<std::unique_ptr<GateKeeper>> gate = GateKeeper::open(setup_.gate_path);
  if (!gate) return tl::unexpected<Error>(gate.error());
  gate_ = std::move(*gate);

  Result<std::unique_ptr<recovery::StateFile>> file = recovery::StateFile::open(setup_.state_path);
  if (!file) return tl::unexpected<Error>(file.error());
  state_ = std::move(*file);
  recovery::PersistedState state;
  const Result<Incarnation> incarnation = begin_incarnation(state);
  if (!incarnation) return tl::unexpected<Error>(incarnation.error());

  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  if (!loop) return tl::unexpected<Error>(loop.error());
  loop_ = std::move(*loop);
  if (Result<void> done = watch_signals(); !done) return done;
  if (Result<void> done = begin_events(); !done) return done;

  LmdbStoreConfig store;
  store.volatile_dir = setup_.volatile_dir;
  store.persistent_dir = setup_.persistent_dir;
  store.gate_path = setup_.gate_path;
  store.pnn = setup_.node.self();
  Result<std::unique_ptr<LmdbStore>> opened = LmdbStore::create(store);
  if (!opened) return tl::unexpected<Error>(opened.error());
  store_ = std::move(*opened);
  worker_ = std::make_unique<CommitWorkerThread>(*store_);
  chain_waiter_ = std::make_unique<ChainWaiter>(*store_);

  MeshOptions mesh;
  mesh.self = setup_.node.self();
  mesh.incarnation = *incarnation;
  mesh.address = setup_.address;
  mesh.port = setup_.port;
  mesh.peers = setup_.peers;
  mesh.key = setup_.key;
  mesh.report = [this](const std::string& line) { log(LogLevel::Warning, line); };
  Result<std::unique_ptr<Mesh>> link = Mesh::open(*loop_, std::move(mesh), *this);
  if (!link) return tl::unexpected<Error>(link.error());
  mesh_ = std::move(*link);

  if (Result<void> done = start_supervisor(*incarnation); !done) return done;
  node_ = std::make_unique<Node>(setup_.node, *this, std::move(state));

  // From here on the others hear this node; node_->start() says what it is in the same breath. The databases
  // are opened after that: the thread locks the memory that is mapped when it starts, and maps are large.
  HeartbeatOptions beat;
  beat.self = setup_.node.self();
  beat.incarnation = *incarnation;
  beat.address = setup_.address;
  beat.port = static_cast<std::uint16_t>(setup_.port + 1);
  beat.peers = setup_.peers;
  beat.key = setup_.key;
  beat.timing = setup_.node.control.timing;
  beat.realtime = setup_.realtime;
  beat.loop_turns = [loop = loop_.get()] { return loop->turns(); };
  beat.write_gate = [gate = gate_.get()](Instant open_until, Generation generation) {
    if (open_until <= Instant{}) return gate->close();
    gate->set_open_until(boot_nanoseconds(open_until), client_generation(generation));
  };
  Result<std::unique_ptr<HeartbeatThread>> heartbeats = HeartbeatThread::start(std::move(beat));
  if (!heartbeats) return tl::unexpected<Error>(heartbeats.error());
  heartbeats_ = std::move(*heartbeats);
  log(LogLevel::Info, "heartbeat thread: " + heartbeats_->scheduling());
  state_->start([this](std::uint64_t ticket) { loop_->post([this, ticket] { in_turn([&] { node_->on_persisted(ticket); }); }); },
                [this](const Error& error) { loop_->post([this, error] { on_state_failure(error); }); });
  if (!setup_.node.cluster_lock.empty()) {
    recovery::ClusterLockSettings lock;
    lock.self = setup_.node.self();
    lock.timing = setup_.node.control.timing;
    lock.lock = setup_.node.cluster_lock;
    lock.helper_path = setup_.lock_helper_path;
    lock.register_file = setup_.lock_register;
    lock_ = recovery::ClusterLockKeeper::create(*loop_, std::move(lock), [this](const recovery::LockStatus& status) {
      in_turn([&] { node_->on_lock(status); });
    });
  }
  node_->start(loop_->now());
  if (Result<void> done = watch_parts(); !done) return done;

  Result<std::unique_ptr<ClientServer>> server = ClientServer::create(*loop_, setup_.socket_path, *this);
  if (!server) return tl::unexpected<Error>(server.error());
  server_ = std::move(*server);
  checks_ = std::make_unique<ServiceChecks>(
      *loop_, *runner_, setup_.checks, [this](const std::string& name, bool ok, const std::string& reason) {
        log(ok ? LogLevel::Notice : LogLevel::Warning, fmt::format("check {}: {}", name, ok ? "good" : reason));
        in_turn([&] { node_->on_check(name, ok, reason); });
      });
  in_turn([] {});
  maintain();
  return write_pid_file();
}

// The init event runs before anything else is there: scripts clear what an earlier life left behind. Without its
// success there is no daemon, as in CTDB.
Result<void> Daemon::Impl::begin_events() {
  runner_ = std::make_unique<ScriptRunner>(*loop_, setup_.scripts);
  Result<std::unique_ptr<EventdServer>> eventd = EventdServer::create(*loop_, setup_.eventd_path, *runner_);
  if (!eventd) return tl::unexpected<Error>(eventd.error());
  eventd_ = std::move(*eventd);
  std::optional<EventResult> result;
  const Duration limit = seconds(std::max(setup_.node.tunables[ctdb::Tunable::EventScriptTimeout], 1u));
  runner_->run("legacy", "init", {}, limit, false, [&](const EventResult& r, std::int32_t) { result = r; });
  while (!result) loop_->run_once();
  if (result->ok()) {
    notify("init");
    return {};
  }
  return failure(Fault::Refused,
                 fmt::format("the init event failed: {} {}: {}\nMend it, or disable it: tdbmesh event script disable "
                             "legacy {}",
                             result->script, result->outcome == EventResult::Outcome::TimedOut ? "timed out" : "failed",
                             result->output, result->script));
}

// One after the other: a script that heard "healthy" last must have been told so last.
void Daemon::Impl::notify_next() {
  runner_->program(setup_.notify_script, {notifications_.front()}, kNotifyLimit, ScriptRunner::Output::Logged,
                   [this](std::int32_t result, const std::string&) {
    if (result != 0) {
      log(LogLevel::Warning, fmt::format("{} {} failed: {}", setup_.notify_script, notifications_.front(), result));
    }
    notifications_.pop_front();
    if (!notifications_.empty()) loop_->defer([this] { notify_next(); });
  });
}

// Each life has a number of its own, durable before anything is sent under it.
Result<Incarnation> Daemon::Impl::begin_incarnation(recovery::PersistedState& state) {
  Result<std::optional<Bytes>> bytes = state_->load();
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  if (*bytes) {
    Result<recovery::PersistedState> decoded = recovery::decode_state(**bytes);
    if (!decoded) return tl::unexpected<Error>(decoded.error());
    state = std::move(*decoded);
  }
  if (!setup_.force_without.empty()) {
    const auto forced = recovery::force_without(state, setup_.node.self(), setup_.force_without);
    if (!forced) return failure(forced.error().fault, "--force-without: " + forced.error().context);
    std::string lost;
    for (const Pnn pnn : setup_.force_without) lost += (lost.empty() ? "" : ", ") + to_string(pnn);
    log(LogLevel::Warning, fmt::format("node {} counts as lost for good, as --force-without says: {} vote from now on, and what "
                                       "this node has is what goes on", lost, state.config.voters.size()));
  }
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  state.begin_life(static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(wall).count()));
  if (Result<void> written = state_->write_now(encode(state)); !written) return tl::unexpected<Error>(written.error());
  return state.incarnation;
}

// Before anything is heard of this node: from here on its end is seen and told.
Result<void> Daemon::Impl::start_supervisor(Incarnation incarnation) {
  ipfailover::AddressShellSettings settings;
  ipfailover::supervisor::Setup& told = settings.setup;
  told.self = setup_.node.self();
  told.incarnation = incarnation;
  told.address = setup_.address;
  told.port = static_cast<std::uint16_t>(setup_.port + 1);
  told.peers = setup_.peers;
  told.key = setup_.key;
  told.gate_path = setup_.gate_path;
  told.daemon_pid = ::getpid();
  const Timing& timing = setup_.node.control.timing;
  // Longer than the lease, or a late renewal would cost an address that is still ours.
  told.lifetime = 1 + static_cast<std::uint32_t>(timing.lease / seconds(1));
  told.drop_allowance = timing.drop_allowance;
  told.announce_after = ipfailover::default_announcements();
  settings.supervisor_path = setup_.supervisor_path;
  settings.realtime = setup_.realtime;
  settings.on_event = [this](const ipfailover::KernelEvent& event) {
    in_turn([&] { node_->on_kernel(event); });
  };
  settings.log = [this](bool warning, const std::string& text) {
    log(warning ? LogLevel::Warning : LogLevel::Info, text);
  };
  auto shell = ipfailover::AddressShell::create(*loop_, std::move(settings));
  if (!shell) return tl::unexpected<Error>(shell.error());
  addresses_ = std::move(*shell);
  return {};
}

Result<void> Daemon::Impl::write_pid_file() {
  std::ofstream out(setup_.pid_path, std::ios::trunc);
  out << ::getpid() << '\n';
  out.close();
  if (!out) return failure(Fault::Io, "cannot write " + setup_.pid_path);
  return {};
}

// Only our own: the next daemon may have written its pid before this one was quite gone.
void Daemon::Impl::remove_pid_file() const {
  long pid = 0;
  if (std::ifstream(setup_.pid_path) >> pid && pid == ::getpid()) ::unlink(setup_.pid_path.c_str());
}

Result<void> Daemon::Impl::watch_signals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&wanted, signal);
  // Blocked here, before any other thread exists, so that all threads inherit it and none dies of one.
  if (pthread_sigmask(SIG_BLOCK, &wanted, nullptr) != 0) return system_failure("cannot block signals");
  ::signal(SIGPIPE, SIG_IGN);
  signal_fd_ = ::signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signal_fd_ < 0) return system_failure("cannot watch signals");
  return loop_->add(signal_fd_, EPOLLIN, [this](std::uint32_t) { on_signal(); });
}

Result<void> Daemon::Impl::watch_parts() {
  const auto watch = [&](int fd, std::function<void()> handler) {
    return loop_->add(fd, EPOLLIN, [handler = std::move(handler)](std::uint32_t) { handler(); });
  };
  Result<void> done = watch(heartbeats_->wake_fd(), [this] {
    heartbeats_->take_wake();
    in_turn([&] { node_->on_heartbeats(); });
  });
  if (done) {
    done = watch(worker_->fd(), [this] {
      for (const Completion& c : worker_->take()) in_turn([&] { node_->on_durable(c.ticket, c.result); });
    });
  }
  if (done) {
    done = watch(chain_waiter_->fd(), [this] {
      for (const ChainWaiter::Free& free : chain_waiter_->take()) {
        const auto at = waiting_for_chain_.find({free.database, free.chain});
        if (at == waiting_for_chain_.end()) continue;
        const std::set<Bytes> keys = std::move(at->second);
        waiting_for_chain_.erase(at);
        for (const Bytes& key : keys) in_turn([&] { node_->on_chain_free(free.database, key); });
      }
    });
  }
  return done;
}

void Daemon::Impl::wait_chain(DatabaseId database, Bytes key) {
  const std::shared_ptr<LmdbDatabase> lmdb = store_->lmdb(database);
  if (!lmdb) return;
  std::set<Bytes>& keys = waiting_for_chain_[{database, lmdb->chain_of(key)}];
  const bool first = keys.empty();
  const auto inserted = keys.insert(std::move(key)).first;
  if (first) chain_waiter_->wait_for(database, *inserted);
}

void Daemon::Impl::tell_mesh(const HeartbeatTable& table) {
  for (const PeerHeartbeats& peer : table.peers) {
    if (peer.incarnation == 0) continue;
    mesh_->note_incarnation(peer.pnn, peer.incarnation);
    mesh_->check_counts(peer.pnn, peer.incarnation, peer.link, loop_->now());
  }
  heartbeats_->with_core([&](HeartbeatCore& core) {
    for (const PeerHeartbeats& peer : table.peers) core.set_link_count(peer.pnn, mesh_->sent_count(peer.pnn));
  });
}

void Daemon::Impl::on_signal() {
  signalfd_siginfo info{};
  while (::read(signal_fd_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGHUP) {
      setup_.reopen_log();
      continue;
    }
    if (shutting_down_) continue;
    shutting_down_ = true;
    log(LogLevel::Notice, fmt::format("shutting down: signal {}", info.ssi_signo));
    in_turn([&] { node_->shut_down(); });
    const Duration scripts = seconds(setup_.node.tunables[ctdb::Tunable::EventScriptTimeout]);
    loop_->after(kShutdownLimit + scripts, [this] {
      log(LogLevel::Warning, "leaving without the others' consent: they did not answer in time");
      loop_->stop();
    });
  }
}

void Daemon::Impl::on_state_failure(const Error& error) {
  log(LogLevel::Error, "cannot keep the node's state, so it must stop: " + error.context);
  exit_status_ = 1;
  loop_->stop();
}

void Daemon::Impl::maintain() {
  store_->maintain();
  for (const std::string& notice : store_->take_notices()) log(LogLevel::Error, notice);
  for (const std::string& report : heartbeats_->take_reports()) log(LogLevel::Warning, report);
  loop_->after(kMaintainEvery, [this] { maintain(); });
}

int Daemon::Impl::run() {
  // Last, so that only the loop itself has it: workers that wait for disks and locks need no precedence.
  if (setup_.realtime && !become_realtime_loop()) {
    log(LogLevel::Info, "event loop: ordinary priority (real-time scheduling is not allowed)");
  }
  loop_->run();
  return exit_status_;
}

Daemon::Daemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>> Daemon::start(DaemonSetup setup) {
  auto impl = std::make_unique<Impl>(std::move(setup));
  if (Result<void> started = impl->start(); !started) return tl::unexpected<Error>(started.error());
  return std::unique_ptr<Daemon>(new Daemon(std::move(impl)));
}

int Daemon::run() { return impl_->run(); }

}  // namespace tdbmesh
