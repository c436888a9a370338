// Files of `ctdb backupdb`, as an administrator may find them.

#include "db/base/check.h"
#include "tests/fuzz/fuzz.h"
#include "tools/dbtool/transfer_file.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = dbtool::decode_backup(fuzz_view(data, size));
  if (!file) return 0;
  const auto again = dbtool::decode_backup(dbtool::encode_backup(*file));
  TDBMESH_CHECK(again && again->name == file->name && again->entries == file->entries);
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  return {dbtool::encode_backup({"passdb.tdb", false, 1, {{0, "key", {3, Pnn{1}, 0}, "value"}, {0, "other", {}, ""}}}),
          dbtool::encode_backup({"secrets.tdb", true, 1, {}})};
}
