// import and export: persistent databases from and for CTDB.

#include <fmt/format.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <sstream>

#include "tools/client/transaction.h"
#include "tools/dbtool/commands.h"
#include "tools/dbtool/transfer_file.h"

namespace tdbmesh::dbtool {
namespace {

using ctl::fail;
using ctl::passed_on;
using Type = ctdb::Client::DatabaseType;

Outcome<TransferFile> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  std::string start(9, '\0');
  in.read(start.data(), 9);
  Result<TransferFile> file;
  if (is_tdb(BytesView(start).substr(0, static_cast<std::size_t>(in.gcount())))) {
    file = read_tdb(path);
    if (!file) return fail(file.error().context);
    return std::move(*file);
  }
  in.clear();
  in.seekg(0);
  std::ostringstream all;
  all << in.rdbuf();
  const Bytes bytes = std::move(all).str();
  if (!is_backup(bytes)) {
    return fail(path + " is neither a TDB file nor one of `ctdb backupdb`; give a node's persistent/NAME.tdb.N");
  }
  file = decode_backup(bytes);
  if (!file) return fail(fmt::format("{}: {}", path, file.error().context));
  if (file->is_volatile) return fail(file->name + " is volatile: its records mean nothing to another cluster");
  return std::move(*file);
}

// Writes a new file, whole or not at all.
Outcome<> write_new_file(const std::string& path, const Bytes& bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    done += static_cast<std::size_t>(wrote);
  }
  const bool good = done == bytes.size() && ::fsync(fd) == 0;
  const int why = errno;
  ::close(fd);
  if (good) return {};
  ::unlink(path.c_str());
  return fail(fmt::format("cannot write {}: {}", path, std::strerror(why)));
}

bool wants_tdb(const Arguments& arguments, const std::string& path) {
  return arguments.format == "tdb" || (arguments.format.empty() && !database_of_path(path).empty());
}

}  // namespace

Outcome<int> run_import(Command& c) {
  ctl::Session* session = c.source.session();
  if (session == nullptr) return fail("import writes on all nodes, so the daemon must run; start it and try again");
  auto file = read_file(c.arguments.args[0]);
  if (!file) return passed_on(file);
  if (c.arguments.args.size() == 2) file->name = c.arguments.args[1];
  if (file->name.empty()) {
    return fail(fmt::format("{} does not tell the database's name; give it: dbtool import FILE DB", c.arguments.args[0]));
  }
  const Type type = file->replicated ? Type::Replicated : Type::Persistent;
  auto transaction = Transaction::begin(session->client(), file->name, type, session->timeout());
  if (!transaction) return fail(transaction.error().context);

  std::map<Bytes, BytesView> wanted;
  for (const RecordEntry& entry : file->entries) {
    if (!entry.value.empty() && entry.key != kSequenceNumberKey) wanted[entry.key] = entry.value;
  }
  // Reading under the transaction's lock: nobody else commits until it ends.
  std::vector<Bytes> surplus;
  std::uint64_t there = 0;
  auto looked = scan_copy(transaction->committed().lmdb(), [&](BytesView key, const RecordHeader&, BytesView value) {
    if (value.empty() || key == kSequenceNumberKey) return;
    ++there;
    if (!wanted.contains(Bytes(key))) surplus.emplace_back(key);
  });
  if (!looked) return passed_on(looked);
  if (there != 0 && !c.arguments.replace) {
    return fail(fmt::format("{} has {} records; with --replace they become those of the file", file->name, there));
  }
  Result<> done;
  for (const Bytes& key : surplus) {
    if (done) done = transaction->erase(key);
  }
  for (const auto& [key, value] : wanted) {
    if (done) done = transaction->store(key, value);
  }
  if (done) done = transaction->commit();
  if (!done) return fail(fmt::format("{} is as it was: {}", file->name, done.error().context));
  c.console.show(fmt::format("{}: {} records imported, {} removed\n", file->name, wanted.size(), surplus.size()),
                 {{"name", file->name}, {"imported", wanted.size()}, {"removed", surplus.size()}});
  return 0;
}

Outcome<int> run_export(Command& c, const DatabaseInfo& database) {
  if (database.is_volatile()) return fail(database.name + " is volatile: its records mean nothing to another cluster");
  const std::string& path = c.arguments.args[1];
  if (!c.arguments.format.empty() && c.arguments.format != "tdb" && c.arguments.format != "backup") {
    return fail(fmt::format("--format {} is not known; tdb or backup", c.arguments.format));
  }
  TransferFile file{database.name, database.kind == DatabaseKind::Replicated, std::time(nullptr), {}, false};
  auto read = c.source.for_each(database, [&](BytesView key, const RecordHeader& header, BytesView value) {
    file.entries.push_back({0, Bytes(key), header, Bytes(value)});
  });
  if (!read) return passed_on(read);
  const bool tdb = wants_tdb(c.arguments, path);
  if (tdb) {
    if (auto done = write_tdb(path, file); !done) return fail(done.error().context);
  } else if (auto done = write_new_file(path, encode_backup(file)); !done) {
    return passed_on(done);
  }
  c.console.show(fmt::format("{}: {} records exported to {} ({})\n", database.name, file.entries.size(), path,
                             tdb ? "TDB" : "backup"),
                 {{"name", database.name}, {"records", file.entries.size()}, {"file", path},
                  {"format", tdb ? "tdb" : "backup"}});
  return 0;
}

}  // namespace tdbmesh::dbtool
