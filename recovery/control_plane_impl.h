#pragma once
// Inside of ControlPlane, shared by its three sources only: control_plane.cc (events, what is announced, status),
// control_plane_member.cc (what every node does) and control_plane_leader.cc (what only the leader does).

#include <algorithm>
#include <deque>

#include "recovery/control_plane.h"
#include "recovery/election.h"
#include "recovery/membership.h"
#include "recovery/reconfiguration.h"
#include "recovery/view_change.h"

namespace tdbmesh::recovery {

class ControlPlane::Impl {
 public:
  Impl(ControlPlaneConfig config, PersistedState state);

  // Brackets every event: settles what follows from it, then announces what changed.
  template <class What>
  void event(Instant now, Actions& out, What&& what) {
    now_ = now;
    out_ = &out;
    what();
    settle();
    out_ = nullptr;
    next_wake_.reset();
    ++events_;
  }

  // ---- control_plane.cc
  void start();
  void settle();
  void sync();
  void send(Pnn to, Message message);
  void log(LogLine::Level level, std::string text);
  std::uint64_t persist();  // ticket
  void handle(Pnn from, const Message& message);
  [[nodiscard]] Instant next_wake() const;
  [[nodiscard]] std::vector<std::string> status(Instant now) const;
  [[nodiscard]] NodeFlags flags_of(Pnn pnn, Instant now) const;

  // ---- control_plane_member.cc
  void watch_leader();
  void follow(Pnn leader, std::uint64_t term);
  void without_leader(Duration wait);
  void run_election();
  void apply(ElectionOutcome outcome);
  [[nodiscard]] ElectionContext context() const;
  [[nodiscard]] bool eligible(Pnn pnn) const;
  [[nodiscard]] bool active_self() const { return (flags_ & (kFlagStopped | kFlagBanned)) == 0 && !leaving_; }
  void revoke_and_set_support(const View& view);
  void break_continuity(Generation join);
  void adopt(const View& view);
  void take(const View& view);  // as the newest accepted
  void on_prepare(Pnn from, const Prepare& m);
  void finish_accept();
  void on_install(Pnn from, const Install& m);
  void ask_for_newer_view();
  void send_join();
  [[nodiscard]] bool caught_up();
  void run_shutdown();
  [[nodiscard]] bool is_rested_on() const;
  [[nodiscard]] Instant leave_by() const;
  void bump(std::string reason, Pnn failed);
  void run_bump();
  void run_lock();
  void run_advisory_lock();
  void watch_lock();
  [[nodiscard]] std::string lock_name() const;
  [[nodiscard]] std::string lock_trouble() const;
  [[nodiscard]] std::string lock_state(Instant now) const;
  void refresh_gate_permission();

  // ---- control_plane_leader.cc
  void become_leader();
  void lose_lead(std::string why);
  void lead();
  void transfer(const std::string& why, Pnn successor = kNoPnn);
  void plan_step();
  [[nodiscard]] ClusterConfig next_config(Generation known) const;
  void forget(Pnn pnn);
  [[nodiscard]] Instant followed_until() const;  // leader lease
  struct Wanted {
    std::vector<Proposed> members;
    std::set<Pnn> undecided;  // reachable members of the base that neither continue nor are ready yet
    std::map<Pnn, std::string> left_out;
    [[nodiscard]] bool has(Pnn pnn) const;
  };
  [[nodiscard]] Wanted wanted();
  [[nodiscard]] std::string change_reason(const Wanted& w) const;
  [[nodiscard]] Pnn better_leader() const;
  [[nodiscard]] bool hand_over(const Wanted& w);
  [[nodiscard]] bool only_joins(const Wanted& w) const;
  [[nodiscard]] Instant not_before(const Wanted& w, Instant since) const;
  [[nodiscard]] bool quorum_reachable() const;
  [[nodiscard]] std::string broken_proposal(const View& view, const Wanted& w) const;
  void propose(const Wanted& w, const std::string& why);
  void run_gathering(const Wanted& w);
  void run_preparing(const Wanted& w);
  void run_settling(const Wanted& w);
  void run_installing(const Wanted& w);
  void begin_installing(View view);
  void exclude(Pnn pnn, const std::string& why);
  void on_prepared(Pnn from, const Prepared& m);
  void on_refused(Pnn from, const PrepareRefused& m);
  void on_settled_by(Pnn from, const Settled& m);
  void on_installed(Pnn from, const Installed& m);
  void on_join(Pnn from, const Join& m);
  void on_bump(const Bump& m);
  [[nodiscard]] Incarnation incarnation_of(Pnn pnn) const {
    return pnn == self_ ? state_.incarnation : membership_.incarnation_of(pnn);
  }
  // The lock's voice: held and fresh; in an election or for a view only with that in its register.
  [[nodiscard]] bool lock_vote() const {
    return cluster().quorum == QuorumMode::LockVote && lock_.held && lock_.lease_until > now_;
  }
  [[nodiscard]] bool lock_votes_for_term(std::uint64_t term) const {
    return lock_vote() && lock_.written.term == term && lock_.highest_term < term;
  }
  [[nodiscard]] bool lock_votes_for(const View& view) const {
    return lock_vote() && lock_.written.accepted && lock_.written.accepted->generation == view.generation;
  }
  // The lock stands in for the other node only while this one is alone in its view.
  [[nodiscard]] bool rests_on_lock() const {
    return lock_vote() && lock_.written.in_use && lock_record_.in_use && installed_view_ &&
           installed_view_->members.size() == 1 && lock_votes_for(*installed_view_);
  }
  [[nodiscard]] const View* accepted() const { return state_.accepted ? &*state_.accepted : nullptr; }
  [[nodiscard]] Generation accepted_generation() const {
    return state_.accepted ? state_.accepted->generation : Generation{};
  }
  [[nodiscard]] const ClusterConfig& cluster() const { return state_.config; }
  [[nodiscard]] const ClusterConfig& files() const { return config_.cluster; }
  [[nodiscard]] bool stays(Pnn pnn) const {  // also when the files are taken up
    return std::binary_search(files().nodes.begin(), files().nodes.end(), pnn);
  }
  [[nodiscard]] Pnn leader() const { return election_.leader(self_); }

  // ---- data
  ControlPlaneConfig config_;
  PersistedState state_;
  Pnn self_;
  Timing timing_;
  TestHooks hooks_;
  Instant now_{};
  Actions* out_ = nullptr;
  std::deque<Message> inbox_;  // messages to oneself
  std::uint64_t events_ = 0;
  mutable std::optional<Instant> next_wake_;  // since the last event; asked for in every turn of the node

  Membership membership_;
  Election election_;
  FlapGuard flap_;
  Pnn told_leader_ = kNoPnn;
  Incarnation leader_life_ = 0;
  Instant follows_since_{};
  std::uint64_t highest_term_ = 0;
  Instant started_{};

  // Persistence.
  std::uint64_t next_ticket_ = 0;
  std::uint64_t durable_ticket_ = 0;
  std::uint64_t accepted_ticket_ = 0;
  std::uint64_t installed_ticket_ = 0;
  struct Waiting {
    std::uint64_t ticket = 0;
    Pnn to{};
    Message message;
  };
  std::vector<Waiting> waiting_;  // answers that rely on a write

  // Membership in views.
  Generation own_join_;           // the join under which the volatile contents are valid; none: they are not
  Generation running_;            // newest view installed under it
  std::optional<View> installed_view_;
  bool volatile_clean_ = true;    // nothing was stored since volatile databases were emptied
  std::uint64_t drop_ticket_ = 0;
  std::uint64_t clock_jumps_ = 0;
  struct PendingAccept {  // PREPARE taken, PREPARED not yet due
    View view;
    std::uint64_t ticket = 0;
    std::uint64_t support_serial = 0;
    bool member = false;
    bool was_voter = true;
    bool sent = false;
    std::optional<std::vector<CopyReport>> copies;
    std::vector<std::uint32_t> incomplete;
    std::set<DatabaseId> settling;  // told to the node already
    std::map<DatabaseId, Settled> settled;
  };
  std::optional<PendingAccept> pending_;
  SupportTable support_;
  VoterRule voters_told_;
  Announcement said_;
  bool said_once_ = false;
  bool gate_permitted_ = false;
  Instant asked_view_at_ = Instant::min();
  Instant joined_at_ = Instant::min();
  std::string join_refused_;
  Pnn catching_up_with_ = kNoPnn;  // CatchUp was given and neither answered nor ended
  Pnn caught_up_with_ = kNoPnn;
  Instant caught_up_at_ = Instant::min();
  Generation bump_from_;          // a new view is needed after this one; none: no
  std::string bump_why_;
  Pnn bump_failed_ = kNoPnn;
  Instant bumped_at_ = Instant::min();
  NodeFlags flags_ = 0;
  std::uint32_t capabilities_ = 0;
  std::vector<std::string> addresses_;
  bool leaving_ = false;
  Instant leaves_since_{};
  Instant retired_at_ = Instant::min();
  bool shutdown_said_ = false;
  LockStatus lock_;
  bool lock_wanted_ = false;
  LockRecord lock_record_;
  std::string advisory_told_;
  Instant lock_waits_since_ = kNever;  // as a vote: wanted and not there
  std::string lock_told_;              // what the log said of that wait; empty: nothing yet
  Instant lock_gate_until_ = Instant::min();  // the own gate may rest on the lock until then

  // Leading.
  Phase phase_;
  std::uint32_t serial_ = 0;
  std::optional<ClusterConfig> step_;   // towards the files; goes into the next view
  std::string config_waits_;            // why there is no next step
  std::string change_why_;              // reason of the change under way
  std::map<Pnn, Incarnation> ready_;    // joined: volatile databases are empty, configuration is ours
  std::map<Pnn, Incarnation> broken_;   // said NeedsJoin
  std::map<Pnn, Instant> prepared_;     // who answered a PREPARE of this lead followed it after that was sent: when, the newest
  std::map<Pnn, std::pair<Incarnation, Generation>> installed_by_;  // newest INSTALLED per life
  struct Excluded {
    Instant until{};
    Duration wait{0};
    std::string why;
  };
  std::map<Pnn, Excluded> excluded_;
  std::set<std::pair<Pnn, std::uint32_t>> incomplete_;
  std::string recover_why_;             // operator or records want a new view
  Instant better_since_ = kNever;       // a better leader is seen
  FlapGuard handing_over_;              // of this node, to better leaders
  std::map<Pnn, std::string> left_out_; // for status
};

}  // namespace tdbmesh::recovery
