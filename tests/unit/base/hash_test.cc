#include "db/base/hash.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

TEST(Hash, AgreesWithLibtdbsTestVectors) {
  EXPECT_EQ(ctdb_hash(""), 0xDEADBEEFu);
  EXPECT_EQ(ctdb_hash("k1"), 0xEB04426Du);
  EXPECT_EQ(ctdb_hash("abcdefghijkl"), 0x4012F87Bu);
  EXPECT_EQ(ctdb_hash("abcdefghijklm"), 0x928128F9u);
}

TEST(Hash, DatabaseIdsAreThoseOfTheRealDaemon) {
  EXPECT_EQ(number(database_id("g_lock.tdb")), 0x4D2A432Bu);
  EXPECT_EQ(number(database_id("passdb.tdb")), 0x3EF19640u);
  EXPECT_EQ(number(database_id("smbXsrv_version_global.tdb")), 0x521B7544u);
}

}  // namespace
}  // namespace tdbmesh
