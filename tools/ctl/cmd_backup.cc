// The contents of a database as a whole: backupdb, restoredb, dumpdbbackup, wipedb. The files are CTDB's.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#include "tools/client/local_copy.h"
#include "tools/ctl/format_databases.h"
#include "tools/ctl/verbs.h"
#include "tools/dbtool/transfer_file.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::ControlOpcode;
using dbtool::TransferFile;

constexpr std::size_t kPushSize = 500'000;  // of one message with records; clients of CTDB accept 1 MB
constexpr int kMostScans = 20;              // of a copy that changes while it is read

// The same control on all active nodes at once; all must succeed.
Outcome<> on_all(Session& session, const std::vector<std::uint32_t>& nodes, ControlOpcode opcode, BytesView data) {
  const auto replies = session.client().control_many(opcode, nodes, data, session.timeout());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!replies[i]) {
      return fail(fmt::format("Control {} failed to node {}: {}", ctdb::to_string(opcode), nodes[i], replies[i].error().context));
    }
    if (replies[i]->status != 0) {
      return fail(fmt::format("Control {} failed on node {}, ret={} {}", ctdb::to_string(opcode), nodes[i],
                              replies[i]->status, replies[i]->error));
    }
  }
  return {};
}

std::string when(std::int64_t time) {
  const std::time_t seconds = time;
  std::tm parts{};
  char text[64] = "an unknown time";
  if (localtime_r(&seconds, &parts) != nullptr) std::strftime(text, sizeof(text), "%Y/%m/%d %H:%M:%S", &parts);
  return text;
}

Outcome<TransferFile> read_backup(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(fmt::format("Failed to open file {}: {}", path, std::strerror(errno)));
  std::ostringstream all;
  all << in.rdbuf();
  auto file = dbtool::decode_backup(std::move(all).str());
  if (!file) return fail(fmt::format("{}: {}", path, file.error().context));
  return std::move(*file);
}

// A backup that replaces an older one does so as a whole: written beside it, synced, renamed.
Outcome<> write_backup(const std::string& path, const Bytes& bytes) {
  const std::string beside = fmt::format("{}.{}.tmp", path, getpid());
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(fmt::format("Failed to open file {}: {}", beside, std::strerror(errno)));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    done += static_cast<std::size_t>(wrote);
  }
  const bool good = done == bytes.size() && ::fsync(fd) == 0 && ::rename(beside.c_str(), path.c_str()) == 0;
  const int why = errno;
  ::close(fd);
  if (good) return {};
  ::unlink(beside.c_str());
  return fail(fmt::format("Failed to write records to backup file {}: {}", path, std::strerror(why)));
}

// All records of a full copy, as one commit left them: a scan that a commit fell into is repeated.
Outcome<std::vector<RecordEntry>> records_of_copy(Session& session, const NamedDatabase& database) {
  auto path = session.text(ControlOpcode::GetDbPath, session.own(), database.id);
  if (!path) return passed_on(path);
  auto copy = LmdbDatabase::open(*path, LmdbDatabase::Role::Inspector);
  if (!copy) return fail(fmt::format("cannot open the local copy {}: {}", *path, copy.error().context));
  for (int attempt = 0; attempt < kMostScans; ++attempt) {
    const auto before = (*copy)->version();
    std::vector<RecordEntry> entries;
    for (std::uint64_t at = 0;;) {
      auto batch = (*copy)->scan(at, 256);
      if (!batch) return fail(fmt::format("cannot read {}: {}", *path, batch.error().context));
      for (const LmdbItem& item : batch->items) {
        const auto header = decode_header(item.value);
        if (header) entries.push_back({0, item.key, *header, Bytes(BytesView(item.value).substr(kRecordHeaderSize))});
      }
      if (batch->done) break;
      at = batch->next;
    }
    const auto after = (*copy)->version();
    if (before && after && *before == *after) return entries;
  }
  return fail(fmt::format("{} was changed during each of {} attempts to read it; try again when less is written",
                          database.name, kMostScans));
}

// The newest state of all records of a volatile database, from all nodes.
Outcome<std::vector<RecordEntry>> records_of_cluster(Session& session, const NamedDatabase& database) {
  const Srvid srvid = session.temporary_srvid();
  if (auto done = session.client().register_srvid(srvid, session.timeout()); !done) {
    return fail("cannot register for the records: " + done.error().context);
  }
  const ctdb::TraverseStartExt start{.start = {database.id, 1, srvid}, .with_empty_records = false};
  if (auto started = session.ask(ControlOpcode::TraverseStartExt, session.own(), ctdb::encode(start)); !started) {
    return passed_on(started);
  }
  std::vector<RecordEntry> entries;
  while (true) {
    auto message = session.client().wait_message(srvid, ctdb::kForever);  // -T ends it, if nothing else does
    if (!message) return fail("connection to daemon closed, exiting: the backup is not complete");
    auto record = session.decoded(ControlOpcode::TraverseStartExt, ctdb::decode<ctdb::TraverseRecord>(message->data));
    if (!record) return passed_on(record);
    if (record->is_end()) break;
    const auto header = decode_header(record->data);
    if (!header || record->data.size() == kRecordHeaderSize) continue;
    entries.push_back({0, record->key, *header, Bytes(BytesView(record->data).substr(kRecordHeaderSize))});
  }
  (void)session.client().deregister_srvid(srvid, session.timeout());
  return entries;
}

// Has every active node take `entries` for the whole contents of the database, or leaves it as it was (persistent)
// or in the hands of a recovery (volatile).
Outcome<> replace_contents(Session& session, const NamedDatabase& database, const std::vector<RecordEntry>& entries) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  auto leader = session.leader();
  if (!leader) return passed_on(leader);
  if (!*leader) return fail("No leader, so no database can be changed as a whole: status -v says what the cluster waits for");
  auto mode = session.request(ControlOpcode::GetRecmode, **leader);
  if (!mode) return passed_on(mode);
  if (mode->status != 0) return fail("The cluster is in recovery; try again when status shows mode NORMAL");
  auto vnnmap = session.ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, **leader);
  if (!vnnmap) return passed_on(vnnmap);

  std::vector<std::uint32_t> active;
  for (const auto& node : map->nodes) {
    if ((node.flags & kFlagsInactive) == 0) active.push_back(number(node.pnn));
  }
  const Bytes id = ctdb::encode_u32(number(database.id));
  const Bytes transaction = ctdb::encode(ctdb::TransactionDatabase{database.id, vnnmap->generation});
  const auto push = [&]() -> Outcome<> {
    const Srvid srvid = session.temporary_srvid();
    auto started = on_all(session, active, ControlOpcode::DbPushStart,
                          ctdb::encode(ctdb::PullDatabase{database.id, kNoPnn, srvid}));
    if (!started) return started;
    RecordBuffer buffer{database.id, {}};
    std::size_t size = 0;
    const auto send = [&]() -> Outcome<> {
      const Bytes bytes = encode_buffer(buffer);
      for (const std::uint32_t node : active) {
        if (auto sent = session.client().send_message(node, srvid, bytes); !sent) return fail(sent.error().context);
      }
      buffer.entries.clear();
      size = 0;
      return {};
    };
    for (const RecordEntry& entry : entries) {
      buffer.entries.push_back(entry);
      size += entry.key.size() + entry.value.size() + 64;
      if (size < kPushSize) continue;
      if (auto sent = send(); !sent) return sent;
    }
    if (!buffer.entries.empty()) {
      if (auto sent = send(); !sent) return sent;
    }
    const auto replies = session.client().control_many(ControlOpcode::DbPushConfirm, active, id, session.timeout());
    for (std::size_t i = 0; i < active.size(); ++i) {
      const auto count = replies[i] && replies[i]->status == 0 ? ctdb::decode_u32(replies[i]->data) : Result<std::uint32_t>(0);
      if (count && *count == entries.size() && replies[i] && replies[i]->status == 0) continue;
      return fail(fmt::format("Node {} did not get all of the {} records", active[i], entries.size()));
    }
    return {};
  };

  // From the freeze on, whatever happens must end in a thaw; a recovery thaws everything.
  Outcome<> done = on_all(session, active, ControlOpcode::DbFreeze, id);
  if (done) done = on_all(session, active, ControlOpcode::DbTransactionStart, transaction);
  if (done) done = on_all(session, active, ControlOpcode::WipeDatabase, transaction);
  if (done && !entries.empty()) done = push();
  if (done) done = on_all(session, active, ControlOpcode::DbSetHealthy, id);
  if (done) done = on_all(session, active, ControlOpcode::DbTransactionCommit, transaction);
  if (done) done = on_all(session, active, ControlOpcode::DbThaw, id);
  if (!done) (void)session.request(ControlOpcode::SetRecmode, session.own(), ctdb::encode_u32(1));
  return done;
}

}  // namespace

Outcome<int> run_wipedb(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "wipedb");
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  if (auto done = replace_contents(*in.session, *database, {}); !done) return passed_on(done);
  in.console.show(fmt::format("Database {} wiped\n", database->name), {{"wiped", database->name}});
  return 0;
}

Outcome<int> run_backupdb(Invocation& in) {
  if (in.args.size() != 2) return wrong_usage(in, "backupdb");
  auto database = in.session->find_database(in.args[0]);
  if (!database) return passed_on(database);
  auto entries = database->is_volatile() ? records_of_cluster(*in.session, *database)
                                         : records_of_copy(*in.session, *database);
  if (!entries) return passed_on(entries);
  TransferFile file{database->name, (database->flags & ctdb::kDatabaseReplicated) != 0, std::time(nullptr),
                    std::move(*entries), database->is_volatile()};
  if (auto done = write_backup(in.args[1], dbtool::encode_backup(file)); !done) return passed_on(done);
  in.console.show(fmt::format("Database backed up to {}\n", in.args[1]),
                  {{"name", database->name}, {"file", in.args[1]}, {"records", file.entries.size()}});
  return 0;
}

Outcome<int> run_restoredb(Invocation& in) {
  if (in.args.empty() || in.args.size() > 2) return wrong_usage(in, "restoredb");
  Session& session = *in.session;
  auto file = read_backup(in.args[0]);
  if (!file) return passed_on(file);
  const std::string name = in.args.size() == 2 ? in.args[1] : file->name;
  const auto attach = file->is_volatile  ? ControlOpcode::DbAttach
                      : file->replicated ? ControlOpcode::DbAttachReplicated
                                         : ControlOpcode::DbAttachPersistent;
  if (auto attached = session.ask(attach, session.own(), ctdb::encode_text(name)); !attached) return passed_on(attached);
  auto database = session.find_database(name);
  if (!database) return passed_on(database);
  in.console.text(fmt::format("Restoring database {} from backup @ {}\n", name, when(file->time)));
  if (auto done = replace_contents(session, *database, file->entries); !done) return passed_on(done);
  in.console.show(fmt::format("Database {} restored\n", name), {{"restored", name}, {"records", file->entries.size()}});
  return 0;
}

Outcome<int> run_dumpdbbackup(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "dumpdbbackup");
  auto file = read_backup(in.args[0]);
  if (!file) return passed_on(file);
  in.console.empty_list();
  in.console.text(fmt::format("Dumping database {} from backup @ {}\n", file->name, when(file->time)));
  for (const RecordEntry& entry : file->entries) {
    in.console.item(in.console.json_mode() ? "" : format_record(entry.key, entry.header, entry.value),
                    in.console.json_mode() ? json_record(entry.key, entry.header, entry.value) : Json());
  }
  in.console.text(fmt::format("Dumped {} record(s)\n", file->entries.size()));
  return 0;
}

}  // namespace tdbmesh::ctl
