#include "db/key_hash.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>
#include <string>
#include <vector>

namespace tdbmesh {
namespace {

constexpr std::uint64_t kSeed = 0x0123456789ABCDEF;

Bytes key_of(std::size_t size) {
  Bytes key;
  for (std::size_t i = 0; i < size; ++i) key.push_back(static_cast<char>('a' + i * 7 % 26));
  return key;
}

TEST(KeyFold, EveryBitOfTheKeyAndOfTheSeedChangesHalfOfTheHash) {
  std::uint64_t changes = 0;
  std::uint64_t changed = 0;
  const auto count = [&](std::uint64_t a, std::uint64_t b) {
    const int bits = std::popcount(a ^ b);
    EXPECT_GE(bits, 8);
    changed += static_cast<std::uint64_t>(bits);
    ++changes;
  };
  for (std::size_t size = 0; size <= 50; ++size) {
    const Bytes key = key_of(size);
    const std::uint64_t hash = key_fold(key, kSeed);
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      Bytes other = key;
      other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
      count(hash, key_fold(other, kSeed));
    }
    for (int bit = 0; bit < 64; ++bit) count(hash, key_fold(key, kSeed ^ std::uint64_t{1} << bit));
  }
  EXPECT_NEAR(static_cast<double>(changed) / static_cast<double>(changes), 32, 0.5);
}

TEST(KeyFold, LengthCounts) {
  std::set<std::uint64_t> seen;
  for (std::size_t size = 0; size <= 200; ++size) {
    EXPECT_TRUE(seen.insert(key_fold(Bytes(size, '\0'), kSeed)).second) << size;
    EXPECT_TRUE(seen.insert(key_fold(Bytes(size, 'x'), kSeed)).second || size == 0) << size;
  }
}

// Every part of the hash that is used alone: chains, places in a table, tags.
TEST(KeyFold, SpreadsKeysThatDifferLittle) {
  constexpr std::uint32_t kBuckets = 256;
  constexpr int kKeys = 64 * 256;
  for (const int shift : {0, 24, 40, 52}) {
    std::vector<int> in(kBuckets);
    for (int i = 0; i < kKeys; ++i) ++in[key_fold("record " + std::to_string(i), kSeed) >> shift & (kBuckets - 1)];
    double square = 0;
    for (const int n : in) square += (n - 64.0) * (n - 64.0) / 64;
    // Chi squared with 255 degrees of freedom: 255 give or take 23 if it were chance.
    EXPECT_LT(square, 255 + 5 * 23) << shift;
    EXPECT_GT(square, 255 - 5 * 23) << shift;
  }
}

TEST(KeyFold, ReadsNothingBesideTheKey) {
  for (std::size_t size = 0; size <= 40; ++size) {
    const Bytes key = key_of(size);
    const Bytes behind = key + "behind";
    const Bytes before = "front" + key;
    EXPECT_EQ(key_fold(key, kSeed), key_fold(BytesView(behind).substr(0, size), kSeed)) << size;
    EXPECT_EQ(key_fold(key, kSeed), key_fold(BytesView(before).substr(5), kSeed)) << size;
  }
}

}  // namespace
}  // namespace tdbmesh
