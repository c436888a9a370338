#pragma once
// Hash tables by record name. Clients choose the names; the seed of the hash keeps them from choosing collisions.
// Elements stay where they are until erased. The order of iteration is arbitrary, but the same for the same seed and
// history.

#include <functional>
#include <unordered_map>

#include "db/key_hash.h"

namespace tdbmesh {

struct KeyHash {
  using is_transparent = void;
  std::uint64_t seed = 0;
  [[nodiscard]] std::size_t operator()(BytesView key) const { return key_hash(key, seed); }
};

template <class Value>
using KeyTable = std::unordered_map<Bytes, Value, KeyHash, std::equal_to<>>;

template <class Value>
[[nodiscard]] KeyTable<Value> make_key_table(std::uint64_t seed) {
  return KeyTable<Value>(0, KeyHash{seed});
}

}  // namespace tdbmesh
