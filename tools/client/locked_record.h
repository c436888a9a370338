#pragma once
// A record of a volatile database, brought to this node and chain-locked: what Samba calls fetch_locked.
// While one lives, no other process in the cluster can change the record. Keep it short.

#include <memory>
#include <string>

#include "db/record.h"
#include "tools/client/local_copy.h"
#include "transport/ctdb_client.h"

namespace tdbmesh {

// A database that was attached on the local node, and its local copy.
struct OpenDatabase {
  DatabaseId id{};
  std::string name;
  ctdb::Client::DatabaseType type{};
  std::unique_ptr<LocalCopy> copy;
};
[[nodiscard]] Result<OpenDatabase> open_database(ctdb::Client& client, const std::string& name,
                                                 ctdb::Client::DatabaseType type, Duration timeout);

class LockedRecord {
 public:
  // Asks the cluster for the record until the local copy holds it. Busy when `timeout` is over.
  [[nodiscard]] static Result<LockedRecord> fetch(ctdb::Client& client, OpenDatabase& database, BytesView key,
                                                  Duration timeout);
  ~LockedRecord();
  LockedRecord(LockedRecord&& other) noexcept;
  LockedRecord& operator=(LockedRecord&&) = delete;

  [[nodiscard]] const RecordHeader& header() const { return record_.header; }
  [[nodiscard]] const Bytes& value() const { return record_.value; }
  [[nodiscard]] Result<> store(BytesView value);
  // Empty value, and a note to the daemon that the record may go.
  [[nodiscard]] Result<> erase();

 private:
  LockedRecord(ctdb::Client& client, OpenDatabase& database, Bytes key, StoredRecord record)
      : client_(&client), database_(&database), key_(std::move(key)), record_(std::move(record)) {}
  ctdb::Client* client_;
  OpenDatabase* database_;  // null: moved from
  Bytes key_;
  StoredRecord record_;
};

}  // namespace tdbmesh
