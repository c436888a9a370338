#include "recovery/membership.h"

#include <algorithm>
#include <fmt/format.h>

namespace tdbmesh::recovery {

void Membership::update(const HeartbeatTable& table) {
  table_ = table;
  for (const PeerHeartbeats& peer : table.peers) {
    if (peer.fenced != 0) note_fenced(peer.pnn, peer.fenced);
  }
  std::erase_if(resets_, [&](const auto& item) {
    const PeerHeartbeats* peer = table_.peer(item.first);
    return peer == nullptr || peer->incarnation != item.second.incarnation || peer->heartbeat_seq > item.second.seq;
  });
  if (links_noted_ == kNever || table_.at - links_noted_ >= timing_.heartbeat / 2) note_links(table_.at);
}

Incarnation Membership::incarnation_of(Pnn pnn) const {
  const PeerHeartbeats* peer = table_.peer(pnn);
  return peer == nullptr ? 0 : peer->incarnation;
}

void Membership::note_reset(Pnn pnn, Incarnation incarnation) {
  const PeerHeartbeats* peer = table_.peer(pnn);
  if (peer == nullptr || peer->incarnation == 0 || peer->incarnation > incarnation) return;
  resets_[pnn] = {peer->incarnation, peer->heartbeat_seq};
}

void Membership::note_fenced(Pnn pnn, Incarnation incarnation) {
  fenced_[pnn] = std::max(fenced_[pnn], incarnation);
}

void Membership::note_leaving(Pnn pnn, Incarnation incarnation) { leaving_[pnn] = incarnation; }

void Membership::forget(Pnn pnn) {
  resets_.erase(pnn);
  fenced_.erase(pnn);
  leaving_.erase(pnn);
}

bool Membership::alive(Pnn pnn, Instant now) const {
  if (pnn == self_) return true;
  const PeerHeartbeats* peer = table_.peer(pnn);
  if (peer == nullptr || !peer->alive(judged(now), timing_) || resets_.contains(pnn)) return false;
  return !fenced(pnn, peer->incarnation);
}

bool Membership::reachable(Pnn pnn, Instant now) const {
  if (pnn == self_) return true;
  return alive(pnn, now) && table_.peer(pnn)->hears_me;
}

bool Membership::leaving(Pnn pnn) const {
  const auto found = leaving_.find(pnn);
  return found != leaving_.end() && found->second >= incarnation_of(pnn);
}

bool Membership::fenced(Pnn pnn, Incarnation known) const {
  const auto found = fenced_.find(pnn);
  return found != fenced_.end() && found->second >= known;
}

std::string Membership::trouble(Pnn pnn, Instant now) const {
  if (pnn == self_) return {};
  const PeerHeartbeats* peer = table_.peer(pnn);
  if (peer == nullptr) return "not configured here";
  if (peer->incarnation == 0) return "no heartbeat since this daemon started";
  if (fenced(pnn, peer->incarnation)) return "its daemon ended";
  if (judged(now) - peer->silent_since >= timing_.silence) {
    return fmt::format("no heartbeat for {:.1f} s", std::chrono::duration<double>(judged(now) - peer->last_heard).count());
  }
  if (peer->stalled) return "its daemon hangs (event loop stalled)";
  if (resets_.contains(pnn)) return "its daemon closed the connection";
  if (!peer->hears_me) return "it does not hear this node (one-way link)";
  return {};
}

Instant Membership::next_loss(Instant now) const {
  Instant next = kNever;
  for (const PeerHeartbeats& peer : table_.peers) {
    const Instant at = peer.silent_since + timing_.silence;
    if (peer.incarnation != 0 && at > now) next = std::min(next, at);
  }
  return next;
}

std::optional<bool> Membership::hears(Pnn who, Pnn whom, Instant now) const {
  if (who == whom) return true;
  if (who == self_) {
    const PeerHeartbeats* peer = table_.peer(whom);
    return peer != nullptr && heard(*peer, now);
  }
  const PeerHeartbeats* peer = table_.peer(who);
  if (peer == nullptr || !heard(*peer, now)) return std::nullopt;
  if (whom == self_) return peer->hears_me;
  return std::find(peer->hears.begin(), peer->hears.end(), whom) != peer->hears.end();
}

bool Membership::broken(Pnn a, Pnn b, Instant now) const {
  return !hears(a, b, now).value_or(true) || !hears(b, a, now).value_or(true);
}

bool Membership::heard_by_anybody(Pnn pnn, Instant now) const {
  return *hears(self_, pnn, now) || std::any_of(table_.peers.begin(), table_.peers.end(), [&](const PeerHeartbeats& peer) {
    return peer.pnn != pnn && hears(peer.pnn, pnn, now).value_or(false);
  });
}

std::size_t Membership::circle(Pnn leader, const std::set<Pnn>& nodes, Instant now) const {
  std::set<Pnn> in;
  for (const Pnn node : nodes) {
    if (!broken(leader, node, now)) in.insert(node);
  }
  for (;;) {
    Pnn worst = kNoPnn;
    std::ptrdiff_t most = 0;
    for (const Pnn node : in) {
      const auto missing = std::count_if(in.begin(), in.end(), [&](Pnn other) { return broken(node, other, now); });
      if (node == leader || missing <= most) continue;
      most = missing;
      worst = node;
    }
    if (worst == kNoPnn) return in.size();
    in.erase(worst);
  }
}

// Of all that are heard, wanted or not: who was left out for a link must not come back before it has it.
void Membership::note_links(Instant now) {
  // What was broken before this node hung may have been whole meanwhile.
  if (links_noted_ < now - timing_.silence / 2) broken_since_.clear();
  links_noted_ = now;
  std::map<Pair, Instant> now_broken;
  for (const PeerHeartbeats& a : table_.peers) {
    for (const PeerHeartbeats& b : table_.peers) {
      if (!(a.pnn < b.pnn) || !alive(a.pnn, now) || !alive(b.pnn, now)) continue;
      if (!broken(a.pnn, b.pnn, now)) continue;
      const auto before = broken_since_.find({a.pnn, b.pnn});
      now_broken[{a.pnn, b.pnn}] = before == broken_since_.end() ? now : before->second;
    }
  }
  broken_since_ = std::move(now_broken);
}

std::set<Pnn> Membership::clique(std::set<Pnn> nodes, const std::set<Pnn>& in_the_view, Instant now) const {
  for (;;) {
    std::map<Pnn, int> missing;
    for (const auto& [pair, since] : broken_since_) {
      if (now - since < timing_.link_patience || !nodes.contains(pair.first) || !nodes.contains(pair.second)) continue;
      ++missing[pair.first];
      ++missing[pair.second];
    }
    Pnn worst = kNoPnn;
    std::pair<int, bool> most{0, false};
    for (const auto& [pnn, count] : missing) {  // ascending: the highest pnn wins a tie
      if (pnn == self_) continue;
      const std::pair misses{count, !in_the_view.contains(pnn)};
      if (misses >= most) {
        most = misses;
        worst = pnn;
      }
    }
    if (worst == kNoPnn) return nodes;
    nodes.erase(worst);
  }
}

std::set<Pnn> Membership::not_in_clique(const std::set<Pnn>& wanted, const std::set<Pnn>& in_the_view, Instant now) {
  note_links(now);
  // Who comes waits while it is not known what becomes of a link: it might cost the member at the other end its place.
  std::set<Pnn> kept = wanted;
  for (const auto& [pair, since] : broken_since_) {
    if (now - since >= timing_.link_patience) continue;
    if (in_the_view.contains(pair.first) && !in_the_view.contains(pair.second)) kept.erase(pair.second);
    if (in_the_view.contains(pair.second) && !in_the_view.contains(pair.first)) kept.erase(pair.first);
  }
  kept = clique(std::move(kept), in_the_view, now);
  std::set<Pnn> gone;
  std::set_difference(wanted.begin(), wanted.end(), kept.begin(), kept.end(), std::inserter(gone, gone.end()));
  return gone;
}

void FlapGuard::removed(Pnn pnn, Instant now) {
  History& h = nodes_[pnn];
  std::erase_if(h.removals, [&](Instant at) { return now - at > seconds(60); });
  h.removals.push_back(now);
  h.member_since = Instant::min();
  if (h.removals.size() <= 3) return;
  h.penalty = std::clamp<Duration>(h.penalty * 2, seconds(1), seconds(60));
  h.held_until = now + h.penalty;
}

void FlapGuard::member(Pnn pnn, Instant now) {
  History& h = nodes_[pnn];
  if (h.member_since == Instant::min()) h.member_since = now;
  if (now - h.member_since >= seconds(60)) {
    h.penalty /= 2;
    h.member_since = now;
  }
}

Instant FlapGuard::held_until(Pnn pnn) const {
  const auto found = nodes_.find(pnn);
  return found == nodes_.end() ? Instant::min() : found->second.held_until;
}

}  // namespace tdbmesh::recovery
