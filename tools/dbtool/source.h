#pragma once
// Where dbtool reads: from a live node (its daemon, and its local copies), or from the files of a dead one.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/lmdb_database.h"
#include "db/store.h"
#include "tools/ctl/session.h"

namespace tdbmesh::dbtool {

using ctl::Outcome;

struct DatabaseInfo {
  DatabaseId id{};
  std::string name;
  DatabaseKind kind = DatabaseKind::Volatile;
  std::string path;  // of the anchor
  [[nodiscard]] bool is_volatile() const { return kind == DatabaseKind::Volatile; }
};
[[nodiscard]] const char* to_text(DatabaseKind kind);

class Source {
 public:
  virtual ~Source() = default;
  [[nodiscard]] virtual Outcome<std::vector<DatabaseInfo>> list() = 0;
  // By name, "0x..." id, or the anchor's path.
  [[nodiscard]] virtual Outcome<DatabaseInfo> find(const std::string& name) = 0;
  // All records, those with an empty value too where they can be seen. Live volatile databases: each record
  // once, from the node that holds it.
  using Visit = std::function<void(BytesView key, const RecordHeader& header, BytesView value)>;
  [[nodiscard]] virtual Outcome<> for_each(const DatabaseInfo& database, const Visit& visit) = 0;
  [[nodiscard]] virtual Outcome<std::optional<StoredRecord>> get(const DatabaseInfo& database, BytesView key) = 0;
  // The connection to the daemon; null on files.
  [[nodiscard]] virtual ctl::Session* session() { return nullptr; }
};

[[nodiscard]] std::unique_ptr<Source> live_source(ctl::Session session);
// `directories`: each may hold anchors itself, or in `persistent/` and `volatile/` below it. Read-only.
[[nodiscard]] std::unique_ptr<Source> files_source(std::vector<std::string> directories);

// Reads a local copy, record by record; works while the daemon and Samba use it.
[[nodiscard]] Outcome<> scan_copy(const std::string& path, const Source::Visit& visit);
// The same through a handle; a file can be open only once in a process.
[[nodiscard]] Outcome<> scan_copy(LmdbDatabase& copy, const Source::Visit& visit);

}  // namespace tdbmesh::dbtool
