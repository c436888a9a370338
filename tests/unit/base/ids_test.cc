#include "db/base/ids.h"

#include <gtest/gtest.h>

#include <set>

namespace tdbmesh {
namespace {

TEST(Generation, ClientsNeverSeeTheInvalidValues) {
  std::set<std::uint32_t> seen;
  for (std::uint64_t term = 0; term < 100; ++term) {
    for (std::uint32_t serial = 1; serial < 100; ++serial) {
      const std::uint32_t g = client_generation({term, serial});
      EXPECT_GT(g, 1u);
      seen.insert(g);
    }
  }
  EXPECT_GT(seen.size(), 9890u);  // neighbours look different
}

TEST(Generation, NoneIsInvalidForClients) { EXPECT_EQ(client_generation({}), kInvalidClientGeneration); }

TEST(Generation, OrdersByTermThenSerial) {
  EXPECT_LT((Generation{1, 9}), (Generation{2, 0}));
  EXPECT_LT((Generation{2, 0}), (Generation{2, 1}));
}

}  // namespace
}  // namespace tdbmesh
