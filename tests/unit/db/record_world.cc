#include "tests/unit/db/record_world.h"

#include <fmt/format.h>

#include <algorithm>

#include "db/base/match.h"

namespace tdbmesh::test {

using record::Kind;

RecordWorld::RecordWorld(const WorldOptions& options) : options_(options), random_(options.seed) {
  now_ = Instant{} + seconds(1);
  nodes_.resize(options.nodes);
  for (unsigned n = 0; n < options.nodes; ++n) {
    nodes_[n].pnn = Pnn{n};
    boot(nodes_[n]);
  }
  for (std::size_t k = 0; k < options.keys; ++k) {
    versions_[k].push_back(Version{true, true, {}});
  }
}

void RecordWorld::fail(std::string what) {
  if (failure_.empty()) failure_ = fmt::format("seed {}: {}\n{}", options_.seed, what, trace_);
}

template <class... Args>
void RecordWorld::note(const char* format, Args... args) {
  if (options_.trace) trace_ += fmt::format(fmt::runtime(format), args...) + "\n";
}

void RecordWorld::boot(Node& node) {
  node.alive = true;
  ++node.incarnation;
  ++node.continuity;
  node.removed = false;
  node.leaving = node.left = false;
  node.seen.clear();
  node.join = {};
  node.gate = false;
  node.store = std::make_unique<MemoryStore>(64);
  node.database = static_cast<MemoryDatabase*>(*node.store->open("test.tdb", DatabaseKind::Volatile));
  RecordSettings settings;
  settings.vacuum_interval = milliseconds(40);
  settings.hooks.leaving_hands_over_owned_only = options_.plant == Plant::LeaverForgetsCopies;
  settings.hooks.leaving_does_not_ask = options_.plant == Plant::LeaverDoesNotAsk;
  settings.hooks.unstored_leaves_no_backup = options_.plant == Plant::UnstoredLeavesNoBackup;
  node.router = std::make_unique<RecordRouter>(node.pnn, settings);
  node.accepted = node.installed = View{};
  node.clients.assign(options_.clients, Client{});
  node.chain_waits.clear();
  perform(node, node.router->attach(*node.database, now_));
  if (options_.readonly) node.router->find(node.database->id())->set_readonly();
}

void RecordWorld::crash(Node& node) {
  node.alive = false;
  node.gate = node.leaving = node.left = false;
  ++node.continuity;
  node.router.reset();
  node.database = nullptr;
  node.store.reset();
  node.installed = node.accepted = View{};
  for (auto& [ends, link] : links_) {
    if (ends.first == number(node.pnn) || ends.second == number(node.pnn)) link.clear();
  }
  want_view_ = true;
}

// --- what the daemon around the cores does ---------------------------------------------------------------------

void RecordWorld::perform(Node& node, RecordActions actions) {
  for (RecordAction& action : actions) {
    std::visit(Match{
                   [&](SendRecord& send) {
                     tamper(number(node.pnn), number(send.to), encode_record_message(send.message));
                   },
                   [&](AnswerCall& answered) { answer(node, answered); },
                   [&](WaitChain& wait) { node.chain_waits.insert({wait.key, {}}); },
                   [&](Bump& bump) {
                     note("node {} bump: {}", number(node.pnn), bump.reason);
                     want_view_ = true;
                   },
               },
               action);
  }
}

void RecordWorld::tamper(unsigned from, unsigned to, Bytes body) {
  auto& link = links_[{from, to}];
  const Incarnation incarnation = nodes_[from].incarnation;
  if (!nodes_[to].alive) return;
  auto message = *decode_record_message(body);
  switch (options_.plant) {
    case Plant::ForwardWithoutAfter:
      if (auto* forward = std::get_if<record::Forward>(&message.body)) forward->after = 0;
      break;
    case Plant::MigratedFlagLost:
      if (auto* grant = std::get_if<record::Grant>(&message.body)) grant->migrated_with_data = false;
      break;
    case Plant::RevokeSkipped:
      if (auto* revoke = std::get_if<record::Revoke>(&message.body)) {
        RecordMessage reply{message.generation, message.database, record::Revoked{revoke->key}};
        links_[{to, from}].push_back({nodes_[to].incarnation, encode_record_message(reply), 0});
        return;
      }
      break;
    case Plant::MajorityOfAnswers:
      // The last member's answer is not waited for: somebody answers "nothing" for it.
      if (auto* query = std::get_if<record::Query>(&message.body); query != nullptr && to == options_.nodes - 1) {
        RecordMessage reply{message.generation, message.database, record::Answer{query->key, query->round, false, {}}};
        links_[{to, from}].push_back({nodes_[to].incarnation, encode_record_message(reply), 0});
      }
      break;
    default:
      break;
  }
  std::uint64_t version = 0;
  if (const auto* grant = std::get_if<record::Grant>(&message.body)) {
    version = version_of(index_of(grant->key), grant->value);
  }
  link.push_back({incarnation, encode_record_message(message), version});
}

std::size_t RecordWorld::index_of(BytesView k) const { return std::stoul(std::string(k.substr(3))); }

// An empty value says not which deletion it is: at best the newest one there is.
std::uint64_t RecordWorld::version_of(std::size_t k, BytesView value) const {
  if (!value.empty()) return std::stoull(std::string(value));
  std::uint64_t version = newest(k);
  while (!versions_.at(k)[version].removed) --version;
  return version;
}

namespace {

std::string describe(const record::Body& body) {
  return std::visit(
      Match{
          [](const record::Request& m) { return fmt::format("{} q{:x} {}", m.key, m.q, int(m.kind)); },
          [](const record::Forward& m) {
            return fmt::format("{} to {} q{:x} {} after {:x} adopt {}", m.key, number(m.to), m.q, int(m.kind), m.after,
                               m.adopt ? std::to_string(*m.adopt) : "-");
          },
          [](const record::Grant& m) { return fmt::format("{} q{:x} rsn {} '{}'", m.key, m.q, m.rsn, m.value); },
          [](const record::Copy& m) {
            return fmt::format("{} q{:x} rsn {} '{}' {}", m.key, m.q, m.rsn, m.value, m.delegated);
          },
          [](const record::Miss& m) { return fmt::format("{} to {} q{:x} {}", m.key, number(m.to), m.q, int(m.kind)); },
          [](const record::Query& m) { return fmt::format("{} round {}", m.key, m.round); },
          [](const record::Answer& m) {
            return fmt::format("{} round {} own {} rsn {}", m.key, m.round, m.own, m.rsn ? std::to_string(*m.rsn) : "-");
          },
          [](const record::Claim& m) { return fmt::format("{} last {}", m.entries.size(), m.last); },
          [](const record::Revoke& m) { return m.key; },
          [](const record::Revoked& m) { return m.key; },
          [](const record::Tomb& m) { return fmt::format("{} {}", m.entries[0].key, m.entries[0].rsn); },
          [](const record::Purge& m) { return fmt::format("{} {}", m.entries[0].key, m.entries[0].rsn); },
          [](const record::VacuumAck& m) { return fmt::format("{} {}", m.phase, m.entries[0].key); },
          [](const record::Gone& m) { return fmt::format("{} {}", m.key, m.rsn); },
          [](const record::Leaving& m) {
            std::string text = fmt::format("round {}:", m.round);
            for (const auto& e : m.entries) text += fmt::format(" {} rsn {} to {}", e.key, e.rsn, number(e.taker));
            return text;
          },
          [](const record::Keeping& m) {
            std::string text = fmt::format("round {}{}:", m.round, m.leaving ? " leaving" : "");
            for (const bool kept : m.kept) text += kept ? " kept" : " not";
            return text;
          },
      },
      body);
}

}  // namespace

void RecordWorld::deliver(unsigned from, unsigned to) {
  auto& link = links_[{from, to}];
  if (link.empty()) return;
  Packet packet = std::move(link.front());
  link.pop_front();
  Node& node = nodes_[to];
  if (!node.alive) return;
  if (options_.plant == Plant::OldGrantAccepted) {
    auto message = *decode_record_message(packet.body);
    if (std::holds_alternative<record::Grant>(message.body) && message.generation < node.installed.generation) {
      // Accepted as if it were the answer to whatever is asked for now.
      const auto have = node.database->fetch(std::get<record::Grant>(message.body).key);
      const auto& grant = std::get<record::Grant>(message.body);
      if (!(have && *have && (*have)->header.dmaster == node.pnn)) {
        (void)node.database->store(grant.key, RecordHeader{grant.rsn, node.pnn, kRecordMigratedWithData}, grant.value);
      }
    }
  }
  if (options_.trace) {
    const auto decoded = decode_record_message(packet.body);
    note("{} -> {} {} {} {}", from, to, name_of(decoded->body), decoded->generation.serial, describe(decoded->body));
  }
  const auto message = decode_record_message(packet.body);
  const std::uint64_t accepted = node.router->counters().grants_in;
  perform(node, node.router->on_message(Pnn{from}, packet.incarnation, packet.body, now_));
  // A grant counts from when it is accepted, though it may wait for the chain lock.
  if (const auto* grant = std::get_if<record::Grant>(&message->body);
      grant != nullptr && !node.removed && node.router->counters().grants_in == accepted + 1) {
    versions_[index_of(grant->key)][packet.version].had.insert({to, node.continuity});
  }
}

// --- clients ---------------------------------------------------------------------------------------------------

std::uint64_t RecordWorld::newest(std::size_t k, std::uint64_t below, std::optional<Pnn> without) const {
  const auto& versions = versions_.at(k);
  for (std::size_t v = std::min<std::size_t>(versions.size() - 1, below);; --v) {
    if (versions[v].permanent) return v;
    for (const auto& [n, continuity] : versions[v].had) {
      if (nodes_[n].pnn == without) continue;
      if (nodes_[n].alive && !nodes_[n].removed && nodes_[n].continuity == continuity) return v;
    }
  }
}

// What a client sees must be the newest version that any member without interruption ever had; for a read that
// took a while, no older than the newest when it began.
void RecordWorld::check_seen(const Node& node, std::size_t k, BytesView value, std::uint64_t floor, bool exact,
                             std::string_view what) {
  note("{} on node {} sees '{}' in {}", what, number(node.pnn), value, key(k));
  const auto& versions = versions_.at(k);
  const std::uint64_t least = exact ? newest(k) : newest(k, floor);
  if (value.empty()) {
    for (std::uint64_t v = least; v < versions.size(); ++v) {
      if (versions[v].removed) return;
      if (exact) break;
    }
    return fail(fmt::format("{} on node {} finds {} empty, version {} is lost", what, number(node.pnn), key(k), least));
  }
  const std::uint64_t seen = std::stoull(std::string(value));
  if (seen < least) {
    fail(fmt::format("{} on node {} sees version {} of {}, not {}", what, number(node.pnn), seen, key(k), least));
  }
}

void RecordWorld::client_step(Node& node, std::size_t index) {
  Client& client = node.clients[index];
  if (client.doing == Doing::Waiting || client.doing == Doing::WaitingRead) return;
  if (client.doing == Doing::Idle) {
    client.key = random_.below(options_.keys);
    client.remove = options_.vacuum && random_.chance(3);
    if (random_.chance(3)) return start_read(node, client);
    client.doing = Doing::WantLock;
    return;
  }
  if (!node.gate) return;  // the shim waits
  client_work(node, client, index);
}

void RecordWorld::client_work(Node& node, Client& client, std::size_t index) {
  const Bytes k = key(client.key);
  const std::uint64_t id = index + 1;
  if (client.doing == Doing::WantLock) {
    if (node.database->client_try_lock(k, id)) client.doing = Doing::Locked;
    return;
  }
  const auto have = *node.database->fetch(k);
  const bool usable = have && have->header.dmaster == node.pnn && (have->header.flags & kRecordHaveDelegations) == 0;
  if (!usable) {
    node.database->client_unlock(k, id);
    client.doing = Doing::Waiting;
    client.call = CallId{next_call_++};
    perform(node, node.router->client_call(node.database->id(), client.call, k, Kind::Write, now_));
    return;
  }
  check_seen(node, client.key, have->value, 0, true, "writer");
  auto& versions = versions_[client.key];
  const std::uint64_t version = versions.size();
  const Bytes value = client.remove ? Bytes() : std::to_string(version);
  if (node.database->client_store(k, id, have->header, value)) {
    versions.push_back(Version{client.remove, false, {{number(node.pnn), node.continuity}}});
    ++operations_;
    note("node {} writes '{}' to {}", number(node.pnn), value, k);
    if (client.remove) perform(node, node.router->schedule_deletion(node.database->id(), k, now_));
  }
  node.database->client_unlock(k, id);
  client.doing = Doing::Idle;
}

void RecordWorld::start_read(Node& node, Client& client) {
  if (!node.gate) return;
  const Bytes k = key(client.key);
  const auto have = *node.database->fetch(k);
  ++operations_;
  if (have && (have->header.dmaster == node.pnn || (have->header.flags & kRecordReadOnlyCopy) != 0)) {
    return check_seen(node, client.key, have->value, 0, true, "reader");
  }
  client.doing = Doing::WaitingRead;
  client.floor = newest(client.key);
  client.call = CallId{next_call_++};
  perform(node, node.router->client_call(node.database->id(), client.call, k, Kind::Read, now_));
}

void RecordWorld::answer(Node& node, const AnswerCall& answered) {
  // A refusal shows nothing of any record.
  if (!node.gate && answered.status == 0) fail(fmt::format("node {} answers a client with a closed gate", number(node.pnn)));
  for (Client& client : node.clients) {
    if (client.call != answered.call) continue;
    if (answered.status != 0) {
      if (!node.store->faults.full) fail("a client is told that a store has no room, and it has");
      client.doing = Doing::Idle;
    } else if (client.doing == Doing::Waiting) {
      const auto have = *node.database->fetch(key(client.key));
      if (!have || have->header.dmaster != node.pnn || (have->header.flags & 0x0f000000) != 0) {
        fail(fmt::format("node {} answers a writer without the record", number(node.pnn)));
      }
      client.doing = Doing::WantLock;
    } else if (client.doing == Doing::WaitingRead) {
      check_seen(node, client.key, answered.value, client.floor, false, "remote reader");
      client.doing = Doing::Idle;
    } else {
      fail("a call is answered twice");
    }
    client.call = CallId{0};
    return;
  }
  fail("an answer to nobody");
}

void RecordWorld::cut_clients(Node& node) {
  for (std::size_t i = 0; i < node.clients.size(); ++i) {
    Client& client = node.clients[i];
    node.database->client_died(i + 1);
    if (client.call != CallId{0}) {
      perform(node, node.router->client_gone(node.database->id(), client.call, now_));
    }
    client = Client{};
  }
}

// --- the leader ------------------------------------------------------------------------------------------------

void RecordWorld::set_gate(Node& node, bool open) {
  if (node.gate == open || (open && node.leaving)) return;
  node.gate = open;
  if (node.router) perform(node, node.router->gate_changed(open, now_));
}

void RecordWorld::want_view(bool same_members) {
  View view;
  view.generation = Generation{1, ++serial_};
  const View& base = newest_accepted_;
  for (const Node& node : nodes_) {
    if (!node.alive) continue;
    if (node.left) continue;
    // Now and then a live node is left out, as if cut off.
    if (!same_members && options_.view_changes && random_.chance(6) && options_.nodes > 2) continue;
    const Member* before = base.member(node.pnn);
    const bool stays = before != nullptr && before->incarnation == node.incarnation && before->join == node.join &&
                       !node.join.is_none();
    view.members.push_back(Member{node.pnn, node.incarnation, stays ? before->join : view.generation});
  }
  if (view.members.empty()) {  // all that are alive have left: they come back as new
    for (Node& node : nodes_) {
      if (!node.left) continue;
      node.leaving = node.left = false;
      node.join = {};
      perform(node, node.router->drain(false, now_));
    }
    want_view_ = true;
    return;
  }
  for (std::uint32_t slot = 0; slot < options_.nodes; ++slot) {
    Pnn lmaster{slot};
    if (!view.contains(lmaster) || (options_.view_changes && random_.chance(5))) {
      lmaster = view.members[random_.below(view.members.size())].pnn;
    }
    Generation since = view.generation;
    if (slot < base.vnnmap.size() && base.vnnmap[slot].lmaster == lmaster) {
      const Member* was = base.member(lmaster);
      if (was != nullptr && was->join == view.member(lmaster)->join) since = base.vnnmap[slot].since;
    }
    view.vnnmap.push_back(Slot{lmaster, since});
  }
  Change change;
  change.view = view;
  for (const Member& member : view.members) change.to_prepare.insert(member.pnn);
  change_ = std::move(change);
  want_view_ = false;
}

// A node drains: its clients are shut out, and when it says that it is done it may go, and nothing goes with it.
void RecordWorld::leave(Node& node) {
  note("node {} begins to leave", number(node.pnn));
  node.leaving = true;
  set_gate(node, false);
  perform(node, node.router->drain(true, now_));
}

// From the moment in which it says that it is done, a leaver counts as gone: others must have what it had. (Who said
// that he keeps it may have died since: then the record died with its last holder.)
void RecordWorld::look_at_leavers() {
  for (Node& node : nodes_) {
    if (!node.alive || !node.leaving || node.left || !node.router->drained()) continue;
    node.left = want_view_ = true;
    if (node.removed) continue;
    note("node {} has left", number(node.pnn));
    ++left_in_order_;
    const bool all_here =
        std::all_of(node.installed.members.begin(), node.installed.members.end(), [this](const Member& member) {
          const Node& other = nodes_[number(member.pnn)];
          return other.alive && (other.left || !other.removed) && other.incarnation == member.incarnation &&
                 other.join == member.join;
        });
    for (std::size_t k = 0; all_here && k < options_.keys; ++k) {
      const std::uint64_t with = newest(k);
      const std::uint64_t without = newest(k, ~0ull, node.pnn);
      if (with == without || (versions_.at(k)[with].removed && versions_.at(k)[without].removed)) continue;
      fail(fmt::format("node {} leaves in order and takes version {} of {} with it, {} is left", number(node.pnn), with,
                       key(k), without));
    }
    node.removed = true;
  }
}

void RecordWorld::prepare(Node& node) {
  const View& view = change_->view;
  change_->to_prepare.erase(node.pnn);
  const Member& self = *view.member(node.pnn);
  if (!node.alive || self.incarnation != node.incarnation) return;
  const bool broken = self.join != node.join;
  if (broken) {
    set_gate(node, false);
    cut_clients(node);
    node.join = self.join;
    node.removed = false;
    node.leaving = node.left = false;
    node.seen.clear();
    if (options_.plant != Plant::KeepsRecordsOnReturn) ++node.continuity;
  }
  node.accepted = view;
  if (view.generation > newest_accepted_.generation) newest_accepted_ = view;
  node.router->prepare(view, broken && options_.plant != Plant::KeepsRecordsOnReturn, now_);
  if (!node.router->emptied()) fail("not emptied with all clients cut");
  change_->prepared.insert(node.pnn);
  for (const auto slot : node.router->incomplete_slots()) {
    if (view.vnnmap[slot].lmaster == node.pnn) change_->incomplete.insert(slot);
  }
  note("node {} prepared {}", number(node.pnn), view.generation.serial);
}

void RecordWorld::try_install() {
  Change& change = *change_;
  if (!change.installing) {
    if (change.prepared.size() != change.view.members.size()) return;
    for (Node& node : nodes_) {
      if (change.view.contains(node.pnn) || !node.gate) continue;
      if (options_.plant == Plant::InstallWithoutLeases) continue;
      if (!random_.chance(3)) return;  // its lease still runs
      set_gate(node, false);
    }
    change.installing = true;
    for (Node& node : nodes_) node.removed = node.removed || !change.view.contains(node.pnn);
    for (const auto slot : change.incomplete) {
      change.view.vnnmap[slot].since = change.view.generation;
    }
    if (newest_accepted_.generation == change.view.generation) newest_accepted_ = change.view;
    newest_installed_ = change.view;
    change.to_install = change.prepared;
  }
  if (change.to_install.empty()) {
    change_.reset();
    return;
  }
  auto it = change.to_install.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(random_.below(change.to_install.size())));
  Node& node = nodes_[number(*it)];
  change.to_install.erase(it);
  if (!node.alive || node.accepted.generation != change.view.generation) return;
  node.installed = node.accepted = change.view;
  perform(node, node.router->install(change.view, now_));
  const Member* in_newest = newest_accepted_.member(node.pnn);
  if (in_newest != nullptr && in_newest->join == node.join) set_gate(node, true);
  note("node {} installed {}", number(node.pnn), change.view.generation.serial);
}

void RecordWorld::control_step() {
  if (!change_) {
    if (want_view_) want_view(true);
    return;
  }
  if (!change_->to_prepare.empty()) {
    auto it = change_->to_prepare.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(change_->to_prepare.size())));
    Node& node = nodes_[number(*it)];
    if (!node.alive || change_->view.member(*it)->incarnation != node.incarnation) return want_view(true);
    return prepare(node);
  }
  for (const Pnn pnn : change_->prepared) {  // one that died meanwhile: again, without it
    const Node& node = nodes_[number(pnn)];
    if (!change_->installing && (!node.alive || node.incarnation != change_->view.member(pnn)->incarnation)) {
      return want_view(true);
    }
  }
  try_install();
}

// --- one step, and the checks after it -------------------------------------------------------------------------

void RecordWorld::step(bool faults) {
  const std::uint64_t dice = random_.below(100);
  if (faults && options_.crashes && random_.chance(150)) {
    Node& node = nodes_[random_.below(nodes_.size())];
    const auto alive = std::count_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return n.alive; });
    if (node.alive && alive > 1) {
      note("node {} crashes", number(node.pnn));
      crash(node);
    } else if (!node.alive) {
      note("node {} starts", number(node.pnn));
      boot(node);
      want_view_ = true;
    }
  }
  if (faults && options_.view_changes && random_.chance(120)) want_view(random_.chance(2));
  if (faults && options_.losses && random_.chance(200)) {
    const auto ends = std::pair<unsigned, unsigned>(random_.below(nodes_.size()), random_.below(nodes_.size()));
    auto& link = links_[ends];
    if (!link.empty()) {
      note("link {} -> {} loses {}", ends.first, ends.second, link.size());
      link.clear();
      if (options_.plant != Plant::LossWithoutView) want_view_ = true;
    }
  }
  if (faults && options_.leaves && random_.chance(options_.leave_every)) {
    Node& node = nodes_[random_.below(nodes_.size())];
    const auto able = std::count_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return n.alive && !n.leaving; });
    if (node.alive && !node.leaving && able > 1 && node.installed.contains(node.pnn)) leave(node);
  }
  for (Node& node : nodes_) {  // who has left comes back some time
    if (!node.alive || !node.left || newest_accepted_.contains(node.pnn) || (faults && !random_.chance(100))) continue;
    node.leaving = node.left = false;
    perform(node, node.router->drain(false, now_));
    want_view_ = true;
  }
  if (options_.full_stores) {
    Node& node = nodes_[random_.below(nodes_.size())];
    bool* full = node.alive ? &node.store->faults.full : nullptr;
    if (full != nullptr) *full = faults && (*full ? !random_.chance(20) : random_.chance(100));
  }
  if (faults && random_.chance(300)) {  // a lease runs out, and is renewed later
    Node& node = nodes_[random_.below(nodes_.size())];
    const Member* member = newest_accepted_.member(node.pnn);
    if (node.alive && node.gate) {
      set_gate(node, false);
    } else if (node.alive && member != nullptr && member->join == node.join && !node.installed.generation.is_none() &&
               node.installed.generation >= node.join) {
      set_gate(node, true);
    }
  }
  if (dice < 50) {
    const auto from = static_cast<unsigned>(random_.below(nodes_.size()));
    const auto to = static_cast<unsigned>(random_.below(nodes_.size()));
    deliver(from, to);
  } else if (dice < 80) {
    Node& node = nodes_[random_.below(nodes_.size())];
    const std::size_t index = random_.below(options_.clients);
    if (node.alive && (faults || node.clients[index].doing != Doing::Idle)) client_step(node, index);
  } else if (dice < 86) {
    control_step();
  } else if (dice < 92) {
    Node& node = nodes_[random_.below(nodes_.size())];
    if (node.alive && !node.chain_waits.empty()) {
      const Bytes k = node.chain_waits.begin()->first;
      node.chain_waits.erase(node.chain_waits.begin());
      perform(node, node.router->chain_free(node.database->id(), k, now_));
    }
  } else {
    now_ += random_.up_to(milliseconds(random_.chance(4) ? 25 : 1));
    for (Node& node : nodes_) {
      if (node.alive && node.router->next_wake() <= now_) perform(node, node.router->tick(now_));
    }
  }
  observe();
  look_at_leavers();
}

void RecordWorld::observe() {
  for (std::size_t k = 0; k < options_.keys; ++k) {
    auto& versions = versions_[k];
    for (Node& node : nodes_) {
      if (!node.alive || node.removed) continue;
      if (!*node.database->fetch(key(k))) node.seen.erase(k);
      const auto have = *node.database->fetch(key(k));
      if (!have) continue;
      const auto holder = std::pair<unsigned, std::uint64_t>(number(node.pnn), node.continuity);
      // Only what changed is new: an old empty copy is not the newest deletion.
      auto& seen = node.seen[k];
      if (seen == std::pair(have->header.rsn, have->value)) continue;
      seen = {have->header.rsn, have->value};
      versions[version_of(k, have->value)].had.insert(holder);
    }
  }
  check_owners();
}

void RecordWorld::check_owners() {
  owners_before_.resize(options_.keys);
  for (std::size_t k = 0; k < options_.keys; ++k) {
    std::set<std::pair<unsigned, std::uint64_t>> owners;
    unsigned serving = 0;
    unsigned members = 0;
    for (Node& node : nodes_) {
      if (!node.alive || !node.router->find(node.database->id())->owns(key(k))) continue;
      owners.insert({number(node.pnn), node.continuity});
      if (node.gate) ++serving;
      const Member* member = newest_installed_.member(node.pnn);
      if (member != nullptr && member->join == node.join && node.installed.generation == newest_installed_.generation) {
        ++members;
      }
    }
    if (serving > 1 || members > 1) fail(fmt::format("{} owners of {}", owners.size(), key(k)));
    for (const auto& before : owners_before_[k]) {
      // An owner whose record disappeared removed it for good, if it was empty and migrated nowhere.
      const Node& node = nodes_[before.first];
      if (!node.alive || node.continuity != before.second || owners.contains(before)) continue;
      const auto have = *node.database->fetch(key(k));
      const std::uint64_t version = newest(k);
      const bool granted = [&] {
        for (const auto& [ends, link] : links_) {
          for (const Packet& packet : link) {
            const auto message = decode_record_message(packet.body);
            if (const auto* grant = std::get_if<record::Grant>(&message->body); grant && grant->key == key(k)) return true;
          }
        }
        return !owners.empty();
      }();
      if (!have && !granted && versions_[k][version].removed) versions_[k][version].permanent = true;
    }
    owners_before_[k] = owners;
  }
}

RecordCounters RecordWorld::counters() const {
  RecordCounters sum;
  for (const Node& node : nodes_) {
    if (node.alive) sum += node.router->counters();
  }
  return sum;
}

bool RecordWorld::settled() const {
  if (change_ || want_view_) return false;
  for (const auto& [ends, link] : links_) {
    if (!link.empty()) return false;
  }
  return std::all_of(nodes_.begin(), nodes_.end(), [](const Node& node) {
    return !node.alive || std::all_of(node.clients.begin(), node.clients.end(),
                                      [](const Client& client) { return client.doing == Doing::Idle; });
  });
}

std::string RecordWorld::run() {
  for (unsigned i = 0; i < options_.steps && failure_.empty(); ++i) step(true);
  for (Node& node : nodes_) {  // who has not left by now stays
    if (!node.alive || !node.leaving || node.left) continue;
    node.leaving = false;
    perform(node, node.router->drain(false, now_));
  }
  if (options_.plant == Plant::LossWithoutView) want_view_ = false;
  // From here on nothing fails any more: one view of all live nodes, every gate open, everybody gets done.
  if (!change_ && options_.plant != Plant::LossWithoutView) want_view_ = true;
  for (unsigned i = 0; i < 60000 && failure_.empty(); ++i) {
    step(false);
    if (!change_ && !want_view_) {
      bool all_in = true;
      for (Node& node : nodes_) {
        if (!node.alive) continue;
        const Member* member = newest_installed_.member(node.pnn);
        const bool in = member != nullptr && member->join == node.join && member->incarnation == node.incarnation &&
                        node.installed.generation == newest_installed_.generation;
        all_in = all_in && in;
        if (in) set_gate(node, true);
      }
      if (!all_in) want_view_ = true;
    }
    if (settled()) break;
  }
  if (failure_.empty() && !settled()) {
    std::string who;
    for (const Node& node : nodes_) {
      for (const Client& client : node.clients) {
        if (node.alive && client.doing != Doing::Idle) {
          const auto where = node.router->find(node.database->id())->where(key(client.key));
          who += fmt::format("node {} gate {} waits ({}) for {}: directory here {}\n", number(node.pnn), node.gate,
                             static_cast<int>(client.doing), key(client.key), where.directory);
        }
      }
    }
    fail("somebody waits for ever\n" + who);
  }
  if (failure_.empty() && options_.plant == Plant::None && counters().anomalies != 0) fail("messages fitted nothing");
  return failure_;
}

}  // namespace tdbmesh::test
