#pragma once
// What Samba's records mean: fields with names for people, instead of bytes. Knows passdb.tdb (tdbsam),
// idmap2.tdb, secrets.tdb and g_lock.tdb. Pure. Passwords and hashes are never shown, only that they are there.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/base/bytes.h"

namespace tdbmesh::dbtool {

using Fields = std::vector<std::pair<std::string, std::string>>;  // in order of display

// nullopt: no view for this database or this record.
[[nodiscard]] std::optional<Fields> decode_record(const std::string& database, BytesView key, BytesView value);

// "S-1-5-21-..." of Samba's fixed-size binary form; nullopt if it is none.
[[nodiscard]] std::optional<std::string> sid_text(BytesView bytes);

}  // namespace tdbmesh::dbtool
