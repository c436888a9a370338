#pragma once
// One number for the contents of a database: equal on two nodes exactly if their copies hold the same keys
// and values, in whatever order they are stored. Pure.

#include <array>
#include <string>
#include <vector>

#include "db/base/bytes.h"

namespace tdbmesh::dbtool {

using Sha256 = std::array<std::uint8_t, 32>;
[[nodiscard]] Sha256 sha256(BytesView bytes);

class Digest {
 public:
  void add(BytesView key, BytesView value);
  [[nodiscard]] std::string hex() const;  // 64 digits
  [[nodiscard]] std::size_t records() const { return records_.size(); }

 private:
  std::vector<Sha256> records_;
};

}  // namespace tdbmesh::dbtool
