#include "tests/sim/record_client.h"

#include <fmt/format.h>

#include "db/base/hash.h"
#include "tests/sim/node_cluster.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

namespace {

const std::string kCounters = "counters.tdb";
const std::string kDelegated = "delegated.tdb";

Bytes value_of(GhostLog::Version version, std::size_t padding) {
  ByteWriter out;
  out.put(version).put_zeros(padding);
  return std::move(out).take();
}

GhostLog::Version version_in(BytesView value) { return RecordClient::version_of(value); }

}  // namespace

const std::vector<GhostLog::Key>& RecordClient::all_keys() {
  static const std::vector<GhostLog::Key> keys = [] {
    std::vector<GhostLog::Key> all;
    for (int i = 0; i < 5; ++i) all.emplace_back(database_id(kCounters), fmt::format("counter {}", i));
    for (int i = 0; i < 3; ++i) all.emplace_back(database_id(kDelegated), fmt::format("shared {}", i));
    return all;
  }();
  return keys;
}

const std::string& RecordClient::counters() { return kCounters; }

GhostLog::Version RecordClient::version_of(BytesView value) {
  if (value.empty()) return 0;
  ByteReader in(value);
  return in.get<GhostLog::Version>();
}

RecordClient::RecordClient(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) {
  want({kCounters, DatabaseKind::Volatile, false});
  want({kDelegated, DatabaseKind::Volatile, true});
}

void RecordClient::start_round() {
  in_round_ = true;
  for (const GhostLog::Key& key : all_keys()) {
    round_.push_back({key, Wish::Write});
    round_.push_back({key, Wish::Read});
  }
}

void RecordClient::delete_all() {
  for (const GhostLog::Key& key : all_keys()) round_.push_back({key, Wish::Delete});
}

void RecordClient::next() {
  doing_ = "thinking";
  if (in_round_ && round_.empty()) return later(milliseconds(20), [this] { next(); });
  const Duration think = random().chance(20) ? random().up_to(milliseconds(60)) : random().up_to(milliseconds(4));
  later(think, [this] {
    if (!in_round_ && random().chance(400)) return die("at random");
    Task task;
    if (in_round_) {
      task = round_.front();
    } else {
      const auto& keys = all_keys();
      const std::size_t which = random().below(keys.size());
      task.key = keys[which];
      task.wish = random().chance(3) ? Wish::Read : (which % 2 == 1 && random().chance(3)) ? Wish::Delete : Wish::Write;
    }
    doing_ = fmt::format("{} {}", task.wish == Wish::Read ? "reading" : "writing", task.key.second);
    if (task.wish == Wish::Read) {
      read(task);
    } else {
      write(task);
    }
  });
}

void RecordClient::finished() {
  ++cluster_.counts().operations;
  if (in_round_) round_.pop_front();
  next();
}

bool RecordClient::sees(const Task& task, const GhostLog::Floor& floor, GhostLog::Version version, const char* how) {
  say(fmt::format("'{}': version {} seen {}", task.key.second, version, how));
  const std::string wrong = cluster_.ghost().judge(task.key, floor, version);
  if (!wrong.empty()) cluster_.fail(fmt::format("node {}: {}: {}", number(node_.pnn()), how, wrong));
  return wrong.empty();
}

void RecordClient::ask(const Task& task, std::uint32_t flags, ctdb::CallId callid, Reply reply) {
  ctdb::ReqCall call;
  call.flags = flags;
  call.database = task.key.first;
  call.callid = callid;
  call.key = task.key.second;
  request(call, std::move(reply));
}

// ---- writing --------------------------------------------------------------------------------------------

void RecordClient::write(const Task& task) {
  lock(task.key.first, task.key.second, [this, task] { locked(task); });
}

void RecordClient::locked(const Task& task) {
  MemoryDatabase* db = database(task.key.first);
  if (db == nullptr) return;
  const auto found = db->fetch(task.key.second);
  const bool usable = found && *found && (*found)->header.dmaster == node_.pnn() &&
                      ((*found)->header.flags & kRecordHaveDelegations) == 0;
  if (!usable) {
    unlock(task.key.first, task.key.second);
    return ask(task, ctdb::kCallImmediateMigration, ctdb::CallId::Null, [this, task](const ctdb::Packet& packet) {
      if (std::holds_alternative<ctdb::ReplyCall>(packet.body)) return write(task);
      later(milliseconds(10), [this, task] { write(task); });
    });
  }
  const GhostLog::Version version = version_in((*found)->value);
  if (!sees(task, cluster_.ghost().floor(task.key), version, "under the chain lock")) return;
  cluster_.ghost().observed(task.key, node_.gate_member(), version);
  Duration hold = random().up_to(Duration(500));
  if (random().chance(20)) hold = random().up_to(milliseconds(30));
  if (random().chance(300)) hold = random().up_to(milliseconds(600));
  later(hold, [this, task, header = (*found)->header, value = (*found)->value, version] {
    if (!in_round_ && random().chance(500)) return die("with a chain lock");
    store(task, header, value, version);
  });
}

void RecordClient::store(const Task& task, const RecordHeader& header, const Bytes& value, GhostLog::Version based_on) {
  MemoryDatabase* db = database(task.key.first);
  if (db == nullptr) return;
  if (!gate_open()) {
    // The lock is given back for the wait. Afterwards all must be as it was, or the operation fails.
    const std::uint64_t epoch = db->epoch();
    unlock(task.key.first, task.key.second);
    return when_gate_open([this, task, header, value, based_on, epoch] {
      lock(task.key.first, task.key.second, [this, task, header, value, based_on, epoch] {
        MemoryDatabase* again = database(task.key.first);
        if (again == nullptr) return;
        const auto now = again->fetch(task.key.second);
        if (again->epoch() == epoch && now && *now && (*now)->header == header && (*now)->value == value) {
          return store(task, header, value, based_on);
        }
        unlock(task.key.first, task.key.second);
        later(milliseconds(1), [this, task] { write(task); });
      });
    });
  }
  GhostLog& ghost = cluster_.ghost();
  const bool deletion = task.wish == Wish::Delete;
  const GhostLog::Version version = ghost.next(task.key);
  const GhostLog::Floor floor = ghost.floor(task.key);
  const Bytes bytes = deletion ? Bytes{} : value_of(version, random().below(40));
  const auto stored = client_store(*db, task.key.second, header, bytes);
  if (stored) {
    if (!sees(task, floor, based_on, "when it wrote")) return;
    ghost.wrote(task.key, node_.gate_member(), version, deletion);
    say(fmt::format("'{}': version {} written, rsn {}{}", task.key.second, version, header.rsn, deletion ? ", empty" : ""));
    cluster_.stores_changed();
    if (deletion) {
      ctdb::ReqControl schedule;
      schedule.opcode = ctdb::ControlOpcode::ScheduleForDeletion;
      schedule.flags = ctdb::kControlNoReply;
      schedule.data = encode(ctdb::KeyData{task.key.first, header.rsn, number(header.dmaster), header.flags, task.key.second});
      request(schedule, nullptr);
      if (!alive()) return;
    }
  }
  unlock(task.key.first, task.key.second);
  if (stored) return finished();
  later(milliseconds(10), [this, task] { write(task); });
}

// ---- reading --------------------------------------------------------------------------------------------

void RecordClient::read(const Task& task) {
  MemoryDatabase* db = database(task.key.first);
  if (db == nullptr) return;
  const auto found = db->fetch(task.key.second);
  if (!gate_open()) return when_gate_open([this, task] { read(task); });
  const bool there = found && found->has_value();
  const GhostLog::Floor floor = cluster_.ghost().floor(task.key);
  if (there) {
    const RecordHeader& header = (*found)->header;
    if (header.dmaster == node_.pnn() || (header.flags & kRecordReadOnlyCopy) != 0) {
      if (!sees(task, floor, version_in((*found)->value), "reading locally")) return;
      return finished();
    }
  }
  ask(task, there ? ctdb::kCallWantReadonly : 0, ctdb::CallId::Fetch, [this, task, floor](const ctdb::Packet& packet) {
    const auto* reply = std::get_if<ctdb::ReplyCall>(&packet.body);
    if (reply == nullptr) return later(milliseconds(10), [this, task] { read(task); });
    if (!sees(task, floor, version_in(reply->data), "reading through the daemon")) return;
    finished();
  });
}

}  // namespace tdbmesh::sim
