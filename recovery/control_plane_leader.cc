#include <algorithm>
#include <fmt/format.h>

#include "db/base/plants.h"
#include "recovery/control_plane_impl.h"
#include "recovery/quorum.h"

namespace tdbmesh::recovery {
namespace {

std::string names(const std::vector<Pnn>& pnns) {
  std::string text;
  for (const Pnn pnn : pnns) text += (text.empty() ? "" : ", ") + std::to_string(number(pnn));
  return text;
}

bool inactive(NodeFlags flags) { return (flags & (kFlagStopped | kFlagBanned)) != 0; }

}  // namespace

bool ControlPlane::Impl::Wanted::has(Pnn pnn) const {
  return std::any_of(members.begin(), members.end(), [&](const Proposed& p) { return p.pnn == pnn; });
}

// ---- leading --------------------------------------------------------------------------------------------

void ControlPlane::Impl::become_leader() {
  serial_ = 0;
  phase_ = Steady{};
  ready_.clear();
  broken_.clear();
  prepared_.clear();
  excluded_.clear();  // of an earlier lead of this node; others have led since, and know better
  step_.reset();
  config_waits_.clear();
  recover_why_.clear();
  better_since_ = kNever;
  log(LogLine::Level::Info, fmt::format("leading in term {}", state_.term));
  out_->push_back(BecameLeader{state_.term});
  sync();
}

void ControlPlane::Impl::lose_lead(std::string why) {
  if (!election_.leading()) return;
  phase_ = Steady{};
  left_out_.clear();
  step_.reset();
  without_leader(Duration{0});
  log(LogLine::Level::Warning, "no longer leading: " + why);
  out_->push_back(LostLeader{std::move(why)});
  sync();
}

Instant ControlPlane::Impl::followed_until() const {
  std::vector<Instant> votes;
  for (const Pnn voter : cluster().voters) {
    if (voter == self_) {
      votes.push_back(now_);
    } else if (const PeerHeartbeats* peer = membership_.peer(voter); peer != nullptr) {
      // A new leader's first answered heartbeat is up to a beat away; PREPARED says the same sooner.
      Instant followed = peer->last_followed;
      if (const auto answer = prepared_.find(voter); answer != prepared_.end()) followed = std::max(followed, answer->second);
      if (followed != Instant::min()) votes.push_back(followed);
    }
  }
  if (lock_vote()) votes.push_back(now_);
  const std::size_t needed = votes_needed(cluster());
  if (votes.size() < needed) return Instant::min();
  std::sort(votes.begin(), votes.end(), std::greater<>());
  return votes[needed - 1] + timing_.lease;
}

void ControlPlane::Impl::transfer(const std::string& why, Pnn successor) {
  for (const Pnn pnn : context().ranking) {
    if (successor == kNoPnn && pnn != self_) successor = pnn;
  }
  const std::uint64_t term = state_.term;
  lose_lead(why);
  if (successor != kNoPnn) {
    without_leader(timing_.round);
    send(successor, Transfer{term});
  }
}

// Who, because of the links, gets further than this node: to one of the carriers of commits that this one waits for in
// vain; or, where it waits for none, to a view of more members. Of nodes that are not heard here only what others say of
// them is known, so this may be too good a guess; the other one then knows more, and what it knows makes no node better
// than itself for the same reason (recovery/README.md, "A better leader").
Pnn ControlPlane::Impl::better_leader() const {
  const auto* preparing = std::get_if<Preparing>(&phase_);
  const std::vector<Pnn> carriers = preparing != nullptr ? preparing->carriers : std::vector<Pnn>{};
  if (carriers.empty() && !std::holds_alternative<Steady>(phase_)) return kNoPnn;
  std::set<Pnn> pool;
  for (const Pnn node : cluster().nodes) {
    const auto excluded = excluded_.find(node);
    if (excluded != excluded_.end() && now_ < excluded->second.until) continue;
    const bool heard = *membership_.hears(self_, node, now_);
    if (heard && (!membership_.alive(node, now_) || membership_.leaving(node) || inactive(flags_of(node, now_)))) continue;
    if (heard || membership_.heard_by_anybody(node, now_)) pool.insert(node);
  }
  const auto reached = [&](Pnn from, const auto& nodes) {
    std::set<Pnn> those;
    for (const Pnn node : nodes) {
      if (!membership_.broken(from, node, now_)) those.insert(node);
    }
    return those;
  };
  if (carriers.empty() && reached(self_, pool).size() == pool.size()) return kNoPnn;  // any circle is larger with this node
  std::size_t most = carriers.empty() ? membership_.circle(self_, pool, now_) : 0;
  Pnn best = kNoPnn;
  for (const Pnn pnn : context().ranking) {
    if (pnn == self_ || !is_joint_quorum(cluster(), reached(pnn, cluster().voters), false)) continue;
    if (!carriers.empty() && reached(pnn, carriers).empty()) continue;
    if (reached(pnn, pool).size() <= most) continue;
    if (const std::size_t members = membership_.circle(pnn, pool, now_); members > most) {
      most = members;
      best = pnn;
    }
  }
  return best;
}

bool ControlPlane::Impl::hand_over(const Wanted& w) {
  const bool all = w.members.size() == cluster().nodes.size();
  const Pnn better = all ? kNoPnn : better_leader();
  if (better == kNoPnn) {
    better_since_ = kNever;
    return false;
  }
  better_since_ = std::min(better_since_, now_);
  if (now_ < std::max(better_since_ + timing_.link_patience, handing_over_.held_until(self_))) return false;
  handing_over_.removed(self_, now_);
  transfer(fmt::format("node {} has the links that this node lacks", number(better)), better);
  return true;
}

void ControlPlane::Impl::lead() {
  const Leader role = std::get<Leader>(election_.role());
  const Instant lease = std::max(role.since, Instant(followed_until() == Instant::min()
                                                         ? role.since
                                                         : followed_until() - timing_.lease)) +
                        timing_.lease;
  if (now_ >= lease) return lose_lead("no majority follows");
  if (!eligible(self_)) return transfer("this node may not lead now");

  if (step_ && accepted() != nullptr && accepted()->config.epoch >= step_->epoch) step_.reset();
  Wanted w = wanted();
  if (std::holds_alternative<Steady>(phase_) && change_reason(w).empty()) {
    plan_step();
    if (!election_.leading()) return;
    if (step_) w = wanted();
  }
  left_out_ = w.left_out;
  if (hand_over(w)) return;
  for (int rounds = 0; rounds < 4 && election_.leading(); ++rounds) {
    const std::pair before(phase_.index(), serial_);
    if (std::holds_alternative<Steady>(phase_)) {
      change_why_ = change_reason(w);
      if (!change_why_.empty()) phase_ = Gathering{now_, now_};
    } else if (std::holds_alternative<Gathering>(phase_)) {
      run_gathering(w);
    } else if (std::holds_alternative<Preparing>(phase_)) {
      run_preparing(w);
    } else if (std::holds_alternative<Settling>(phase_)) {
      run_settling(w);
    } else {
      run_installing(w);
    }
    if (std::pair(phase_.index(), serial_) == before) break;
  }
}

// ---- the configuration ------------------------------------------------------------------------------------

// Called when nothing else is to do: a step starts only in a view of this term that is in use.
void ControlPlane::Impl::plan_step() {
  step_.reset();
  config_waits_.clear();
  if (agrees(cluster(), files())) return;
  const View* base = accepted();
  if (base == nullptr || base->generation.term != state_.term) return;
  if (cluster().quorum == QuorumMode::LockVote && lock_record_.in_use) {
    config_waits_ = "the cluster lock still stands in for the other node";
    return;
  }
  std::set<Pnn> reachable{self_};
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    if (!membership_.reachable(peer.pnn, now_)) continue;
    reachable.insert(peer.pnn);
    if (stays(peer.pnn) && peer.said.file_digest != files().digest) {
      config_waits_ = fmt::format("node {} has another nodes file", number(peer.pnn));
      return;
    }
  }
  std::set<Pnn> settled;
  for (const Member& m : base->members) settled.insert(m.pnn);
  std::optional<ClusterConfig> next = next_step(cluster(), files(), reachable, settled);
  if (hooks_.jump_configuration) {
    next = files();
    next->epoch = cluster().epoch + 1;
  }
  if (!next) {
    config_waits_ = "a node that was added has not been a member yet, so it does not vote";
  } else if (!std::binary_search(next->nodes.begin(), next->nodes.end(), self_)) {
    config_waits_ = "this node is to be removed, and nobody else can lead";
  } else if (!is_joint_quorum(*next, reachable, lock_vote())) {
    config_waits_ = describe_step(*next) + ": no majority of the voters then, or of those now, is reachable";
  } else {
    step_ = std::move(next);
  }
}

// Old voters are asked as long as nobody is known to use a view with the new ones.
ClusterConfig ControlPlane::Impl::next_config(Generation known) const {
  if (step_) return *step_;
  ClusterConfig config = cluster();
  if (accepted() != nullptr && known >= accepted_generation()) {
    config.old_nodes.clear();
    config.old_voters.clear();
    config.old_quorum = QuorumMode::Majority;
  }
  return config;
}

// Another machine may come under this number, and it counts its lives anew.
void ControlPlane::Impl::forget(Pnn pnn) {
  membership_.forget(pnn);
  ready_.erase(pnn);
  broken_.erase(pnn);
  installed_by_.erase(pnn);
  excluded_.erase(pnn);
  flap_.forget(pnn);
}

// ---- who should be in the next view ---------------------------------------------------------------------

ControlPlane::Impl::Wanted ControlPlane::Impl::wanted() {
  Wanted w;
  std::map<Pnn, Proposed> chosen;
  for (const Pnn node : (step_ ? *step_ : cluster()).nodes) {
    const PeerHeartbeats* peer = membership_.peer(node);
    if (node == self_) {
      // What holds for the others holds for the leader: who refused its place comes in as new.
      const Generation installed = broken_.contains(self_) ? Generation{} : running_;
      chosen[node] = {node, state_.incarnation, installed, (capabilities_ & kCapabilityLmaster) != 0};
      continue;
    }
    std::string trouble = membership_.trouble(node, now_);
    if (!trouble.empty()) {
      w.left_out[node] = trouble;
      continue;
    }
    if (membership_.leaving(node)) {
      w.left_out[node] = "shutting down";
      continue;
    }
    if (inactive(peer->said.flags)) {
      w.left_out[node] = (peer->said.flags & kFlagBanned) != 0 ? "banned" : "stopped";
      continue;
    }
    const auto excluded = excluded_.find(node);
    if (excluded != excluded_.end() && now_ < excluded->second.until) {
      w.left_out[node] = excluded->second.why;
      continue;
    }
    Proposed p{node, peer->incarnation, peer->said.installed, (peer->said.capabilities & kCapabilityLmaster) != 0};
    const auto installed = installed_by_.find(node);
    if (installed != installed_by_.end() && installed->second.first == p.incarnation) {
      p.installed = std::max(p.installed, installed->second.second);
    }
    const auto broken = broken_.find(node);
    if (broken != broken_.end() && broken->second == p.incarnation) p.installed = Generation{};
    if (!continues(accepted(), p)) {
      const auto ready = ready_.find(node);
      const bool is_ready = ready != ready_.end() && ready->second == p.incarnation;
      if (!is_ready) {
        const Member* was = accepted() != nullptr ? accepted()->member(node) : nullptr;
        if (was != nullptr && was->incarnation == p.incarnation) w.undecided.insert(node);
        w.left_out[node] = "has not asked to join yet";
        continue;
      }
      const Instant held = config_.flap_guard ? flap_.held_until(node) : Instant::min();
      if (now_ < held) {
        w.left_out[node] = fmt::format("comes and goes; admitted again in {} s",
                                       std::chrono::ceil<std::chrono::seconds>(held - now_).count());
        continue;
      }
    }
    chosen[node] = p;
  }
  std::set<Pnn> candidates;
  std::set<Pnn> in_the_view;
  for (const auto& [pnn, p] : chosen) {
    candidates.insert(pnn);
    if (continues(accepted(), p)) in_the_view.insert(pnn);
  }
  for (const Pnn pnn : membership_.not_in_clique(candidates, in_the_view, now_)) {
    w.left_out[pnn] = "no link to another member";
    chosen.erase(pnn);
  }
  for (auto& [pnn, p] : chosen) w.members.push_back(p);
  return w;
}

std::string ControlPlane::Impl::change_reason(const Wanted& w) const {
  if (step_) return describe_step(*step_);
  if (!recover_why_.empty()) return recover_why_;
  const View* base = accepted();
  if (base == nullptr) return "first view";
  if (base->generation.term != state_.term) return "new leader";
  if (!installed_view_ || installed_view_->generation != base->generation) return "a view was left unfinished";
  for (const Member& m : base->members) {
    if (!w.has(m.pnn)) return fmt::format("node {} lost", number(m.pnn));
  }
  for (const Proposed& p : w.members) {
    if (!continues(base, p)) return fmt::format("node {} joins", number(p.pnn));
  }
  const View next = propose_view(base->generation, self_, cluster(), w.members, base, {}, base->generation);
  for (std::size_t i = 0; i < next.vnnmap.size() && i < base->vnnmap.size(); ++i) {
    if (next.vnnmap[i].lmaster != base->vnnmap[i].lmaster) return "an lmaster changes";
  }
  if (next.vnnmap.size() != base->vnnmap.size()) return "the number of nodes changes";
  return {};
}

bool ControlPlane::Impl::only_joins(const Wanted& w) const {
  const View* base = accepted();
  if (base == nullptr || base->generation.term != state_.term || !recover_why_.empty()) return false;
  if (!installed_view_ || installed_view_->generation != base->generation) return false;
  return std::all_of(base->members.begin(), base->members.end(), [&](const Member& m) { return w.has(m.pnn); });
}

// P0. Losses do not wait for joiners, but PREPARE waits until the fence will have passed about when it is
// answered: so the quiet phase stays short. A node that is left out alive closes its gate itself.
Instant ControlPlane::Impl::not_before(const Wanted& w, Instant since) const {
  Instant at = since;
  const bool all_here = w.members.size() == cluster().nodes.size();
  bool somebody_runs = installed_view_.has_value();
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    if (membership_.alive(peer.pnn, now_) && !peer.said.installed.is_none()) somebody_runs = true;
  }
  if (!somebody_runs && !all_here) at = std::max(at, since + timing_.cold_wait);
  if (only_joins(w) && !all_here) at = std::max(at, since + timing_.join_wait);
  if (!w.undecided.empty()) at = std::max(at, since + 3 * timing_.heartbeat);
  if (accepted() == nullptr) return at;
  for (const Member& m : accepted()->members) {
    if (w.has(m.pnn) || membership_.alive(m.pnn, now_) || membership_.fenced(m.pnn, m.incarnation)) continue;
    const PeerHeartbeats* peer = membership_.peer(m.pnn);
    if (peer != nullptr) at = std::max(at, peer->last_supported + timing_.fence() - milliseconds(20));
  }
  return at;
}

bool ControlPlane::Impl::quorum_reachable() const {
  std::set<Pnn> here{self_};
  for (const Pnn voter : cluster().voters) {
    if (membership_.reachable(voter, now_)) here.insert(voter);
  }
  return is_quorum(cluster(), here, lock_vote());
}

// ---- P0, P1 ---------------------------------------------------------------------------------------------

void ControlPlane::Impl::run_gathering(const Wanted& w) {
  auto& gathering = std::get<Gathering>(phase_);
  change_why_ = change_reason(w);
  if (change_why_.empty()) {
    phase_ = Steady{};
    return;
  }
  gathering.not_before = not_before(w, gathering.since);
  if (now_ < gathering.not_before || !quorum_reachable()) return;
  propose(w, change_why_);
}

void ControlPlane::Impl::propose(const Wanted& w, const std::string& why) {
  Generation known = state_.installed;
  for (const PeerHeartbeats& peer : membership_.table().peers) {
    known = std::max(known, peer.said.persisted_installed);
  }
  Preparing p;
  p.view = propose_view(Generation{state_.term, ++serial_}, self_, next_config(known), w.members, accepted(), incomplete_, known);
  p.proposed = p.since = p.repeat_at = now_;
  std::string members;
  for (const Member& m : p.view.members) members += fmt::format(" {}", number(m.pnn));
  log(LogLine::Level::Info, fmt::format("view {}:{} ({})", to_string(p.view.generation), members, why));
  change_why_ = why;
  if (config_.flap_guard && accepted() != nullptr) {
    for (const Member& m : accepted()->members) {
      if (!p.view.contains(m.pnn) && !membership_.alive(m.pnn, now_)) flap_.removed(m.pnn, now_);
    }
  }
  phase_ = std::move(p);
}

// Why the proposal cannot be carried through as it is; empty if it can.
std::string ControlPlane::Impl::broken_proposal(const View& view, const Wanted& w) const {
  for (const Member& m : view.members) {
    const auto is = std::find_if(w.members.begin(), w.members.end(), [&](const Proposed& p) { return p.pnn == m.pnn; });
    if (is == w.members.end()) {
      // In P1 to P4 a joiner has no installed view under its new join; that alone does not disqualify it.
      if (w.undecided.contains(m.pnn)) continue;
      return fmt::format("node {} lost meanwhile", number(m.pnn));
    }
    if (is->incarnation != m.incarnation) return fmt::format("node {} restarted meanwhile", number(m.pnn));
    const auto broken = broken_.find(m.pnn);
    if (broken != broken_.end() && broken->second == m.incarnation && m.join != view.generation) {
      return fmt::format("node {} has to come in as new", number(m.pnn));
    }
  }
  return {};
}

void ControlPlane::Impl::exclude(Pnn pnn, const std::string& why) {
  if (pnn == self_) return;
  Excluded& e = excluded_[pnn];
  if (now_ < e.until) return;
  e.wait = std::clamp<Duration>(e.wait * 2, seconds(1), seconds(60));
  e.until = now_ + e.wait;
  e.why = why;
  log(LogLine::Level::Warning, fmt::format("node {} is left out: {}", number(pnn), why));
}

void ControlPlane::Impl::run_preparing(const Wanted& w) {
  {
    auto& p = std::get<Preparing>(phase_);
    if (const std::string why = broken_proposal(p.view, w); !why.empty()) return propose(w, why);
    // After a hang of this node's own the answers are still to be read: nobody is left out over it.
    if (p.looked_at < now_ - timing_.silence / 2) p.since = std::max(p.since, now_ - timing_.prepare_limit + timing_.silence / 4);
    p.looked_at = now_;
    bool silent = false;
    if (now_ - p.since >= (planted(Plant::ImpatientPrepare) ? timing_.prepare_limit / 100 : timing_.prepare_limit)) {
      for (const Member& m : p.view.members) {
        if (p.reports.contains(m.pnn) || m.pnn == self_) continue;
        exclude(m.pnn, "did not answer PREPARE in time");
        silent = true;
      }
    }
    if (silent) return propose(wanted(), "a member did not answer");
    if (now_ >= p.repeat_at) {
      p.repeat_at = now_ + timing_.heartbeat;
      std::set<Pnn> to;  // whoever is removed by this view hears of it too
      const ClusterConfig& config = p.view.config;
      for (const auto* list : {&config.voters, &config.old_voters, &config.old_nodes}) to.insert(list->begin(), list->end());
      for (const Member& m : p.view.members) to.insert(m.pnn);
      const Prepare message{state_.term, p.view};
      for (const Pnn pnn : to) {
        if (!p.reports.contains(pnn)) send(pnn, message);
      }
    }
  }
  auto& p = std::get<Preparing>(phase_);
  // P2: all members, a majority of voters, the fence, and a copy of every commit that may have been acknowledged.
  p.check_at = kNever;
  p.carriers.clear();
  std::vector<Pnn> missing;
  for (const Member& m : p.view.members) {
    if (!p.reports.contains(m.pnn)) missing.push_back(m.pnn);
  }
  if (!missing.empty()) {
    p.waiting = "waiting for PREPARED of node " + names(missing);
    return;
  }
  std::set<Pnn> yes;
  for (const auto& [pnn, report] : p.reports) {
    if (!report.said.fresh) yes.insert(pnn);
  }
  const bool lock = lock_votes_for(p.view);
  if (!is_joint_quorum(p.view.config, yes, lock)) {
    p.waiting = "no quorum: " + describe_votes(p.view.config, yes, lock);
    return;
  }
  std::set<Pnn> fenced;
  for (const auto* list : {&p.view.config.nodes, &p.view.config.old_nodes}) {
    for (const Pnn node : *list) {
      if (membership_.fenced(node, membership_.incarnation_of(node))) fenced.insert(node);
    }
  }
  Instant passed = hooks_.skip_fence ? Instant::min()
                                     : fence_passed(p.view, p.view.config, p.reports, fenced, timing_);
  if (!is_quorum(p.view.config, yes, false)) passed = std::max(passed, lock_.wait_until);
  if (now_ < passed) {
    p.waiting = "waiting until the lease of a lost node has run out";
    p.check_at = passed;
    return;
  }
  if (const std::vector<Pnn> carriers = missing_carriers(p.view, p.reports);
      !carriers.empty() && !hooks_.skip_carriers) {
    p.carriers = carriers;
    p.waiting = "waiting for one of nodes " + names(carriers) + ": they may hold commits that nobody here has";
    // Retry when another node appears: only then the answer can change.
    for (const Proposed& m : w.members) {
      if (!p.view.contains(m.pnn)) return propose(w, "another node appeared");
    }
    return;
  }
  bool redo = false;
  for (const auto& [pnn, report] : p.reports) {
    for (const std::uint32_t slot : report.said.incomplete_slots) {
      if (slot >= p.view.vnnmap.size()) continue;
      const Slot& s = p.view.vnnmap[slot];
      if (s.lmaster == pnn && s.since != p.view.generation) redo = incomplete_.insert({pnn, slot}).second || redo;
    }
  }
  if (redo) return propose(w, "a directory is incomplete");
  Settling s;
  s.view = std::move(p.view);
  s.reports = std::move(p.reports);
  s.repeat_at = now_;
  s.open = settle_plan(s.view, s.reports);
  phase_ = std::move(s);
}

// ---- P3 -------------------------------------------------------------------------------------------------

void ControlPlane::Impl::run_settling(const Wanted& w) {
  auto& s = std::get<Settling>(phase_);
  if (const std::string why = broken_proposal(s.view, w); !why.empty()) return propose(w, why);
  for (const auto& [key, settle] : s.open) {
    if (settle.source != self_ && !membership_.alive(settle.source, now_)) {
      return propose(w, fmt::format("node {} had the copy and is lost", number(settle.source)));
    }
  }
  if (s.open.empty()) return begin_installing(std::move(s.view));
  if (now_ < s.repeat_at) return;
  s.repeat_at = now_ + 2 * timing_.heartbeat;
  for (const auto& [key, settle] : s.open) {
    const bool leader_first = settle.source == self_ && s.open.contains({self_, settle.db});
    if (!leader_first) send(key.first, settle);
  }
}

void ControlPlane::Impl::on_settled_by(Pnn from, const Settled& m) {
  auto* s = std::get_if<Settling>(&phase_);
  if (!election_.leading() || s == nullptr || m.generation != s->view.generation) return;
  const auto open = s->open.find({from, m.db});
  if (open == s->open.end()) return;
  if (m.ok) {
    s->open.erase(open);
    if (from == self_) s->repeat_at = now_;  // others may have waited for it
    return;
  }
  // A source that cannot deliver, or a member that cannot write. Leaving the member out is safe either way;
  // the leader itself cannot, so it hands over.
  const std::string why = fmt::format("cannot settle {}: {}", open->second.name, m.reason);
  if (from == self_) return transfer(why);
  exclude(from, why);
}

// ---- P4, P5 ---------------------------------------------------------------------------------------------

void ControlPlane::Impl::begin_installing(View view) {
  Installing i;
  i.view = std::move(view);
  i.repeat_at = now_;
  phase_ = std::move(i);
}

void ControlPlane::Impl::run_installing(const Wanted& w) {
  auto& i = std::get<Installing>(phase_);
  if (const std::string why = broken_proposal(i.view, w); !why.empty()) {
    change_why_ = why;
    phase_ = Gathering{now_, now_};
    return;
  }
  if (followed_until() <= now_) return;  // only while the leader's own lease holds
  if (i.installed.size() < i.view.members.size()) {
    if (now_ < i.repeat_at) return;
    i.repeat_at = now_ + timing_.heartbeat;
    const Install message{state_.term, i.view.generation};
    // This node first: a view that only others use would survive its leader's death in more variants.
    if (!i.installed.contains(self_)) on_install(self_, message);
    for (const Member& m : i.view.members) {
      if (m.pnn != self_ && !i.installed.contains(m.pnn)) send(m.pnn, message);
    }
    return;
  }
  recover_why_.clear();
  for (const Member& m : i.view.members) {
    flap_.member(m.pnn, now_);
    excluded_.erase(m.pnn);
    broken_.erase(m.pnn);
    ready_.erase(m.pnn);
  }
  incomplete_.clear();
  for (const Pnn node : i.view.config.old_nodes) {
    const auto& nodes = i.view.config.nodes;
    if (!std::binary_search(nodes.begin(), nodes.end(), node)) forget(node);
  }
  ViewInstalledByAll done{i.view, i.addresses};
  phase_ = Steady{};
  out_->push_back(std::move(done));
}

// ---- answers --------------------------------------------------------------------------------------------

void ControlPlane::Impl::on_prepared(Pnn from, const Prepared& m) {
  auto* p = std::get_if<Preparing>(&phase_);
  if (!election_.leading() || p == nullptr || m.generation != p->view.generation) return;
  p->reports[from] = Report{m, now_};
  prepared_[from] = p->proposed;
}

void ControlPlane::Impl::on_refused(Pnn from, const PrepareRefused& m) {
  highest_term_ = std::max(highest_term_, std::max(m.term, m.accepted.term));
  auto* p = std::get_if<Preparing>(&phase_);
  if (!election_.leading()) return;
  if (m.term > state_.term) return lose_lead("a higher term is known");
  if (p == nullptr || m.generation != p->view.generation) return;
  if (m.why == PrepareRefusal::NeedsJoin) {
    broken_[from] = incarnation_of(from);
    ready_[from] = incarnation_of(from);  // its PREPARED will wait for the emptying
  }
}

void ControlPlane::Impl::on_installed(Pnn from, const Installed& m) {
  auto& known = installed_by_[from];
  const Incarnation life = incarnation_of(from);
  if (known.first != life || known.second < m.generation) known = {life, m.generation};
  auto* i = std::get_if<Installing>(&phase_);
  if (!election_.leading() || i == nullptr || m.generation != i->view.generation) return;  // [ce 11]
  i->installed.insert(from);
  i->addresses[from] = m.addresses;
}

void ControlPlane::Impl::on_join(Pnn from, const Join& m) {
  if (!election_.leading()) return;
  std::string refusal;
  if (m.version != config_.version) {
    refusal = fmt::format("protocol version {} here, {} there", config_.version, m.version);
  } else if (m.file_digest != files().digest) {
    refusal = "its nodes file, or what it says of the quorum, differs from the leader's";
  }
  if (!refusal.empty()) {
    ready_.erase(from);
    excluded_[from] = Excluded{now_ + seconds(1), Duration{0}, refusal};
    send(from, JoinRefused{refusal});
    return;
  }
  ready_[from] = incarnation_of(from);
}

void ControlPlane::Impl::on_bump(const Bump& m) {
  if (!election_.leading() || m.generation < accepted_generation()) return;
  if (m.failed != kNoPnn) {
    if (m.failed == self_) return transfer(m.reason);
    return exclude(m.failed, m.reason);
  }
  if (std::holds_alternative<Steady>(phase_)) recover_why_ = m.reason;
}

}  // namespace tdbmesh::recovery
