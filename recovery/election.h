#pragma once
// Who leads: terms, pre-votes, persisted votes. Pure; the control plane feeds it and carries out what it
// returns.
//
//            leader lost                     quorum of pre-votes            quorum of votes, own durable
//  Follower ---------------> (election time) ---------> PreCandidate ------> Candidate -----------------> Leader
//     ^                                                     |  ^                |                            |
//     +----- a leader is heard, or a higher term -----------+  +-- round over --+      deposed, no followers -+
//
// Invariants: one vote per term, durable before it counts; a voter that firmly hears a leader grants nothing;
// a vote goes only to a candidate whose accepted view is not older than the voter's.

#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "db/base/random.h"
#include "recovery/messages.h"
#include "recovery/persisted_state.h"
#include "transport/timing.h"

namespace tdbmesh::recovery {

struct Follower {
  Pnn leader = kNoPnn;
  Instant since{};            // following, or without a leader, since then
  Instant not_before{};       // stand for election not before this, plus the rank's share
  Duration jitter{0};
};
struct PreCandidate {
  std::uint64_t term = 0;     // asked for
  std::set<Pnn> granted;
  Instant round_end{};
};
struct Candidate {
  std::uint64_t term = 0;
  std::set<Pnn> granted;      // this node is in it when its own vote is durable
  std::uint64_t ticket = 0;   // of its own vote
  Instant round_end{};
};
struct Leader {
  std::uint64_t term = 0;
  Instant since{};
};
using Role = std::variant<Follower, PreCandidate, Candidate, Leader>;

// What the election needs to know at this moment.
struct ElectionContext {
  Pnn self{};
  const ClusterConfig* config = nullptr;
  bool lock_vote = false;
  std::vector<Pnn> ranking;         // eligible nodes that hear each other with this one, best first
  std::uint64_t highest_term = 0;   // ever seen
  bool leader_firm = false;         // a leader is known and was heard within 0.7 D
  bool stateful_voter_heard = false;
  Generation accepted;              // newest accepted view here
  bool accepted_durable = true;
  [[nodiscard]] std::size_t rank(Pnn pnn) const;  // ranking.size() if not eligible
};

struct ElectionOutcome {
  std::vector<std::pair<Pnn, Message>> sends;
  // The changed vote must become durable. If vote_for is set, answer it Voted{granted} then; if not, it is the
  // candidate's own: vote_durable() then.
  bool persist = false;
  std::optional<Pnn> vote_for;
  bool won = false;
};

class Election {
 public:
  Election(const Timing& timing, std::uint64_t seed) : timing_(timing), random_(seed) {}

  [[nodiscard]] const Role& role() const { return role_; }
  [[nodiscard]] bool leading() const { return std::holds_alternative<Leader>(role_); }
  [[nodiscard]] Pnn leader(Pnn self) const;
  // When the next round ends or begins.
  [[nodiscard]] Instant next_wake(const ElectionContext& context) const;

  void start(Instant now);
  void follow(Pnn leader, Instant now);
  // No leader from now on: stand after `wait` plus the rank's share.
  void without_leader(Instant now, Duration wait);

  void on_time(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out);
  void on_transfer(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out);
  // `view`: newest accepted, to attach to a refusal.
  void on_pre_vote(Pnn from, const PreVote& m, const ElectionContext& context, const PersistedState& state,
                   Instant now, ElectionOutcome& out);
  void on_pre_voted(Pnn from, const PreVoted& m, const ElectionContext& context, PersistedState& state, Instant now,
                    ElectionOutcome& out);
  void on_vote(Pnn from, const Vote& m, const ElectionContext& context, PersistedState& state, Instant now,
               ElectionOutcome& out);
  void on_voted(Pnn from, const Voted& m, const ElectionContext& context, Instant now, ElectionOutcome& out);
  void own_vote_ticket(std::uint64_t ticket);
  void vote_durable(std::uint64_t ticket, const ElectionContext& context, Instant now, ElectionOutcome& out);

 private:
  void begin_round(const ElectionContext& context, PersistedState& state, Instant now, ElectionOutcome& out);
  void begin_candidacy(std::uint64_t term, bool transfer, const ElectionContext& context, PersistedState& state,
                       Instant now, ElectionOutcome& out);
  void count(const ElectionContext& context, PersistedState* state, Instant now, ElectionOutcome& out);
  [[nodiscard]] static std::uint64_t next_term(const ElectionContext& context, const PersistedState& state);
  [[nodiscard]] bool may_vote(bool candidate_fresh, const ElectionContext& context, const PersistedState& state) const;

  Timing timing_;
  Random random_;
  Role role_;
};

}  // namespace tdbmesh::recovery
