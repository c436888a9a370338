#include "transport/heartbeat_core.h"

#include <algorithm>

#include "db/base/pack.h"
#include "db/base/plants.h"

namespace tdbmesh {
namespace {

constexpr std::uint64_t kHeartbeatKind = 1;
constexpr std::uint64_t kAnswerKind = 2;
constexpr std::uint64_t kFencedKind = 3;
constexpr std::int64_t kMaxMicros = std::int64_t{1} << 56;  // 2000 years: keeps sums of times in range

std::uint64_t micros(Duration d) { return d.count() < 0 ? 0 : static_cast<std::uint64_t>(d.count()); }
Duration read_micros(Unpacker& in) {
  const std::uint64_t value = in.u64();
  if (value > static_cast<std::uint64_t>(kMaxMicros)) {
    in.fail();
    return Duration{0};
  }
  return Duration(static_cast<std::int64_t>(value));
}
void expect_array(Unpacker& in, std::size_t count) {
  if (in.array(count) != count) in.fail();
}

// How fast two clocks may drift apart: 2 rho and a little.
Duration drift(Duration elapsed) { return elapsed * 21 / 1000; }

}  // namespace

Bytes encode(const Heartbeat& m) {
  Packer out;
  out.array(10).u64(kHeartbeatVersion).u64(kHeartbeatKind).pnn(m.from).u64(m.incarnation).u64(m.seq);
  out.u64(micros(m.sent.time_since_epoch()));
  out.array(2).u64(micros(m.loop_age)).flag(m.stalled);
  out.array(2).u64(m.link.session).u64(m.link.sent);
  out.array(m.hears.size());
  for (const Pnn p : m.hears) out.pnn(p);
  const Announcement& a = m.said;
  out.array(18).u64(a.term).generation(a.installed).generation(a.accepted).generation(a.persisted_installed);
  out.flag(a.leading).flag(a.fresh).pnn(a.leader).u64(a.flags).u64(a.capabilities).u64(a.config_epoch);
  out.u64(a.file_digest).u64(a.version).u64(micros(a.uptime)).u64(a.rests_on_lock ? 1 : 0);
  out.array(a.addresses.size());
  for (const std::string& text : a.addresses) out.bytes(text);
  // 1 + 6 + 10 numbers and the list of addresses.
  return std::move(out).take();
}

Bytes encode(const HeartbeatAnswer& m) {
  Packer out;
  out.array(10).u64(kHeartbeatVersion).u64(kAnswerKind).pnn(m.from).u64(m.incarnation).u64(m.asker).u64(m.seq);
  out.u64(micros(m.sent.time_since_epoch())).u64(m.term).flag(m.supported).flag(m.follows);
  return std::move(out).take();
}

Bytes encode(const Fenced& m) {
  Packer out;
  // As long as the others, so that one check of the count does for all.
  out.array(10).u64(kHeartbeatVersion).u64(kFencedKind).pnn(m.from).u64(m.incarnation);
  for (int reserved = 0; reserved < 6; ++reserved) out.u64(0);
  return std::move(out).take();
}

Result<HeartbeatPacket> decode_heartbeat_packet(BytesView bytes) {
  Unpacker in(bytes);
  expect_array(in, 10);
  if (in.u64() != kHeartbeatVersion) in.fail();
  const std::uint64_t kind = in.u64();
  HeartbeatPacket packet;
  if (kind == kHeartbeatKind) {
    Heartbeat m;
    m.from = in.pnn();
    m.incarnation = in.u64();
    m.seq = in.u64();
    m.sent = Instant(read_micros(in));
    expect_array(in, 2);
    m.loop_age = read_micros(in);
    m.stalled = in.flag();
    expect_array(in, 2);
    m.link.session = in.u64();
    m.link.sent = in.u64();
    const std::size_t hears = in.array(kMaxPeers);
    for (std::size_t i = 0; i < hears && in.ok(); ++i) m.hears.push_back(in.pnn());
    expect_array(in, 18);
    Announcement& a = m.said;
    a.term = in.u64();
    a.installed = in.generation();
    a.accepted = in.generation();
    a.persisted_installed = in.generation();
    a.leading = in.flag();
    a.fresh = in.flag();
    a.leader = in.pnn();
    a.flags = in.u32();
    a.capabilities = in.u32();
    a.config_epoch = in.u64();
    a.file_digest = in.u64();
    a.version = in.u32();
    a.uptime = read_micros(in);
    a.rests_on_lock = in.u64() != 0;
    const std::size_t addresses = in.array(kMaxAddressesHeld);
    for (std::size_t i = 0; i < addresses && in.ok(); ++i) {
      const BytesView text = in.bytes();
      if (text.size() > kMaxAddressText) in.fail();
      a.addresses.emplace_back(text);
    }
    packet.heartbeat = std::move(m);
  } else if (kind == kAnswerKind) {
    HeartbeatAnswer m;
    m.from = in.pnn();
    m.incarnation = in.u64();
    m.asker = in.u64();
    m.seq = in.u64();
    m.sent = Instant(read_micros(in));
    m.term = in.u64();
    m.supported = in.flag();
    m.follows = in.flag();
    packet.answer = m;
  } else if (kind == kFencedKind) {
    Fenced m;
    m.from = in.pnn();
    m.incarnation = in.u64();
    for (int reserved = 0; reserved < 6; ++reserved) (void)in.u64();
    packet.fenced = m;
  } else {
    in.fail();
  }
  if (!in.finished()) return failure(Fault::Malformed, "a heartbeat that does not decode");
  return packet;
}

const PeerHeartbeats* HeartbeatTable::peer(Pnn pnn) const {
  for (const PeerHeartbeats& p : peers) {
    if (p.pnn == pnn) return &p;
  }
  return nullptr;
}

HeartbeatCore::HeartbeatCore(Pnn self, Incarnation incarnation, std::vector<Pnn> peers, const Timing& timing,
                             Instant now)
    : self_(self), incarnation_(incarnation), timing_(timing), loop_progress_at_(now), last_active_(now) {
  set_peers(std::move(peers), now);
}

void HeartbeatCore::set_peers(std::vector<Pnn> peers, Instant now) {
  std::map<Pnn, Peer> next;
  for (const Pnn pnn : peers) {
    if (pnn == self_) continue;
    const auto known = peers_.find(pnn);
    if (known != peers_.end()) {
      next.emplace(pnn, std::move(known->second));
      continue;
    }
    Peer fresh;
    fresh.seen.pnn = pnn;
    // An earlier life may have supported it just before it ended [ce 6].
    fresh.seen.last_supported = now;
    next.emplace(pnn, std::move(fresh));
  }
  peers_ = std::move(next);
}

void HeartbeatCore::permit_gate() {
  if (permitted_) return;
  close_gate();  // forgets support that was asked for before the permission
  permitted_ = true;
}

void HeartbeatCore::close_gate() {
  permitted_ = false;
  gate_until_ = Instant::min();
  for (auto& [pnn, peer] : peers_) {
    peer.supported_sent = Instant::min();
    // Answers to what was asked before must not count after a new permission.
    peer.sent.clear();
  }
}

void HeartbeatCore::note_loop_progress(std::uint64_t counter, Instant now) {
  if (counter == loop_counter_) return;
  loop_counter_ = counter;
  loop_progress_at_ = std::max(loop_progress_at_, now);
}

void HeartbeatCore::set_link_count(Pnn pnn, LinkCount count) {
  const auto peer = peers_.find(pnn);
  if (peer != peers_.end()) peer->second.link_out = count;
}

HeartbeatTable HeartbeatCore::snapshot(Instant now) const {
  HeartbeatTable table;
  table.at = now;
  table.support_serial = support_.serial;
  table.gate_until = gate_until_;
  table.stalled = stalled(now);
  table.clock_jumps = clock_jumps_;
  table.longest_pause = longest_pause_;
  table.peers.reserve(peers_.size());
  for (const auto& [pnn, peer] : peers_) {
    table.peers.push_back(peer.seen);
    if (planted(Plant::CallDeadEarly)) table.peers.back().silent_since -= timing_.silence / 3;
  }
  return table;
}

// What happened while this thread did not run was not seen by it, so nobody is judged by that time. Peers that
// were lost before stay lost.
void HeartbeatCore::notice_pause(Instant now) {
  const Duration gap = now - last_active_;
  longest_pause_ = std::max(longest_pause_, gap);
  if (gap > timing_.silence / 2) {
    heard_again_by_ = now + timing_.silence;
    for (auto& [pnn, peer] : peers_) {
      const bool lost_before = last_active_ - peer.seen.silent_since >= timing_.silence;
      if (peer.seen.incarnation != 0 && !lost_before) peer.seen.silent_since = now;
    }
  }
  last_active_ = std::max(last_active_, now);
}

// A delayed message makes the peer's clock look late, never early. So if it looks early by more than a lease,
// compared with what was seen before, the own clock stood still meanwhile: the lease cannot be trusted.
void HeartbeatCore::notice_clock(Peer& peer, Instant peer_sent, Instant now) {
  const Duration offset = peer_sent - now;
  if (peer.clock_offset) {
    const Duration slack = drift(now - peer.clock_seen);
    if (offset > *peer.clock_offset + timing_.lease + slack) {
      ++clock_jumps_;
      close_gate();
    }
    peer.clock_offset = std::max(offset, *peer.clock_offset - slack);
  } else {
    peer.clock_offset = offset;
  }
  peer.clock_seen = now;
}

void HeartbeatCore::sign_of_life(Peer& peer, Instant now) {
  PeerHeartbeats& seen = peer.seen;
  if (seen.last_heard != Instant{} && now - seen.silent_since < timing_.silence) {
    seen.largest_gap = std::max(seen.largest_gap, Duration(now - seen.silent_since));
  }
  seen.last_heard = now;
  seen.silent_since = now;
}

bool HeartbeatCore::supports(Pnn who, Incarnation incarnation, Generation installed) const {
  const auto entry = support_.entries.find(who);
  if (entry == support_.entries.end() || entry->second.incarnation != incarnation) return false;
  // Membership alone is not enough: it may still hold the records of an older join [ce 5].
  return hooks_.support_ignores_join || planted(Plant::SupportIgnoresJoin) || installed >= entry->second.min_installed;
}

Instant HeartbeatCore::tick(Instant now, std::vector<OutgoingHeartbeat>& out) {
  notice_pause(now);
  ticked_ = now;
  beat(now, Duration::zero(), out);
  renew_gate(now);
  return beat_due();
}

Instant HeartbeatCore::beat_due() const {
  if (peers_.empty()) return ticked_ + timing_.heartbeat;  // the gate of a node alone is renewed all the same
  Instant due = kNever;
  for (const auto& [pnn, peer] : peers_) due = std::min(due, peer.beat_due);
  return due;
}

// To every peer whose beat is due, or will be within `early`.
void HeartbeatCore::beat(Instant now, Duration early, std::vector<OutgoingHeartbeat>& out) {
  std::vector<Pnn> hears;
  for (const auto& [pnn, peer] : peers_) {
    if (peer.seen.incarnation != 0 && now - peer.seen.silent_since < timing_.silence) hears.push_back(pnn);
  }
  for (auto& [pnn, peer] : peers_) {
    if (now < peer.beat_due - early) continue;
    if (now < peer.beat_due) {
      peer.beat_due = now + timing_.heartbeat + timing_.heartbeat / 10;  // follows: see on_heartbeat
    } else {
      // Keep the beat: a late wake-up must not make the next one late too.
      peer.beat_due = (now < peer.beat_due + timing_.heartbeat ? peer.beat_due : now) + timing_.heartbeat;
    }
    Heartbeat m;
    m.from = self_;
    m.incarnation = incarnation_;
    m.seq = ++peer.seq;
    m.sent = now;
    m.loop_age = now - loop_progress_at_;
    m.stalled = stalled(now);
    m.link = peer.link_out;
    m.hears = hears;
    m.said = said_;
    peer.sent[m.seq] = now;
    while (!peer.sent.empty() && now - peer.sent.begin()->second > 2 * timing_.lease + timing_.silence) {
      peer.sent.erase(peer.sent.begin());
    }
    out.push_back({pnn, encode(m)});
  }
}

bool HeartbeatCore::on_bytes(Pnn from, BytesView bytes, Instant now, std::vector<OutgoingHeartbeat>& out) {
  notice_pause(now);
  const auto found = peers_.find(from);
  auto packet = decode_heartbeat_packet(bytes);
  if (!packet || found == peers_.end()) {
    ++malformed_;
    return false;
  }
  Peer& peer = found->second;
  if (packet->heartbeat) {
    if (packet->heartbeat->from != from) {
      ++malformed_;
      return false;
    }
    return on_heartbeat(peer, std::move(*packet->heartbeat), now, out);
  }
  if (packet->fenced) {
    // The word of the node's own supervisor, on an authenticated connection. Of a life before the present one it
    // says nothing new.
    const Fenced& m = *packet->fenced;
    if (m.from != from || m.incarnation == 0) {
      ++malformed_;
      return false;
    }
    if (m.incarnation < peer.seen.incarnation || m.incarnation <= peer.seen.fenced) return false;
    peer.seen.fenced = m.incarnation;
    return true;
  }
  if (packet->answer->from != from) {
    ++malformed_;
    return false;
  }
  return on_answer(peer, *packet->answer, now);
}

bool HeartbeatCore::on_heartbeat(Peer& peer, Heartbeat m, Instant now, std::vector<OutgoingHeartbeat>& out) {
  PeerHeartbeats& seen = peer.seen;
  if (m.incarnation == 0 || m.incarnation < seen.incarnation) return false;  // a life that is over
  const bool new_life = m.incarnation != seen.incarnation;
  if (new_life) {
    const Instant last_supported = seen.last_supported;  // counts for every life: the fence needs it
    const Incarnation fenced = seen.fenced;
    seen = PeerHeartbeats{};
    seen.fenced = fenced;
    seen.pnn = m.from;
    seen.incarnation = m.incarnation;
    seen.last_supported = last_supported;
    peer.supported_sent = Instant::min();
    peer.clock_offset.reset();
  } else if (m.seq <= seen.heartbeat_seq) {
    return false;  // late duplicate of an older connection
  }
  const bool was_silent = !new_life && now - seen.silent_since >= timing_.silence;
  sign_of_life(peer, now);
  notice_clock(peer, m.sent, now);
  const bool hears = std::find(m.hears.begin(), m.hears.end(), self_) != m.hears.end();
  // Who did not hear this node while it was paused will, soon.
  const bool hears_me = hears || (seen.hears_me && now < heard_again_by_);
  const auto matters = [](const Announcement& a) {
    return std::tuple(a.term, a.installed, a.accepted, a.leading, a.leader, a.flags, a.capabilities, a.config_epoch);
  };
  const bool news = new_life || was_silent || hears_me != seen.hears_me || m.stalled != seen.stalled ||
                    matters(m.said) != matters(seen.said) || m.hears != seen.hears;
  seen.heartbeat_seq = m.seq;
  seen.hears_me = hears_me;
  seen.hears = std::move(m.hears);
  seen.stalled = m.stalled;
  seen.loop_age = m.loop_age;
  seen.link = m.link;
  seen.term = std::max(seen.term, m.said.term);
  seen.said = std::move(m.said);

  HeartbeatAnswer answer;
  answer.from = self_;
  answer.incarnation = incarnation_;
  answer.asker = m.incarnation;
  answer.seq = m.seq;
  answer.sent = now;
  answer.term = said_.term;
  // A node whose own loop hangs says nothing that others rely on.
  const bool able = !m.stalled && !stalled(now);
  answer.supported = able && supports(seen.pnn, seen.incarnation, seen.said.installed);
  answer.follows = able && seen.said.leading && said_.leader == seen.pnn && said_.term == seen.said.term;
  if (answer.supported) seen.last_supported = now;
  out.push_back({seen.pnn, encode(answer)});
  // Own beats that are due soon go along, and the next ones wait a little longer than a beat for the next time: so
  // the nodes fall into step, and each wakes once for what would have been two wake-ups.
  if (!new_life) beat(now, timing_.heartbeat / 2, out);
  return news;
}

bool HeartbeatCore::on_answer(Peer& peer, const HeartbeatAnswer& m, Instant now) {
  PeerHeartbeats& seen = peer.seen;
  // The first sign of a life must be its heartbeat; an answer meant for an earlier life of ours proves nothing.
  if (m.incarnation != seen.incarnation || m.asker != incarnation_) return false;
  const bool was_silent = now - seen.silent_since >= timing_.silence;
  sign_of_life(peer, now);
  notice_clock(peer, m.sent, now);
  const bool news = was_silent || m.term > seen.term;
  seen.term = std::max(seen.term, m.term);
  const auto sent = peer.sent.find(m.seq);
  if (sent == peer.sent.end()) return news;
  // The promise runs from when it was asked for: its giver counts from a moment that is later still [ce 3].
  const Instant asked = hooks_.lease_from_arrival || planted(Plant::LeaseFromArrival) ? now : sent->second;
  if (m.supported) peer.supported_sent = std::max(peer.supported_sent, asked);
  if (m.follows) seen.last_followed = std::max(seen.last_followed, asked);
  const bool was_open = now < gate_until_;
  renew_gate(now);
  return news || (!was_open && now < gate_until_);
}

void HeartbeatCore::renew_gate(Instant now) {
  if (!permitted_ || stalled(now)) return;
  if (planted(Plant::InstallOpensGate) && gate_until_ == Instant::min()) gate_until_ = now + timing_.lease;
  std::vector<Instant> votes;
  for (const Pnn voter : voters_.voters) {
    if (voter == self_) {
      if (supports(self_, incarnation_, said_.installed)) votes.push_back(now);
      continue;
    }
    const auto peer = peers_.find(voter);
    if (peer != peers_.end() && peer->second.supported_sent != Instant::min()) {
      votes.push_back(peer->second.supported_sent);
    }
  }
  const auto until = [&]() -> Instant {
    if (voters_.needed == 0 || votes.size() < voters_.needed) return Instant::min();
    std::sort(votes.begin(), votes.end(), std::greater<>());
    return votes[voters_.needed - 1] + timing_.lease;
  };
  gate_until_ = std::max(gate_until_, until());
  if (voters_.lock_vote_until > now) {
    votes.push_back(now);
    // Whoever takes the lock over waits for the lock lease, so nothing that rests on it may outlast it.
    gate_until_ = std::max(gate_until_, std::min(until(), voters_.lock_vote_until));
  }
}

Instant HeartbeatCore::next_loss(Instant now) const {
  Instant next = kNever;
  for (const auto& [pnn, peer] : peers_) {
    if (peer.seen.incarnation == 0) continue;
    const Instant at = peer.seen.silent_since + timing_.silence;
    if (at > now) next = std::min(next, at);
  }
  return next;
}

}  // namespace tdbmesh
