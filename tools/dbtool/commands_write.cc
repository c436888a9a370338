// put and del. Never behind the daemon's back: persistent data through a transaction of the cluster, volatile
// data under the record's lock.

#include <fmt/format.h>

#include "tools/client/text.h"
#include "tools/client/transaction.h"
#include "tools/dbtool/commands.h"

namespace tdbmesh::dbtool {
namespace {

using ctl::fail;
using ctl::passed_on;
using Type = ctdb::Client::DatabaseType;

Outcome<ctl::Session*> writable(Command& c) {
  if (c.source.session() != nullptr) return c.source.session();
  return fail("the files of a node that does not run are only read; start the daemon to change them");
}

tl::unexpected<ctl::Failure> failed(const Error& error) { return fail(error.context); }

// The key as stored: as typed, or with the NUL that Samba puts behind most keys, if only that one is there.
Outcome<Bytes> stored_key(Command& c, const DatabaseInfo& database, const Bytes& key) {
  if (c.arguments.encoding != Encoding::Text || key.ends_with('\0')) return key;
  Bytes with_nul = key;
  with_nul.push_back('\0');
  for (const Bytes& candidate : {key, with_nul}) {
    auto record = c.source.get(database, candidate);
    if (!record) return passed_on(record);
    if (*record && !(*record)->value.empty()) return candidate;
  }
  return key;
}

Outcome<> write_record(ctl::Session& session, const DatabaseInfo& database, BytesView key, BytesView value) {
  if (database.is_volatile()) {
    auto opened = open_database(session.client(), database.name, Type::Volatile, session.timeout());
    if (!opened) return failed(opened.error());
    auto record = LockedRecord::fetch(session.client(), *opened, key, session.timeout());
    if (!record) return failed(record.error());
    if (auto done = value.empty() ? record->erase() : record->store(value); !done) return failed(done.error());
    return {};
  }
  const Type type = database.kind == DatabaseKind::Persistent ? Type::Persistent : Type::Replicated;
  auto transaction = Transaction::begin(session.client(), database.name, type, session.timeout());
  if (!transaction) return failed(transaction.error());
  if (auto done = transaction->store(key, value); !done) return failed(done.error());
  if (auto done = transaction->commit(); !done) return failed(done.error());
  return {};
}

}  // namespace

Outcome<int> run_put(Command& c, const DatabaseInfo& database, const Bytes& key, const Bytes& value) {
  auto session = writable(c);
  if (!session) return passed_on(session);
  if (key.empty()) return fail("an empty key names no record");
  if (value.empty()) return fail("an empty value means deleted; use `dbtool del`");
  auto existing = stored_key(c, database, key);
  if (!existing) return passed_on(existing);
  if (*existing != key) {
    return fail(fmt::format("{} has a record '{}'; to change it, type its key with the \\0 at the end", database.name,
                            escape_c(*existing)));
  }
  if (auto done = write_record(**session, database, key, value); !done) return passed_on(done);
  return 0;
}

Outcome<int> run_del(Command& c, const DatabaseInfo& database, const Bytes& key) {
  auto session = writable(c);
  if (!session) return passed_on(session);
  auto existing = stored_key(c, database, key);
  if (!existing) return passed_on(existing);
  auto record = c.source.get(database, *existing);
  if (!record) return passed_on(record);
  if (!*record || (*record)->value.empty()) {
    return fail(fmt::format("{}: no record with key '{}'; `dbtool keys {}` lists them", database.name, escape_c(key), database.name));
  }
  if (auto done = write_record(**session, database, *existing, {}); !done) return passed_on(done);
  return 0;
}

}  // namespace tdbmesh::dbtool
