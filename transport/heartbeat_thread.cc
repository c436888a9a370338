#include "transport/heartbeat_thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "db/base/check.h"
#include "db/base/thread.h"
#include "transport/access_list.h"
#include "transport/event_loop.h"
#include "transport/realtime.h"
#include "transport/zmtp_receiver.h"
#include "transport/zmtp_sender.h"

namespace tdbmesh {
namespace {

constexpr std::size_t kMostUnsent = 4096;  // older heartbeats are worth nothing
constexpr std::size_t kMostBytes = 64 * 1024;
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

class HeartbeatThread::Impl final : public ZmtpSender::Listener, public ZmtpReceiver::Listener {
 public:
  explicit Impl(HeartbeatOptions options)
      : options_(std::move(options)),
        core_(options_.self, options_.incarnation, pnns_of(options_.peers, options_.self), options_.timing,
              boot_time_now()) {}
  ~Impl() override;
  Result<> start();
  void write_gate_locked();
  void set_peers(const std::vector<PeerAddress>& peers, Instant now);

  PriorityMutex mutex;
  HeartbeatOptions options_;
  HeartbeatCore core_;                            // guarded by mutex
  Generation generation_;                         // guarded
  Instant gate_written_ = Instant::min();         // guarded
  Generation generation_written_;                 // guarded
  Instant last_pass_ = boot_time_now();           // guarded: when the thread had read everything
  int wake_fd_ = -1;                              // to the event loop
  std::string scheduling_;
  AccessList access_;
  std::mutex reports_mutex_;
  std::vector<std::string> reports_;  // guarded by reports_mutex_
  RejectionFilter filter_;            // guarded by reports_mutex_

 private:
  struct Peer {
    std::string address;
    std::unique_ptr<ZmtpSender> sender;
    Instant quiet_since{};  // newest of: heard, connected
  };

  void run();
  void become_urgent();
  void apply_peers(const std::vector<PeerAddress>& peers);
  // What brought nothing for so long is connected anew. Not while the peer may still be a member: it may only stand still,
  // and what waits in its connection, or the first answer after it went on, would be lost with that.
  [[nodiscard]] Duration reconnect_after() const {
    return std::max(kLeastReconnect, options_.timing.silence + options_.timing.heartbeat);
  }
  void send_out();
  bool pass();
  // A connection that was made or lost is nothing to act on: what counts is who is heard.
  void on_connected(ZmtpSender&) override {}
  void on_disconnected(ZmtpSender&, bool) override {}
  void on_turned_away(ZmtpSender&, const std::string&) override {}
  void on_message(Pnn from, const std::string& address, BytesView message) override;
  void on_refused(const Rejection& rejection) override;

  // The thread's, once it runs.
  std::unique_ptr<EventLoop> loop_;
  ZmtpConnection::ReadBuffer buffer_ = ZmtpConnection::ReadBuffer(ZmtpConnection::kReadBuffer);
  std::optional<zmtp::CurvePair> key_;
  EventLoop::Hook pass_;
  std::unique_ptr<ZmtpReceiver> receiver_;
  std::map<Pnn, Peer> peers_;
  std::vector<OutgoingHeartbeat> out_;
  Instant next_tick_ = boot_time_now();
  Instant next_loss_ = kNever;
  Instant wake_at_ = boot_time_now();
  Instant passed_ = boot_time_now();
  bool gate_open_ = false;
  bool news_ = false;

  std::atomic<bool> stopping_{false};
  bool realtime_ = false;
  std::thread thread_;
};

Result<> HeartbeatThread::Impl::start() {
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return system_failure("cannot start the heartbeat thread");
  auto loop = EventLoop::create();
  if (!loop) return tl::unexpected(loop.error());
  loop_ = std::move(*loop);
  realtime_ = options_.realtime && realtime_is_allowed(SCHED_FIFO, kHeartbeatPriority);
  // What exists now, not the databases that are mapped later: locking those would keep them in memory for ever.
  const bool locked = mlockall(MCL_CURRENT | MCL_ONFAULT) == 0;
  access_.set(options_.peers, options_.self);
  if (options_.key) key_ = curve_pair(*options_.key);
  // The first of the hooks, so that what it puts leaves in the same turn.
  pass_ = loop_->at_end_of_turn([this] { return pass(); });
  auto receiver = ZmtpReceiver::open(*loop_, {options_.address, options_.port, key_, kMostBytes}, access_, buffer_, *this);
  if (!receiver) return tl::unexpected(receiver.error());
  receiver_ = std::move(*receiver);

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
    loop_->stop();
    thread_.join();
  }
  {
    const std::lock_guard lock(mutex);
    core_.close_gate();
    gate_written_ = Instant::max();  // whatever it was, say it once more
    write_gate_locked();
  }
  if (wake_fd_ >= 0) ::close(wake_fd_);
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

void HeartbeatThread::Impl::apply_peers(const std::vector<PeerAddress>& peers) {
  const Instant now = boot_time_now();
  const std::map<Pnn, std::string> wanted = addresses_of_others(peers, options_.self);
  std::erase_if(peers_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  for (const auto& [pnn, address] : wanted) {
    Peer& peer = peers_[pnn];
    if (peer.sender && peer.address == address) continue;
    peer.address = address;
    SenderConfig config{options_.address, address, options_.port, key_};
    config.most_unsent = kMostUnsent;  // and no queue: without a connection the packet is dropped, the next one follows soon
    peer.sender = std::make_unique<ZmtpSender>(*loop_, std::move(config), buffer_, *this);
    peer.quiet_since = now;
  }
}

void HeartbeatThread::Impl::set_peers(const std::vector<PeerAddress>& peers, Instant now) {
  access_.set(peers, options_.self);
  {
    const std::lock_guard lock(mutex);
    core_.set_peers(pnns_of(peers, options_.self), now);
  }
  loop_->post([this, peers] {
    receiver_->recheck();
    apply_peers(peers);
  });
}

void HeartbeatThread::Impl::send_out() {
  for (OutgoingHeartbeat& packet : out_) {
    const auto peer = peers_.find(packet.to);
    if (peer != peers_.end()) (void)peer->second.sender->put({}, std::move(packet.bytes));
  }
  out_.clear();
}

void HeartbeatThread::Impl::on_message(Pnn from, const std::string&, BytesView message) {
  const auto peer = peers_.find(from);
  if (peer == peers_.end() || message.empty()) return;
  const Instant now = boot_time_now();
  peer->second.quiet_since = now;
  {
    const std::lock_guard lock(mutex);
    news_ = core_.on_bytes(from, message, now, out_) || news_;
  }
  send_out();
}

void HeartbeatThread::Impl::on_refused(const Rejection& rejection) {
  const std::lock_guard lock(reports_mutex_);
  auto line = filter_.line(rejection, boot_time_now());
  if (line && reports_.size() < 256) reports_.push_back("heartbeats: " + *line);
  signal_fd(wake_fd_);
}

// The end of each turn: what has arrived was read, so now anybody may be judged by silence.
bool HeartbeatThread::Impl::pass() {
  const Instant now = boot_time_now();
  const Instant was_next_loss = next_loss_;
  Instant gate_until;
  {
    const std::lock_guard lock(mutex);
    core_.note_loop_progress(options_.loop_turns ? options_.loop_turns() : static_cast<std::uint64_t>(now.time_since_epoch().count()), now);
    // What came in may have taken beats along and put the next tick off.
    if (now >= core_.beat_due()) core_.tick(now, out_);
    next_tick_ = core_.beat_due();
    gate_until = core_.gate_until();
    write_gate_locked();
    next_loss_ = core_.next_loss(now);
    last_pass_ = now;
  }
  send_out();

  if (was_next_loss <= now) news_ = true;               // somebody fell silent, or has just come back
  if (gate_open_ != (now < gate_until)) news_ = true;  // opened, or lapsed
  gate_open_ = now < gate_until;
  if (std::exchange(news_, false)) signal_fd(wake_fd_);

  // When this process stood still nobody was quiet for that.
  const bool stood_still = now - std::exchange(passed_, now) > options_.timing.silence / 2;
  for (auto& [pnn, peer] : peers_) {
    if (stood_still) peer.quiet_since = now;
    if (now - peer.quiet_since <= reconnect_after()) continue;
    peer.sender->restart();
    peer.quiet_since = now;
  }
  wake_at_ = std::min(next_tick_, next_loss_);
  if (gate_open_) wake_at_ = std::min(wake_at_, gate_until);
  return false;
}

void HeartbeatThread::Impl::run() {
  become_urgent();
  apply_peers(options_.peers);
  while (!stopping_) {
    loop_->run_once(std::clamp(wake_at_ - boot_time_now(), Duration::zero(), EventLoop::kLongestSleep));
  }
  peers_.clear();
  receiver_.reset();
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

void HeartbeatThread::set_peers(const std::vector<PeerAddress>& peers, Instant now) { impl_->set_peers(peers, now); }

int HeartbeatThread::wake_fd() const { return impl_->wake_fd_; }
void HeartbeatThread::take_wake() { drain_fd(impl_->wake_fd_); }
std::string HeartbeatThread::scheduling() const { return impl_->scheduling_; }

std::vector<std::string> HeartbeatThread::take_reports() {
  const std::lock_guard lock(impl_->reports_mutex_);
  return std::exchange(impl_->reports_, {});
}

}  // namespace tdbmesh
