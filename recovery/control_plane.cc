#include "recovery/control_plane.h"

#include <algorithm>
#include <fmt/format.h>

#include "db/base/match.h"
#include "recovery/control_plane_impl.h"
#include "recovery/quorum.h"

namespace tdbmesh::recovery {

ControlPlane::Impl::Impl(ControlPlaneConfig config, PersistedState state)
    : config_(std::move(config)),
      state_(std::move(state)),
      self_(config_.self),
      timing_(config_.timing),
      membership_(config_.self, config_.timing),
      election_(config_.timing, config_.seed),
      capabilities_(config_.capabilities) {
  // Counting votes otherwise than when the view was accepted would undo what made that view safe.
  const bool agreed = state_.accepted && !state_.accepted->config.voters.empty();
  state_.config = agreed ? state_.accepted->config : config_.cluster;
  if (config_.start_stopped) flags_ |= kFlagStopped;
  if (config_.start_disabled) flags_ |= kFlagDisabled;
}

void ControlPlane::Impl::start() {
  started_ = now_;
  highest_term_ = state_.term;
  out_->push_back(CloseGate{});
  out_->push_back(DropAddresses{});
  SupportTable table;
  table.serial = 1;
  // Remembering what it accepted is what makes a removal final, also across its own restart [ce 4].
  if (state_.accepted) {
    for (const Member& m : state_.accepted->members) table.entries[m.pnn] = SupportEntry{m.incarnation, m.join};
  }
  support_ = std::move(table);
  out_->push_back(SetSupport{support_});
  election_.start(now_);
}

void ControlPlane::Impl::send(Pnn to, Message message) {
  if (to == self_) {
    inbox_.push_back(std::move(message));
    return;
  }
  out_->push_back(SendControl{to, encode(message)});
}

void ControlPlane::Impl::log(LogLine::Level level, std::string text) {
  out_->push_back(LogLine{level, std::move(text)});
}

std::uint64_t ControlPlane::Impl::persist() {
  out_->push_back(Persist{encode(state_), ++next_ticket_});
  return next_ticket_;
}

// What follows from an event: messages to oneself, timers that are due, and what others must be told.
void ControlPlane::Impl::settle() {
  for (int rounds = 0; rounds < 16; ++rounds) {
    while (!inbox_.empty()) {
      const Message message = std::move(inbox_.front());
      inbox_.pop_front();
      handle(self_, message);
    }
    watch_leader();
    ask_for_newer_view();
    run_election();
    finish_accept();
    if (election_.leading()) lead();
    send_join();
    run_bump();
    run_shutdown();
    run_lock();
    if (inbox_.empty()) break;
  }
  sync();
}

void ControlPlane::Impl::sync() {
  Announcement said;
  said.term = state_.term;
  said.installed = running_;
  said.accepted = accepted_generation();
  said.persisted_installed = state_.installed;
  said.leading = election_.leading();
  said.fresh = !state_.accepted;
  said.leader = leader();
  said.flags = flags_;
  said.capabilities = capabilities_;
  said.config_epoch = cluster().epoch;
  said.file_digest = files().digest;
  said.version = config_.version;
  said.uptime = said_.uptime;
  said.addresses = addresses_;
  const bool rests = rests_on_lock();
  said.rests_on_lock = rests;
  if (!said_once_ || said != said_ || now_ - started_ - said_.uptime >= seconds(5)) {
    said.uptime = now_ - started_;
    said_once_ = true;
    said_ = said;
    out_->push_back(Announce{std::move(said)});
  }
  VoterRule rule;
  rule.voters = cluster().voters;
  rule.needed = votes_needed(cluster());
  if (rests) {
    rule.lock_vote_until = lock_.lease_until;
    lock_gate_until_ = std::max(lock_gate_until_, lock_.lease_until);
  }
  if (rule != voters_told_) {
    voters_told_ = rule;
    out_->push_back(SetVoters{std::move(rule)});
  }
  if (leader() != told_leader_) {
    told_leader_ = leader();
    out_->push_back(LeaderChanged{told_leader_});
  }
}

void ControlPlane::Impl::handle(Pnn from, const Message& message) {
  const auto elected = [&](auto&& step) {
    ElectionOutcome outcome;
    step(outcome);
    apply(std::move(outcome));
  };
  std::visit(
      Match{
          [&](const PreVote& m) {
            elected([&](ElectionOutcome& o) { election_.on_pre_vote(from, m, context(), state_, now_, o); });
          },
          [&](const PreVoted& m) {
            highest_term_ = std::max(highest_term_, m.term);
            if (m.accepted) adopt(*m.accepted);
            elected([&](ElectionOutcome& o) { election_.on_pre_voted(from, m, context(), state_, now_, o); });
          },
          [&](const Vote& m) {
            highest_term_ = std::max(highest_term_, m.term);
            if (election_.leading() && m.term > state_.term) lose_lead(fmt::format("node {} stands in term {}", number(from), m.term));
            elected([&](ElectionOutcome& o) { election_.on_vote(from, m, context(), state_, now_, o); });
          },
          [&](const Voted& m) {
            highest_term_ = std::max(highest_term_, m.term);
            if (m.accepted) adopt(*m.accepted);
            elected([&](ElectionOutcome& o) { election_.on_voted(from, m, context(), now_, o); });
          },
          [&](const AskView&) {
            if (state_.accepted) send(from, AcceptedView{*state_.accepted});
          },
          [&](const AcceptedView& m) { adopt(m.view); },
          [&](const Prepare& m) { on_prepare(from, m); },
          [&](const Prepared& m) { on_prepared(from, m); },
          [&](const PrepareRefused& m) { on_refused(from, m); },
          [&](const Settle& m) {
            if (!pending_ || pending_->view.generation != m.generation || pending_->view.leader != from) return;
            if (const auto done = pending_->settled.find(m.db); done != pending_->settled.end()) {
              send(from, done->second);
            } else if (pending_->settling.insert(m.db).second) {
              out_->push_back(SettleCopy{m});
            }
          },
          [&](const Settled& m) { on_settled_by(from, m); },
          [&](const Install& m) { on_install(from, m); },
          [&](const Installed& m) { on_installed(from, m); },
          [&](const Join& m) { on_join(from, m); },
          [&](const JoinRefused& m) {
            if (join_refused_ != m.reason) log(LogLine::Level::Error, "the leader does not admit this node: " + m.reason);
            join_refused_ = m.reason;
          },
          [&](const Transfer& m) {
            if (m.term < state_.term) return;
            without_leader(Duration{0});
            elected([&](ElectionOutcome& o) { election_.on_transfer(context(), state_, now_, o); });
          },
          [&](const Bump& m) { on_bump(m); },
          [&](const Retired& m) {
            if (m.leaving) membership_.note_leaving(from, incarnation_of(from));
          },
          [&](const Fenced& m) {
            if (m.pnn == from) membership_.note_fenced(m.pnn, m.incarnation);
          },
      },
      message);
}

NodeFlags ControlPlane::Impl::flags_of(Pnn pnn, Instant now) const {
  if (pnn == self_) return flags_;
  const PeerHeartbeats* peer = membership_.peer(pnn);
  if (peer == nullptr || peer->incarnation == 0) return kFlagDisconnected;
  return membership_.alive(pnn, now) ? peer->said.flags & ~kFlagDisconnected : peer->said.flags | kFlagDisconnected;
}

std::vector<std::string> ControlPlane::Impl::status(Instant now) const {
  std::vector<std::string> lines;
  if ((flags_ & kFlagBanned) != 0) lines.emplace_back("this node is banned by the operator");
  if ((flags_ & kFlagStopped) != 0) lines.emplace_back("this node is stopped");
  if (leaving_) lines.emplace_back("shutting down");
  if (state_.accepted && !std::binary_search(cluster().nodes.begin(), cluster().nodes.end(), self_)) {
    lines.emplace_back(stays(self_) ? "this node is not in the configuration yet"
                                    : "this node was removed from the configuration");
  }
  if (election_.leading() && !config_waits_.empty()) lines.push_back("the nodes files are not taken up yet: " + config_waits_);
  if (election_.leading() && step_) lines.push_back("configuration: " + describe_step(*step_));
  std::set<Pnn> here{self_};
  for (const Pnn voter : cluster().voters) {
    if (membership_.reachable(voter, now)) here.insert(voter);
  }
  const bool quorum = is_quorum(cluster(), here, lock_vote());
  if (!quorum) {
    if (cluster().quorum == QuorumMode::Majority) {
      lines.push_back(fmt::format("no quorum: {} of {} nodes here, a majority of {} is needed", here.size(),
                                  cluster().voters.size(), votes_needed(cluster())));
      if (cluster().voters.size() == 2) {
        lines.emplace_back(
            "two nodes by majority survive no loss: set `cluster lock = FILE on the cluster file system`, or add a "
            "third node (a witness will do), so that either node can go on alone");
      }
    } else {
      lines.push_back("no quorum: " + describe_votes(cluster(), here, lock_vote()));
      if (lock_wanted_) lines.push_back(fmt::format("{} is awaited: {}", lock_name(), lock_trouble()));
      if (lock_wanted_ && here.size() == 1) {
        lines.emplace_back("the other node's lock is free when the file system gives that node up; until then nothing is "
                           "served here");
      }
    }
  }
  const bool clean = installed_view_ && accepted() != nullptr && installed_view_->generation == accepted_generation() &&
                     installed_view_->members.size() == cluster().nodes.size();
  for (const Pnn node : cluster().nodes) {
    if (node == self_) continue;
    const std::string trouble = membership_.trouble(node, now);
    if (!trouble.empty()) {
      lines.push_back(fmt::format("{}node {}: {}", installed_view_ ? "" : "waiting for ", number(node), trouble));
    } else if (!clean && left_out_.contains(node)) {
      lines.push_back(fmt::format("node {} is not in the view: {}", number(node), left_out_.at(node)));
    }
  }
  if (cluster().quorum != QuorumMode::LockVote && lock_wanted_ && !lock_.held && !lock_.text.empty()) {
    lines.push_back("cluster lock: " + lock_.text + " (advisory: nothing waits for it)");
  }
  if (quorum && leader() == kNoPnn) lines.emplace_back("no leader: an election is under way");
  if (!join_refused_.empty() && !installed_view_) lines.push_back("not admitted by the leader: " + join_refused_);
  if (const auto* p = std::get_if<Preparing>(&phase_); p != nullptr && election_.leading()) {
    lines.push_back(fmt::format("preparing view {}: {}", to_string(p->view.generation), p->waiting));
  } else if (const auto* s = std::get_if<Settling>(&phase_); s != nullptr && election_.leading()) {
    lines.push_back(fmt::format("view {}: {} copies of databases are being brought up to date",
                                to_string(s->view.generation), s->open.size()));
  } else if (installed_view_ && accepted_generation() > installed_view_->generation) {
    lines.push_back(fmt::format("a view change to {} is under way", to_string(accepted_generation())));
  } else if (!installed_view_ && quorum && leader() != kNoPnn && join_refused_.empty()) {
    lines.push_back(fmt::format("waiting to be taken into the view by node {}", number(leader())));
  }
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    if (peer.largest_gap > timing_.silence / 2) {
      lines.push_back(fmt::format("node {} was once silent for {} ms: if this repeats, use `timing = patient`",
                                  number(peer.pnn), peer.largest_gap.count() / 1000));
    }
  }
  return lines;
}

// ---- the public face -------------------------------------------------------------------------------------

ControlPlane::ControlPlane(ControlPlaneConfig config, PersistedState state)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(state))) {}
ControlPlane::~ControlPlane() = default;
ControlPlane::ControlPlane(ControlPlane&&) noexcept = default;
ControlPlane& ControlPlane::operator=(ControlPlane&&) noexcept = default;

void ControlPlane::start(Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->start(); });
}

void ControlPlane::on_tick(const HeartbeatTable& table, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    impl_->membership_.update(table);
    if (table.clock_jumps > impl_->clock_jumps_) {
      impl_->clock_jumps_ = table.clock_jumps;
      impl_->log(LogLine::Level::Error,
                 "the clock of this machine stood still while others went on: this node comes in as new "
                 "(virtual machine: use clocksource=tsc)");
      impl_->break_continuity(Generation{});
    }
  });
}

void ControlPlane::on_message(Pnn from, Incarnation incarnation, BytesView bytes, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    const ClusterConfig& agreed = impl_->cluster();
    const auto knows = [from](const std::vector<Pnn>& list) { return std::binary_search(list.begin(), list.end(), from); };
    if (!knows(agreed.nodes) && !knows(agreed.voters) && !knows(agreed.old_nodes) && !knows(agreed.old_voters) &&
        !knows(impl_->files().nodes) && !knows(impl_->files().voters)) {
      return;
    }
    auto message = decode_message(bytes);
    if (!message) {
      impl_->log(LogLine::Level::Warning, fmt::format("node {}: {}", number(from), message.error().context));
      return;
    }
    const Incarnation known = impl_->membership_.incarnation_of(from);
    if (incarnation < known) return;  // said by a life that is over
    // What is remembered under its incarnation waits until a heartbeat has introduced it; all of these repeat.
    const bool introduced = std::holds_alternative<PreVote>(*message) || std::holds_alternative<PreVoted>(*message) ||
                            std::holds_alternative<Vote>(*message) || std::holds_alternative<Voted>(*message) ||
                            std::holds_alternative<Fenced>(*message) || known == incarnation;
    if (introduced) impl_->handle(from, *message);
  });
}

void ControlPlane::on_persisted(std::uint64_t ticket, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    impl_->durable_ticket_ = std::max(impl_->durable_ticket_, ticket);
    std::erase_if(impl_->waiting_, [&](Impl::Waiting& w) {
      if (w.ticket > impl_->durable_ticket_) return false;
      impl_->send(w.to, std::move(w.message));
      return true;
    });
    ElectionOutcome outcome;
    impl_->election_.vote_durable(impl_->durable_ticket_, impl_->context(), now, outcome);
    impl_->apply(std::move(outcome));
  });
}

void ControlPlane::on_copies(Generation asked, std::vector<CopyReport> copies,
                             std::vector<std::uint32_t> incomplete_slots, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    auto& pending = impl_->pending_;
    if (!pending || pending->view.generation != asked) return;
    pending->copies = std::move(copies);
    pending->incomplete = std::move(incomplete_slots);
  });
}

void ControlPlane::on_volatile_dropped(std::uint64_t ticket, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    if (ticket == impl_->drop_ticket_ && !impl_->installed_view_) impl_->volatile_clean_ = true;
  });
}

void ControlPlane::on_settled(Generation generation, DatabaseId db, bool ok, std::string reason, Instant now,
                              Actions& out) {
  impl_->event(now, out, [&] {
    auto& pending = impl_->pending_;
    if (!pending || pending->view.generation != generation) return;
    if (reason.size() > kMaxText) reason.resize(kMaxText);
    const Settled answer{generation, db, ok, std::move(reason)};
    pending->settled[db] = answer;
    impl_->send(pending->view.leader, answer);
  });
}

void ControlPlane::on_caught_up(Pnn source, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    if (impl_->catching_up_with_ != source) return;
    impl_->catching_up_with_ = kNoPnn;
    impl_->caught_up_with_ = source;
    impl_->caught_up_at_ = now;
  });
}

void ControlPlane::on_link_gap(Pnn peer, Instant now, Actions& out) {
  request_bump(fmt::format("messages from node {} were lost", number(peer)), now, out);
}

void ControlPlane::on_link_reset(Pnn peer, Incarnation incarnation, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->membership_.note_reset(peer, incarnation); });
}

void ControlPlane::on_fenced(Pnn pnn, Incarnation incarnation, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->membership_.note_fenced(pnn, incarnation); });
}

void ControlPlane::on_lock(const LockStatus& status, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    if (!impl_->lock_wanted_) return;  // released meanwhile
    impl_->lock_ = status;
    ElectionOutcome outcome;
    impl_->election_.vote_durable(impl_->durable_ticket_, impl_->context(), now, outcome);
    impl_->apply(std::move(outcome));
  });
}

void ControlPlane::Impl::bump(std::string reason, Pnn failed) {
  // A new view comes anyway; and what goes wrong before this node is a member, the view change that lets it in will meet.
  if (!installed_view_ && !(pending_ && pending_->member)) return;
  if (reason.size() > kMaxText) reason.resize(kMaxText);
  // Others may use the accepted view before this node does: what was lost may belong to it.
  bump_from_ = accepted_generation();
  bump_why_ = std::move(reason);
  bump_failed_ = failed;
  bumped_at_ = Instant::min();
}

void ControlPlane::request_bump(std::string reason, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->bump(std::move(reason), kNoPnn); });
}

void ControlPlane::report_member(Pnn pnn, std::string reason, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->bump(std::move(reason), pnn); });
}

void ControlPlane::request_recovery(Instant now, Actions& out) {
  request_bump("asked for by the operator", now, out);
}

void ControlPlane::begin_shutdown(Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    if (impl_->leaving_) return;
    impl_->leaving_ = true;
    impl_->leaves_since_ = now;
    impl_->refresh_gate_permission();
  });
}

void ControlPlane::set_flags(NodeFlags flags, Instant now, Actions& out) {
  impl_->event(now, out, [&] {
    impl_->flags_ = flags & (kFlagUnhealthy | kFlagDisabled | kFlagStopped | kFlagBanned);
    impl_->refresh_gate_permission();
  });
}

std::string ControlPlane::set_files(const ClusterConfig& files, Instant now, Actions& out) {
  if (std::string why = objection(impl_->cluster(), files); !why.empty()) return why;
  impl_->event(now, out, [&] { impl_->config_.cluster = files; });
  return {};
}

void ControlPlane::set_capabilities(std::uint32_t capabilities, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->capabilities_ = capabilities; });
}

void ControlPlane::set_addresses(std::vector<std::string> held, Instant now, Actions& out) {
  impl_->event(now, out, [&] { impl_->addresses_ = std::move(held); });
}

Instant ControlPlane::Impl::next_wake() const {
  const Duration beat = timing_.heartbeat;
  Instant wake = now_ + beat;
  const auto by = [&](Instant at) {
    if (at > now_) wake = std::min(wake, at);
  };
  by(membership_.next_loss(now_));
  by(election_.next_wake(context()));
  if (pending_ && !pending_->sent) by(now_ + beat / 4);
  if (leaving_) by(leave_by());
  if (const Pnn now_leads = leader(); now_leads != kNoPnn && now_leads != self_) by(follows_since_ + 3 * beat + Duration(1));
  if (!election_.leading()) return wake;
  by(followed_until());
  std::visit(Match{[](const Steady&) {}, [&](const Gathering& p) { by(p.not_before); },
                   [&](const Preparing& p) {
                     by(p.repeat_at);
                     by(p.check_at);
                     by(p.since + timing_.prepare_limit);
                   },
                   [&](const Settling& p) { by(p.repeat_at); }, [&](const Installing& p) { by(p.repeat_at); }},
             phase_);
  return wake;
}

Instant ControlPlane::next_wake() const {
  if (!impl_->next_wake_) impl_->next_wake_ = impl_->next_wake();
  return *impl_->next_wake_;
}
std::uint64_t ControlPlane::events() const { return impl_->events_; }

const View* ControlPlane::installed_view() const {
  return impl_->installed_view_ ? &*impl_->installed_view_ : nullptr;
}
const View* ControlPlane::accepted_view() const { return impl_->accepted(); }
bool ControlPlane::installed_durable() const { return impl_->durable_ticket_ >= impl_->installed_ticket_; }
Pnn ControlPlane::leader() const { return impl_->leader(); }
bool ControlPlane::leading() const { return impl_->election_.leading(); }
std::uint64_t ControlPlane::term() const { return impl_->state_.term; }
bool ControlPlane::in_recovery() const {
  return !impl_->installed_view_ || impl_->installed_view_->generation != impl_->accepted_generation();
}
NodeFlags ControlPlane::own_flags() const { return impl_->flags_; }
const ClusterConfig& ControlPlane::cluster() const { return impl_->cluster(); }
const ClusterConfig& ControlPlane::files() const { return impl_->files(); }
Incarnation ControlPlane::incarnation() const { return impl_->state_.incarnation; }
NodeFlags ControlPlane::flags_of(Pnn pnn) const { return impl_->flags_of(pnn, impl_->now_); }
std::string ControlPlane::why_disconnected(Pnn pnn) const {
  if ((flags_of(pnn) & kFlagDisconnected) == 0) return {};
  return impl_->membership_.leaving(pnn) ? "it was shut down" : impl_->membership_.trouble(pnn, impl_->now_);
}
std::uint32_t ControlPlane::capabilities_of(Pnn pnn) const {
  if (pnn == impl_->self_) return impl_->capabilities_;
  const PeerHeartbeats* peer = impl_->membership_.peer(pnn);
  return peer == nullptr ? 0 : peer->said.capabilities;
}
std::vector<std::string> ControlPlane::status_reasons(Instant now) const { return impl_->status(now); }
std::string ControlPlane::lock_state(Instant now) const { return impl_->lock_state(now); }
const PersistedState& ControlPlane::state() const { return impl_->state_; }
void ControlPlane::set_test_hooks(const TestHooks& hooks) { impl_->hooks_ = hooks; }

std::string describe(const Action& action) {
  return std::visit(
      Match{
          [](const SendControl& a) {
            const auto message = decode_message(a.bytes);
            return fmt::format("send {} {}", number(a.to), message ? describe(*message) : "?");
          },
          [](const Persist& a) { return fmt::format("persist {}", a.ticket); },
          [](const SetSupport& a) { return fmt::format("support {} ({})", a.table.serial, a.table.entries.size()); },
          [](const SetVoters&) { return std::string("voters"); },
          [](const Announce& a) {
            return fmt::format("announce term {} leader {} installed {} accepted {}", a.said.term, to_string(a.said.leader),
                               to_string(a.said.installed), to_string(a.said.accepted));
          },
          [](const CloseGate&) { return std::string("close gate"); },
          [](const PermitGate&) { return std::string("permit gate"); },
          [](const DropAddresses&) { return std::string("drop addresses"); },
          [](const DropVolatile& a) { return fmt::format("drop volatile {}", a.ticket); },
          [](const PrepareView& a) {
            return fmt::format("prepare {}{}", to_string(a.view.generation), a.continuity_broken ? " anew" : "");
          },
          [](const AskCopies& a) { return "ask copies for " + to_string(a.generation); },
          [](const CatchUp& a) { return fmt::format("catch up with {}", to_string(a.source)); },
          [](const SettleCopy& a) { return fmt::format("settle {} from {}", a.what.name, to_string(a.what.source)); },
          [](const InstallView& a) { return "install " + to_string(a.view.generation); },
          [](const BecameLeader& a) { return fmt::format("leader in term {}", a.term); },
          [](const LostLeader& a) { return "lost lead: " + a.why; },
          [](const ViewInstalledByAll& a) { return "installed by all " + to_string(a.view.generation); },
          [](const LeaderChanged& a) { return "leader is " + to_string(a.leader); },
          [](const LockTry& a) { return fmt::format("hold lock, term {}{}", a.record.term, a.record.in_use ? " in use" : ""); },
          [](const LockRelease&) { return std::string("release lock"); },
          [](const LogLine& a) { return "log " + a.text; },
          [](const ShutdownReady&) { return std::string("shutdown ready"); },
      },
      action);
}

}  // namespace tdbmesh::recovery
