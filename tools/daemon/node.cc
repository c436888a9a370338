#include "tools/daemon/node.h"

#include <fmt/format.h>

#include <algorithm>

#include "db/base/check.h"
#include "db/base/match.h"

namespace tdbmesh {
namespace {

constexpr std::size_t kStatisticsSlots = 100;

// Said to every member, whether this node hears it just now or not: nothing but the next view says it again, and a loss
// shows as a gap, which asks for that view.
bool belongs_to_view(const RelayPayload& payload) {
  return std::holds_alternative<RelayAttach>(payload) || std::holds_alternative<RelayAttached>(payload) ||
         std::holds_alternative<RelayDetach>(payload) || std::holds_alternative<RelayDetached>(payload) ||
         std::holds_alternative<RelayTraverse>(payload) || std::holds_alternative<RelayTraverseBatch>(payload);
}

}  // namespace

Node::Node(NodeConfig config, NodeEnvironment& env, recovery::PersistedState state)
    : config_(std::move(config)),
      env_(env),
      control_(config_.control, std::move(state)),
      health_(config_.starts_unhealthy, config_.checks),
      databases_(env.store()),
      records_(config_.self(), config_.records),
      commits_(config_.self(), config_.commits),
      attachments_(*this, databases_, [this](Databases::Attached& attached) { database_opened(attached); },
                   [this](ClientId client) { clients_.uses_databases(client); },
                   [this] {
                     const View* view = control_.installed_view();
                     return view == nullptr ? Generation{} : view->generation;
                   }),
      traverses_(*this, [this](DatabaseId id) { return databases_.database(id); }),
      detaches_(*this, [this](DatabaseId id) { return detach_here(id); },
                [this] { return serving_ ? control_.installed_view() : nullptr; },
                [this](std::string reason) {
                  recovery::Actions actions;
                  control_.request_bump(std::move(reason), now_, actions);
                  run(std::move(actions));
                }),
      remote_controls_(control_.incarnation()),
      restore_(*this, databases_),
      addresses_(config_, env_, *this, control_, tunables_),
      tunables_(config_.tunables),
      debug_level_(config_.debug_level),
      parts_{config_,         env_,         *this,       control_,    clients_,
             databases_,      attachments_, records_,    commits_,    commit_replies_,
             last_commit_,    traverses_,   detaches_,   restore_,    addresses_,  statistics_, statistics_history_,
             tunables_,       debug_level_, serving_,    patience_from_, health_,   decisions_,  ban_ends_,
             started_,        recovery_started_, recovery_finished_} {
  add_cluster_controls(controls_);
  add_database_controls(controls_);
  add_client_controls(controls_);
  add_tunable_controls(controls_);
  add_address_controls(controls_);
  add_event_controls(controls_);
}

Node::~Node() = default;

void Node::start(Instant now) {
  now_ = now;
  patience_from_ = now;
  started_ = env_.wall_clock();
  recovery_started_ = started_;
  statistics_.started.seconds = static_cast<std::int64_t>(started_);
  second_ = now + seconds(1);
  heed_tunables();
  seqnums_ = now + milliseconds(tunables_[ctdb::Tunable::SeqnumInterval]);
  recovery::Actions actions;
  addresses_.start();
  control_.start(now, actions);
  if (!health_.healthy()) control_.set_flags(control_.own_flags() | kFlagUnhealthy, now, actions);
  run(std::move(actions));
  NodeHealth::Actions health;
  health_.start(health);
  run(health);
  (void)open_what_is_on_disk();
  tick_control();
}

// A copy that is on disk and cannot be read must not pass for one that is not there: until all are open this node
// reports no copies, so that no view counts on it (or, alone, comes about at all).
bool Node::open_what_is_on_disk() {
  if (disk_opened_) return true;
  if (now_ < open_again_) return false;
  const auto existing = env_.store().existing();
  std::string trouble = existing ? std::string() : existing.error().context;
  if (existing) {
    for (const auto& [name, kind] : *existing) {
      const auto opened = attachments_.open(name, kind);
      if (!opened) trouble = fmt::format("database {} cannot be opened: {}", name, opened.error().context);
    }
  }
  if (!trouble.empty() && trouble != disk_trouble_) env_.log(LogLevel::Error, trouble);
  disk_trouble_ = std::move(trouble);
  disk_opened_ = disk_trouble_.empty();
  open_again_ = disk_opened_ ? kNever : now_ + milliseconds(500);
  return disk_opened_;
}

void Node::begin_turn(Instant now) {
  const bool was_away = now - now_ > config_.control.timing.silence / 2;
  now_ = now;
  look_at_gate();
  // After a hang nobody is judged by the heartbeats as they were before it.
  if (was_away) tick_control();
}

void Node::end_turn() {
  if (!to_self_.empty()) {
    std::deque<RelayPayload> mine;
    mine.swap(to_self_);
    for (const RelayPayload& payload : mine) handle_relay(self(), payload);
  }
  answer_trivial_events();

  if (control_wake() <= now_) tick_control();
  if (records_.next_wake() <= now_) run(records_.tick(now_));
  if (commits_.next_wake() <= now_) run(commits_.tick(now_));
  if (!commits_.knows_view_durable() && control_.installed_view() != nullptr && control_.installed_durable()) {
    run(commits_.view_durable(now_));
  }
  if (restore_.busy()) restore_.tick();
  report_dropped_if_empty();
  report_copies_if_quiet();
  catch_up_tick();
  if (traverses_.next_deadline() <= now_) traverses_.on_deadline(now_);
  if (attachments_.next_deadline() <= now_) attachments_.on_deadline(now_);
  if (detaches_.next_deadline() <= now_) detaches_.on_deadline(now_);
  if (remote_controls_.next_deadline() <= now_) {
    for (const RemoteControls::Pending& late : remote_controls_.expired(now_)) {
      ++statistics_.timeouts.control;
      reply(late.reply, -1, {}, "ctdb_control timed out");
    }
  }
  if (ban_ends_ <= now_) {
    ban_ends_ = kNever;
    stay(kFlagBanned);
  }
  addresses_.end_turn();
  if (seqnums_ <= now_) {
    seqnums_ = now_ + milliseconds(std::max(tunables_[ctdb::Tunable::SeqnumInterval], 10u));
    for (const DatabaseId id : databases_.take_changed_seqnums()) {
      RelayControl update;
      update.opcode = static_cast<std::uint32_t>(ctdb::ControlOpcode::UpdateSeqnum);
      update.flags = ctdb::kControlNoReply;
      update.data = encode_database_id(id);
      for (const Pnn member : members()) {
        if (member != self()) send_relay(member, update);
      }
    }
  }
  tell_missed();
  tick_health();
  note_flags();
  if (second_ <= now_) every_second();
  if (leave_) look_at_leave();
}

Instant Node::control_wake() const { return std::max(control_.next_wake(), no_table_until_); }

Instant Node::next_wake() const {
  if (!to_self_.empty() || !events_done_.empty()) return now_;
  Instant next = std::min({control_wake(), records_.next_wake(), commits_.next_wake(), second_, seqnums_,
                           traverses_.next_deadline(), attachments_.next_deadline(), remote_controls_.next_deadline(),
                           detaches_.next_deadline(), ban_ends_, addresses_.next_wake(), health_.next_wake()});
  if (catching_up_) next = std::min(next, catching_up_->ask_again);
  if (!missed_from_.empty()) next = std::min(next, tell_missed_at_);
  if (!copies_asked_.empty() && commits_.quiet()) next = std::min(next, open_again_);
  if (leave_) next = std::min(next, leave_->until);
  // Steps that found a chain taken try again soon.
  if (restore_.busy() || !drops_asked_.empty()) next = std::min(next, now_ + milliseconds(2));
  return next;
}

// Tunables about records. One that is at its default leaves what the node was configured with.
void Node::heed_tunables() {
  using ctdb::Tunable;
  const auto changed = [this](Tunable t) -> std::optional<std::uint32_t> {
    const std::uint32_t value = tunables_[t];
    return value == ctdb::tunable_table()[static_cast<std::size_t>(t)].initial ? std::nullopt : std::optional(value);
  };
  RecordSettings settings = config_.records;
  if (const auto v = changed(Tunable::VacuumInterval)) settings.vacuum_interval = seconds(std::max(*v, 1u));
  if (const auto v = changed(Tunable::HopcountMakeSticky)) settings.sticky_hops = *v;
  if (const auto v = changed(Tunable::StickyDuration)) settings.sticky_duration = seconds(*v);
  if (const auto v = changed(Tunable::StickyPindown)) settings.sticky_pindown = milliseconds(*v);
  records_.configure(settings);
}

void Node::every_second() {
  second_ = now_ + seconds(1);
  heed_tunables();
  if (control_.leading() && control_.installed_view() != nullptr) {
    ByteWriter leader;
    leader.put(number(self()));
    for (const Pnn peer : connected()) send_message(peer, ctdb::kSrvidLeader, leader.bytes());
  }
  if (!serving_ && now_ - patience_from_ > config_.view_patience) {
    attachments_.refuse_held("this node cannot serve now: see `tdbmesh status -v`");
  }
  ctdb::Statistics slot = statistics_;
  slot.current.seconds = static_cast<std::int64_t>(env_.wall_clock());
  statistics_history_.insert(statistics_history_.begin(), slot);
  if (statistics_history_.size() > kStatisticsSlots) statistics_history_.pop_back();
}

void Node::look_at_gate() {
  const bool open = env_.gate_until() > now_;
  if (open != gate_open_) {
    gate_open_ = open;
    run(records_.gate_changed(open, now_));
    addresses_.gate_changed(open);
  }
  look_at_serving();
}

void Node::look_at_serving() {
  const bool before = serving_;
  serving_ = gate_open_ && control_.installed_view() != nullptr && !control_.in_recovery();
  if (serving_) patience_from_ = now_;
  if (serving_ && !before) attachments_.serve_held();
  tell_health_of_serving();
}

void Node::await_view() { patience_from_ = now_; }

void Node::tick_control() {
  const std::optional<HeartbeatTable> table = env_.heartbeats();
  if (!table) {
    // What is known of the others is too old to act on. The heartbeat thread calls as soon as it runs.
    no_table_until_ = now_ + config_.control.timing.heartbeat / 4;
    return;
  }
  recovery::Actions actions;
  control_.on_tick(*table, now_, actions);
  run(std::move(actions));
  look_at_gate();
  note_peers(*table);
}

void Node::on_heartbeats() { tick_control(); }

// Controls that wait for a node end when it disconnects or does not hear this one any more, but for those that wait until
// it is left out.
void Node::note_peers(const HeartbeatTable& table) {
  std::map<Pnn, ConnectedPeer> present;
  for (const PeerHeartbeats& peer : table.peers) {
    if (!is_connected(peer.pnn)) continue;
    ConnectedPeer& now = present[peer.pnn] = {peer.incarnation, now_, peer.hears_me, false};
    const auto before = connected_peers_.find(peer.pnn);
    if (before == connected_peers_.end() || before->second.life != now.life) continue;
    now.since = before->second.since;
    now.has_heard = before->second.has_heard || peer.hears_me;
    // One of the two may just have started.
    now.deaf = !peer.hears_me && (now.has_heard || now_ - now.since >= config_.control.timing.silence);
  }
  for (const auto& [pnn, before] : connected_peers_) {
    const auto now = present.find(pnn);
    if (now == present.end()) env_.peer_lost(pnn);
    if (now == present.end() || now->second.life != before.life) {
      end_controls(pnn, "node is disconnected");
    } else if (!before.deaf && now->second.deaf) {
      end_controls(pnn, "the node does not hear this one");
    }
  }
  for (const auto& [pnn, now] : present) {
    const auto before = connected_peers_.find(pnn);
    if (before == connected_peers_.end() || before->second.life != now.life) ask_again(pnn);
  }
  connected_peers_ = std::move(present);
}

void Node::ask_again(Pnn pnn) {
  for (const RelayControl& question : remote_controls_.to_ask_again(pnn)) send_relay(pnn, question);
}

void Node::end_controls(Pnn pnn, const std::string& why) {
  for (const RemoteControls::Pending& pending : remote_controls_.lost(pnn)) reply(pending.reply, -1, {}, why);
}

// ---- other nodes ----

void Node::on_message(Pnn from, Incarnation incarnation, MessageKind kind, BytesView body) {
  ++statistics_.node_packets_recv;
  switch (kind) {
    case MessageKind::Control: {
      // The control plane judges a message by what the heartbeats say of its sender at this moment.
      tick_control();
      recovery::Actions actions;
      control_.on_message(from, incarnation, body, now_, actions);
      run(std::move(actions));
      look_at_gate();
      return;
    }
    case MessageKind::Record: {
      ++statistics_.node.req_call;
      return run(records_.on_message(from, incarnation, body, now_));
    }
    case MessageKind::Commit: return run(commits_.on_message(from, incarnation, body, now_));
    case MessageKind::Relay: {
      const Result<RelayPayload> payload = decode_relay(body);
      if (!payload) {
        env_.log(LogLevel::Warning, fmt::format("node {}: {}", to_string(from), payload.error().context));
        return;
      }
      return handle_relay(from, *payload);
    }
    case MessageKind::Address: return addresses_.on_message(from, body);
  }
  env_.log(LogLevel::Warning, fmt::format("node {}: message of an unknown kind", to_string(from)));
}

void Node::on_gap(Pnn peer) {
  recovery::Actions actions;
  control_.on_link_gap(peer, now_, actions);
  run(std::move(actions));
  databases_.bump_seqnums();
  // The answers may be among what was lost. What the other one waits for may be too, and only here that is known.
  answers_may_be_lost(peer);
  missed_from_.insert(peer);
}

// Not more often: into a full queue it would itself be lost, and make the next gap.
void Node::tell_missed() {
  if (missed_from_.empty() || now_ < tell_missed_at_) return;
  tell_missed_at_ = now_ + milliseconds(100);
  for (const Pnn peer : std::exchange(missed_from_, {})) send_relay(peer, RelayMissed{});
}

void Node::answers_may_be_lost(Pnn peer) {
  end_controls(peer, "the connection to the node broke, its answer may be lost");
  ask_again(peer);
}

void Node::on_reset(Pnn peer, Incarnation incarnation) {
  // Or a heartbeat that came before it, and was not looked at yet, would seem to be a later sign of life.
  tick_control();
  recovery::Actions actions;
  control_.on_link_reset(peer, incarnation, now_, actions);
  run(std::move(actions));
}

void Node::on_fenced(Pnn pnn, Incarnation incarnation) {
  recovery::Actions actions;
  control_.on_fenced(pnn, incarnation, now_, actions);
  run(std::move(actions));
}

void Node::handle_relay(Pnn from, const RelayPayload& payload) {
  std::visit(Match{
                 [&](const RelayMessage& m) {
                   ++statistics_.node.req_message;
                   deliver(m.srvid, m.data);
                 },
                 [&](const RelayControl& m) {
                   ++statistics_.node.req_control;
                   ControlRequest request;
                   request.opcode = static_cast<ctdb::ControlOpcode>(m.opcode);
                   request.srvid = Srvid{m.srvid};
                   request.flags = m.flags;
                   request.data = m.data;
                   request.reply.node = from;
                   request.reply.id = m.id;
                   request.reply.wanted = m.id != 0;
                   run_control(request);
                 },
                 [&](const RelayControlReply& m) {
                   ++statistics_.node.reply_control;
                   if (const auto pending = remote_controls_.answered(m.id, from)) {
                     reply(pending->reply, m.status, m.data, m.error);
                   }
                 },
                 [&](const RelayAttach& m) { attachments_.on_message(from, m); },
                 [&](const RelayAttached& m) { attachments_.on_message(from, m); },
                 [&](const RelayDetach& m) { detaches_.on_message(from, m); },
                 [&](const RelayDetached& m) { detaches_.on_message(from, m); },
                 [&](const RelayTraverse& m) { traverses_.on_message(from, m); },
                 [&](const RelayTraverseBatch& m) { traverses_.on_message(from, m); },
                 [&](const RelayMissed&) { answers_may_be_lost(from); },
             },
             payload);
}

// ---- services ----

std::vector<Pnn> Node::members() const {
  std::vector<Pnn> all;
  if (const View* view = control_.installed_view()) {
    for (const Member& member : view->members) all.push_back(member.pnn);
  }
  return all;
}

bool Node::is_member(Pnn pnn) const {
  const std::vector<Pnn> all = members();
  return std::ranges::find(all, pnn) != all.end();
}

bool Node::is_connected(Pnn pnn) const {
  return number(pnn) < config_.nodes.size() && !config_.nodes[number(pnn)].deleted &&
         (pnn == self() || (control_.flags_of(pnn) & kFlagDisconnected) == 0);
}

std::vector<Pnn> Node::connected() const {
  std::vector<Pnn> all;
  for (std::uint32_t i = 0; i < config_.nodes.size(); ++i) {
    if (is_connected(Pnn{i})) all.push_back(Pnn{i});
  }
  return all;
}

void Node::send_relay(Pnn to, const RelayPayload& payload) {
  if (to == self()) {
    to_self_.push_back(payload);
    return;
  }
  // Who waits for an answer is there, even if this node has just started and heard no heartbeat from it yet.
  const bool awaited = std::holds_alternative<RelayControlReply>(payload) || std::holds_alternative<RelayMissed>(payload);
  if (!is_connected(to) && !awaited && !(belongs_to_view(payload) && is_member(to))) return;
  ++statistics_.node_packets_sent;
  env_.link().send(to, MessageKind::Relay, encode_relay(payload));
}

void Node::send_message(Pnn to, Srvid srvid, BytesView data) {
  if (to == self()) return deliver(srvid, data);
  send_relay(to, RelayMessage{srvid, Bytes(data)});
}

std::uint32_t Node::generation_for_clients() const {
  const View* view = control_.installed_view();
  return view == nullptr || !serving_ ? kInvalidClientGeneration : client_generation(view->generation);
}

void Node::database_opened(Databases::Attached& attached) {
  Database& database = *attached.database;
  if (records_.find(database.id()) == nullptr && database.kind() == DatabaseKind::Volatile) {
    run(records_.attach(database, now_));
    run(commits_.attach(database, now_));
    env_.log(LogLevel::Info, fmt::format("attached database {} ({})", database.name(), to_string(database.id())));
  } else if (database.kind() != DatabaseKind::Volatile) {
    run(commits_.attach(database, now_));
    env_.log(LogLevel::Info, fmt::format("attached database {} ({})", database.name(), to_string(database.id())));
  }
  if (Ownership* ownership = records_.find(database.id())) {
    if (attached.readonly) ownership->set_readonly();
    if (attached.sticky) ownership->set_sticky();
  }
}

// Only by Detaches, which sees to it that all members do it and a new view follows.
std::string Node::detach_here(DatabaseId id) {
  const Databases::Attached* attached = databases_.find(id);
  if (attached == nullptr) {
    attachments_.detached(id);
    return {};
  }
  const std::string name = attached->database->name();
  if (attached->database->kind() != DatabaseKind::Volatile) return "database " + name + " is not volatile";
  if (tunables_[ctdb::Tunable::AllowClientDBAttach] != 0) return "AllowClientDBAttach is 1";
  if (restore_.frozen(id)) return "database " + name + " is being wiped or restored";
  if (leave_) return "it is leaving the cluster";
  std::vector<CallId> open;
  for (const auto& [call, what] : calls_) {
    if (what.database == id) open.push_back(call);
  }
  records_.detach(id);
  for (const CallId call : open) {
    AnswerCall answer{call, -1, {}, {}, "the database was detached"};
    answer_call(answer);
  }
  run(commits_.detach(id));
  attachments_.detached(id);
  const Result<void> removed = databases_.detach(id);
  env_.log(LogLevel::Notice, fmt::format("detached database {} ({}){}", name, to_string(id),
                                         removed ? std::string() : ", but: " + removed.error().context));
  return {};
}

// ---- results ----

void Node::on_persisted(std::uint64_t ticket) {
  persisted_.push_back(ticket);
  report_persisted();
}

// A node that is left out and answers PREPARE says by it that its addresses are gone: nobody waits for its lease then. So
// nothing is answered while the kernel may still have them. If that lasts the leader goes on without the answer, and waits.
void Node::report_persisted() {
  while (!persisted_.empty() && !addresses_.holder().dropping()) {
    const std::uint64_t ticket = persisted_.front();
    persisted_.pop_front();
    recovery::Actions actions;
    control_.on_persisted(ticket, now_, actions);
    run(std::move(actions));
  }
  report_durable();
}

void Node::on_durable(std::uint64_t ticket, const Result<void>& result) {
  durable_.emplace_back(ticket, result);
  report_durable();
}

// A write of this view must not count before the view itself does: after a crash the copy would seem newer
// than the node knows itself to be.
void Node::report_durable() {
  while (!durable_.empty() && (control_.installed_view() == nullptr || control_.installed_durable())) {
    const auto [ticket, result] = std::move(durable_.front());
    durable_.pop_front();
    run(commits_.on_durable(ticket, result, now_));
  }
}

void Node::on_chain_free(DatabaseId database, BytesView key) { run(records_.chain_free(database, key, now_)); }

void Node::on_lock(const recovery::LockStatus& status) {
  recovery::Actions actions;
  control_.on_lock(status, now_, actions);
  run(std::move(actions));
}

void Node::on_kernel(const ipfailover::KernelEvent& event) {
  addresses_.on_kernel(event);
  report_persisted();
}

void Node::leave_out(Pnn pnn, const std::string& reason) {
  env_.log(LogLevel::Warning, fmt::format("node {} is left out: {}", to_string(pnn), reason));
  recovery::Actions actions;
  control_.report_member(pnn, reason, now_, actions);
  run(std::move(actions));
}

}  // namespace tdbmesh
