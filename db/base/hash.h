#pragma once
// Bob Jenkins' lookup3 "hashlittle" with initial value 0 (public domain algorithm): the one hash of CTDB's
// world. Gives database ids and lmasters; Samba reaches the same function through tdb_jenkins_hash().

#include <cstdint>
#include <string_view>

#include "db/base/bytes.h"
#include "db/base/ids.h"

namespace tdbmesh {

[[nodiscard]] std::uint32_t ctdb_hash(BytesView bytes);

// The id of a database is the hash of its name including the terminating NUL.
[[nodiscard]] DatabaseId database_id(std::string_view name);

}  // namespace tdbmesh
