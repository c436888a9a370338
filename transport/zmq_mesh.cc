#include "transport/zmq_mesh.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "db/base/check.h"
#include "transport/envelope.h"
#include "transport/realtime.h"
#include "transport/zmq_guard.h"
#include "transport/zmq_sockets.h"

namespace tdbmesh {
namespace {

// Per process(): enough to keep up, little enough that timers and clients get their turn.
constexpr int kMostMessagesPerTurn = 512;
constexpr std::size_t kMostBytesPerTurn = std::size_t{16} << 20;
constexpr int kMostWaitingPerPeer = 1000;    // taken from the network, not read yet
constexpr std::size_t kCopyLimit = 4096;     // smaller bodies are cheaper to copy than to track
constexpr Duration kCountsRetry = std::chrono::milliseconds(20);
constexpr Duration kRecreateAfter = std::chrono::seconds(1);

// epoll tags beside pnns.
constexpr std::uint64_t kTagWake = std::uint64_t{1} << 32;
constexpr std::uint64_t kTagTimer = std::uint64_t{2} << 32;
constexpr std::uint64_t kTagReceiver = std::uint64_t{3} << 32;

// A body on its way: ZeroMQ's thread gives it back when it is written out.
struct HeldBody {
  Bytes body;
  std::shared_ptr<std::atomic<std::size_t>> account;
};
void release_body(void*, void* hint) {
  const std::unique_ptr<HeldBody> held(static_cast<HeldBody*>(hint));
  held->account->fetch_sub(held->body.size(), std::memory_order_relaxed);
}

int socket_fd(void* socket) {
  int fd = -1;
  std::size_t size = sizeof fd;
  zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
  return fd;
}
// Makes ZeroMQ look at what its threads told this socket; without it a full queue can look full too long.
void refresh(void* socket) {
  int events = 0;
  std::size_t size = sizeof events;
  zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size);
}

struct Message {
  Message() { zmq_msg_init(&raw); }
  ~Message() { zmq_msg_close(&raw); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  [[nodiscard]] BytesView view() {
    return {static_cast<const char*>(zmq_msg_data(&raw)), zmq_msg_size(&raw)};
  }
  zmq_msg_t raw;
};

}  // namespace

class ZmqMesh::Impl {
 public:
  Impl(MeshOptions options, LinkListener& listener) : options_(std::move(options)), listener_(listener) {}
  ~Impl();
  Result<> start();

  void send(Pnn to, MessageKind kind, Bytes body);
  void process();
  void note_incarnation(Pnn pnn, Incarnation incarnation);
  void reset_peer(Pnn pnn);
  void set_peers(const std::vector<PeerAddress>& peers);
  [[nodiscard]] LinkCount sent_count(Pnn to) const;
  [[nodiscard]] LinkCount received_count(Pnn from) const;
  void check_counts(Pnn pnn, Incarnation incarnation, LinkCount said, Instant now);

  int epoll_fd = -1;
  MeshStatistics statistics;

 private:
  struct Peer {
    Pnn pnn{};
    std::string address;
    void* sender = nullptr;
    void* monitor = nullptr;
    // Sending.
    Incarnation incarnation = 0;  // newest known of the peer
    std::uint64_t session = 0;
    std::uint64_t connection = 0;
    std::uint64_t sequence = 0;
    std::shared_ptr<std::atomic<std::size_t>> queued_bytes = std::make_shared<std::atomic<std::size_t>>(0);
    bool owes_counts = false;
    bool connected = false;
    bool reset_told = false;
    std::optional<std::string> handshake_failed;
    Instant recreate_at = kNever;
    // Receiving.
    Incarnation from_incarnation = 0;
    std::uint64_t from_session = 0;
    std::uint64_t from_connection = 0;
    std::uint64_t from_sequence = 0;
    Instant behind_since = kNever;      // the peer's count is ahead and nothing has arrived since
    std::uint64_t behind_at = 0;        // sequence that had arrived then
    std::uint64_t told_missing = 0;     // a gap up to here was told already
    // To be told to the listener inside process().
    bool gap_pending = false;
    bool reset_pending = false;
  };

  Peer* find(Pnn pnn) {
    const auto found = peers_.find(pnn);
    return found == peers_.end() ? nullptr : found->second.get();
  }
  void watch(int fd, std::uint64_t tag);
  void wake();
  void connect(Peer& peer);
  void disconnect(Peer& peer);
  void begin_session(Peer& peer);
  bool put(Peer& peer, const Envelope& envelope, Bytes body);
  void drop(Peer& peer);
  void receive();
  bool accept(Message& header, BytesView body);
  void on_connection_event(Peer& peer);
  void settle_debts();
  void tell_pending();
  void report(const std::string& line) {
    if (options_.report) options_.report(line);
  }

  MeshOptions options_;
  LinkListener& listener_;
  void* context_ = nullptr;
  void* receiver_ = nullptr;
  int wake_fd_ = -1;
  int timer_fd_ = -1;
  AccessList access_;
  std::unique_ptr<ZmqGuard> guard_;
  std::map<Pnn, std::unique_ptr<Peer>> peers_;
  std::uint64_t next_number_ = 0;  // sessions and connections of all peers: only grows
  int next_monitor_ = 0;
  bool more_to_receive_ = false;
  Instant timer_at_ = kNever;  // what timer_fd_ is set to
  bool pending_ = false;  // some peer has gap_pending or reset_pending
  RejectionFilter filter_;
  RejectionFilter drop_filter_;
  std::mutex rejections_mutex_;
  std::vector<Rejection> rejections_;  // guarded; bounded
  std::uint64_t rejected_ = 0;         // guarded
};

ZmqMesh::Impl::~Impl() {
  for (auto& [pnn, peer] : peers_) disconnect(*peer);
  if (receiver_ != nullptr) {
    zmq_socket_monitor(receiver_, nullptr, 0);
    zmq_close(receiver_);
  }
  if (context_ != nullptr) {
    zmq_ctx_shutdown(context_);
    if (guard_) guard_->stop();
    zmq_ctx_term(context_);
  }
  for (const int fd : {epoll_fd, wake_fd_, timer_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

Result<> ZmqMesh::Impl::start() {
  TDBMESH_CHECK(options_.incarnation != 0);
  if (!canonical_address(options_.address)) {
    return failure(Fault::Malformed, options_.address + " is not a numeric address");
  }
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  timer_fd_ = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (epoll_fd < 0 || wake_fd_ < 0 || timer_fd_ < 0) return system_failure("cannot start the mesh");
  watch(wake_fd_, kTagWake);
  watch(timer_fd_, kTagTimer);

  context_ = zmq_ctx_new();
  if (context_ == nullptr) return system_failure("cannot start ZeroMQ");
  if (options_.realtime && realtime_is_allowed(SCHED_RR, kLoopPriority)) {
    zmq_ctx_set(context_, ZMQ_THREAD_SCHED_POLICY, SCHED_RR);
    zmq_ctx_set(context_, ZMQ_THREAD_PRIORITY, kLoopPriority);
  }
  access_.set(options_.peers, options_.self);
  receiver_ = open_receiver(context_, options_.key, options_.address, kMostWaitingPerPeer,
                            kMostMessageBytes + kMostEnvelopeBytes);
  if (receiver_ == nullptr) return failure(Fault::Io, std::string("cannot open a socket: ") + zmq_strerror(zmq_errno()));
  guard_ = std::make_unique<ZmqGuard>(context_, access_, options_.key ? options_.key->public_key : "",
                                      [this](Rejection rejection) {
                                        const std::lock_guard lock(rejections_mutex_);
                                        ++rejected_;
                                        if (rejections_.size() < 256) rejections_.push_back(std::move(rejection));
                                        wake();
                                      });
  if (!guard_->start(receiver_)) return failure(Fault::Io, std::string("cannot start the guard: ") + zmq_strerror(zmq_errno()));
  if (auto bound = bind_receiver(receiver_, options_.address, options_.port); !bound) return bound;
  watch(socket_fd(receiver_), kTagReceiver);
  more_to_receive_ = true;  // what came before the watch began
  wake();
  set_peers(options_.peers);
  return {};
}

void ZmqMesh::Impl::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  TDBMESH_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

// From any thread.
void ZmqMesh::Impl::wake() {
  const std::uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

void ZmqMesh::Impl::connect(Peer& peer) {
  peer.connected = false;
  peer.recreate_at = kNever;
  peer.handshake_failed.reset();
  peer.owes_counts = false;  // the handshake makes them due
  peer.sender = open_sender(context_, options_.key, options_.address, {options_.most_queued_messages, false});
  peer.monitor = zmq_socket(context_, ZMQ_PAIR);
  const std::string endpoint = fmt::format("inproc://sender-monitor-{}", ++next_monitor_);
  const int events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_DELAYED | ZMQ_EVENT_CONNECT_RETRIED |
                     ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  // Out of descriptors, most likely: try again later rather than stop the daemon for one peer.
  if (peer.sender == nullptr || peer.monitor == nullptr ||
      zmq_socket_monitor(peer.sender, endpoint.c_str(), events) != 0 ||
      zmq_connect(peer.monitor, endpoint.c_str()) != 0 ||
      !connect_sender(peer.sender, options_.address, peer.address, options_.port)) {
    if (const auto line = drop_filter_.line({peer.address, zmq_strerror(zmq_errno()), true}, boot_time_now())) report(*line);
    disconnect(peer);
    peer.recreate_at = boot_time_now() + kRecreateAfter;
    wake();
    return;
  }
  watch(socket_fd(peer.monitor), number(peer.pnn));
  wake();  // the first look at the monitor: its descriptor only tells news
}

void ZmqMesh::Impl::disconnect(Peer& peer) {
  if (peer.monitor != nullptr) {
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket_fd(peer.monitor), nullptr);
    if (peer.sender != nullptr) zmq_socket_monitor(peer.sender, nullptr, 0);
    zmq_close(peer.monitor);
  }
  if (peer.sender != nullptr) zmq_close(peer.sender);
  peer.monitor = nullptr;
  peer.sender = nullptr;
}

void ZmqMesh::Impl::begin_session(Peer& peer) {
  peer.session = ++next_number_;
  peer.connection = ++next_number_;
  peer.sequence = 0;
}

void ZmqMesh::Impl::set_peers(const std::vector<PeerAddress>& peers) {
  access_.set(peers, options_.self);
  std::map<Pnn, std::string> wanted;
  for (const PeerAddress& peer : peers) {
    if (peer.pnn != options_.self) wanted[peer.pnn] = canonical_address(peer.address).value_or(peer.address);
  }
  std::erase_if(peers_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    disconnect(*entry.second);
    return true;
  });
  for (const auto& [pnn, address] : wanted) {
    auto& slot = peers_[pnn];
    if (slot && slot->address == address) continue;
    if (slot) {
      disconnect(*slot);
      slot->connection = ++next_number_;  // what was queued is lost and shows as a gap
    } else {
      slot = std::make_unique<Peer>();
      slot->pnn = pnn;
      begin_session(*slot);
    }
    slot->address = address;
    connect(*slot);
  }
}

void ZmqMesh::Impl::reset_peer(Pnn pnn) {
  Peer* peer = find(pnn);
  if (peer == nullptr) return;
  disconnect(*peer);
  peer->connection = ++next_number_;
  connect(*peer);
}

void ZmqMesh::Impl::note_incarnation(Pnn pnn, Incarnation incarnation) {
  Peer* peer = find(pnn);
  if (peer == nullptr || incarnation <= peer->incarnation) return;
  const bool first = peer->incarnation == 0;
  peer->incarnation = incarnation;
  if (first) return;  // what is queued is meant for whoever runs there
  disconnect(*peer);
  begin_session(*peer);
  connect(*peer);
}

// ---- sending ----

void ZmqMesh::Impl::send(Pnn to, MessageKind kind, Bytes body) {
  TDBMESH_CHECK(to != options_.self);
  Peer* peer = find(to);
  if (peer == nullptr) {
    ++statistics.dropped_unknown;
    return;
  }
  ++peer->sequence;
  Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(kind);
  envelope.from = options_.self;
  envelope.incarnation = options_.incarnation;
  envelope.session = peer->session;
  envelope.connection = peer->connection;
  envelope.sequence = peer->sequence;
  if (body.size() > kMostMessageBytes || !put(*peer, envelope, std::move(body))) {
    drop(*peer);
    return;
  }
  ++statistics.sent;
}

void ZmqMesh::Impl::drop(Peer& peer) {
  ++statistics.dropped_full;
  peer.owes_counts = true;
  peer.gap_pending = true;
  pending_ = true;
  wake();
}

// False if the message could not be queued.
bool ZmqMesh::Impl::put(Peer& peer, const Envelope& envelope, Bytes body) {
  if (peer.sender == nullptr) return false;
  const bool tracked = body.size() > kCopyLimit;
  if (tracked && peer.queued_bytes->load(std::memory_order_relaxed) + body.size() > options_.most_queued_bytes) return false;
  const Bytes header = encode_envelope(envelope);
  if (zmq_send(peer.sender, header.data(), header.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
    refresh(peer.sender);
    if (zmq_send(peer.sender, header.data(), header.size(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) return false;
  }
  Message message;
  if (tracked) {
    auto held = std::make_unique<HeldBody>(HeldBody{std::move(body), peer.queued_bytes});
    held->account->fetch_add(held->body.size(), std::memory_order_relaxed);
    char* data = held->body.data();
    const std::size_t size = held->body.size();
    if (zmq_msg_init_data(&message.raw, data, size, release_body, held.get()) != 0) {
      release_body(nullptr, held.release());
      zmq_msg_init(&message.raw);
    } else {
      held.release();
    }
  } else if (!body.empty() && zmq_msg_init_size(&message.raw, body.size()) == 0) {
    std::memcpy(zmq_msg_data(&message.raw), body.data(), body.size());
  }
  return zmq_msg_send(&message.raw, peer.sender, ZMQ_DONTWAIT) >= 0;
}

// Tells a peer how much was sent to it, where a tail may have been lost.
void ZmqMesh::Impl::settle_debts() {
  const Instant now = boot_time_now();
  Instant next = kNever;
  for (auto& [pnn, peer] : peers_) {
    if (peer->recreate_at <= now) {
      disconnect(*peer);
      peer->connection = ++next_number_;
      connect(*peer);
    }
    if (peer->owes_counts) {
      Envelope envelope;
      envelope.from = options_.self;
      envelope.incarnation = options_.incarnation;
      envelope.session = peer->session;
      envelope.connection = peer->connection;
      envelope.sequence = peer->sequence;
      peer->owes_counts = !put(*peer, envelope, {});
      if (peer->owes_counts) next = std::min(next, now + kCountsRetry);
    }
    next = std::min(next, peer->recreate_at);
  }
  if (next == timer_at_) return;
  timer_at_ = next;
  itimerspec when{};
  if (next != kNever) {
    const auto wait = std::max<std::int64_t>(1, (next - now).count());
    when.it_value.tv_sec = wait / 1'000'000;
    when.it_value.tv_nsec = (wait % 1'000'000) * 1000;
  }
  timerfd_settime(timer_fd_, 0, &when, nullptr);
}

// ---- connection events ----

void ZmqMesh::Impl::on_connection_event(Peer& peer) {
  while (peer.monitor != nullptr) {
    Message event;
    if (zmq_msg_recv(&event.raw, peer.monitor, ZMQ_DONTWAIT) < 0) return;
    const BytesView bytes = event.view();
    std::uint16_t what = 0;
    std::uint32_t value = 0;
    if (bytes.size() >= sizeof what + sizeof value) {
      std::memcpy(&what, bytes.data(), sizeof what);
      std::memcpy(&value, bytes.data() + sizeof what, sizeof value);
    }
    if (zmq_msg_more(&event.raw) != 0) {
      Message endpoint;
      zmq_msg_recv(&endpoint.raw, peer.monitor, ZMQ_DONTWAIT);
    }
    switch (what) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        peer.connected = true;
        peer.reset_told = false;
        peer.owes_counts = true;
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: peer.handshake_failed = handshake_failure(value); break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: peer.handshake_failed = "the node there does not let us in"; break;
      case ZMQ_EVENT_DISCONNECTED:
        if (peer.handshake_failed) {
          if (const auto line = filter_.line({peer.address, *peer.handshake_failed, true}, boot_time_now())) report(*line);
          peer.handshake_failed.reset();
        }
        // After some protocol errors ZeroMQ gives a connection up for good. Unless it shows signs of trying
        // again, begin anew.
        peer.recreate_at = boot_time_now() + kRecreateAfter;
        [[fallthrough]];
      case ZMQ_EVENT_CLOSED:  // refused, or no answer
        if (what == ZMQ_EVENT_CLOSED) peer.recreate_at = kNever;
        peer.connected = false;
        if (!peer.reset_told) {
          peer.reset_told = true;
          peer.reset_pending = true;
          pending_ = true;
        }
        break;
      case ZMQ_EVENT_CONNECTED:
      case ZMQ_EVENT_CONNECT_DELAYED:
      case ZMQ_EVENT_CONNECT_RETRIED: peer.recreate_at = kNever; break;
      default: break;
    }
  }
}

// ---- receiving ----

void ZmqMesh::Impl::receive() {
  std::size_t bytes = 0;
  for (int count = 0; count < kMostMessagesPerTurn && bytes < kMostBytesPerTurn; ++count) {
    Message header;
    Message body;
    if (zmq_msg_recv(&header.raw, receiver_, ZMQ_DONTWAIT) < 0) {
      more_to_receive_ = false;
      return;
    }
    bool two_frames = zmq_msg_more(&header.raw) != 0 && zmq_msg_recv(&body.raw, receiver_, ZMQ_DONTWAIT) >= 0;
    if (two_frames && zmq_msg_more(&body.raw) != 0) {
      two_frames = false;
      int more = 1;
      while (more != 0) {
        Message surplus;
        if (zmq_msg_recv(&surplus.raw, receiver_, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(&surplus.raw);
      }
    }
    bytes += zmq_msg_size(&body.raw);
    if (!two_frames || !accept(header, body.view())) ++statistics.dropped_malformed;
  }
  more_to_receive_ = true;
  wake();
}

// False if the message is malformed. Everything else is dealt with here.
bool ZmqMesh::Impl::accept(Message& header, BytesView body) {
  // Who it is says the connection; the rest of the header is the sender's word.
  const std::string user = message_property(&header.raw, "User-Id");
  const std::string address = message_property(&header.raw, "Peer-Address");
  const auto envelope = decode_envelope(header.view());
  const auto complain = [&](const char* what) {
    if (const auto line = drop_filter_.line({address, what, false}, boot_time_now())) report("dropped a message: " + *line);
  };
  if (!envelope) {
    complain("it sent a malformed envelope");
    return false;
  }
  Peer* peer = find(envelope->from);
  if (peer == nullptr || user != to_string(envelope->from) ||
      (address != peer->address && canonical_address(address) != peer->address)) {
    ++statistics.dropped_forged;
    complain("it names another sender than the connection belongs to");
    return true;
  }
  const Pnn from = peer->pnn;
  if (envelope->incarnation < peer->from_incarnation) {
    ++statistics.dropped_stale;
    return true;
  }
  bool gap = false;
  if (envelope->incarnation > peer->from_incarnation) {
    peer->from_incarnation = envelope->incarnation;
    peer->from_session = peer->from_connection = peer->from_sequence = peer->told_missing = 0;
    peer->behind_since = kNever;
    note_incarnation(from, envelope->incarnation);
  }
  if (envelope->session < peer->from_session || envelope->connection < peer->from_connection) {
    ++statistics.dropped_stale;
    return true;
  }
  if (envelope->session > peer->from_session) {
    // The first contact of two lives, or else the sender forgot that it knew us: what it sent before is
    // not accounted for.
    gap = peer->from_session != 0;
    peer->from_session = envelope->session;
    peer->from_sequence = peer->told_missing = 0;
  }
  peer->from_connection = envelope->connection;
  const bool counts_only = envelope->kind == Envelope::kCounts;
  if (!counts_only && envelope->sequence <= peer->from_sequence) {
    ++statistics.dropped_stale;
    return true;
  }
  gap = gap || envelope->sequence > peer->from_sequence + (counts_only ? 0 : 1);
  peer->from_sequence = std::max(peer->from_sequence, envelope->sequence);
  // From here on the listener may change anything: `peer` is not used again.
  if (gap) {
    ++statistics.gaps;
    listener_.on_gap(from);
  }
  if (!counts_only) {
    ++statistics.received;
    listener_.on_message(from, envelope->incarnation, static_cast<MessageKind>(envelope->kind), body);
  }
  return true;
}

// ---- counts ----

LinkCount ZmqMesh::Impl::sent_count(Pnn to) const {
  const auto found = peers_.find(to);
  return found == peers_.end() ? LinkCount{} : LinkCount{found->second->session, found->second->sequence};
}

LinkCount ZmqMesh::Impl::received_count(Pnn from) const {
  const auto found = peers_.find(from);
  return found == peers_.end() ? LinkCount{} : LinkCount{found->second->from_session, found->second->from_sequence};
}

void ZmqMesh::Impl::check_counts(Pnn pnn, Incarnation incarnation, LinkCount said, Instant now) {
  Peer* peer = find(pnn);
  if (peer == nullptr || incarnation < peer->from_incarnation) return;
  if (incarnation == peer->from_incarnation && said.session < peer->from_session) return;
  const bool same = incarnation == peer->from_incarnation && said.session == peer->from_session;
  const std::uint64_t arrived = same ? peer->from_sequence : 0;
  if (said.sent <= arrived || (same && said.sent <= peer->told_missing)) {
    peer->behind_since = kNever;
    return;
  }
  // As long as something arrives the rest may be on its way.
  if (peer->behind_since == kNever || peer->behind_at != arrived) {
    peer->behind_since = now;
    peer->behind_at = arrived;
  }
  if (now - peer->behind_since < kCountsPatience) return;
  peer->behind_since = kNever;
  if (same) peer->told_missing = said.sent;
  peer->gap_pending = true;
  pending_ = true;
  wake();
}

// ---- the loop's turn ----

void ZmqMesh::Impl::tell_pending() {
  std::vector<Rejection> rejections;
  {
    const std::lock_guard lock(rejections_mutex_);
    rejections.swap(rejections_);
    statistics.rejected = rejected_;
  }
  for (const Rejection& rejection : rejections) {
    if (const auto line = filter_.line(rejection, boot_time_now())) report(*line);
  }
  if (!pending_) return;
  pending_ = false;
  std::vector<Pnn> gaps;
  std::vector<Pnn> resets;
  for (auto& [pnn, peer] : peers_) {
    if (std::exchange(peer->gap_pending, false)) gaps.push_back(pnn);
    if (std::exchange(peer->reset_pending, false)) resets.push_back(pnn);
  }
  for (const Pnn pnn : resets) listener_.on_reset(pnn);
  for (const Pnn pnn : gaps) {
    ++statistics.gaps;
    listener_.on_gap(pnn);
  }
}

void ZmqMesh::Impl::process() {
  std::array<epoll_event, 64> events{};
  const int count = epoll_wait(epoll_fd, events.data(), static_cast<int>(events.size()), 0);
  bool look_everywhere = false;
  bool receive_now = more_to_receive_;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    if (tag == kTagWake || tag == kTagTimer) {
      std::uint64_t ignored = 0;
      (void)!::read(tag == kTagWake ? wake_fd_ : timer_fd_, &ignored, sizeof ignored);
      if (tag == kTagTimer) timer_at_ = kNever;
      look_everywhere = true;
    } else if (tag == kTagReceiver) {
      receive_now = true;
    } else if (Peer* peer = find(Pnn{static_cast<std::uint32_t>(tag)})) {
      on_connection_event(*peer);
    }
  }
  if (look_everywhere) {
    for (auto& [pnn, peer] : peers_) on_connection_event(*peer);
  }
  tell_pending();
  if (receive_now) receive();
  settle_debts();
}

// ---- the face ----

Result<std::unique_ptr<ZmqMesh>> ZmqMesh::open(MeshOptions options, LinkListener& listener) {
  auto impl = std::make_unique<Impl>(std::move(options), listener);
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<ZmqMesh>(new ZmqMesh(std::move(impl)));
}

ZmqMesh::ZmqMesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqMesh::~ZmqMesh() = default;
void ZmqMesh::send(Pnn to, MessageKind kind, Bytes body) { impl_->send(to, kind, std::move(body)); }
int ZmqMesh::ready_fd() const { return impl_->epoll_fd; }
void ZmqMesh::process() { impl_->process(); }
void ZmqMesh::note_incarnation(Pnn peer, Incarnation incarnation) { impl_->note_incarnation(peer, incarnation); }
void ZmqMesh::reset_peer(Pnn peer) { impl_->reset_peer(peer); }
void ZmqMesh::set_peers(const std::vector<PeerAddress>& peers) { impl_->set_peers(peers); }
LinkCount ZmqMesh::sent_count(Pnn to) const { return impl_->sent_count(to); }
LinkCount ZmqMesh::received_count(Pnn from) const { return impl_->received_count(from); }
void ZmqMesh::check_counts(Pnn peer, Incarnation incarnation, LinkCount said, Instant now) {
  impl_->check_counts(peer, incarnation, said, now);
}
const MeshStatistics& ZmqMesh::statistics() const { return impl_->statistics; }

}  // namespace tdbmesh
