#include "tools/dbtool/source.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "db/lmdb_database.h"
#include "tools/client/text.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::dbtool {
namespace {

using ctl::fail;
using ctl::passed_on;
using ctdb::ControlOpcode;

Outcome<std::unique_ptr<LmdbDatabase>> open_copy(const std::string& path) {
  auto copy = LmdbDatabase::open(path, LmdbDatabase::Role::Inspector);
  if (!copy) return fail(fmt::format("cannot open {}: {}", path, copy.error().context));
  return std::move(*copy);
}

Outcome<std::optional<StoredRecord>> get_from_copy(const std::string& path, BytesView key) {
  auto copy = open_copy(path);
  if (!copy) return passed_on(copy);
  auto stored = (*copy)->fetch(key);
  if (!stored) return fail(fmt::format("cannot read {}: {}", path, stored.error().context));
  if (!*stored) return std::optional<StoredRecord>{};
  const auto header = decode_header(**stored);
  if (!header) return std::optional<StoredRecord>{};
  return std::optional<StoredRecord>{StoredRecord{*header, (*stored)->substr(kRecordHeaderSize)}};
}

class LiveSource : public Source {
 public:
  explicit LiveSource(ctl::Session session) : session_(std::move(session)) {}

  Outcome<std::vector<DatabaseInfo>> list() override {
    auto databases = session_.databases(session_.own());
    if (!databases) return passed_on(databases);
    std::vector<DatabaseInfo> infos;
    for (const auto& database : *databases) {
      auto info = info_of(database);
      if (!info) return passed_on(info);
      infos.push_back(std::move(*info));
    }
    return infos;
  }

  Outcome<DatabaseInfo> find(const std::string& name) override {
    auto database = session_.find_database(name);
    if (!database) return passed_on(database);
    return info_of(*database);
  }

  Outcome<> for_each(const DatabaseInfo& database, const Visit& visit) override {
    return database.is_volatile() ? traverse(database, visit) : scan_copy(database.path, visit);
  }

  Outcome<std::optional<StoredRecord>> get(const DatabaseInfo& database, BytesView key) override {
    if (!database.is_volatile()) return get_from_copy(database.path, key);
    // The daemon finds the newest value wherever it is.
    auto reply = session_.client().call(database.id, key, ctdb::CallId::FetchWithHeader, 0, session_.timeout());
    if (!reply) return fail(fmt::format("cannot fetch the record: {}", reply.error().context));
    const auto header = decode_header(reply->data);
    if (!header) return std::optional<StoredRecord>{};
    return std::optional<StoredRecord>{StoredRecord{*header, reply->data.substr(kRecordHeaderSize)}};
  }

  ctl::Session* session() override { return &session_; }

 private:
  Outcome<DatabaseInfo> info_of(const ctl::NamedDatabase& database) {
    auto path = session_.text(ControlOpcode::GetDbPath, session_.own(), database.id);
    if (!path) return passed_on(path);
    DatabaseInfo info{database.id, database.name, DatabaseKind::Volatile, std::move(*path)};
    if ((database.flags & ctdb::kDatabasePersistent) != 0) info.kind = DatabaseKind::Persistent;
    if ((database.flags & ctdb::kDatabaseReplicated) != 0) info.kind = DatabaseKind::Replicated;
    return info;
  }

  Outcome<> traverse(const DatabaseInfo& database, const Visit& visit) {
    const Srvid srvid = session_.temporary_srvid();
    if (auto done = session_.client().register_srvid(srvid, session_.timeout()); !done) {
      return fail("cannot register for the records: " + done.error().context);
    }
    const ctdb::TraverseStartExt start{.start = {database.id, 1, srvid}, .with_empty_records = true};
    if (auto started = session_.ask(ControlOpcode::TraverseStartExt, session_.own(), ctdb::encode(start)); !started) {
      return passed_on(started);
    }
    while (true) {
      auto message = session_.client().wait_message(srvid, ctdb::kForever);
      if (!message) return fail("the daemon closed the connection in the middle of the database; try again");
      auto record = session_.decoded(ControlOpcode::TraverseStartExt, ctdb::decode<ctdb::TraverseRecord>(message->data));
      if (!record) return passed_on(record);
      if (record->is_end()) break;
      if (const auto header = decode_header(record->data)) {
        visit(record->key, *header, BytesView(record->data).substr(kRecordHeaderSize));
      }
    }
    (void)session_.client().deregister_srvid(srvid, session_.timeout());
    return {};
  }

  ctl::Session session_;
};

class FilesSource : public Source {
 public:
  explicit FilesSource(std::vector<std::string> directories) : directories_(std::move(directories)) {}

  Outcome<std::vector<DatabaseInfo>> list() override {
    std::vector<DatabaseInfo> infos;
    for (const std::string& top : directories_) {
      for (const char* below : {"", "/persistent", "/volatile"}) collect(top + below, infos);
    }
    if (infos.empty()) {
      std::string where;
      for (const std::string& directory : directories_) where += " " + directory;
      return fail(fmt::format("no databases of tdbmesh in{}; name the node's state directory with --files DIR", where));
    }
    return infos;
  }

  Outcome<DatabaseInfo> find(const std::string& name) override {
    if (name.find('/') != std::string::npos) {
      std::vector<DatabaseInfo> one;
      add(name, one);
      if (one.empty()) return fail(fmt::format("{} is not a database of tdbmesh", name));
      return one.front();
    }
    auto infos = list();
    if (!infos) return passed_on(infos);
    for (DatabaseInfo& info : *infos) {
      const std::string file = std::filesystem::path(info.path).filename();
      if (info.name == name || file == name || to_string(info.id) == name) return std::move(info);
    }
    return fail(fmt::format("No database matching '{}' found; `dbtool list` shows what is there", name));
  }

  Outcome<> for_each(const DatabaseInfo& database, const Visit& visit) override {
    return scan_copy(database.path, visit);
  }
  Outcome<std::optional<StoredRecord>> get(const DatabaseInfo& database, BytesView key) override {
    return get_from_copy(database.path, key);
  }

 private:
  static void collect(const std::string& directory, std::vector<DatabaseInfo>& infos) {
    std::error_code error;
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      if (entry.is_regular_file(error)) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths) add(path, infos);
  }
  static void add(const std::string& path, std::vector<DatabaseInfo>& infos) {
    if (!Anchor::is_anchor(path)) return;
    const auto anchor = Anchor::open(path, Anchor::ForBoot::Any);
    if (!anchor) return;
    infos.push_back({(*anchor)->id(), (*anchor)->settings().name, (*anchor)->settings().kind, path});
  }
  std::vector<std::string> directories_;
};

}  // namespace

const char* to_text(DatabaseKind kind) {
  switch (kind) {
    case DatabaseKind::Volatile: return "volatile";
    case DatabaseKind::Replicated: return "replicated";
    case DatabaseKind::Persistent: return "persistent";
  }
  return "unknown";
}

Outcome<> scan_copy(const std::string& path, const Source::Visit& visit) {
  auto copy = open_copy(path);
  if (!copy) return passed_on(copy);
  return scan_copy(**copy, visit);
}

Outcome<> scan_copy(LmdbDatabase& copy, const Source::Visit& visit) {
  constexpr std::size_t kBatch = 256;
  std::uint64_t at = 0;
  while (true) {
    auto batch = copy.scan(at, kBatch);
    if (!batch) return fail(fmt::format("cannot read the local copy: {}", batch.error().context));
    for (const LmdbItem& item : batch->items) {
      if (const auto header = decode_header(item.value)) {
        visit(item.key, *header, BytesView(item.value).substr(kRecordHeaderSize));
      }
    }
    if (batch->done) return {};
    at = batch->next;
  }
}

std::unique_ptr<Source> live_source(ctl::Session session) { return std::make_unique<LiveSource>(std::move(session)); }
std::unique_ptr<Source> files_source(std::vector<std::string> directories) {
  return std::make_unique<FilesSource>(std::move(directories));
}

}  // namespace tdbmesh::dbtool
