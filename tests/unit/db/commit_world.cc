#include "tests/unit/db/commit_world.h"

#include <fmt/format.h>

#include <algorithm>

#include "db/base/match.h"

namespace tdbmesh::test {

namespace {
constexpr unsigned kNodes = 3;

template <class Set>
auto pick(const Set& set, Random& random) {
  auto it = set.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(random.below(set.size())));
  return *it;
}
}  // namespace

CommitWorld::CommitWorld(std::uint64_t seed, CommitPlant plant) : seed_(seed), plant_(plant), random_(seed) {
  now_ = Instant{} + seconds(1);
  for (unsigned n = 0; n < kNodes; ++n) {
    nodes_.push_back(std::make_unique<Node>());
    nodes_[n]->pnn = Pnn{n};
    boot(*nodes_[n]);
  }
}

void CommitWorld::fail(std::string what) {
  if (failure_.empty()) failure_ = fmt::format("seed {}: {}", seed_, what);
}

bool CommitWorld::has(const Node& node, const std::string& content) {
  const auto found = node.database->fetch(content);
  return found && *found && (*found)->value == content;
}

void CommitWorld::boot(Node& node) {
  node.alive = true;
  ++node.incarnation;
  node.database = static_cast<MemoryDatabase*>(*node.store.open("secrets.tdb", DatabaseKind::Persistent));
  CommitSettings settings;
  settings.history_commits = 4;
  settings.batch_records = 8;
  node.commits = std::make_unique<Commits>(node.pnn, settings);
  node.view = node.accepted = View{};
  node.join = {};
  node.client = {};
  perform(node, node.commits->attach(*node.database, now_));
  want_view_ = true;
}

void CommitWorld::crash(Node& node) {
  node.alive = false;
  node.commits.reset();
  node.store.crash(random_.below(3));
  node.database = nullptr;
  for (auto& [ends, link] : links_) {
    if (ends.first == number(node.pnn) || ends.second == number(node.pnn)) link.clear();
  }
  want_view_ = true;
}

void CommitWorld::perform(Node& node, CommitActions actions) {
  for (CommitAction& action : actions) {
    std::visit(Match{
                   [&](SendCommit& send) {
                     const unsigned to = number(send.to);
                     const auto* durable = std::get_if<commit::Durable>(&send.message.body);
                     const auto* write = std::get_if<commit::Write>(&send.message.body);
                     if (plant_ == CommitPlant::MajorityDurable && write != nullptr && to == (number(node.pnn) + 1) % kNodes) {
                       CommitMessage forged{send.message.generation, send.message.database, commit::Durable{write->seqnum}};
                       links_[{to, number(node.pnn)}].push_back({nodes_[to]->incarnation, encode_commit_message(forged)});
                     }
                     (void)durable;
                     if (nodes_[to]->alive) {
                       links_[{number(node.pnn), to}].push_back({node.incarnation, encode_commit_message(send.message)});
                     }
                   },
                   [&](SubmitChange& submit) { node.store.worker().submit(submit.ticket, std::move(submit.change)); },
                   [&](CommitAnswer& answer) { answered(node, answer); },
                   [&](Settled&) {
                     if (change_) change_->to_settle.erase(node.pnn);
                   },
                   [&](SettleFailed&) { want_view_ = true; },
                   [](CopiesKnown&) {},
                   [&](CommitTrouble&) { want_view_ = true; },
               },
               action);
  }
}

// --- clients ---------------------------------------------------------------------------------------------------

void CommitWorld::client_step(Node& node) {
  Client& client = node.client;
  if (client.waiting) return;
  if (client.content.empty()) client.content = "commit" + std::to_string(next_content_++);
  client.waiting = true;
  client.id = CommitId{next_id_++};
  RecordBuffer buffer{node.database->id(), {RecordEntry{0, client.content, RecordHeader{1, node.pnn, 0}, client.content}}};
  if (random_.chance(2)) {  // Samba names the next sequence number, the test tools name none
    ByteWriter value;
    value.put<std::uint64_t>(node.commits->sequence_number(node.database->id()) + 1);
    buffer.entries.push_back(RecordEntry{0, Bytes(kSequenceNumberKey), {}, value.bytes()});
  }
  perform(node, node.commits->client_commit(client.id, 7, std::move(buffer), now_));
}

void CommitWorld::answered(Node& node, const CommitAnswer& answer) {
  Client& client = node.client;
  if (!client.waiting || client.id != answer.id) return fail("an answer to nobody");
  client.waiting = false;
  const bool here = has(node, client.content);
  if (answer.status == 0) {
    if (!here) return fail("acknowledged and not even here: " + client.content);
    for (const auto& other : nodes_) {
      if (other->alive && node.view.contains(other->pnn) && other->view.generation == node.view.generation &&
          !has(*other, client.content)) {
        fail(fmt::format("{} is acknowledged and not on node {}", client.content, number(other->pnn)));
      }
    }
  } else if (answer.status == -1 && here) {
    return fail("refused and written: " + client.content);
  }
  if (answer.status == 2) ++cut_;
  // What Samba does after a cut commit: looks at its own copy, and believes it.
  if (answer.status == 0 || here) {
    acknowledged_.insert(client.content);
    client.content.clear();
  }
}

// --- the leader ------------------------------------------------------------------------------------------------

void CommitWorld::propose() {
  View view;
  view.generation = Generation{1, ++serial_};
  std::vector<Node*> alive;
  for (const auto& node : nodes_) {
    if (node->alive) alive.push_back(node.get());
  }
  if (alive.size() < 2) return;  // no majority
  if (alive.size() == 3 && random_.chance(3)) alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(random_.below(3)));
  for (const Node* node : alive) {
    const Member* before = newest_.member(node->pnn);
    const bool stays = before != nullptr && before->incarnation == node->incarnation && before->join == node->join &&
                       !node->join.is_none();
    view.members.push_back(Member{node->pnn, node->incarnation, stays ? before->join : view.generation});
  }
  for (unsigned slot = 0; slot < kNodes; ++slot) {
    view.vnnmap.push_back(Slot{view.members[random_.below(view.members.size())].pnn, view.generation});
  }
  Change change;
  change.view = view;
  for (const Member& member : view.members) change.to_prepare.insert(member.pnn);
  change_ = std::move(change);
  want_view_ = false;
}

void CommitWorld::control_step() {
  if (!change_ || (want_view_ && random_.chance(4))) {
    if (want_view_) propose();
    return;
  }
  Change& change = *change_;
  for (const Member& member : change.view.members) {
    const Node& node = *nodes_[number(member.pnn)];
    if (!node.alive || node.incarnation != member.incarnation) {
      want_view_ = true;
      if (!change.installing) change_.reset();
      if (!change_) return;
    }
  }
  if (!change.to_prepare.empty()) {
    Node& node = *nodes_[number(pick(change.to_prepare, random_))];
    change.to_prepare.erase(node.pnn);
    const Member& self = *change.view.member(node.pnn);
    const bool broken = self.join != node.join;
    node.join = self.join;
    node.accepted = change.view;
    newest_ = change.view;
    node.commits->prepare(change.view, broken, now_);
    if (plant_ == CommitPlant::FailureDuringChange && node.client.waiting) {
      answered(node, CommitAnswer{node.client.id, -1, "view change"});
      node.client.content.clear();
    }
    change.to_report.insert(node.pnn);
  } else if (!change.to_report.empty()) {
    Node& node = *nodes_[number(pick(change.to_report, random_))];
    if (!node.commits->quiet() && plant_ != CommitPlant::VersionsBeforeQuiet) return;
    change.to_report.erase(node.pnn);
    const CopyVersion stored = node.commits->versions().at(node.database->id());
    change.stored[node.pnn] = stored;
    change.effective[node.pnn] = effective_version(stored, node.installed);
  } else if (!change.settling) {
    settle_step();
  } else if (change.to_settle.empty()) {
    install_step();
  }
}

void CommitWorld::settle_step() {
  Change& change = *change_;
  change.settling = true;
  const auto better = [this](const CopyVersion& a, const CopyVersion& b) {
    return plant_ == CommitPlant::HighestSeqnumWins ? a.seqnum > b.seqnum : a > b;
  };
  Pnn best = change.effective.begin()->first;
  for (const auto& [pnn, version] : change.effective) {
    if (better(version, change.effective[best])) best = pnn;
  }
  if (plant_ == CommitPlant::NoSettle) return;
  for (const auto& [pnn, version] : change.stored) {
    if (version == change.stored[best]) continue;
    if (plant_ == CommitPlant::HighestSeqnumWins && version.seqnum == change.stored[best].seqnum) continue;
    change.to_settle.insert(pnn);
    ++settles_;
  }
  for (const Pnn pnn : std::set<Pnn>(change.to_settle)) {
    Node& node = *nodes_[number(pnn)];
    perform(node, node.commits->settle(node.database->id(), best, change.stored[best], now_));
  }
}

// A node outside begins to fetch the copy of a member that goes on committing.
void CommitWorld::catch_up_step() {
  Node& node = *nodes_[random_.below(kNodes)];
  const Node& source = *nodes_[random_.below(kNodes)];
  if (!node.alive || !source.alive || node.pnn == source.pnn || node.view.contains(node.pnn)) return;
  if (change_ && node.accepted.generation == change_->view.generation) return;
  const bool goes_on = source.view.contains(source.pnn) && source.view.generation == source.accepted.generation;
  if (!goes_on || !(source.view.generation > node.installed)) return;
  ++catch_ups_;
  perform(node, node.commits->settle(node.database->id(), source.pnn, CopyVersion{}, now_));
}

void CommitWorld::install_step() {
  Change& change = *change_;
  if (!change.installing) {
    change.installing = true;
    for (const Member& member : change.view.members) {
      change.to_install.insert(member.pnn);
      check_member(*nodes_[number(member.pnn)], "settled");
    }
  }
  if (change.to_install.empty()) {
    change_.reset();
    return;
  }
  Node& node = *nodes_[number(pick(change.to_install, random_))];
  change.to_install.erase(node.pnn);
  if (!node.alive || node.accepted.generation != change.view.generation) return;
  node.view = node.accepted;
  node.installed = node.view.generation;
  perform(node, node.commits->install(node.view, now_));
  perform(node, node.commits->view_durable(now_));
}

// Every acknowledged commit is in the copy of every member of a settled view.
void CommitWorld::check_member(const Node& node, std::string_view when) {
  if (!node.alive) return;
  for (const std::string& content : acknowledged_) {
    if (!has(node, content)) {
      return fail(fmt::format("{} was acknowledged and is not on node {} ({})", content, number(node.pnn), when));
    }
  }
}

void CommitWorld::step(bool faults) {
  if (faults && random_.chance(120)) {
    Node& node = *nodes_[random_.below(kNodes)];
    if (node.alive) {
      crash(node);
    } else {
      boot(node);
    }
  }
  if (faults && random_.chance(150)) want_view_ = true;
  if (faults && random_.chance(200)) {
    auto& link = links_[{static_cast<unsigned>(random_.below(kNodes)), static_cast<unsigned>(random_.below(kNodes))}];
    if (!link.empty()) {
      link.clear();
      want_view_ = true;
      if (change_ && !change_->installing) change_.reset();
    }
  }
  if (random_.chance(20)) catch_up_step();
  const std::uint64_t dice = random_.below(100);
  Node& node = *nodes_[random_.below(kNodes)];
  if (dice < 45) {
    const auto from = static_cast<unsigned>(random_.below(kNodes));
    auto& link = links_[{from, number(node.pnn)}];
    if (link.empty()) return;
    const Packet packet = std::move(link.front());
    link.pop_front();
    if (node.alive) perform(node, node.commits->on_message(Pnn{from}, packet.incarnation, packet.body, now_));
  } else if (dice < 65) {
    if (!node.alive) return;
    for (const MemoryCompletion& done : node.store.worker().complete(1)) {
      perform(node, node.commits->on_durable(done.ticket, done.result, now_));
    }
  } else if (dice < 80) {
    if (node.alive && (faults || !node.client.content.empty())) client_step(node);
  } else if (dice < 97) {
    control_step();
  } else {
    now_ += milliseconds(1);
  }
}

std::string CommitWorld::run(unsigned steps) {
  for (unsigned i = 0; i < steps && failure_.empty(); ++i) step(true);
  for (const auto& node : nodes_) {
    if (!node->alive) boot(*node);
  }
  want_view_ = true;
  const auto finished = [this] {
    if (change_ || want_view_ || newest_.members.size() != kNodes) return false;
    return std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) {
      return !node->client.waiting && node->client.content.empty() && node->commits->quiet();
    });
  };
  for (unsigned i = 0; i < 30000 && failure_.empty() && !finished(); ++i) {
    step(false);
    if (!change_ && newest_.members.size() != kNodes) want_view_ = true;
  }
  if (failure_.empty() && !finished()) fail("somebody waits for ever");
  for (const auto& node : nodes_) {
    if (!failure_.empty()) break;
    check_member(*node, "at the end");
    if (node->database->record_count() != nodes_[0]->database->record_count() ||
        node->database->version() != nodes_[0]->database->version()) {
      fail("the copies differ at the end");
    }
    if (node->commits->sequence_number(node->database->id()) != node->database->version().seqnum) {
      fail("the sequence number record and the version of the copy differ");
    }
  }
  return failure_;
}

}  // namespace tdbmesh::test
