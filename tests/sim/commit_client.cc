#include "tests/sim/commit_client.h"

#include <fmt/format.h>

#include "db/base/hash.h"
#include "tests/sim/node_cluster.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

namespace {

// On this one the lock is left out now and then.
bool races(DatabaseId database) { return database == database_id("registry.tdb"); }

}  // namespace

const std::vector<std::string>& CommitClient::all_names() {
  static const std::vector<std::string> names{"passdb.tdb", "registry.tdb", "lonely.tdb"};
  return names;
}

CommitClient::CommitClient(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) {
  const std::size_t count = all_names().size() - (node.pnn() == Pnn{0} ? 0 : 1);
  for (std::size_t i = 0; i < count; ++i) {
    want({all_names()[i], DatabaseKind::Persistent, false});
    databases_.push_back(id_of(all_names()[i]));
  }
}

void CommitClient::start_round() {
  in_round_ = true;
  round_.assign(databases_.begin(), databases_.end());
}

void CommitClient::died() {
  if (holds_) cluster_.free_database_lock(*holds_, under_way_);
  holds_.reset();
  under_way_ = false;
}

void CommitClient::next() {
  doing_ = "thinking";
  if (in_round_ && round_.empty()) return later(milliseconds(20), [this] { next(); });
  later(random().up_to(milliseconds(120)), [this] {
    if (!in_round_ && random().chance(100)) return die("at random");
    Task task;
    task.database = in_round_ ? round_.front() : databases_[random().below(databases_.size())];
    task.commit = fmt::format("commit {}", cluster_.next_commit());
    if (!in_round_ && races(task.database) && random().chance(4)) return begin_transaction(std::move(task));
    take_lock(std::move(task));
  });
}

void CommitClient::take_lock(Task task) {
  doing_ = "waiting for the lock of " + to_string(task.database);
  if (!cluster_.take_database_lock(task.database)) {
    return later(milliseconds(1) + random().up_to(milliseconds(20)), [this, task] { take_lock(task); });
  }
  holds_ = task.database;
  task.locked = true;
  begin_transaction(std::move(task));
}

void CommitClient::begin_transaction(Task task) {
  MemoryDatabase* db = database(task.database);
  if (db == nullptr) return;
  doing_ = "committing to " + to_string(task.database);
  const auto found = db->fetch(kSequenceNumberKey);
  if (!found) return later(milliseconds(20), [this, task] { begin_transaction(task); });
  task.seqnum = 0;
  task.rsn = 0;
  if (*found) {
    ByteReader in((*found)->value);
    task.seqnum = in.get<std::uint64_t>();
    task.rsn = (*found)->header.rsn;
  }
  later(random().up_to(milliseconds(3)), [this, task] { commit(task); });
}

void CommitClient::commit(Task task) {
  RecordBuffer buffer;
  buffer.database = task.database;
  buffer.entries.push_back({0, task.commit, RecordHeader{1, node_.pnn(), 0}, task.commit});
  ByteWriter seqnum;
  seqnum.put(task.seqnum + 1);
  buffer.entries.push_back({0, Bytes(kSequenceNumberKey), RecordHeader{task.rsn + 1, node_.pnn(), 0}, seqnum.bytes()});
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::Trans3Commit;
  control.data = encode_buffer(buffer);
  ++task.attempts;
  under_way_ = true;
  if (!in_round_ && random().chance(200)) {
    later(random().up_to(milliseconds(10)), [this] {
      if (under_way_) die("during a commit");
    });
  }
  request(control, [this, task](const ctdb::Packet& packet) {
    const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
    answered(task, reply == nullptr ? -1 : reply->status);
  });
}

void CommitClient::answered(Task task, std::int32_t status) {
  under_way_ = false;
  if (status == 0) return committed(task, true);
  MemoryDatabase* db = database(task.database);
  if (db == nullptr) return;
  const auto found = db->fetch(kSequenceNumberKey);
  if (!found) return later(milliseconds(20), [this, task, status] { answered(task, status); });
  std::uint64_t seqnum = 0;
  if (*found) seqnum = ByteReader((*found)->value).get<std::uint64_t>();
  const bool written = node_.store().look(task.database, task.commit).has_value();
  if (status == -1 && written && task.attempts == 1) {
    return cluster_.fail(fmt::format("node {}: commit '{}' was refused and is in the copy", number(node_.pnn()), task.commit));
  }
  if (seqnum == task.seqnum) {
    if (written) {
      return cluster_.fail(fmt::format("node {}: commit '{}' is in the copy but the sequence number is the old one",
                                       number(node_.pnn()), task.commit));
    }
    if (status == 2 && !in_round_ && task.commit.back() % 2 == 0) {
      // Samba gives up and tells its user so.
      cluster_.commit_is_absent(task.database, task.commit);
      return finished(task);
    }
    const Duration pause = status == -1 ? milliseconds(5) : Duration(100);
    return later(pause + random().up_to(milliseconds(5)), [this, task] { commit(task); });
  }
  if (seqnum == task.seqnum + 1) {
    if (written) return committed(task, false);
    // With the lock it must be ours, unless a holder before us died with a commit under way.
    if (task.locked && !races(task.database) && !cluster_.database_lock_unclean(task.database)) {
      return cluster_.fail(fmt::format("node {}: the sequence number says that commit '{}' was written, but its record is not there",
                                       number(node_.pnn()), task.commit));
    }
  }
  finished(task);  // somebody else was faster: Samba reports an error
}

void CommitClient::committed(const Task& task, bool by_answer) {
  cluster_.commit_acknowledged(node_, task.database, task.commit);
  if (by_answer && task.locked) cluster_.database_lock_is_clean(task.database);
  ++cluster_.counts().commits;
  if (in_round_ && !round_.empty() && round_.front() == task.database) round_.pop_front();
  finished(task);
}

void CommitClient::finished(const Task& task) {
  if (task.locked) {
    holds_.reset();
    cluster_.free_database_lock(task.database, false);
  }
  next();
}

}  // namespace tdbmesh::sim
