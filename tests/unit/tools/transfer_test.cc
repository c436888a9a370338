#include <gtest/gtest.h>

#include "tools/dbtool/transfer_file.h"

namespace tdbmesh::dbtool {
namespace {

TransferFile sample() {
  TransferFile file{"passdb.tdb", false, 1700000000, {}};
  for (int i = 0; i < 30; ++i) {
    file.entries.push_back({0, "key" + std::to_string(i), {7, Pnn{1}, 0}, Bytes(10'000, static_cast<char>('a' + i % 26))});
  }
  file.entries.push_back({0, "deleted", {8, Pnn{0}, 0}, ""});
  return file;
}

TEST(BackupFile, ComesBackAsItWentOut) {
  const TransferFile file = sample();
  const auto again = decode_backup(encode_backup(file));
  ASSERT_TRUE(again) << again.error().context;
  EXPECT_EQ(again->name, file.name);
  EXPECT_EQ(again->time, file.time);
  EXPECT_EQ(again->replicated, file.replicated);
  EXPECT_EQ(again->entries, file.entries);
}

TEST(BackupFile, HasTheHeadThatCtdbWrites) {
  const Bytes bytes = encode_backup({"a.tdb", true, 2, {{0, "k", {}, "v"}}});
  ByteReader in(bytes);
  EXPECT_EQ(in.get<std::uint64_t>(), 3u);
  EXPECT_EQ(in.get<std::int64_t>(), 2);
  EXPECT_EQ(in.get<std::uint64_t>(), 8u);
  EXPECT_EQ(in.get<std::uint64_t>(), 1u);
  EXPECT_EQ(in.get<std::uint64_t>(), 1u);
  EXPECT_EQ(in.get_bytes(64), Bytes("a.tdb") + Bytes(59, '\0'));
  in.skip(4);
  EXPECT_EQ(in.get<std::uint32_t>(), 1u);
  const auto length = in.get<std::uint64_t>();
  EXPECT_EQ(length, in.remaining());
}

TEST(BackupFile, IsRefusedWhenCutOffAnywhere) {
  const Bytes whole = encode_backup({"a.tdb", false, 2, {{0, "k", {}, "v"}, {0, "l", {}, "w"}}});
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(decode_backup(BytesView(whole).substr(0, size))) << size;
  EXPECT_FALSE(decode_backup(whole + "x"));
}

TEST(BackupFile, OfAnotherVersionIsRefusedAndAVolatileOneIsMarked) {
  Bytes bytes = encode_backup(sample());
  Bytes other = bytes;
  other[0] = 2;
  EXPECT_EQ(decode_backup(other).error().fault, Fault::Refused);
  EXPECT_FALSE(decode_backup(bytes)->is_volatile);
  bytes[16] = 0;
  const auto marked = decode_backup(bytes);
  EXPECT_TRUE(marked->is_volatile);
  EXPECT_EQ(decode_backup(encode_backup(*marked))->is_volatile, true);
}

TEST(DatabaseOfPath, IsTheFileWithoutTheNodesNumber) {
  EXPECT_EQ(database_of_path("/var/lib/ctdb/persistent/passdb.tdb.0"), "passdb.tdb");
  EXPECT_EQ(database_of_path("secrets.tdb.12"), "secrets.tdb");
  EXPECT_EQ(database_of_path("./idmap2.tdb"), "idmap2.tdb");
  EXPECT_EQ(database_of_path("/backups/passdb.backup"), "");
  EXPECT_EQ(database_of_path("/backups/passdb"), "");
}

}  // namespace
}  // namespace tdbmesh::dbtool
