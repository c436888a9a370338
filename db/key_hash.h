#pragma once
// The keyed hashes behind chain numbers and positions of records, with the database's seed. Clients choose record names;
// without the seed they cannot choose collisions.
//   key_hash: SipHash-1-3 (a published algorithm by Aumasson and Bernstein); LMDB's files keep it.
//   key_fold: of volatile databases, whose records are locked a million times a second: folded 128-bit products (the
//   principle of Wang Yi's wyhash), a third of the time. Nothing outlives the boot with it.

#include <cstdint>
#include <cstring>

#include "db/base/bytes.h"

namespace tdbmesh {

[[nodiscard]] inline std::uint64_t key_hash(BytesView key, std::uint64_t seed) {
  const auto rotate = [](std::uint64_t x, int by) { return (x << by) | (x >> (64 - by)); };
  const std::uint64_t k0 = seed;
  const std::uint64_t k1 = seed * 0x9E3779B97F4A7C15u + 1;
  std::uint64_t a = k0 ^ 0x736f6d6570736575u;
  std::uint64_t b = k1 ^ 0x646f72616e646f6du;
  std::uint64_t c = k0 ^ 0x6c7967656e657261u;
  std::uint64_t d = k1 ^ 0x7465646279746573u;
  const auto round = [&] {
    a += b, b = rotate(b, 13), b ^= a, a = rotate(a, 32);
    c += d, d = rotate(d, 16), d ^= c;
    a += d, d = rotate(d, 21), d ^= a;
    c += b, b = rotate(b, 17), b ^= c, c = rotate(c, 32);
  };
  const std::size_t size = key.size();
  std::size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    std::uint64_t word;
    std::memcpy(&word, key.data() + at, 8);
    d ^= word;
    round();
    a ^= word;
  }
  std::uint64_t last = static_cast<std::uint64_t>(size & 0xff) << 56;
  for (int shift = 0; at < size; ++at, shift += 8) {
    last |= static_cast<std::uint64_t>(static_cast<unsigned char>(key[at])) << shift;
  }
  d ^= last;
  round();
  a ^= last;
  c ^= 0xff;
  round(), round(), round();
  return a ^ b ^ c ^ d;
}

[[nodiscard]] inline std::uint64_t key_fold(BytesView key, std::uint64_t seed) {
  const auto word = [&key](std::size_t at) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, key.data() + at, 8);
    return bytes;
  };
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  // Both factors hold something secret: nobody can make one of them zero.
  const std::uint64_t k0 = seed ^ 0x9E3779B97F4A7C15u;
  const std::uint64_t k1 = (seed ^ 0xD6E8FEB86659FD93u) * 0xA0761D6478BD642Fu | 1;
  const std::size_t size = key.size();
  std::uint64_t sum = k0;
  std::size_t at = 0;
  for (; at + 16 <= size; at += 16) sum = fold(word(at) ^ k1, word(at + 8) ^ sum);
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  const std::size_t left = size - at;
  if (left >= 8) {
    a = word(at);
    b = word(size - 8);
  } else if (size >= 8 && left > 0) {
    a = word(size - 8);
  } else {
    for (std::size_t i = 0; i < left; ++i) a |= static_cast<std::uint64_t>(static_cast<unsigned char>(key[at + i])) << 8 * i;
  }
  return fold(fold(a ^ k1, b ^ sum) ^ k0, k1 ^ size);
}

// The chain of a key: other bits than the position in LMDB uses last, and never weakened by a test's mask.
[[nodiscard]] inline std::uint32_t chain_of_hash(std::uint64_t hash, std::uint32_t chain_count) {
  return static_cast<std::uint32_t>(hash >> 40) & (chain_count - 1);
}

// Where a record stands in LMDB: the hash picks a run of 256 positions, collisions share it. Position 0 .. 255
// is the database's own (its description), so hashes never fall there.
inline constexpr std::uint64_t kSlotsPerHash = 256;
[[nodiscard]] inline std::uint64_t first_position(std::uint64_t hash) {
  const std::uint64_t at = hash & ~(kSlotsPerHash - 1);
  return at == 0 ? kSlotsPerHash : at;
}

}  // namespace tdbmesh
