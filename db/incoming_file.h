#pragma once
// Records of a copy that is being fetched, on disk until all are there: batches appended to one file, read back in order.
// Not synced: after a crash the fetch begins anew. One thread.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "db/base/result.h"
#include "db/record.h"

namespace tdbmesh {

class IncomingFile {
 public:
  explicit IncomingFile(std::string path) : path_(std::move(path)) {}

  // `anew`: what was there is forgotten. Errors: StoreFull, Io.
  [[nodiscard]] Result<void> append(const std::vector<RecordEntry>& batch, bool anew);
  [[nodiscard]] Result<std::uint64_t> size() const;
  // Hands out batch after batch; ends with the first error of `use`. StoreCorrupt: not what was written.
  [[nodiscard]] Result<void> for_each(const std::function<Result<void>(const std::vector<RecordEntry>&)>& use) const;
  void remove();

 private:
  std::string path_;
};

}  // namespace tdbmesh
