#include "recovery/election.h"

#include <algorithm>

#include "recovery/quorum.h"

namespace tdbmesh::recovery {

std::size_t ElectionContext::rank(Pnn pnn) const {
  return static_cast<std::size_t>(std::find(ranking.begin(), ranking.end(), pnn) - ranking.begin());
}

Pnn Election::leader(Pnn self) const {
  if (leading()) return self;
  const auto* follower = std::get_if<Follower>(&role_);
  return follower != nullptr ? follower->leader : kNoPnn;
}

Instant Election::next_wake(const ElectionContext& context) const {
  if (!context.accepted_durable) return kNever;  // an adopted view must be durable before anybody votes for its sake
  if (const auto* f = std::get_if<Follower>(&role_)) {
    const std::size_t rank = context.rank(context.self);
    if (f->leader != kNoPnn || rank == context.ranking.size()) return kNever;
    return f->not_before + timing_.stagger * static_cast<std::int64_t>(rank) + f->jitter;
  }
  if (const auto* p = std::get_if<PreCandidate>(&role_)) return p->round_end;
  if (const auto* c = std::get_if<Candidate>(&role_)) return c->round_end;
  return kNever;
}

void Election::start(Instant now) {
  // Two beats, to hear who is there before ranking oneself.
  role_ = Follower{kNoPnn, now, now + 2 * timing_.heartbeat, random_.up_to(timing_.jitter)};
}

void Election::follow(Pnn leader, Instant now) { role_ = Follower{leader, now, now, Duration{0}}; }

void Election::without_leader(Instant now, Duration wait) {
  role_ = Follower{kNoPnn, now, now + wait, random_.up_to(timing_.jitter)};
}

void Election::on_time(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out) {
  if (leading() || now < next_wake(context)) return;
  if (context.rank(context.self) == context.ranking.size()) {  // no longer eligible
    without_leader(now, Duration{0});
    return;
  }
  begin_round(context, state, now, out);
}

// Where no majority keeps two candidates from winning one term, each node has its own terms.
std::uint64_t Election::next_term(const ElectionContext& context, const PersistedState& state) {
  const std::uint64_t next = std::max(state.term, context.highest_term) + 1;
  if (context.config->quorum == QuorumMode::Majority) return next;
  const std::uint64_t own = number(context.self) % 256;
  return next + (own + 256 - next % 256) % 256;
}

void Election::begin_round(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out) {
  PreCandidate p;
  p.term = next_term(context, state);
  p.round_end = now + timing_.round + random_.up_to(timing_.round_jitter);
  if (may_vote(context.accepted.is_none(), context, state)) p.granted.insert(context.self);
  for (const Pnn voter : context.config->voters) {
    if (voter != context.self) out.sends.emplace_back(voter, PreVote{p.term, context.accepted, context.accepted.is_none()});
  }
  role_ = std::move(p);
  count(context, &state, now, out);
}

void Election::begin_candidacy(std::uint64_t term, bool transfer, const ElectionContext& context,
                               PersistedState& state, Instant now, ElectionOutcome& out) {
  Candidate c;
  c.term = term;
  c.round_end = now + timing_.round + random_.up_to(timing_.round_jitter);
  state.term = term;
  state.voted_for = context.self;
  state.voter = true;
  for (const Pnn voter : context.config->voters) {
    if (voter != context.self) out.sends.emplace_back(voter, Vote{term, context.accepted, context.accepted.is_none(), transfer});
  }
  out.persist = true;
  role_ = std::move(c);
}

// A node that never voted might have promised anything in a life that it forgot (new disk); while somebody who
// has accepted a view is there, it does not vote. Whoever accepted one was elected by voters that remember, so
// a first start cannot get stuck on this.
bool Election::may_vote(bool candidate_fresh, const ElectionContext& context, const PersistedState& state) const {
  if (state.voter) return true;
  return candidate_fresh && !context.stateful_voter_heard;
}

void Election::count(const ElectionContext& context, PersistedState* state, Instant now, ElectionOutcome& out) {
  if (auto* p = std::get_if<PreCandidate>(&role_)) {
    if (state == nullptr || !context.accepted_durable) return;
    if (!is_quorum(*context.config, p->granted, context.lock_vote)) return;
    begin_candidacy(p->term, false, context, *state, now, out);
  } else if (auto* c = std::get_if<Candidate>(&role_)) {
    if (!c->granted.contains(context.self)) return;
    if (!is_quorum(*context.config, c->granted, context.lock_vote)) return;
    role_ = Leader{c->term, now};
    out.won = true;
  }
}

void Election::on_transfer(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out) {
  if (leading() || !state.voter || context.rank(context.self) == context.ranking.size()) return;
  begin_candidacy(next_term(context, state), true, context, state, now, out);
}

void Election::on_pre_vote(Pnn from, const PreVote& m, const ElectionContext& context, const PersistedState& state,
                           Instant now, ElectionOutcome& out) {
  PreVoted answer{m.term, state.term, false, std::nullopt};
  const bool free = !leading() && (!context.leader_firm || leader(context.self) == from);
  if (free && m.accepted < context.accepted) {
    answer.accepted = state.accepted;
  } else if (free && m.term > state.term && may_vote(m.fresh, context, state)) {
    const std::size_t own = context.rank(context.self);
    // Whoever ranks first gets the votes of all: split votes cost a whole round [ce 13].
    const bool before_me = context.rank(from) < own || own == context.ranking.size();
    if (std::holds_alternative<Candidate>(role_)) {
      answer.granted = true;
    } else if (before_me) {
      answer.granted = true;
      without_leader(now, timing_.round * 8 / 10);
    }
  }
  out.sends.emplace_back(from, std::move(answer));
}

void Election::on_pre_voted(Pnn from, const PreVoted& m, const ElectionContext& context, PersistedState& state,
                            Instant now, ElectionOutcome& out) {
  auto* p = std::get_if<PreCandidate>(&role_);
  if (p == nullptr || m.asked != p->term || !m.granted) return;
  p->granted.insert(from);
  count(context, &state, now, out);
}

void Election::on_vote(Pnn from, const Vote& m, const ElectionContext& context, PersistedState& state, Instant now,
                       ElectionOutcome& out) {
  Voted answer{m.term, state.term, false, std::nullopt};
  const bool protects = context.leader_firm && leader(context.self) != from && !m.transfer;
  const bool current = m.term > state.term || (m.term == state.term && state.voted_for == from);
  if (current && !protects && m.accepted < context.accepted) {
    answer.accepted = state.accepted;
  } else if (current && !protects && may_vote(m.fresh, context, state)) {
    without_leader(now, timing_.round);
    state.term = m.term;
    state.voted_for = from;
    state.voter = true;
    out.persist = true;
    out.vote_for = from;
    return;
  }
  out.sends.emplace_back(from, std::move(answer));
}

void Election::on_voted(Pnn from, const Voted& m, const ElectionContext& context, Instant now, ElectionOutcome& out) {
  auto* c = std::get_if<Candidate>(&role_);
  if (c == nullptr || m.asked != c->term || !m.granted) return;
  c->granted.insert(from);
  count(context, nullptr, now, out);
}

void Election::own_vote_ticket(std::uint64_t ticket) {
  if (auto* c = std::get_if<Candidate>(&role_)) c->ticket = ticket;
}

void Election::vote_durable(std::uint64_t ticket, const ElectionContext& context, Instant now, ElectionOutcome& out) {
  auto* c = std::get_if<Candidate>(&role_);
  if (c == nullptr || c->ticket == 0 || ticket < c->ticket) return;
  c->granted.insert(context.self);
  count(context, nullptr, now, out);
}

}  // namespace tdbmesh::recovery
