#pragma once
// The files in which a database comes from CTDB and goes there: the one of `ctdb backupdb` (pure codec), and CTDB's own
// persistent TDB files (through the real libtdb).

#include <cstdint>
#include <string>
#include <vector>

#include "db/record.h"

namespace tdbmesh::dbtool {

// A database as a file holds it. Deleted (empty) records and the sequence number may be among the entries.
struct TransferFile {
  std::string name;         // of the database; empty if the file does not say
  bool replicated = false;  // else persistent
  std::int64_t time = 0;    // of the backup, seconds since 1970; 0: unknown
  std::vector<RecordEntry> entries;
  bool is_volatile = false;  // only `tdbmesh backupdb` and `restoredb` take these
};

// The backup format of CTDB 4.x, version 3. Malformed says what does not fit. Refused: another version.
[[nodiscard]] bool is_backup(BytesView bytes);
[[nodiscard]] Result<TransferFile> decode_backup(BytesView bytes);
[[nodiscard]] Bytes encode_backup(const TransferFile& file);

// "passdb.tdb" of "/var/lib/ctdb/persistent/passdb.tdb.0"; empty if the name has no such form.
[[nodiscard]] std::string database_of_path(const std::string& path);

// transfer_tdb.cc. Read-only; the file is checked as a whole first. Do not read one that ctdbd has open: stop CTDB before.
[[nodiscard]] bool is_tdb(BytesView start);
[[nodiscard]] Result<TransferFile> read_tdb(const std::string& path);
// Makes a new file with mode 0600, in one transaction; nothing stays behind on failure. Refused if it exists.
[[nodiscard]] Result<> write_tdb(const std::string& path, const TransferFile& file);

}  // namespace tdbmesh::dbtool
