#include "tools/dbtool/commands.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/client/text.h"
#include "tools/ctl/format_databases.h"
#include "tools/dbtool/decode.h"
#include "tools/dbtool/digest.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::dbtool {
namespace {

using ctl::fail;
using ctl::Json;
using ctl::passed_on;

Outcome<int> run_list(Command& c) {
  auto databases = c.source.list();
  if (!databases) return passed_on(databases);
  std::string text;
  Json json = Json::array();
  for (const DatabaseInfo& db : *databases) {
    text += fmt::format("{}  {:<10}  {:<32}  {}\n", to_string(db.id), to_text(db.kind), db.name, db.path);
    json.push_back({{"id", to_string(db.id)}, {"kind", to_text(db.kind)}, {"name", db.name}, {"path", db.path}});
  }
  c.console.show(text, std::move(json));
  return 0;
}

Outcome<int> run_info(Command& c, const DatabaseInfo& db) {
  std::uint64_t records = 0;
  std::uint64_t empty = 0;
  std::uint64_t bytes = 0;
  std::uint64_t seqnum = 0;
  auto done = c.source.for_each(db, [&](BytesView key, const RecordHeader&, BytesView value) {
    ++records;
    if (value.empty()) ++empty;
    bytes += key.size() + value.size();
    if (key == kSequenceNumberKey && value.size() == 8) seqnum = ByteReader(value).get<std::uint64_t>();
  });
  if (!done) return passed_on(done);
  Json json{{"name", db.name}, {"id", to_string(db.id)}, {"kind", to_text(db.kind)}, {"path", db.path},
            {"records", records}, {"deleted_records", empty}, {"bytes", bytes}};
  std::string text = fmt::format("name: {}\nid: {}\nkind: {}\npath: {}\nrecords: {} ({} of them deleted)\nbytes: {}\n",
                                 db.name, to_string(db.id), to_text(db.kind), db.path, records, empty, bytes);
  if (!db.is_volatile()) {
    json["seqnum"] = seqnum;
    text += fmt::format("seqnum: {}\n", seqnum);
  }
  c.console.show(text, std::move(json));
  return 0;
}

Outcome<int> run_keys(Command& c, const DatabaseInfo& db) {
  c.console.empty_list();
  auto done = c.source.for_each(db, [&](BytesView key, const RecordHeader&, BytesView value) {
    if (value.empty()) return;
    c.console.item(shown_bytes(key, c.arguments.encoding) + "\n", {{"key", escape_c(key)}, {"key_hex", to_hex(key)}});
  });
  if (!done) return passed_on(done);
  return 0;
}

// Samba ends most of its keys with a NUL, which nobody types.
Outcome<int> run_get(Command& c, const DatabaseInfo& db, Bytes key) {
  auto record = c.source.get(db, key);
  if (!record) return passed_on(record);
  if ((!*record || (*record)->value.empty()) && c.arguments.encoding == Encoding::Text && !key.ends_with('\0')) {
    Bytes with_nul = key;
    with_nul.push_back('\0');
    auto other = c.source.get(db, with_nul);
    if (!other) return passed_on(other);
    if (*other && !(*other)->value.empty()) {
      record = std::move(other);
      key = std::move(with_nul);
    }
  }
  if (!*record || (*record)->value.empty()) {
    return fail(fmt::format("{}: no record with key '{}'; `dbtool keys {}` lists them", db.name, escape_c(key), db.name));
  }
  const StoredRecord& found = **record;
  std::string text = shown_bytes(found.value, c.arguments.encoding);
  if (c.arguments.encoding != Encoding::Raw) text += '\n';
  if (c.decode() && decode_record(db.name, key, found.value)) {
    text = record_text(db.name, key, found.header, found.value, c.arguments.encoding, true);
  }
  c.console.show(text, record_json(db.name, key, found.header, found.value));
  return 0;
}

Outcome<int> run_dump(Command& c, const DatabaseInfo& db) {
  c.console.empty_list();
  std::uint64_t count = 0;
  auto done = c.source.for_each(db, [&](BytesView key, const RecordHeader& header, BytesView value) {
    ++count;
    c.console.item(c.console.json_mode() ? "" : record_text(db.name, key, header, value, c.arguments.encoding, c.decode()),
                   c.console.json_mode() ? record_json(db.name, key, header, value) : Json());
  });
  if (!done) return passed_on(done);
  c.console.text(fmt::format("{} records\n", count));
  return 0;
}

Outcome<int> run_digest(Command& c, const std::vector<DatabaseInfo>& databases) {
  std::string text;
  Json json = Json::array();
  for (const DatabaseInfo& db : databases) {
    Digest digest;
    std::uint64_t seqnum = 0;
    auto done = scan_copy(db.path, [&](BytesView key, const RecordHeader& header, BytesView value) {
      if (c.arguments.headers) {
        digest.add(key, encode_header(header) + Bytes(value));
      } else {
        digest.add(key, value);
      }
      if (key == kSequenceNumberKey && value.size() == 8) seqnum = ByteReader(value).get<std::uint64_t>();
    });
    if (!done) return passed_on(done);
    text += fmt::format("{}  {}  records={} seqnum={}\n", digest.hex(), db.name, digest.records(), seqnum);
    json.push_back({{"name", db.name}, {"digest", digest.hex()}, {"records", digest.records()}, {"seqnum", seqnum}});
  }
  c.console.show(text, databases.size() == 1 ? json.front() : std::move(json));
  return 0;
}

Outcome<std::vector<DatabaseInfo>> copies_to_digest(Command& c) {
  if (c.arguments.args.size() == 1 && c.arguments.args[0] != "all") {
    auto database = c.source.find(c.arguments.args[0]);
    if (!database) return passed_on(database);
    if (database->is_volatile()) {
      return fail(fmt::format("{} is volatile: its records are spread over the nodes, there is no copy to digest", database->name));
    }
    return std::vector<DatabaseInfo>{std::move(*database)};
  }
  auto databases = c.source.list();
  if (!databases) return passed_on(databases);
  std::erase_if(*databases, [](const DatabaseInfo& db) { return db.is_volatile(); });
  std::sort(databases->begin(), databases->end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return databases;
}

struct VerbSyntax {
  const char* name;
  std::size_t least;
  std::size_t most;
  const char* arguments;
};
constexpr VerbSyntax kVerbs[] = {
    {"list", 0, 0, ""},        {"info", 1, 1, "DB"},     {"keys", 1, 1, "DB"},   {"get", 2, 2, "DB KEY"},
    {"put", 3, 3, "DB KEY VALUE"}, {"del", 2, 2, "DB KEY"},  {"where", 2, 2, "DB KEY"}, {"dump", 1, 1, "DB"},
    {"check", 0, 1, "[DB]"},   {"digest", 1, 1, "DB|all"}, {"watch", 1, 1, "DB"},
    {"import", 1, 2, "FILE [DB]"}, {"export", 2, 2, "DB FILE"},
};

}  // namespace

std::string record_text(const std::string& database, BytesView key, const RecordHeader& header, BytesView value,
                        Encoding encoding, bool decode) {
  std::string text = fmt::format("key({}) {}\n  rsn {}  dmaster {}  flags {}\n", key.size(), shown_bytes(key, encoding),
                                 header.rsn, number(header.dmaster), ctl::record_flags_text(header.flags));
  const auto fields = decode ? decode_record(database, key, value) : std::nullopt;
  if (fields) {
    for (const auto& [name, meaning] : *fields) text += fmt::format("  {:<22} {}\n", name, meaning);
  } else {
    text += fmt::format("  value({}) {}\n", value.size(), shown_bytes(value, encoding));
  }
  return text;
}

Json record_json(const std::string& database, BytesView key, const RecordHeader& header, BytesView value) {
  Json json = ctl::json_record(key, header, value);
  if (const auto fields = decode_record(database, key, value)) {
    Json meaning = Json::object();
    for (const auto& [name, text] : *fields) {
      if (!meaning.contains(name)) {
        meaning[name] = text;
      } else {  // several holders of one lock
        if (!meaning[name].is_array()) meaning[name] = Json::array({meaning[name]});
        meaning[name].push_back(text);
      }
    }
    json["decoded"] = std::move(meaning);
  }
  return json;
}

Outcome<int> run(Command& c) {
  const std::string& verb = c.arguments.verb;
  const std::vector<std::string>& args = c.arguments.args;
  const VerbSyntax* syntax = nullptr;
  for (const VerbSyntax& known : kVerbs) {
    if (verb == known.name) syntax = &known;
  }
  if (syntax == nullptr) return fail(fmt::format("Unknown command '{}'; dbtool --help lists the verbs", verb));
  if (args.size() < syntax->least || args.size() > syntax->most) {
    return fail(fmt::format("Usage: dbtool {} {}", verb, syntax->arguments));
  }
  if (verb == "list") return run_list(c);
  if (verb == "import") return run_import(c);
  if (verb == "digest") {
    auto databases = copies_to_digest(c);
    if (!databases) return passed_on(databases);
    return run_digest(c, *databases);
  }
  if (verb == "check" && args.empty()) {
    auto databases = c.source.list();
    if (!databases) return passed_on(databases);
    return run_check(c, *databases);
  }
  auto database = c.source.find(args[0]);
  if (!database) return passed_on(database);
  if (verb == "info") return run_info(c, *database);
  if (verb == "keys") return run_keys(c, *database);
  if (verb == "dump") return run_dump(c, *database);
  if (verb == "check") return run_check(c, {*database});
  if (verb == "watch") return run_watch(c, *database);
  if (verb == "export") return run_export(c, *database);

  auto key = typed_bytes(args[1], c.arguments.encoding);
  if (!key) return fail(key.error().context);
  if (verb == "get") return run_get(c, *database, std::move(*key));
  if (verb == "where") return run_where(c, *database, *key);
  if (verb == "del") return run_del(c, *database, *key);
  auto value = typed_bytes(args[2], c.arguments.encoding);
  if (!value) return fail(value.error().context);
  return run_put(c, *database, *key, *value);
}

}  // namespace tdbmesh::dbtool
