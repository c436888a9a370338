#include <algorithm>
#include <fmt/format.h>

#include "recovery/control_plane_impl.h"
#include "recovery/quorum.h"

namespace tdbmesh::recovery {

// ---- the leader, seen from a follower -------------------------------------------------------------------

void ControlPlane::Impl::follow(Pnn leader, std::uint64_t term) {
  if (election_.leading() && leader != self_) lose_lead(fmt::format("node {} leads in term {}", number(leader), term));
  if (term > state_.term) {
    state_.term = term;
    state_.voted_for = kNoPnn;  // durable with the next write; forgetting it costs nothing
  }
  if (leader == self_) return;
  election_.follow(leader, now_);
  leader_life_ = membership_.incarnation_of(leader);
  follows_since_ = now_;
  joined_at_ = bumped_at_ = Instant::min();
}

void ControlPlane::Impl::without_leader(Duration wait) { election_.without_leader(now_, wait); }

void ControlPlane::Impl::watch_leader() {
  const PeerHeartbeats* best = nullptr;
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    highest_term_ = std::max(highest_term_, peer.term);
    if (!membership_.alive(peer.pnn, now_) || !peer.said.leading) continue;
    if (best == nullptr || peer.said.term > best->said.term) best = &peer;
  }
  if (election_.leading()) {
    if (highest_term_ > state_.term) lose_lead("a higher term is known");
  }
  if (best != nullptr && !election_.leading()) {
    const bool newer = best->said.term > state_.term;
    if (newer || (best->said.term == state_.term && leader() != best->pnn)) {
      follow(best->pnn, best->said.term);
      return;
    }
  }
  const Pnn current = leader();
  if (current == kNoPnn || current == self_) return;
  const PeerHeartbeats* peer = membership_.peer(current);
  const bool alive = membership_.alive(current, now_) && peer->incarnation == leader_life_;
  // Its first heartbeats as leader may still be under way when its PREPARE is here.
  const bool settled = now_ - follows_since_ > 3 * timing_.heartbeat;
  const bool leads = alive && peer->said.leading && peer->said.term == state_.term;
  if (!alive || (settled && !leads)) without_leader(Duration{0});
}

bool ControlPlane::Impl::eligible(Pnn pnn) const {
  const auto& nodes = cluster().nodes;
  const auto& voters = cluster().voters;
  if (!std::binary_search(nodes.begin(), nodes.end(), pnn)) return false;
  if (!std::binary_search(voters.begin(), voters.end(), pnn)) return false;
  // A leader cannot remove itself; one that is to go does not stand while one that stays is heard [ce 22].
  if (!stays(pnn) && std::any_of(voters.begin(), voters.end(), [&](Pnn v) { return v != pnn && stays(v) && eligible(v); })) {
    return false;
  }
  if (pnn == self_) return (capabilities_ & kCapabilityLeader) != 0 && active_self();
  if (!membership_.reachable(pnn, now_) || membership_.leaving(pnn)) return false;
  const Announcement& said = membership_.peer(pnn)->said;
  return (said.capabilities & kCapabilityLeader) != 0 && (said.flags & (kFlagStopped | kFlagBanned)) == 0;
}

ElectionContext ControlPlane::Impl::context() const {
  ElectionContext c;
  c.self = self_;
  c.config = &cluster();
  c.lock_vote = lock_vote();
  if (const auto* candidate = std::get_if<Candidate>(&election_.role())) {
    c.lock_vote = lock_votes_for_term(candidate->term);
  }
  c.highest_term = highest_term_;
  c.accepted = accepted_generation();
  c.accepted_durable = durable_ticket_ >= accepted_ticket_;
  for (const Pnn voter : cluster().voters) {
    if (voter != self_ && membership_.alive(voter, now_) && !membership_.peer(voter)->said.fresh) {
      c.stateful_voter_heard = true;
    }
  }
  if (election_.leading()) {
    c.leader_firm = true;
  } else if (const Pnn current = leader(); current != kNoPnn) {
    const PeerHeartbeats* peer = membership_.peer(current);
    c.leader_firm =
        membership_.alive(current, now_) && now_ - peer->silent_since <= timing_.courtesy_silence();
  }
  for (const Pnn node : cluster().nodes) {
    if (eligible(node)) c.ranking.push_back(node);
  }
  const auto order = [&](Pnn pnn) {
    const Member* member = accepted() != nullptr ? accepted()->member(pnn) : nullptr;
    return member == nullptr || member->incarnation != incarnation_of(pnn);
  };
  std::stable_sort(c.ranking.begin(), c.ranking.end(), [&](Pnn a, Pnn b) { return order(a) < order(b); });
  return c;
}

void ControlPlane::Impl::run_election() {
  if (election_.leading()) return;
  ElectionOutcome outcome;
  election_.on_time(context(), state_, now_, outcome);
  apply(std::move(outcome));
}

void ControlPlane::Impl::apply(ElectionOutcome outcome) {
  if (outcome.persist) {
    // The planted bug: a vote given before it is durable.
    const std::uint64_t ticket = hooks_.forget_vote && outcome.vote_for ? durable_ticket_ : persist();
    if (outcome.vote_for) {
      const Voted granted{state_.term, state_.term, true, std::nullopt};
      if (ticket <= durable_ticket_) {
        send(*outcome.vote_for, granted);
      } else {
        waiting_.push_back({ticket, *outcome.vote_for, granted});
      }
    } else {
      election_.own_vote_ticket(ticket);
    }
  }
  for (auto& [to, message] : outcome.sends) send(to, std::move(message));
  if (outcome.won) become_leader();
}

// ---- views ----------------------------------------------------------------------------------------------

void ControlPlane::Impl::revoke_and_set_support(const View& view) {
  SupportTable next;
  next.serial = support_.serial + 1;
  for (const Member& m : view.members) next.entries[m.pnn] = SupportEntry{m.incarnation, m.join};
  support_ = std::move(next);
  out_->push_back(SetSupport{support_});
}

void ControlPlane::Impl::break_continuity(Generation join) {
  out_->push_back(CloseGate{});
  gate_permitted_ = false;
  out_->push_back(DropAddresses{});
  addresses_.clear();
  own_join_ = join;
  running_ = Generation{};
  installed_view_.reset();
  sync();  // nobody may hear of the old installed view any more
  if (volatile_clean_) return;
  out_->push_back(DropVolatile{++drop_ticket_});
}

void ControlPlane::Impl::take(const View& view) {
  state_.accepted = view;
  if (!view.config.voters.empty()) state_.config = view.config;
}

// Learned from a voter or from a leader whose view does without this node: it binds as if PREPAREd.
void ControlPlane::Impl::adopt(const View& view) {
  if (view.generation <= accepted_generation()) return;
  if (election_.leading()) lose_lead("a newer view is known");
  take(view);
  highest_term_ = std::max(highest_term_, view.generation.term);
  pending_.reset();
  revoke_and_set_support(view);
  if (leader() == kNoPnn) without_leader(Duration{0});  // ask again with the newer view
  const Member* me = view.member(self_);
  const bool continues = me != nullptr && me->incarnation == state_.incarnation && !own_join_.is_none() &&
                         me->join == own_join_;
  if (!continues) break_continuity(Generation{});
  out_->push_back(PrepareView{view, !continues});
  catching_up_with_ = kNoPnn;
  accepted_ticket_ = persist();
}

void ControlPlane::Impl::on_prepare(Pnn from, const Prepare& m) {
  const View& view = m.view;
  if (view.leader != from || view.generation.term != m.term) return;  // not one of ours
  const Member* me = view.member(self_);
  const auto refuse = [&](PrepareRefusal why) {
    send(from, PrepareRefused{view.generation, why, state_.term, accepted_generation()});
  };
  if (m.term < state_.term) return refuse(PrepareRefusal::OldTerm);
  if (view.generation < accepted_generation()) return refuse(PrepareRefusal::OldView);
  if (me != nullptr && me->incarnation != state_.incarnation) return refuse(PrepareRefusal::OtherLife);
  if (m.term > state_.term || leader() != from) follow(from, m.term);
  if (installed_view_ && installed_view_->generation == view.generation) return;  // late repetition
  if (pending_ && pending_->view.generation == view.generation) {
    // PREPARED was lost, or is not due yet. The ages are those of now.
    pending_->sent = false;
    finish_accept();
    return;
  }
  const bool anew = me != nullptr && me->join == view.generation;
  if (me != nullptr && !anew && me->join != own_join_) return refuse(PrepareRefusal::NeedsJoin);

  PendingAccept next;
  next.view = view;
  next.member = me != nullptr;
  next.was_voter = state_.voter;
  take(view);
  revoke_and_set_support(view);
  next.support_serial = support_.serial;
  const bool broken = me == nullptr || anew;
  if (broken) break_continuity(me != nullptr ? view.generation : Generation{});
  out_->push_back(PrepareView{view, broken});
  catching_up_with_ = kNoPnn;
  next.ticket = accepted_ticket_ = persist();
  pending_ = std::move(next);
  out_->push_back(AskCopies{view.generation});
}

void ControlPlane::Impl::finish_accept() {
  if (!pending_ || pending_->sent || !pending_->copies) return;
  if (durable_ticket_ < pending_->ticket) return;
  if (membership_.table().support_serial < pending_->support_serial) return;  // the ages are not known yet
  if (pending_->member && !volatile_clean_ && own_join_ == pending_->view.generation) return;
  pending_->sent = true;
  Prepared answer;
  answer.generation = pending_->view.generation;
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    answer.ages.push_back({peer.pnn, std::max(Duration{0}, Duration(now_ - peer.last_supported))});
  }
  // A node that the files no longer have, so that nothing is heard of it: supported at the latest before this life.
  for (const auto* list : {&cluster().nodes, &cluster().old_nodes}) {
    for (const Pnn node : *list) {
      const bool told = std::any_of(answer.ages.begin(), answer.ages.end(), [&](const SupportAge& a) { return a.pnn == node; });
      if (node != self_ && !told) answer.ages.push_back({node, std::max(Duration{0}, Duration(now_ - started_))});
    }
  }
  answer.installed = running_;
  answer.persisted_installed = state_.installed;
  answer.fresh = !pending_->was_voter;
  answer.copies = *pending_->copies;
  answer.incomplete_slots = pending_->incomplete;
  answer.flags = flags_;
  answer.addresses = addresses_;
  send(pending_->view.leader, std::move(answer));
}

void ControlPlane::Impl::on_install(Pnn from, const Install& m) {
  if (!state_.accepted || m.generation != accepted_generation() || state_.accepted->leader != from) return;
  if (installed_view_ && installed_view_->generation == m.generation) {
    send(from, Installed{m.generation, addresses_});
    return;
  }
  // INSTALL needs this node's PREPARED, so a pending acceptance is there unless the view was only adopted.
  if (!pending_ || pending_->view.generation != m.generation || !pending_->member) return;
  if (!volatile_clean_ && own_join_ == m.generation) return;
  pending_.reset();
  installed_view_ = *state_.accepted;
  running_ = m.generation;
  volatile_clean_ = false;
  state_.installed = std::max(state_.installed, m.generation);
  state_.voter = true;
  join_refused_.clear();
  caught_up_with_ = kNoPnn;
  out_->push_back(InstallView{*installed_view_});
  sync();
  refresh_gate_permission();
  installed_ticket_ = persist();
  send(from, Installed{m.generation, addresses_});
}

void ControlPlane::Impl::refresh_gate_permission() {
  const bool may = installed_view_.has_value() && active_self();
  if (may == gate_permitted_) return;
  gate_permitted_ = may;
  if (may) {
    out_->push_back(PermitGate{});
  } else {
    out_->push_back(CloseGate{});
    out_->push_back(DropAddresses{});
    addresses_.clear();
  }
}

// ---- coming back ----------------------------------------------------------------------------------------

void ControlPlane::Impl::ask_for_newer_view() {
  if (election_.leading() || (asked_view_at_ != Instant::min() && now_ - asked_view_at_ < timing_.heartbeat / 2)) return;
  const Pnn current = leader();
  Pnn whom = kNoPnn;
  Generation newest = accepted_generation();
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    // Of two that have it, the one that hears the question.
    if (!membership_.reachable(peer.pnn, now_)) continue;
    // With a leader, its PREPARE may be under way. About a view that is in use anywhere this node was not asked.
    const Generation shown = current == kNoPnn ? peer.said.accepted : peer.said.installed;
    if (shown > newest) {
      newest = shown;
      whom = peer.pnn;
    }
  }
  if (whom == kNoPnn) return;
  asked_view_at_ = now_;
  send(whom, AskView{});
}

// Near enough to the leader's persistent copies to be let in? If the leader has no view in use there is nothing to
// catch up with: who has the best copies is found out in the first view change.
bool ControlPlane::Impl::caught_up() {
  constexpr Duration kFresh = seconds(10);
  const Pnn current = leader();
  const PeerHeartbeats* peer = membership_.peer(current);
  if (peer == nullptr || peer->said.installed.is_none() || peer->said.installed < state_.installed) return true;
  if (caught_up_with_ == current && now_ - caught_up_at_ <= kFresh) return true;
  if (catching_up_with_ != current) {
    catching_up_with_ = current;
    out_->push_back(CatchUp{current});
  }
  return false;
}

void ControlPlane::Impl::send_join() {
  const Pnn current = leader();
  if (current == kNoPnn || current == self_ || !active_self()) return;
  if (!running_.is_none() || !volatile_clean_ || !stays(self_) || !caught_up()) return;
  if (joined_at_ != Instant::min() && now_ - joined_at_ < timing_.heartbeat) return;
  joined_at_ = now_;
  send(current, Join{cluster().epoch, files().digest, config_.version});
}

void ControlPlane::Impl::run_bump() {
  if (bump_from_.is_none()) return;
  if (accepted_generation() > bump_from_) {
    bump_from_ = Generation{};
    return;
  }
  const Pnn current = leader();
  if (current == kNoPnn || (bumped_at_ != Instant::min() && now_ - bumped_at_ < timing_.heartbeat)) return;
  bumped_at_ = now_;
  send(current, Bump{bump_from_, bump_why_, bump_failed_});
}

// Of two nodes with a lock, the one that stays lives by the support of the one that goes until it has the lock.
bool ControlPlane::Impl::is_rested_on() const {
  if (cluster().quorum != QuorumMode::LockVote) return false;
  const auto& nodes = cluster().nodes;
  return std::any_of(nodes.begin(), nodes.end(), [this](Pnn node) {
    return node != self_ && eligible(node) && !membership_.peer(node)->said.rests_on_lock;
  });
}

Instant ControlPlane::Impl::leave_by() const {
  return leaves_since_ + (is_rested_on() ? kLockHandOver : timing_.fence());
}

// In order: no gate, no addresses, somebody else leads, and a view without this node; then nobody waits for it.
void ControlPlane::Impl::run_shutdown() {
  if (!leaving_ || shutdown_said_) return;
  if (election_.leading()) transfer("this node shuts down");
  const bool out_of_it = running_.is_none() && (!pending_ || pending_->sent) && !is_rested_on();
  if (out_of_it || now_ >= leave_by()) {
    shutdown_said_ = true;
    out_->push_back(ShutdownReady{});
    return;
  }
  if (retired_at_ != Instant::min() && now_ - retired_at_ < timing_.heartbeat) return;
  retired_at_ = now_;
  for (const Pnn node : cluster().nodes) {
    if (node != self_ && membership_.alive(node, now_)) send(node, Retired{running_, true});
  }
}

}  // namespace tdbmesh::recovery
