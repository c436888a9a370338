#include "transport/heartbeat_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "db/base/check.h"
#include "db/base/thread.h"
#include "transport/realtime.h"
#include "transport/tcp_socket.h"
#include "transport/zmq_guard.h"
#include "transport/zmq_sockets.h"

namespace tdbmesh {
namespace {

constexpr int kMostWaiting = 64;           // heartbeats per peer not read yet
constexpr int kMostQueued = 4;             // older heartbeats are worth nothing
constexpr std::size_t kMostBytes = 64 * 1024;
constexpr int kMostPerPass = 1024;         // packets handled before the own beat is looked at again
constexpr Duration kLeastReconnect = std::chrono::seconds(1);

// The loop holds the mutex at a lower priority: inheritance keeps others from getting in between.
class PriorityMutex {
 public:
  PriorityMutex() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  ~PriorityMutex() { pthread_mutex_destroy(&mutex_); }
  PriorityMutex(const PriorityMutex&) = delete;
  PriorityMutex& operator=(const PriorityMutex&) = delete;
  void lock() { TDBMESH_CHECK(pthread_mutex_lock(&mutex_) == 0); }
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

std::optional<Pnn> pnn_of(const std::string& user) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(user.data(), user.data() + user.size(), value);
  if (user.empty() || error != std::errc() || end != user.data() + user.size()) return std::nullopt;
  return Pnn{value};
}

void signal_fd(int fd) {
  const std::uint64_t one = 1;
  (void)!::write(fd, &one, sizeof one);
}
void drain_fd(int fd) {
  std::uint64_t ignored = 0;
  (void)!::read(fd, &ignored, sizeof ignored);
}

std::vector<Pnn> pnns_of(const std::vector<PeerAddress>& peers, Pnn self) {
  std::vector<Pnn> all;
  for (const PeerAddress& peer : peers) {
    if (peer.pnn != self) all.push_back(peer.pnn);
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

class HeartbeatThread::Impl {
 public:
  explicit Impl(HeartbeatOptions options)
      : options_(std::move(options)),
        core_(options_.self, options_.incarnation, pnns_of(options_.peers, options_.self), options_.timing,
              boot_time_now()) {}
  ~Impl();
  Result<> start();
  void write_gate_locked();

  PriorityMutex mutex;
  HeartbeatOptions options_;
  HeartbeatCore core_;                            // guarded by mutex
  Generation generation_;                         // guarded
  Instant gate_written_ = Instant::min();         // guarded
  Generation generation_written_;                 // guarded
  std::vector<PeerAddress> new_peers_;            // guarded
  bool peers_changed_ = false;                    // guarded
  Instant last_pass_ = boot_time_now();           // guarded: when the thread had read everything
  int wake_fd_ = -1;                              // to the event loop
  int control_fd_ = -1;                           // to the thread
  std::string scheduling_;
  AccessList access_;
  std::mutex reports_mutex_;
  std::vector<std::string> reports_;  // guarded by reports_mutex_
  RejectionFilter filter_;            // guarded by reports_mutex_

 private:
  struct Peer {
    std::string address;
    void* sender = nullptr;
    Instant quiet_since{};  // newest of: heard, connected
  };

  void run();
  void become_urgent();
  void apply_peers(const std::vector<PeerAddress>& peers);
  void connect(Peer& peer, Instant now);
  // What brought nothing for so long is connected anew. Not while the peer may still be a member: it may only stand still,
  // and what waits in its connection, or the first answer after it went on, would be lost with that.
  [[nodiscard]] Duration reconnect_after() const {
    return std::max(kLeastReconnect, options_.timing.silence + options_.timing.heartbeat);
  }
  void send(const std::vector<OutgoingHeartbeat>& out);
  // One packet; false if none waits.
  bool receive(Bytes& packet, Pnn& from);

  void* context_ = nullptr;
  void* receiver_ = nullptr;
  std::unique_ptr<ZmqGuard> guard_;
  std::map<Pnn, Peer> peers_;  // the thread's
  std::atomic<bool> stopping_{false};
  bool realtime_ = false;
  std::thread thread_;
};

Result<> HeartbeatThread::Impl::start() {
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  control_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0 || control_fd_ < 0) return system_failure("cannot start the heartbeat thread");
  context_ = zmq_ctx_new();
  if (context_ == nullptr) return system_failure("cannot start ZeroMQ");
  realtime_ = options_.realtime && realtime_is_allowed(SCHED_FIFO, kHeartbeatPriority);
  if (realtime_) {
    zmq_ctx_set(context_, ZMQ_THREAD_SCHED_POLICY, SCHED_FIFO);
    zmq_ctx_set(context_, ZMQ_THREAD_PRIORITY, kHeartbeatPriority);
  }
  // What exists now, not the databases that are mapped later: locking those would keep them in memory for ever.
  const bool locked = mlockall(MCL_CURRENT | MCL_ONFAULT) == 0;
  access_.set(options_.peers, options_.self);
  receiver_ = open_receiver(context_, options_.key, options_.address, kMostWaiting, kMostBytes);
  if (receiver_ == nullptr) return failure(Fault::Io, std::string("cannot open a socket: ") + zmq_strerror(zmq_errno()));
  guard_ = std::make_unique<ZmqGuard>(context_, access_, options_.key ? options_.key->public_key : "",
                                      [this](Rejection rejection) {
                                        const std::lock_guard lock(reports_mutex_);
                                        auto line = filter_.line(rejection, boot_time_now());
                                        if (line && reports_.size() < 256) reports_.push_back("heartbeats: " + *line);
                                        signal_fd(wake_fd_);
                                      });
  if (!guard_->start(receiver_)) {
    return failure(Fault::Io, std::string("cannot start the guard: ") + zmq_strerror(zmq_errno()));
  }
  if (auto bound = bind_receiver(receiver_, options_.address, options_.port); !bound) return bound;

  std::string class_name = "SCHED_FIFO 10";
  if (!options_.realtime) {
    class_name = "ordinary priority, as configured";
  } else if (!realtime_) {
    // Whether niceness is allowed shows best by asking for it, which the thread does itself.
    rlimit limit{};
    const bool nice = geteuid() == 0 || (getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 40);
    class_name = nice ? "nice -20 (real-time scheduling is not allowed)"
                      : "ordinary priority (neither real-time scheduling nor nice -20 is allowed)";
  }
  scheduling_ = class_name + (locked ? ", memory locked" : ", memory not locked");

  thread_ = start_thread([this] { run(); });
  return {};
}

HeartbeatThread::Impl::~Impl() {
  stopping_ = true;
  if (thread_.joinable()) {
    signal_fd(control_fd_);
    thread_.join();
  }
  {
    const std::lock_guard lock(mutex);
    core_.close_gate();
    gate_written_ = Instant::max();  // whatever it was, say it once more
    write_gate_locked();
  }
  for (auto& [pnn, peer] : peers_) {
    if (peer.sender != nullptr) zmq_close(peer.sender);
  }
  if (receiver_ != nullptr) {
    zmq_socket_monitor(receiver_, nullptr, 0);
    zmq_close(receiver_);
  }
  if (context_ != nullptr) {
    zmq_ctx_shutdown(context_);
    if (guard_) guard_->stop();
    zmq_ctx_term(context_);
  }
  for (const int fd : {wake_fd_, control_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void HeartbeatThread::Impl::write_gate_locked() {
  const Instant until = core_.gate_until();
  if (until == gate_written_ && generation_ == generation_written_) return;
  gate_written_ = until;
  generation_written_ = generation_;
  if (options_.write_gate) options_.write_gate(until, generation_);
}

void HeartbeatThread::Impl::become_urgent() {
  pthread_setname_np(pthread_self(), "heartbeat");
  prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
  if (realtime_) {
    sched_param wanted{};
    wanted.sched_priority = kHeartbeatPriority;
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &wanted);
  } else if (options_.realtime) {
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), -20);
  }
}

void HeartbeatThread::Impl::connect(Peer& peer, Instant now) {
  if (peer.sender != nullptr) zmq_close(peer.sender);
  peer.sender = open_sender(context_, options_.key, options_.address, {kMostQueued, true});
  // Failing here is as good as not reaching the peer: tried again like that.
  if (peer.sender != nullptr) connect_sender(peer.sender, options_.address, peer.address, options_.port);
  peer.quiet_since = now;
}

void HeartbeatThread::Impl::apply_peers(const std::vector<PeerAddress>& peers) {
  const Instant now = boot_time_now();
  std::map<Pnn, std::string> wanted;
  for (const PeerAddress& peer : peers) {
    if (peer.pnn != options_.self) wanted[peer.pnn] = canonical_address(peer.address).value_or(peer.address);
  }
  std::erase_if(peers_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    if (entry.second.sender != nullptr) zmq_close(entry.second.sender);
    return true;
  });
  for (const auto& [pnn, address] : wanted) {
    Peer& peer = peers_[pnn];
    if (peer.sender != nullptr && peer.address == address) continue;
    peer.address = address;
    connect(peer, now);
  }
}

void HeartbeatThread::Impl::send(const std::vector<OutgoingHeartbeat>& out) {
  for (const OutgoingHeartbeat& packet : out) {
    const auto peer = peers_.find(packet.to);
    if (peer == peers_.end() || peer->second.sender == nullptr) continue;
    // No connection or a full queue: the packet is dropped, the next one follows soon.
    zmq_send(peer->second.sender, packet.bytes.data(), packet.bytes.size(), ZMQ_DONTWAIT);
  }
}

bool HeartbeatThread::Impl::receive(Bytes& packet, Pnn& from) {
  while (true) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, receiver_, ZMQ_DONTWAIT) < 0) {
      zmq_msg_close(&message);
      return false;
    }
    const std::optional<Pnn> sender = pnn_of(message_property(&message, "User-Id"));
    const std::string address = message_property(&message, "Peer-Address");
    packet.assign(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
    zmq_msg_close(&message);
    const auto peer = sender ? peers_.find(*sender) : peers_.end();
    if (peer == peers_.end()) continue;
    if (address != peer->second.address && canonical_address(address) != peer->second.address) continue;
    from = *sender;
    peer->second.quiet_since = boot_time_now();
    return true;
  }
}

void HeartbeatThread::Impl::run() {
  become_urgent();
  apply_peers(options_.peers);
  int receiver_fd = -1;
  std::size_t size = sizeof receiver_fd;
  zmq_getsockopt(receiver_, ZMQ_FD, &receiver_fd, &size);

  std::vector<OutgoingHeartbeat> out;
  Bytes packet;
  Instant next_tick = boot_time_now();
  Instant next_loss = kNever;
  bool gate_open = false;
  Instant awake = next_tick;
  while (!stopping_) {
    bool news = false;
    const Instant slept_from = std::exchange(awake, boot_time_now());
    if (awake - slept_from > options_.timing.silence / 2) {  // this process stood still: nobody was quiet for that
      for (auto& [pnn, peer] : peers_) peer.quiet_since = awake;
    }
    bool drained = false;
    std::vector<PeerAddress> fresh_peers;
    bool peers_changed = false;
    {
      const std::lock_guard lock(mutex);
      if (std::exchange(peers_changed_, false)) {
        fresh_peers = std::exchange(new_peers_, {});
        peers_changed = true;
      }
    }
    if (peers_changed) apply_peers(fresh_peers);

    // Everything that has arrived, before anybody is judged by silence.
    Pnn from = kNoPnn;
    for (int count = 0; count < kMostPerPass; ++count) {
      if (!receive(packet, from)) {
        drained = true;
        break;
      }
      const std::lock_guard lock(mutex);
      news = core_.on_bytes(from, packet, boot_time_now(), out) || news;
    }
    send(out);
    out.clear();

    const Instant now = boot_time_now();
    const Instant was_next_loss = next_loss;
    Instant gate_until;
    {
      const std::lock_guard lock(mutex);
      core_.note_loop_progress(options_.loop_turns ? options_.loop_turns() : static_cast<std::uint64_t>(now.time_since_epoch().count()), now);
      if (now >= next_tick) next_tick = core_.tick(now, out);
      gate_until = core_.gate_until();
      write_gate_locked();
      next_loss = core_.next_loss(now);
      if (drained) last_pass_ = now;
    }
    send(out);
    out.clear();

    if (was_next_loss <= now) news = true;             // somebody fell silent, or has just come back
    if (gate_open != (now < gate_until)) news = true;  // opened, or lapsed
    gate_open = now < gate_until;
    if (news) signal_fd(wake_fd_);

    for (auto& [pnn, peer] : peers_) {
      if (now - peer.quiet_since > reconnect_after()) connect(peer, now);
    }
    if (!drained) continue;

    Instant wake = std::min(next_tick, next_loss);
    if (gate_open) wake = std::min(wake, gate_until);
    const auto wait = std::max<std::int64_t>(0, (wake - boot_time_now()).count());
    const timespec timeout{wait / 1'000'000, (wait % 1'000'000) * 1000};
    std::array<pollfd, 2> fds{{{receiver_fd, POLLIN, 0}, {control_fd_, POLLIN, 0}}};
    ppoll(fds.data(), fds.size(), &timeout, nullptr);
    if ((fds[1].revents & POLLIN) != 0) drain_fd(control_fd_);
  }
}

// ---- the face ----

Result<std::unique_ptr<HeartbeatThread>> HeartbeatThread::start(HeartbeatOptions options) {
  TDBMESH_CHECK(options.incarnation != 0);
  auto impl = std::make_unique<Impl>(std::move(options));
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<HeartbeatThread>(new HeartbeatThread(std::move(impl)));
}

HeartbeatThread::HeartbeatThread(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HeartbeatThread::~HeartbeatThread() = default;

HeartbeatThread::Locked::Locked(HeartbeatThread& thread) : thread_(thread) { thread_.impl_->mutex.lock(); }
HeartbeatThread::Locked::~Locked() { thread_.impl_->mutex.unlock(); }
HeartbeatCore& HeartbeatThread::Locked::core() const { return thread_.impl_->core_; }

std::optional<HeartbeatTable> HeartbeatThread::snapshot(Instant now) {
  const std::lock_guard lock(impl_->mutex);
  if (now - impl_->last_pass_ > impl_->options_.timing.silence / 2) return std::nullopt;
  return impl_->core_.snapshot(now);
}

void HeartbeatThread::permit_gate(Generation generation) {
  const std::lock_guard lock(impl_->mutex);
  impl_->generation_ = generation;
  impl_->core_.permit_gate();
  impl_->write_gate_locked();
}

void HeartbeatThread::close_gate() {
  const std::lock_guard lock(impl_->mutex);
  impl_->core_.close_gate();
  impl_->write_gate_locked();
}

void HeartbeatThread::set_peers(const std::vector<PeerAddress>& peers, Instant now) {
  const std::lock_guard lock(impl_->mutex);
  impl_->access_.set(peers, impl_->options_.self);
  impl_->core_.set_peers(pnns_of(peers, impl_->options_.self), now);
  impl_->new_peers_ = peers;
  impl_->peers_changed_ = true;
  signal_fd(impl_->control_fd_);
}

int HeartbeatThread::wake_fd() const { return impl_->wake_fd_; }
void HeartbeatThread::take_wake() { drain_fd(impl_->wake_fd_); }
std::string HeartbeatThread::scheduling() const { return impl_->scheduling_; }

std::vector<std::string> HeartbeatThread::take_reports() {
  const std::lock_guard lock(impl_->reports_mutex_);
  return std::exchange(impl_->reports_, {});
}

}  // namespace tdbmesh
