// Single records: pfetch, pstore, pdelete, ptrans on persistent databases (transactions), readkey, writekey,
// deletekey on volatile ones (record locks). All of them use the local copy as Samba does, so they need a
// tdbmesh daemon; on CTDB's own TDB files they refuse.

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <iostream>

#include "tools/client/text.h"
#include "tools/client/transaction.h"
#include "tools/ctl/format_databases.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using Type = ctdb::Client::DatabaseType;

tl::unexpected<Failure> failed(const Error& error) { return fail(error.context); }

Type type_of(const NamedDatabase& database) {
  if ((database.flags & ctdb::kDatabasePersistent) != 0) return Type::Persistent;
  return (database.flags & ctdb::kDatabaseReplicated) != 0 ? Type::Replicated : Type::Volatile;
}

Outcome<Bytes> parsed(const std::string& text, const char* what) {
  auto bytes = text_or_hex(text);
  if (bytes) return std::move(*bytes);
  return fail(fmt::format("{}\nFailed to parse {} {}", bytes.error().context, what, text), EINVAL);
}

Outcome<NamedDatabase> with_transactions(Invocation& in) {
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  if (database->is_volatile()) return fail(fmt::format("Transactions not supported on DB {}", database->name));
  return database;
}

Outcome<Transaction> begin(Invocation& in, const NamedDatabase& database) {
  auto transaction = Transaction::begin(in.session->client(), database.name, type_of(database), in.session->timeout());
  if (!transaction) return failed(transaction.error());
  return std::move(*transaction);
}

Outcome<OpenDatabase> open_volatile(Invocation& in) {
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  if (!database->is_volatile()) return fail(fmt::format("DB {} is not a volatile database", database->name));
  auto opened = open_database(in.session->client(), database->name, Type::Volatile, in.session->timeout());
  if (!opened) return failed(opened.error());
  return std::move(*opened);
}

// Runs `change` in one transaction and commits it.
template <class Change>
Outcome<int> change_database(Invocation& in, Change change) {
  auto database = with_transactions(in);
  if (!database) return passed_on(database);
  auto transaction = begin(in, *database);
  if (!transaction) return passed_on(transaction);
  if (Result<> done = change(*transaction); !done) return failed(done.error());
  if (auto done = transaction->commit(); !done) return failed(done.error());
  return 0;
}

Json json_value(BytesView key, BytesView value) {
  return {{"key", escape_c(key)}, {"value", escape_c(value)}, {"value_hex", to_hex(value)}};
}

}  // namespace

Outcome<int> run_pfetch(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "pfetch");
  auto database = with_transactions(in);
  if (!database) return passed_on(database);
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  // One read needs no lock: it sees the last committed state.
  auto opened = open_database(in.session->client(), database->name, type_of(*database), in.session->timeout());
  if (!opened) return failed(opened.error());
  auto record = opened->copy->fetch(*key);
  if (!record) return failed(record.error());
  const Bytes value = *record ? (*record)->value : Bytes();
  in.console.show(value + "\n", json_value(*key, value));
  return 0;
}

Outcome<int> run_pstore(Invocation& in) {
  if (in.args.size() != 3) return wrong_usage(in, "pstore");
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  auto value = parsed(in.args[2], "value");
  if (!value) return passed_on(value);
  return change_database(in, [&](Transaction& t) { return t.store(*key, *value); });
}

Outcome<int> run_pdelete(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "pdelete");
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  return change_database(in, [&](Transaction& t) { return t.erase(*key); });
}

Outcome<int> run_ptrans(Invocation& in) {
  if (in.args.empty() || in.args.size() > 2) return wrong_usage(in, "ptrans");
  if (auto database = with_transactions(in); !database) return passed_on(database);
  std::ifstream file;
  if (in.args.size() == 2) {
    file.open(in.args[1]);
    if (!file) return fail(fmt::format("Failed to open file {}", in.args[1]));
  }
  std::istream& input = in.args.size() == 2 ? static_cast<std::istream&>(file) : std::cin;

  // Everything is read before the lock is taken: a slow pipe must not stop the cluster's writers.
  std::vector<std::pair<Bytes, Bytes>> writes;
  std::string line;
  for (int line_number = 1; std::getline(input, line); ++line_number) {
    if (line.empty() && !in.options.as_ctdb()) continue;
    const auto words = parse_transaction_line(line);
    if (!words) {
      // CTDB leaves such a line out, commits the rest and calls that a success. Under its name so do we.
      if (!in.options.as_ctdb()) {
        return fail(fmt::format("line {}: expected \"key\" \"value\"; nothing was changed", line_number));
      }
      in.console.complain(fmt::format("Unsupported input format in {}\n", line));
      continue;
    }
    auto key = parsed(words->key, "key");
    if (!key) return passed_on(key);
    auto value = parsed(words->value, "value");
    if (!value) return passed_on(value);
    writes.emplace_back(std::move(*key), std::move(*value));
  }
  return change_database(in, [&](Transaction& t) -> Result<> {
    for (const auto& [key, value] : writes) {
      if (auto done = t.store(key, value); !done) return done;
    }
    return {};
  });
}

Outcome<int> run_readkey(Invocation& in) {
  if (in.args.size() < 2 || in.args.size() > 3 || (in.args.size() == 3 && in.args[2] != "readonly")) {
    return wrong_usage(in, "readkey");
  }
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  auto database = open_volatile(in);
  if (!database) return passed_on(database);
  auto record = LockedRecord::fetch(in.session->client(), *database, *key, in.session->timeout());
  if (!record) return failed(record.error());
  // CTDB prints the value as a C string: it ends at the first NUL.
  const std::string shown = record->value().substr(0, record->value().find('\0'));
  in.console.show(fmt::format("Data: size:{} ptr:[{}]\n", record->value().size(), shown),
                  json_record(*key, record->header(), record->value()));
  return 0;
}

Outcome<int> run_writekey(Invocation& in) {
  if (in.args.size() != 3) return wrong_usage(in, "writekey");
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  auto value = parsed(in.args[2], "value");
  if (!value) return passed_on(value);
  auto database = open_volatile(in);
  if (!database) return passed_on(database);
  auto record = LockedRecord::fetch(in.session->client(), *database, *key, in.session->timeout());
  if (!record) return failed(record.error());
  if (auto done = record->store(*value); !done) return failed(done.error());
  return 0;
}

Outcome<int> run_deletekey(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "deletekey");
  auto key = parsed(in.args[1], "key");
  if (!key) return passed_on(key);
  auto database = open_volatile(in);
  if (!database) return passed_on(database);
  auto record = LockedRecord::fetch(in.session->client(), *database, *key, in.session->timeout());
  if (!record) return failed(record.error());
  if (auto done = record->erase(); !done) return failed(done.error());
  return 0;
}

}  // namespace tdbmesh::ctl
