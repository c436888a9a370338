// Controls about databases.

#include <algorithm>

#include <nlohmann/json.hpp>

#include "tools/daemon/node_parts.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

// libtdb's open flags, as DB_OPEN_FLAGS tells them to clients (client protocol sheet, 3.1).
constexpr std::int32_t kTdbClearIfFirst = 0x1;
constexpr std::int32_t kTdbNoSync = 0x40;
constexpr std::int32_t kTdbSeqnum = 0x80;
constexpr std::int32_t kTdbDisallowNesting = 0x400;
constexpr std::int32_t kTdbIncompatibleHash = 0x800;
constexpr std::int32_t kTdbMutexLocking = 0x1000;

void refuse(NodeParts& node, const ControlRequest& request, std::string why = {}) {
  node.services.reply(request.reply, -1, {}, std::move(why));
}

// The database that a request with a plain u32 id names; nullptr (and refused) if there is none.
Databases::Attached* named_database(NodeParts& node, const ControlRequest& request) {
  const auto id = ctdb::decode_u32(request.data);
  Databases::Attached* attached = id ? node.databases.find(DatabaseId{*id}) : nullptr;
  if (attached == nullptr) refuse(node, request);
  return attached;
}

void attach(NodeParts& node, const ControlRequest& request, DatabaseKind kind) {
  const auto name = ctdb::decode_text(request.data);
  if (!name || name->empty() || name->find('/') != std::string::npos || name->size() > 200) {
    return refuse(node, request, "not a database name");
  }
  if ((node.control.own_flags() & kFlagsInactive) != 0) return refuse(node, request, "this node is inactive");
  if (node.tunables[ctdb::Tunable::AllowClientDBAttach] == 0) {
    return refuse(node, request, "AllowClientDBAttach is 0");
  }
  // A view change is over in a moment and worth waiting for; a node that is cut off for longer says so at once.
  if (!node.serving && node.services.now() - node.patience_from > node.config.view_patience) {
    return refuse(node, request, "this node cannot serve now: see `tdbmesh status -v`");
  }
  const Instant deadline = node.services.now() + seconds(node.tunables[ctdb::Tunable::DeferredAttachTO]);
  node.attachments.request(request.reply, *name, kind, node.serving, deadline);
}
void attach_volatile(NodeParts& node, const ControlRequest& request) { attach(node, request, DatabaseKind::Volatile); }
void attach_persistent(NodeParts& node, const ControlRequest& request) {
  attach(node, request, DatabaseKind::Persistent);
}
void attach_replicated(NodeParts& node, const ControlRequest& request) {
  attach(node, request, DatabaseKind::Replicated);
}

// Cluster-wide, as on CTDB: for volatile databases, and only while no client may attach. More than CTDB asks: all nodes
// must be members, because one that comes back later would bring the database with it; and it is answered when all have
// done it.
void detach(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  const std::string& name = attached->database->name();
  if (attached->database->kind() != DatabaseKind::Volatile) {
    return refuse(node, request, "only volatile databases can be detached, not " + name);
  }
  if (node.tunables[ctdb::Tunable::AllowClientDBAttach] != 0) {
    return refuse(node, request, "first set AllowClientDBAttach to 0 on all nodes");
  }
  const std::vector<Pnn> members = node.services.members();
  for (std::uint32_t i = 0; i < node.config.nodes.size(); ++i) {
    const bool in = std::find(members.begin(), members.end(), Pnn{i}) != members.end();
    if (!node.config.nodes[i].deleted && !in) {
      return refuse(node, request, "all nodes must be in the cluster, and node " + std::to_string(i) + " is not");
    }
  }
  const Instant deadline = node.services.now() + seconds(node.tunables[ctdb::Tunable::ControlTimeout]);
  node.detaches.request(request.reply, attached->database->id(), name, deadline);
}

void get_path(NodeParts& node, const ControlRequest& request) {
  if (const auto* attached = named_database(node, request)) {
    node.services.reply(request.reply, 0, ctdb::encode_text(attached->database->path()));
  }
}

void get_name(NodeParts& node, const ControlRequest& request) {
  if (const auto* attached = named_database(node, request)) {
    node.services.reply(request.reply, 0, ctdb::encode_text(attached->database->name()));
  }
}

void open_flags(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  std::int32_t flags = kTdbDisallowNesting;
  const DatabaseKind kind = attached->database->kind();
  if (kind != DatabaseKind::Persistent) flags |= kTdbNoSync | kTdbClearIfFirst | kTdbIncompatibleHash;
  if (kind == DatabaseKind::Volatile && node.config.tdb_mutexes) flags |= kTdbMutexLocking;
  if (attached->database->seqnum_enabled()) flags |= kTdbSeqnum;
  node.services.reply(request.reply, 0, ctdb::encode_i32(flags));
}

void get_map(NodeParts& node, const ControlRequest& request) {
  ctdb::DatabaseMap map;
  const std::vector<DatabaseId>& ids = node.databases.ids();
  for (auto id = ids.rbegin(); id != ids.rend(); ++id) {  // newest first, as CTDB lists them
    const Databases::Attached& attached = *node.databases.find(*id);
    std::uint8_t flags = 0;
    if (attached.database->kind() == DatabaseKind::Persistent) flags |= ctdb::kDatabasePersistent;
    if (attached.database->kind() == DatabaseKind::Replicated) flags |= ctdb::kDatabaseReplicated;
    if (attached.readonly) flags |= ctdb::kDatabaseReadonly;
    if (attached.sticky) flags |= ctdb::kDatabaseSticky;
    map.databases.push_back({*id, flags});
  }
  node.services.reply(request.reply, 0, encode(map));
}

void get_health(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  const std::string health = attached->health();
  node.services.reply(request.reply, 0, health.empty() ? Bytes{} : ctdb::encode_text(health));
}

void set_healthy(NodeParts& node, const ControlRequest& request) {
  auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  attached->unhealthy.clear();
  node.services.reply(request.reply, 0);
}

void enable_seqnum(NodeParts& node, const ControlRequest& request) {
  auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  if (!attached->database->seqnum_enabled()) {
    attached->database->enable_seqnum();
    attached->seqnum_sent = attached->database->seqnum();
  }
  node.services.reply(request.reply, 0);
}

// From another daemon: its copy changed.
void update_seqnum(NodeParts& node, const ControlRequest& request) {
  const auto id = ctdb::decode_u32(request.data);
  if (id && request.client == ClientId{}) node.databases.bump_seqnum(DatabaseId{*id});
  node.services.reply(request.reply, id ? 0 : -1);
}

void get_seqnum(NodeParts& node, const ControlRequest& request) {
  const auto id = ctdb::decode_padded_database(request.data);
  if (!id || node.databases.find(*id) == nullptr) return refuse(node, request);
  node.services.reply(request.reply, 0, ctdb::encode_u64(node.commits.sequence_number(*id)));
}

void set_readonly(NodeParts& node, const ControlRequest& request) {
  auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  Ownership* ownership = node.records.find(attached->database->id());
  if (ownership == nullptr) return refuse(node, request, "only volatile databases can be read-only");
  attached->readonly = true;
  ownership->set_readonly();
  if (request.client != ClientId{}) node.attachments.announce(attached->database->id());
  node.services.reply(request.reply, 0);
}

void set_sticky(NodeParts& node, const ControlRequest& request) {
  auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  Ownership* ownership = node.records.find(attached->database->id());
  if (ownership == nullptr) return refuse(node, request, "only volatile databases can be sticky");
  attached->sticky = true;
  ownership->set_sticky();
  if (request.client != ClientId{}) node.attachments.announce(attached->database->id());
  node.services.reply(request.reply, 0);
}

void commit_transaction(NodeParts& node, const ControlRequest& request) {
  Result<RecordBuffer> buffer = decode_buffer(request.data);
  if (!buffer) return refuse(node, request, buffer.error().context);
  if (const Databases::Attached* attached = node.databases.find(buffer->database)) {
    // A change of what is empty only because it was damaged would make it look healthy.
    if (const std::string health = attached->health(); !health.empty()) {
      return refuse(node, request, attached->database->name() + " is unhealthy: " + health);
    }
  }
  const CommitId id{++node.last_commit};
  node.commit_replies.emplace(id, request.reply);
  node.services.run(node.commits.client_commit(id, number(request.client), std::move(*buffer), node.services.now()));
}

void schedule_for_deletion(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::KeyData>(request.data);
  if (!wanted || node.records.find(wanted->database) == nullptr) return refuse(node, request);
  node.services.run(node.records.schedule_deletion(wanted->database, wanted->key, node.services.now()));
  node.services.reply(request.reply, 0);
}

void traverse(NodeParts& node, const ControlRequest& request, const ctdb::TraverseStart& start, bool with_empty) {
  if (request.client == ClientId{} || node.databases.find(start.database) == nullptr) return refuse(node, request);
  // The reply must be out before the first record.
  node.services.reply(request.reply, 0);
  Traverses::Request wanted;
  wanted.client = request.client;
  wanted.database = start.database;
  wanted.reqid = start.reqid;
  wanted.srvid = start.srvid;
  wanted.with_empty = with_empty;
  wanted.deadline = node.services.now() + seconds(node.tunables[ctdb::Tunable::TraverseTimeout]);
  node.traverses.start(wanted);
}
void traverse_start(NodeParts& node, const ControlRequest& request) {
  const auto start = ctdb::decode<ctdb::TraverseStart>(request.data);
  if (!start) return refuse(node, request);
  traverse(node, request, *start, false);
}
void traverse_start_ext(NodeParts& node, const ControlRequest& request) {
  const auto start = ctdb::decode<ctdb::TraverseStartExt>(request.data);
  if (!start) return refuse(node, request);
  traverse(node, request, start->start, start->with_empty_records);
}

void database_statistics(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  ctdb::DatabaseStatistics statistics;
  if (const Ownership* ownership = node.records.find(attached->database->id())) {
    const RecordCounters counters = ownership->counters();
    statistics.ro_delegations = static_cast<std::uint32_t>(counters.delegations);
    statistics.ro_revokes = static_cast<std::uint32_t>(counters.revocations);
    const std::vector<HotKey> hot = ownership->hot_keys(ctdb::kHotKeyCount);
    for (std::size_t i = 0; i < hot.size(); ++i) {
      statistics.hot_keys[i] = {static_cast<std::uint32_t>(hot[i].arrivals), hot[i].key};
    }
  }
  node.services.reply(request.reply, 0, encode(statistics));
}

void vacuum(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::VacuumDatabase>(request.data);
  if (!wanted || node.records.find(wanted->database) == nullptr) return refuse(node, request);
  node.services.run(node.records.vacuum(wanted->database, node.services.now()));
  node.services.reply(request.reply, 0);
}

// ---- wipedb and restoredb, step by step (database_restore.h) ----

void freeze(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  node.services.reply(request.reply, node.restore.freeze(attached->database->id()) ? 0 : -1);
}

void thaw(NodeParts& node, const ControlRequest& request) {
  const auto* attached = named_database(node, request);
  if (attached == nullptr) return;
  // Not frozen: the first node's thaw made a new view, which ended the freeze here. The tool asks all nodes one after
  // the other and takes an error for a failed restore; what must not be missed, it was told at the commit.
  if (!node.restore.thaw(attached->database->id())) return node.services.reply(request.reply, 0);
  // Records went and came under the feet of the directories: a new view makes everybody forget what it knew.
  if (attached->database->kind() == DatabaseKind::Volatile) {
    recovery::Actions actions;
    node.control.request_bump("database " + attached->database->name() + " was wiped or restored",
                              node.services.now(), actions);
    node.services.run(std::move(actions));
  }
  node.services.reply(request.reply, 0);
}

void transaction_start(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::TransactionDatabase>(request.data);
  const bool started = wanted && node.restore.start(wanted->database, wanted->transaction);
  node.services.reply(request.reply, started ? 0 : -1);
}

void wipe(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::TransactionDatabase>(request.data);
  if (!wanted || !node.restore.wipe(wanted->database, wanted->transaction, request.reply)) {
    refuse(node, request, "the database is not frozen, or not in this transaction");
  }
}

void transaction_commit(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::TransactionDatabase>(request.data);
  Database* database = wanted ? node.databases.database(wanted->database) : nullptr;
  if (database == nullptr) return refuse(node, request);
  if (database->kind() == DatabaseKind::Volatile) {
    if (!node.restore.commit_volatile(wanted->database, wanted->transaction, request.reply)) refuse(node, request);
    return;
  }
  auto contents = node.restore.take_contents(wanted->database, wanted->transaction);
  if (!contents) return refuse(node, request, "the database is not frozen, or not in this transaction");
  // Every node gets these steps; one of them commits for all.
  if (node.commits.sequencer(wanted->database) != node.services.self()) return node.services.reply(request.reply, 0);
  const CommitId id{++node.last_commit};
  node.commit_replies.emplace(id, request.reply);
  node.services.run(
      node.commits.replace_all(id, wanted->database, std::move(contents->entries), node.services.now()));
}

void push_start(NodeParts& node, const ControlRequest& request) {
  const auto wanted = ctdb::decode<ctdb::PullDatabase>(request.data);
  const bool started = wanted && node.restore.push_start(wanted->database, wanted->srvid);
  node.services.reply(request.reply, started ? 0 : -1);
}

void push_confirm(NodeParts& node, const ControlRequest& request) {
  const auto id = ctdb::decode_u32(request.data);
  const auto count = id ? node.restore.push_confirm(DatabaseId{*id}) : std::nullopt;
  if (!count) return refuse(node, request);
  node.services.reply(request.reply, 0, ctdb::encode_u32(*count));
}

// u32 database, u32 length, key -> JSON text: who is lmaster, what this node has.
void where(NodeParts& node, const ControlRequest& request) {
  ByteReader in(request.data);
  const DatabaseId id{in.get<std::uint32_t>()};
  const BytesView key = in.get_bytes(in.get<std::uint32_t>());
  Database* database = in.ok() ? node.databases.database(id) : nullptr;
  if (database == nullptr || key.empty()) return refuse(node, request);
  nlohmann::json answer;
  answer["node"] = number(node.services.self());
  answer["database"] = database->name();
  if (const auto stored = database->fetch(key); stored && stored->has_value()) {
    answer["stored"] = {{"rsn", (*stored)->header.rsn},
                        {"dmaster", number((*stored)->header.dmaster)},
                        {"flags", (*stored)->header.flags},
                        {"size", (*stored)->value.size()}};
  }
  if (const Ownership* ownership = node.records.find(id)) {
    const RecordWhereabouts w = ownership->where(key);
    answer["own"] = w.own;
    answer["read_only_copy"] = w.read_only_copy;
    answer["pinned"] = w.pinned;
    answer["waiting_calls"] = w.waiting_calls;
    if (w.lmaster != kNoPnn) answer["lmaster"] = number(w.lmaster);
    if (!w.directory.empty()) answer["directory"] = w.directory;
    if (w.tail) answer["tail"] = number(*w.tail);
    if (w.successor) answer["successor"] = number(*w.successor);
    for (const Pnn p : w.delegates) answer["delegates"].push_back(number(p));
  } else {
    answer["seqnum"] = node.commits.sequence_number(id);
    const Pnn sequencer = node.commits.sequencer(id);
    if (sequencer != kNoPnn) answer["sequencer"] = number(sequencer);
  }
  node.services.reply(request.reply, 0, ctdb::encode_text(answer.dump()));
}

void accept_and_ignore(NodeParts& node, const ControlRequest& request) { node.services.reply(request.reply, 0); }

}  // namespace

void add_database_controls(ControlTable& table) {
  using enum ctdb::ControlOpcode;
  table[DbAttach] = attach_volatile;
  table[DbAttachPersistent] = attach_persistent;
  table[DbAttachReplicated] = attach_replicated;
  table[DbDetach] = detach;
  table[GetDbPath] = get_path;
  table[GetDbName] = get_name;
  table[DbOpenFlags] = open_flags;
  table[GetDbMap] = get_map;
  table[DbGetHealth] = get_health;
  table[DbSetHealthy] = set_healthy;
  table[EnableSeqnum] = enable_seqnum;
  table[UpdateSeqnum] = update_seqnum;
  table[GetDbSeqnum] = get_seqnum;
  table[SetDbReadonly] = set_readonly;
  table[SetDbSticky] = set_sticky;
  table[Trans3Commit] = commit_transaction;
  table[ScheduleForDeletion] = schedule_for_deletion;
  table[TraverseStart] = traverse_start;
  table[TraverseStartExt] = traverse_start_ext;
  table[GetDbStatistics] = database_statistics;
  table[DbVacuum] = vacuum;
  table[DbFreeze] = freeze;
  table[DbThaw] = thaw;
  table[DbTransactionStart] = transaction_start;
  table[DbTransactionCommit] = transaction_commit;
  table[WipeDatabase] = wipe;
  table[DbPushStart] = push_start;
  table[DbPushConfirm] = push_confirm;
  table[kControlDbWhere] = where;
  // Remains of an older transaction interface: clients that still send them expect success.
  table[StartPersistentUpdate] = accept_and_ignore;
  table[CancelPersistentUpdate] = accept_and_ignore;
}

}  // namespace tdbmesh
