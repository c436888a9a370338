#pragma once
// A value in pieces, as its writer has them (a header and the data): stored one after the other.

#include <cstring>
#include <span>

#include "db/base/bytes.h"

namespace tdbmesh {

using ValueParts = std::span<const BytesView>;

[[nodiscard]] inline std::size_t total_size(ValueParts parts) {
  std::size_t size = 0;
  for (const BytesView part : parts) size += part.size();
  return size;
}

inline void copy_parts(ValueParts parts, char* to) {
  for (const BytesView part : parts) {
    if (!part.empty()) std::memcpy(to, part.data(), part.size());
    to += part.size();
  }
}

[[nodiscard]] inline bool same_value(BytesView stored, ValueParts parts) {
  if (stored.size() != total_size(parts)) return false;
  for (const BytesView part : parts) {
    if (!part.empty() && std::memcmp(stored.data(), part.data(), part.size()) != 0) return false;
    stored.remove_prefix(part.size());
  }
  return true;
}

}  // namespace tdbmesh
