#include "transport/mesh.h"

#include <map>
#include <utility>

#include "db/base/check.h"
#include "transport/access_list.h"
#include "transport/envelope.h"
#include "transport/zmtp_receiver.h"
#include "transport/zmtp_sender.h"

namespace tdbmesh {
namespace {

constexpr Duration kCountsRetry = milliseconds(20);

}  // namespace

class Mesh::Impl final : public ZmtpSender::Listener, public ZmtpReceiver::Listener {
 public:
  Impl(EventLoop& loop, MeshOptions options, LinkListener& listener)
      : loop_(loop), options_(std::move(options)), listener_(listener), buffer_(ZmtpConnection::kReadBuffer) {}
  ~Impl() override {
    *alive_ = false;
    loop_.cancel(settle_again_);
  }
  Result<> start();

  void send(Pnn to, MessageKind kind, Bytes body);
  void note_incarnation(Pnn pnn, Incarnation incarnation);
  void reset_peer(Pnn pnn);
  void set_peers(const std::vector<PeerAddress>& peers);
  [[nodiscard]] LinkCount sent_count(Pnn to) const;
  [[nodiscard]] LinkCount received_count(Pnn from) const;
  void check_counts(Pnn pnn, Incarnation incarnation, LinkCount said, Instant now);

  MeshStatistics statistics;

 private:
  struct Peer {
    Pnn pnn{};
    std::string address;
    std::unique_ptr<ZmtpSender> sender;
    Incarnation incarnation = 0;  // newest known of the peer
    std::uint64_t session = 0;
    std::uint64_t connection = 0;
    std::uint64_t sequence = 0;
    bool owes_counts = false;  // a tail may have been lost: the peer is to be told how much was sent
    bool reset_told = false;   // since it was last connected
    Arrivals arrivals;
    // To be told to the listener.
    bool gap_pending = false;
    std::optional<Incarnation> reset_pending;  // the life that was over
  };

  void on_connected(ZmtpSender& sender) override;
  void on_disconnected(ZmtpSender& sender, bool reset) override;
  void on_turned_away(ZmtpSender& sender, const std::string& why) override;
  void on_message(Pnn from, const std::string& address, BytesView message) override;
  void on_refused(const Rejection& rejection) override;

  Peer* find(Pnn pnn) {
    const auto found = peers_.find(pnn);
    return found == peers_.end() ? nullptr : found->second.get();
  }
  Peer* find(const ZmtpSender& sender);
  void connect(Peer& peer);
  void begin_session(Peer& peer);
  [[nodiscard]] Envelope envelope_for(const Peer& peer, std::uint16_t kind) const;
  void settle_counts();
  void tell_later();
  void tell_pending();
  void report(RejectionFilter& filter, const Rejection& rejection, const char* prefix = "") {
    if (const auto line = filter.line(rejection, loop_.now()); line && options_.report) options_.report(prefix + *line);
  }

  EventLoop& loop_;
  MeshOptions options_;
  LinkListener& listener_;
  ZmtpConnection::ReadBuffer buffer_;
  std::optional<zmtp::CurvePair> key_;
  AccessList access_;
  std::map<Pnn, std::unique_ptr<Peer>> peers_;
  std::unique_ptr<ZmtpReceiver> receiver_;
  std::uint64_t next_number_ = 0;  // sessions and connections of all peers: only grows
  EventLoop::Timer settle_again_;
  bool telling_ = false;  // tell_pending() is on its way
  RejectionFilter refusals_;
  RejectionFilter drops_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // false once destroyed: deferred tasks look first
};

Result<> Mesh::Impl::start() {
  TDBMESH_CHECK(options_.incarnation != 0);
  if (options_.key) key_ = curve_pair(*options_.key);
  access_.set(options_.peers, options_.self);
  ReceiverConfig door;
  door.address = options_.address;
  door.port = options_.port;
  door.key = key_;
  door.most_bytes = kMostMessageBytes + kMostEnvelopeBytes;
  auto receiver = ZmtpReceiver::open(loop_, std::move(door), access_, buffer_, *this);
  if (!receiver) return tl::unexpected(receiver.error());
  receiver_ = std::move(*receiver);
  set_peers(options_.peers);
  return {};
}

// ---- peers ----

void Mesh::Impl::connect(Peer& peer) {
  peer.owes_counts = false;  // once connected they are due anyway
  if (peer.sender && peer.sender->peer() == peer.address) return peer.sender->restart();
  SenderConfig config;
  config.own = options_.address;
  config.peer = peer.address;
  config.port = options_.port;
  config.key = key_;
  config.most_queued_messages = options_.most_queued_messages;
  config.most_queued_bytes = options_.most_queued_bytes;
  peer.sender = std::make_unique<ZmtpSender>(loop_, std::move(config), buffer_, *this);
}

void Mesh::Impl::begin_session(Peer& peer) {
  peer.session = ++next_number_;
  peer.connection = ++next_number_;
  peer.sequence = 0;
}

void Mesh::Impl::set_peers(const std::vector<PeerAddress>& peers) {
  access_.set(peers, options_.self);
  receiver_->recheck();
  const std::map<Pnn, std::string> wanted = addresses_of_others(peers, options_.self);
  std::erase_if(peers_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  for (const auto& [pnn, address] : wanted) {
    auto& slot = peers_[pnn];
    if (slot && slot->address == address) continue;
    if (slot) {
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

void Mesh::Impl::reset_peer(Pnn pnn) {
  Peer* peer = find(pnn);
  if (peer == nullptr) return;
  peer->connection = ++next_number_;
  connect(*peer);
}

void Mesh::Impl::note_incarnation(Pnn pnn, Incarnation incarnation) {
  Peer* peer = find(pnn);
  if (peer == nullptr || incarnation <= peer->incarnation) return;
  const bool first = peer->incarnation == 0;
  peer->incarnation = incarnation;
  if (first) return;  // what is queued is meant for whoever runs there
  begin_session(*peer);
  connect(*peer);
}

Mesh::Impl::Peer* Mesh::Impl::find(const ZmtpSender& sender) {
  for (auto& [pnn, peer] : peers_) {
    if (peer->sender.get() == &sender) return peer.get();
  }
  return nullptr;
}

// ---- sending ----

Envelope Mesh::Impl::envelope_for(const Peer& peer, std::uint16_t kind) const {
  Envelope envelope;
  envelope.kind = kind;
  envelope.from = options_.self;
  envelope.incarnation = options_.incarnation;
  envelope.session = peer.session;
  envelope.connection = peer.connection;
  envelope.sequence = peer.sequence;
  return envelope;
}

void Mesh::Impl::send(Pnn to, MessageKind kind, Bytes body) {
  TDBMESH_CHECK(to != options_.self);
  Peer* peer = find(to);
  if (peer == nullptr) {
    ++statistics.dropped_unknown;
    return;
  }
  ++peer->sequence;
  const Bytes header = encode_envelope(envelope_for(*peer, static_cast<std::uint16_t>(kind)));
  if (body.size() <= kMostMessageBytes && peer->sender->put(header, std::move(body))) {
    ++statistics.sent;
    return;
  }
  ++statistics.dropped_full;
  peer->owes_counts = true;
  peer->gap_pending = true;
  tell_later();
}

// Tells peers how much was sent to them, where a tail may have been lost.
void Mesh::Impl::settle_counts() {
  bool again = false;
  for (auto& [pnn, peer] : peers_) {
    if (!peer->owes_counts) continue;
    peer->owes_counts = !peer->sender->put(encode_envelope(envelope_for(*peer, Envelope::kCounts)), {});
    again = again || peer->owes_counts;
  }
  loop_.cancel(settle_again_);
  if (again) settle_again_ = loop_.after(kCountsRetry, [this] { settle_counts(); });
}

void Mesh::Impl::on_connected(ZmtpSender& sender) {
  Peer* peer = find(sender);
  if (peer == nullptr) return;
  peer->reset_told = false;
  peer->owes_counts = true;
  settle_counts();
}

void Mesh::Impl::on_disconnected(ZmtpSender& sender, bool reset) {
  Peer* peer = find(sender);
  if (peer == nullptr || !reset || std::exchange(peer->reset_told, true)) return;
  peer->reset_pending = peer->incarnation;
  tell_later();
}

void Mesh::Impl::on_turned_away(ZmtpSender& sender, const std::string& why) {
  report(refusals_, {sender.peer(), why, true});
}

// ---- receiving ----

void Mesh::Impl::on_refused(const Rejection& rejection) {
  ++statistics.rejected;
  report(refusals_, rejection);
}

void Mesh::Impl::on_message(Pnn caller, const std::string& address, BytesView message) {
  const auto complain = [&](const char* what) { report(drops_, {address, what, false}, "dropped a message: "); };
  // Who it is says the connection; the rest of the header is the sender's word.
  const auto envelope = take_envelope(message);
  if (!envelope) {
    ++statistics.dropped_malformed;
    return complain("it sent a malformed envelope");
  }
  Peer* peer = find(caller);
  if (peer == nullptr || envelope->from != caller) {
    ++statistics.dropped_forged;
    return complain("it names another sender than the connection belongs to");
  }
  const Arrivals::Verdict verdict = peer->arrivals.take(*envelope);
  if (verdict.new_life) note_incarnation(caller, envelope->incarnation);
  if (verdict.stale) {
    ++statistics.dropped_stale;
    return;
  }
  // From here on the listener may change anything: `peer` is not used again.
  if (verdict.gap) {
    ++statistics.gaps;
    listener_.on_gap(caller);
  }
  if (envelope->kind == Envelope::kCounts) return;
  ++statistics.received;
  listener_.on_message(caller, envelope->incarnation, static_cast<MessageKind>(envelope->kind), message);
}

// ---- counts ----

LinkCount Mesh::Impl::sent_count(Pnn to) const {
  const auto found = peers_.find(to);
  return found == peers_.end() ? LinkCount{} : LinkCount{found->second->session, found->second->sequence};
}

LinkCount Mesh::Impl::received_count(Pnn from) const {
  const auto found = peers_.find(from);
  return found == peers_.end() ? LinkCount{} : found->second->arrivals.count();
}

void Mesh::Impl::check_counts(Pnn pnn, Incarnation incarnation, LinkCount said, Instant now) {
  Peer* peer = find(pnn);
  if (peer == nullptr || !peer->arrivals.is_behind(incarnation, said, now)) return;
  peer->gap_pending = true;
  tell_later();
}

// ---- the listener ----

void Mesh::Impl::tell_later() {
  if (std::exchange(telling_, true)) return;
  loop_.defer([this, alive = alive_] {
    if (*alive) tell_pending();
  });
}

void Mesh::Impl::tell_pending() {
  telling_ = false;
  settle_counts();
  std::vector<Pnn> gaps;
  std::vector<std::pair<Pnn, Incarnation>> resets;
  for (auto& [pnn, peer] : peers_) {
    if (std::exchange(peer->gap_pending, false)) gaps.push_back(pnn);
    if (const auto life = std::exchange(peer->reset_pending, std::nullopt)) resets.emplace_back(pnn, *life);
  }
  for (const auto& [pnn, life] : resets) listener_.on_reset(pnn, life);
  for (const Pnn pnn : gaps) {
    ++statistics.gaps;
    listener_.on_gap(pnn);
  }
}

// ---- the face ----

Result<std::unique_ptr<Mesh>> Mesh::open(EventLoop& loop, MeshOptions options, LinkListener& listener) {
  auto impl = std::make_unique<Impl>(loop, std::move(options), listener);
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Mesh>(new Mesh(std::move(impl)));
}

Mesh::Mesh(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Mesh::~Mesh() = default;
void Mesh::send(Pnn to, MessageKind kind, Bytes body) { impl_->send(to, kind, std::move(body)); }
void Mesh::note_incarnation(Pnn peer, Incarnation incarnation) { impl_->note_incarnation(peer, incarnation); }
void Mesh::reset_peer(Pnn peer) { impl_->reset_peer(peer); }
void Mesh::set_peers(const std::vector<PeerAddress>& peers) { impl_->set_peers(peers); }
LinkCount Mesh::sent_count(Pnn to) const { return impl_->sent_count(to); }
LinkCount Mesh::received_count(Pnn from) const { return impl_->received_count(from); }
void Mesh::check_counts(Pnn peer, Incarnation incarnation, LinkCount said, Instant now) {
  impl_->check_counts(peer, incarnation, said, now);
}
const MeshStatistics& Mesh::statistics() const { return impl_->statistics; }

}  // namespace tdbmesh
