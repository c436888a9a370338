// Databases as a whole: getdbmap, getdbstatus, getdbseqnum, attach, setdbreadonly, setdbsticky, catdb, cattdb.

#include <fmt/format.h>
#include <unistd.h>

#include "tools/client/local_copy.h"
#include "tools/ctl/format_databases.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;

Bytes id_bytes(DatabaseId id) { return ctdb::encode_u32(number(id)); }

Outcome<DatabaseLine> line_of(Session& session, const NamedDatabase& database, Pnn node) {
  auto path = session.text(ControlOpcode::GetDbPath, node, database.id);
  if (!path) return passed_on(path);
  auto health = session.text(ControlOpcode::DbGetHealth, node, database.id);
  if (!health) return passed_on(health);
  return DatabaseLine{database.id, database.name, std::move(*path), database.flags, std::move(*health)};
}

// A flag of a database is set on every node that can hear it.
Outcome<> set_everywhere(Session& session, ControlOpcode opcode, DatabaseId id) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  for (const auto& node : map->nodes) {
    if ((node.flags & (kFlagDisconnected | kFlagDeleted)) != 0) continue;
    if (auto done = session.ask(opcode, node.pnn, id_bytes(id)); !done) return passed_on(done);
  }
  return {};
}

}  // namespace

Outcome<int> run_getdbmap(Invocation& in) {
  if (!in.args.empty()) return wrong_usage(in, "getdbmap");
  auto databases = in.session->databases(in.session->node());
  if (!databases) return passed_on(databases);
  std::vector<DatabaseLine> lines;
  Json json = Json::array();
  for (const NamedDatabase& database : *databases) {
    auto line = line_of(*in.session, database, in.session->node());
    if (!line) return passed_on(line);
    json.push_back(json_database(*line));
    lines.push_back(std::move(*line));
  }
  in.console.show(in.options.machine ? format_database_map_machine(lines, in.options.separator)
                                     : format_database_map(lines),
                  std::move(json));
  return 0;
}

Outcome<int> run_getdbstatus(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "getdbstatus");
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  auto line = line_of(*in.session, *database, in.session->node());
  if (!line) return passed_on(line);
  in.console.show(format_database_status(*line), json_database(*line));
  return 0;
}

Outcome<int> run_getdbseqnum(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "getdbseqnum");
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  auto bytes = in.session->ask(ControlOpcode::GetDbSeqnum, in.session->node(), ctdb::encode_padded_database(database->id));
  if (!bytes) return passed_on(bytes);
  auto seqnum = in.session->decoded(ControlOpcode::GetDbSeqnum, ctdb::decode_u64(*bytes));
  if (!seqnum) return passed_on(seqnum);
  in.console.show(fmt::format("0x{:x}\n", *seqnum), {{"name", database->name}, {"seqnum", *seqnum}});
  return 0;
}

Outcome<int> run_attach(Invocation& in) {
  if (in.args.empty() || in.args.size() > 2) return wrong_usage(in, "attach");
  const std::string kind = in.args.size() == 2 ? in.args[1] : "";
  ControlOpcode opcode = ControlOpcode::DbAttach;
  if (kind == "persistent") {
    opcode = ControlOpcode::DbAttachPersistent;
  } else if (kind == "replicated") {
    opcode = ControlOpcode::DbAttachReplicated;
  } else if (!kind.empty() && kind != "readonly" && kind != "sticky") {
    return wrong_usage(in, "attach");
  }
  Session& session = *in.session;
  auto reply = session.request(opcode, session.own(), ctdb::encode_text(in.args[0]));
  if (!reply) return passed_on(reply);
  if (reply->status != 0) {
    std::string text = fmt::format("attach: {} failed to get db_id, ret={}", in.args[0], reply->status);
    if (!reply->error.empty()) text += ": " + reply->error;
    return fail(std::move(text));
  }
  auto id = session.decoded(opcode, ctdb::decode_u32(reply->data));
  if (!id) return passed_on(id);
  if (kind == "readonly" || kind == "sticky") {
    const auto flag = kind == "sticky" ? ControlOpcode::SetDbSticky : ControlOpcode::SetDbReadonly;
    if (auto done = set_everywhere(session, flag, DatabaseId{*id}); !done) return passed_on(done);
  }
  if (in.console.json_mode()) in.console.show("", {{"name", in.args[0]}, {"id", to_string(DatabaseId{*id})}});
  return 0;
}

Outcome<int> run_detach(Invocation& in) {
  if (in.args.empty()) return wrong_usage(in, "detach");
  Session& session = *in.session;
  for (const std::string& name : in.args) {
    auto database = session.find_database(name);
    if (!database) return passed_on(database);
    auto reply = session.request(ControlOpcode::DbDetach, session.own(), ctdb::encode_u32(number(database->id)));
    if (!reply) return passed_on(reply);
    if (reply->status != 0) return fail(fmt::format("cannot detach {}: {}", database->name, reply->error));
  }
  return 0;
}

namespace {

Outcome<int> set_property(Invocation& in, const char* verb, const char* property, ControlOpcode opcode) {
  if (in.args.size() != 1) return wrong_usage(in, verb);
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  if (!database->is_volatile()) return fail(fmt::format("{} can be set only on volatile DB", property));
  if (auto done = set_everywhere(*in.session, opcode, database->id); !done) return passed_on(done);
  return 0;
}

}  // namespace

Outcome<int> run_setdbreadonly(Invocation& in) {
  return set_property(in, "setdbreadonly", "READONLY", ControlOpcode::SetDbReadonly);
}

Outcome<int> run_setdbsticky(Invocation& in) {
  return set_property(in, "setdbsticky", "STICKY", ControlOpcode::SetDbSticky);
}

Outcome<int> run_catdb(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "catdb");
  Session& session = *in.session;
  auto database = session.find_database(in.args[0]);
  if (!database) return passed_on(database);
  const Srvid srvid{0xBE00000000000000u | static_cast<std::uint64_t>(getpid())};
  if (auto done = session.client().register_srvid(srvid, session.timeout()); !done) {
    return fail("cannot register for the records: " + done.error().context);
  }
  const ctdb::TraverseStartExt start{.start = {database->id, 1, srvid}, .with_empty_records = false};
  if (auto started = session.ask(ControlOpcode::TraverseStartExt, session.own(), ctdb::encode(start)); !started) {
    return passed_on(started);
  }
  std::uint64_t count = 0;
  in.console.empty_list();
  while (true) {
    auto message = session.client().wait_message(srvid, ctdb::kForever);  // -T ends it, if nothing else does
    if (!message) return fail("connection to daemon closed, exiting: the traverse is not complete");
    auto record = session.decoded(ControlOpcode::TraverseStartExt, ctdb::decode<ctdb::TraverseRecord>(message->data));
    if (!record) return passed_on(record);
    if (record->is_end()) break;
    const auto header = decode_header(record->data);
    if (!header || record->data.size() == kRecordHeaderSize) continue;
    const BytesView value = BytesView(record->data).substr(kRecordHeaderSize);
    in.console.item(in.console.json_mode() ? "" : format_record(record->key, *header, value),
                    in.console.json_mode() ? json_record(record->key, *header, value) : Json());
    ++count;
  }
  (void)session.client().deregister_srvid(srvid, session.timeout());
  in.console.text(fmt::format("Dumped {} records\n", count));
  return 0;
}

Outcome<int> run_cattdb(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "cattdb");
  Session& session = *in.session;
  auto database = session.find_database(in.args[0]);
  if (!database) return passed_on(database);
  auto path = session.text(ControlOpcode::GetDbPath, session.own(), database->id);
  if (!path) return passed_on(path);
  auto copy = LmdbDatabase::open(*path, LmdbDatabase::Role::Inspector);
  if (!copy) return fail(fmt::format("cannot open the local copy {}: {}", *path, copy.error().context));
  std::uint64_t count = 0;
  std::uint64_t at = 0;
  in.console.empty_list();
  while (true) {
    auto batch = (*copy)->scan(at, 256);
    if (!batch) return fail(fmt::format("cannot read {}: {}", *path, batch.error().context));
    for (const LmdbItem& item : batch->items) {
      const auto header = decode_header(item.value);
      if (!header) continue;
      const BytesView value = BytesView(item.value).substr(kRecordHeaderSize);
      in.console.item(in.console.json_mode() ? "" : format_record(item.key, *header, value),
                      in.console.json_mode() ? json_record(item.key, *header, value) : Json());
      ++count;
    }
    if (batch->done) break;
    at = batch->next;
  }
  in.console.text(fmt::format("Dumped {} record(s)\n", count));
  return 0;
}

}  // namespace tdbmesh::ctl
