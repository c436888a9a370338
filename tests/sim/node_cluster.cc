#include "tests/sim/node_cluster.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>

#include "db/base/hash.h"
#include "db/base/match.h"
#include "tests/sim/asking_client.h"
#include "tests/sim/commit_client.h"
#include "tests/sim/record_client.h"
#include "tests/sim/talk_client.h"
#include "tests/sim/visitor_client.h"

namespace tdbmesh::sim {

namespace {

double seconds_of(Instant t) { return std::chrono::duration<double>(t.time_since_epoch()).count() - 1000; }

// What a node attached reaches nobody, and all confirm it.
void hide_attached(MessageKind kind, Bytes& body) {
  if (kind != MessageKind::Relay) return;
  const auto payload = decode_relay(body);
  if (!payload) return;
  if (const auto* attach = std::get_if<RelayAttach>(&*payload)) body = encode_relay(RelayAttach{attach->id, {}});
}

// Nobody hears that what it sent did not arrive.
void hide_missed(MessageKind kind, Bytes& body) {
  if (kind == MessageKind::Relay && body == encode_relay(RelayMissed{})) body = encode_relay(RelayMessage{});
}

}  // namespace

NodeCluster::NodeCluster(std::uint64_t seed, ClusterSettings settings)
    : world_(seed),
      settings_(settings),
      network_(
          world_, [this](Pnn to, Pnn from, const SimNetwork::Message& message) { node(to).arrived(from, message); },
          [this](Pnn to, Pnn from) {
            trace(to, fmt::format("gap in what comes from node {}", number(from)));
            node(to).gap(from);
          }),
      lock_(world_),
      silence_(settings.timing.silence / 2) {
  network_.swallow_gaps = settings_.plants.swallow_gaps;
  if (settings_.plants.hide_attached) network_.tamper = hide_attached;
  if (settings_.plants.hide_missed) network_.tamper = hide_missed;
  for (std::uint32_t i = 0; i < settings_.nodes; ++i) {
    const auto ppm = static_cast<std::int64_t>(world_.random().below(20001)) - 10000;
    const MachineClock clock(ppm, seconds(static_cast<std::int64_t>(world_.random().below(1000))));
    nodes_.push_back(std::make_unique<SimNode>(*this, Pnn{i}, clock));
    SimNode* n = nodes_.back().get();
    n->report_unwritten = settings_.plants.lie_about_disk && i + 1 == settings_.nodes;
    if (!settings_.is_witness(Pnn{i})) add_clients(*n);
    world_.after(world_.random().up_to(milliseconds(200)), [n] { n->start(); });
  }
  choose_faults();
}

void NodeCluster::add_clients(SimNode& node) {
  for (std::size_t c = 0; c < settings_.record_clients; ++c) node.add_client(std::make_unique<RecordClient>(*this, node));
  for (std::size_t c = 0; c < settings_.commit_clients; ++c) node.add_client(std::make_unique<CommitClient>(*this, node));
  for (std::size_t c = 0; c < settings_.talk_clients; ++c) node.add_client(std::make_unique<TalkClient>(*this, node));
  if (settings_.asking) node.add_client(std::make_unique<AskingClient>(*this, node, milliseconds(40)));
  if (!settings_.visitors) return;
  node.add_client(std::make_unique<VisitorClient>(*this, node));
  if (node.pnn() == Pnn{0}) node.add_client(std::make_unique<OperatorClient>(*this, node));
}

NodeCluster::~NodeCluster() = default;

void NodeCluster::fail(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = fmt::format("at {:.6f} s: {}", seconds_of(world_.now()), what);
  if (settings_.trace) std::fprintf(stderr, "VIOLATION %s\n", violation_.c_str());
}

void NodeCluster::trace(Pnn pnn, const std::string& what) {
  if (!violation_.empty() && !settings_.trace) return;
  std::string line = fmt::format("{:11.6f} {}.{} {}\n", seconds_of(world_.now()), number(pnn), node(pnn).incarnation(), what);
  if (settings_.trace) std::fputs(line.c_str(), stderr);
  recent_.push_back(std::move(line));
  if (recent_.size() > 60) recent_.pop_front();
}

std::string NodeCluster::recent() const {
  std::string all;
  for (const std::string& line : recent_) all += line;
  return all;
}

// Only record messages: the rest is in the nodes' own log.
void NodeCluster::trace_message(Pnn from, Pnn to, MessageKind kind, BytesView body) {
  if (!settings_.trace || kind != MessageKind::Record) return;
  const auto message = decode_record_message(body);
  if (!message) return;
  const auto one = [&](const char* what, const Bytes& key, const std::string& more = {}) {
    trace(from, fmt::format("-> {} {} '{}' {}", number(to), what, key, more));
  };
  std::visit(Match{
                 [&](const record::Request& m) { one("REQ", m.key, fmt::format("q {}", m.q)); },
                 [&](const record::Forward& m) {
                   one("FWD", m.key, fmt::format("to {} q {} {} after {} adopt {}", number(m.to), m.q,
                                                 m.kind == record::Kind::Write ? "write" : "read", m.after, m.adopt.value_or(0)));
                 },
                 [&](const record::Grant& m) { one("GRANT", m.key, fmt::format("q {} rsn {}", m.q, m.rsn)); },
                 [&](const record::Copy& m) { one("COPY", m.key, fmt::format("q {} rsn {} delegated {}", m.q, m.rsn, m.delegated)); },
                 [&](const record::Miss& m) { one("MISS", m.key, fmt::format("to {} q {}", number(m.to), m.q)); },
                 [&](const record::Query& m) { one("QUERY", m.key, fmt::format("round {}", m.round)); },
                 [&](const record::Answer& m) {
                   one("ANSWER", m.key, fmt::format("round {} own {} rsn {}", m.round, m.own, m.rsn.value_or(0)));
                 },
                 [&](const record::Revoke& m) { one("REVOKE", m.key); },
                 [&](const record::Revoked& m) { one("REVOKED", m.key); },
                 [&](const record::Gone& m) { one("GONE", m.key, fmt::format("rsn {}", m.rsn)); },
                 [&](const auto&) {},
             },
             message->body);
}

// ---- what nodes report --------------------------------------------------------------------------------------

void NodeCluster::note_leader(SimNode& node) {
  if (!node.node().control().leading()) return;
  const std::uint64_t term = node.node().control().term();
  const std::pair who(node.pnn(), node.incarnation());
  const auto [known, fresh] = leaders_.emplace(term, who);
  if (fresh) ++counts_.leaders;
  if (known->second != who) fail(fmt::format("I2: term {} has a second leader, node {}", term, number(node.pnn())));
}

void NodeCluster::note_accepted(SimNode&, const View& view) {
  const auto [known, fresh] = contents_.emplace(view.generation, view);
  if (!fresh && known->second != view) fail("I2: two views under generation " + to_string(view.generation));
}

void NodeCluster::note_installed(SimNode& node, const View& view) {
  note_accepted(node, view);
  if (!newest_ || view.generation > newest_->generation) {
    newest_ = view;
    ghost_.set_view(view);
    ++counts_.views;
  }
  if (view.generation == newest_->generation) {
    check_copy(node, "when it installs the newest view");
    check_absent(node);
  }
  if (disk_lost_ == node.pnn()) {
    // Its new life is worth something once it is durable that it installed a view.
    world_.after(seconds(2), [this, lost = node.pnn()] {
      if (disk_lost_ == lost && this->node(lost).up() && this->node(lost).remembers()) disk_lost_.reset();
    });
  }
}

void NodeCluster::commit_acknowledged(SimNode& node, DatabaseId database, const Bytes& commit) {
  trace(node.pnn(), fmt::format("'{}' on {} is acknowledged", commit, to_string(database)));
  ghost_.acknowledged(database, commit);
  if (!newest_) return;
  for (const Member& member : newest_->members) {
    SimNode& there = this->node(member.pnn);
    if (!there.up() || there.incarnation() != member.incarnation) continue;
    if (there.store().look(database, commit)) continue;
    fail(fmt::format("I3: '{}' on {} is acknowledged at node {} but missing at member {} of view {}", commit,
                     to_string(database), number(node.pnn()), number(member.pnn), to_string(newest_->generation)));
  }
}

void NodeCluster::note_attached(DatabaseId database) {
  if (settings_.store_faults || !newest_) return;  // a store that fails attaches nothing
  world_.after(seconds(4), [this, database, generation = newest_->generation] {
    if (newest_->generation != generation) return;
    for (const Member& member : newest_->members) {
      SimNode& there = node(member.pnn);
      if (!there.up() || there.incarnation() != member.incarnation) continue;
      if (there.store().memory().find(database) != nullptr) continue;
      fail(fmt::format("database {} was attached and member {} of view {} does not have it", to_string(database),
                       number(member.pnn), to_string(generation)));
    }
  });
}

void NodeCluster::note_drained(SimNode& leaver) {
  ++counts_.leaves;
  const View* view = leaver.node().control().installed_view();
  if (view == nullptr || !newest_ || view->generation != newest_->generation) return;
  // Who kept something may have died since, and it with him; that is no fault of the leaver's.
  for (const Member& member : view->members) {
    if (!node(member.pnn).up() || node(member.pnn).incarnation() != member.incarnation) return;
  }
  for (const GhostLog::Key& key : RecordClient::all_keys()) {
    const GhostLog::Version version = ghost_.known_to(key, leaver.pnn());
    bool kept = version == 0 || ghost_.known_to_others(key, leaver.pnn()) >= version;
    for (const Member& member : view->members) {
      if (member.pnn == leaver.pnn()) continue;
      SimNode& other = node(member.pnn);
      const Ownership* records = other.node().records().find(key.first);
      kept = kept || (records != nullptr && records->owns(key.second));
      // In its store, or in memory for want of room.
      const auto in_store = other.store().look(key.first, key.second);
      const auto here = records != nullptr ? records->stored(key.second) : std::nullopt;
      const auto has = [version](const auto& record) { return record && RecordClient::version_of(record->value) >= version; };
      if (!has(in_store) && !has(here)) continue;
      kept = true;
      ghost_.holds(key, member, version);
    }
    if (!kept) {
      fail(fmt::format("I5: node {} leaves in order and takes version {} of '{}' with it", number(leaver.pnn()), version,
                       key.second));
    }
  }
}

bool NodeCluster::take_database_lock(DatabaseId database) { return locked_.insert(database).second; }

void NodeCluster::free_database_lock(DatabaseId database, bool commit_under_way) {
  locked_.erase(database);
  if (commit_under_way) unclean_.insert(database);
}

// ---- checkers -----------------------------------------------------------------------------------------------

void NodeCluster::check() {
  if (settings_.addresses != 0) check_addresses();
  if (!newest_) return;
  check_gates();
  if (settings_.witness) check_witness(*nodes_.back());
  if (std::exchange(stores_changed_, false)) check_owners();
}

void NodeCluster::check_addresses() {
  std::vector<AddressView> machines;
  for (const auto& node : nodes_) machines.push_back(node->addresses());
  if (const std::string wrong = two_owners(machines); !wrong.empty()) fail(wrong);
}

void NodeCluster::check_gates() {
  for (const auto& node : nodes_) {
    if (!node->gate_is_open()) continue;
    const Member* member = newest_->member(node->pnn());
    if (member == nullptr) {
      fail(fmt::format("I6: the gate of node {} is open outside view {}", number(node->pnn()), to_string(newest_->generation)));
    } else if (*member != node->gate_member()) {
      fail(fmt::format("I6: the gate of node {} is open under join {} but view {} has it with join {}",
                       number(node->pnn()), to_string(node->gate_member().join), to_string(newest_->generation),
                       to_string(member->join)));
    }
  }
}

// Clocks run up to 1 % fast or slow.
constexpr Duration nearly(Duration d) { return d * 97 / 100; }

// Whoever is heard again and again within the limit of silence is not called dead, except in its own word: it ended, or
// its event loop hangs. What a node says of others is up to a few heartbeats old.
void NodeCluster::check_called_dead(SimNode& by) {
  if (!settings_.judge_silence) return;
  const Timing& timing = settings_.timing;
  const Instant since = world_.now() - 2 * timing.silence;
  for (const auto& node : nodes_) {
    if (node.get() == &by || !node->up() || unlisted_ == node->pnn()) continue;
    if ((by.node().control().flags_of(node->pnn()) & kFlagDisconnected) == 0) continue;
    if (node->disturbed() > since || silence_.longest(by.pnn(), node->pnn(), since, world_.now()) > nearly(timing.silence)) continue;
    fail(fmt::format("node {} calls node {} disconnected, from which it has heard all the time: {}", number(by.pnn()),
                     number(node->pnn()), by.node().control().why_disconnected(node->pnn())));
  }
}

bool NodeCluster::in_good_standing(const Member& member) {
  const SimNode& node = this->node(member.pnn);
  return node.up() && node.incarnation() == member.incarnation && node.installed() == newest_->generation && node.gate_is_open();
}

// For so long that nobody can have a reason left to leave it out: its daemon and its disk worked, the others hear it and it
// hears them, and nothing between them was held up.
bool NodeCluster::undisturbed(SimNode& node, const View& others) {
  const Timing& timing = settings_.timing;
  const Instant now = world_.now();
  const Duration commit_limit = seconds(5);
  if (node.disturbed() > now - std::max(timing.prepare_limit, commit_limit) - seconds(2)) return false;
  const Instant since = now - timing.link_patience - 2 * timing.silence;
  for (const Member& other : others.members) {
    if (network_.troubled(node.pnn(), other.pnn) > now - timing.prepare_limit - seconds(1)) return false;
    if (silence_.longest(node.pnn(), other.pnn, since, now) > nearly(timing.silence)) return false;
    if (silence_.longest(other.pnn, node.pnn(), since, now) > nearly(timing.silence)) return false;
  }
  return true;
}

// A leader sends PREPARE for this view.
void NodeCluster::note_proposed(SimNode& leader, const View& view) {
  if (view.generation <= proposed_) return;
  proposed_ = view.generation;
  if (!newest_ || !settings_.judge_silence) return;
  for (const Member& member : newest_->members) {
    if (view.contains(member.pnn) || member.pnn == leader.pnn()) continue;
    if (!in_good_standing(member) || !undisturbed(node(member.pnn), view)) continue;
    fail(fmt::format("node {} proposes view {} without node {}, which has given no reason", number(leader.pnn()),
                     to_string(view.generation), number(member.pnn)));
  }
}

void NodeCluster::check_witness(const SimNode& witness) {
  const Pnn pnn = witness.pnn();
  if (newest_->leader == pnn) fail(fmt::format("the witness leads in view {}", to_string(newest_->generation)));
  for (const Slot& slot : newest_->vnnmap) {
    if (slot.lmaster == pnn) fail(fmt::format("the witness is an lmaster in view {}", to_string(newest_->generation)));
  }
}

void NodeCluster::check_owners() {
  std::vector<SimNode*> serving;
  for (const auto& node : nodes_) {
    if (node->gate_is_open()) serving.push_back(node.get());
  }
  if (serving.size() < 2) return;
  for (const GhostLog::Key& key : RecordClient::all_keys()) {
    const SimNode* owner = nullptr;
    for (SimNode* node : serving) {
      const auto record = node->store().look(key.first, key.second);
      if (!record || record->header.dmaster != node->pnn()) continue;
      if (owner != nullptr) {
        fail(fmt::format("I1: nodes {} and {} both own '{}' of {} in view {}", number(owner->pnn()), number(node->pnn()),
                         key.second, to_string(key.first), to_string(newest_->generation)));
      }
      owner = node;
    }
  }
}

void NodeCluster::check_copy(SimNode& node, const char* when) {
  for (const auto& [database, commits] : ghost_.commits()) {
    for (const Bytes& commit : commits) {
      if (node.store().look(database, commit)) continue;
      return fail(fmt::format("I3: '{}' on {} was acknowledged and is missing at node {} {}", commit, to_string(database),
                              number(node.pnn()), when));
    }
  }
}

void NodeCluster::check_absent(SimNode& node) {
  for (const auto& [database, commit] : absent_) {
    if (!node.store().look(database, commit)) continue;
    return fail(fmt::format("I3: '{}' on {} was found absent after a view change and is at node {} now", commit,
                            to_string(database), number(node.pnn())));
  }
}

void NodeCluster::check_copies_equal() {
  for (const std::string& name : CommitClient::all_names()) {
    const DatabaseId id = database_id(name);
    std::optional<ScanBatch> first;
    for (SimNode* node : served()) {
      const MemoryDatabase* database = node->store().memory().find(id);
      if (database == nullptr) return fail(fmt::format("I8: {} is not attached at node {}", name, number(node->pnn())));
      auto all = database->scan({}, ~std::size_t{0});
      if (!all) return fail("I8: a copy cannot be read: " + all.error().context);
      if (!first) {
        first = std::move(*all);
      } else if (first->records != all->records) {
        return fail(fmt::format("I8: the copies of {} at nodes {} and {} differ", name, number(served().front()->pnn()),
                                number(node->pnn())));
      }
    }
  }
}

// Two nodes that do not hear each other are not both members; which one goes is decided once.
bool NodeCluster::to_be_served(Pnn pnn) const {
  if (!lasting_cut_ || (pnn != lasting_cut_->first && pnn != lasting_cut_->second)) return true;
  return newest_ && newest_->contains(pnn);
}

std::vector<SimNode*> NodeCluster::served() {
  std::vector<SimNode*> nodes;
  for (const auto& node : nodes_) {
    if (to_be_served(node->pnn())) nodes.push_back(node.get());
  }
  return nodes;
}

void NodeCluster::check_settled() {
  const Timing& timing = settings_.timing;
  (void)run_for(2 * (timing.silence + timing.link_patience), nullptr);
  const Generation before = newest_->generation;
  (void)run_for(2 * timing.link_patience + seconds(4), nullptr);
  if (newest_->generation != before) {
    fail(fmt::format("I8: the view still changes, {} to {}, with nothing new but a link that is cut one way from node {} to node {}",
                     to_string(before), to_string(newest_->generation), number(lasting_cut_->first), number(lasting_cut_->second)));
  }
}

// ---- the end ------------------------------------------------------------------------------------------------

std::string NodeCluster::why_not_well() {
  std::string why;
  const View* first = nullptr;
  int leaders = 0;
  const std::size_t members = nodes_.size() - (lasting_cut_ ? 1 : 0);
  for (SimNode* node : served()) {
    const auto say = [&](const std::string& what) { why += fmt::format("node {}: {}\n", number(node->pnn()), what); };
    if (!node->up()) {
      say("down");
      continue;
    }
    const recovery::ControlPlane& control = node->node().control();
    leaders += control.leading() ? 1 : 0;
    const View* view = control.installed_view();
    if (view == nullptr || control.in_recovery()) {
      say("in recovery");
      for (const std::string& reason : control.status_reasons(node->local())) say("  " + reason);
      continue;
    }
    if (view->members.size() != members) say(fmt::format("{} members", view->members.size()));
    if (first == nullptr) first = view;
    if (view->generation != first->generation) say("in another view");
    if (!node->gate_is_open()) say("gate closed");
  }
  if (leaders != 1) why += fmt::format("{} leaders\n", leaders);
  std::vector<AddressView> machines;
  for (const auto& node : nodes_) machines.push_back(node->addresses());
  why += not_hosted(sim_addresses(settings_.addresses), machines);
  return why;
}

std::string NodeCluster::why_round_not_done() {
  std::string why;
  for (SimNode* node : served()) {
    for (const auto& client : node->clients()) {
      if (!client->round_done()) why += fmt::format("node {}: a client is {}\n", number(node->pnn()), client->doing());
    }
  }
  return why;
}

bool NodeCluster::run_for(Duration most, const std::function<bool()>& until) {
  const Instant end = world_.now() + most;
  while (violation_.empty() && world_.now() < end) {
    world_.run_until(std::min(end, world_.now() + milliseconds(10)), [this] {
      if (violation_.empty()) check();
    });
    if (violation_.empty() && until && until()) return true;
  }
  return false;
}

bool NodeCluster::run_with_faults(Duration how_long) {
  faults_on_ = true;
  world_.after(milliseconds(1500), [this] { fault(); });
  (void)run_for(how_long, nullptr);
  faults_on_ = false;
  return violation_.empty();
}

bool NodeCluster::run_until_well(Duration well_within, Duration round_within) {
  heal();
  trace(Pnn{0}, "faults end");
  const Instant begin = world_.now();
  if (!run_for(well_within, [this] { return why_not_well().empty(); })) {
    fail("I8: not well after the faults ended:\n" + why_not_well());
    return false;
  }
  counts_.to_well = world_.now() - begin;
  if (lasting_cut_) check_settled();
  const Instant round_begin = world_.now();
  for (SimNode* node : served()) {
    for (const auto& client : node->clients()) client->start_round();
  }
  if (!run_for(round_within, [this] { return why_round_not_done().empty(); })) {
    fail("I8: clients wait for ever:\n" + why_round_not_done());
    return false;
  }
  counts_.round = world_.now() - round_begin;
  (void)run_for(milliseconds(200), nullptr);
  std::vector<TalkClient*> talkers;
  for (SimNode* node : served()) {
    for (const auto& client : node->clients()) {
      if (auto* talker = dynamic_cast<TalkClient*>(client.get())) talkers.push_back(talker);
    }
  }
  for (TalkClient* talker : talkers) talker->start_last_traverse();
  const auto all_traversed = [&] {
    return std::all_of(talkers.begin(), talkers.end(), [](const TalkClient* t) { return t->last_traverse_done(); });
  };
  if (!talkers.empty() && !run_for(round_within + seconds(25), all_traversed)) {
    fail("I8: a traverse does not end");
    return false;
  }
  for (SimNode* node : served()) {
    check_copy(*node, "at the end");
    check_absent(*node);
  }
  check_copies_equal();
  return violation_.empty();
}

}  // namespace tdbmesh::sim
