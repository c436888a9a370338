// Texts and lock values that the tools share.

#include <gtest/gtest.h>

#include "db/base/hash.h"
#include "tools/client/g_lock_value.h"
#include "tools/client/text.h"

namespace tdbmesh {
namespace {

const ServerId kAlice{.pid = 4711, .task_id = 0, .vnn = Pnn{1}, .unique_id = 0x1122334455667788};
const ServerId kBob{.pid = 4712, .task_id = 2, .vnn = Pnn{0}, .unique_id = kUniqueIdNotToVerify};

TEST(Text, EscapesAndUnescapesEveryByte) {
  Bytes all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  EXPECT_EQ(unescape_c(escape_c(all)).value(), all);
  EXPECT_EQ(from_base64(to_base64(all)).value(), all);
  EXPECT_EQ(escape_c(Bytes("USER_x\0", 7)), "USER_x\\0");
  EXPECT_EQ(escape_hex("a\"\\\n"), "a\\22\\5C\\0A");
}

TEST(Text, KnowsBase64OfEveryLength) {
  EXPECT_EQ(to_base64(""), "");
  EXPECT_EQ(to_base64("f"), "Zg==");
  EXPECT_EQ(to_base64("fo"), "Zm8=");
  EXPECT_EQ(to_base64("foo"), "Zm9v");
  EXPECT_FALSE(from_base64("Zg="));
  EXPECT_FALSE(from_base64("Z!=="));
  EXPECT_FALSE(from_base64("===="));
}

TEST(Text, RefusesHalfEscapes) {
  for (const char* text : {"a\\", "\\x1", "\\xg0", "\\q"}) EXPECT_FALSE(unescape_c(text)) << text;
}

TEST(Text, ReadsHexKeysAsTheCtdbToolDoes) {
  EXPECT_EQ(text_or_hex("0x00ff").value(), Bytes("\0\xff", 2));
  EXPECT_EQ(text_or_hex("plain").value(), "plain");
  EXPECT_EQ(text_or_hex("0x1").error().context, "Key (1) contains odd number of hex digits");
  EXPECT_EQ(text_or_hex("0xzz").error().context, "Invalid hex: zz");
}

TEST(Text, ReadsNumbersWhole) {
  EXPECT_EQ(parse_u32("0x10"), 16u);
  EXPECT_EQ(parse_u32("4294967295"), 4294967295u);
  for (const char* text : {"", "x", "1x", "-1", "4294967296", " 1"}) EXPECT_EQ(parse_u32(text), std::nullopt) << text;
}

TEST(Text, CountsDaysInElapsedTimes) { EXPECT_EQ(elapsed_text(90061), "(001 01:01:01)"); }

TEST(GLock, KeyIsTheOneThatSambaUses) {
  EXPECT_EQ(transaction_lock_key(database_id("passdb.tdb")), Bytes("transaction_db_0x3ef19640\0", 26));
}

TEST(GLock, HolderHasSambasLayout) {
  GLockValue lock;
  lock.exclusive = kAlice;
  lock.lock_epoch = 5;
  const Bytes expected = ByteWriter()
                             .put(std::uint32_t{0})
                             .put(std::uint64_t{4711})
                             .put(std::uint32_t{0})
                             .put(std::uint32_t{1})
                             .put(std::uint64_t{0x1122334455667788})
                             .put(std::uint64_t{5})
                             .put(std::uint64_t{0})
                             .put(std::uint32_t{0})
                             .bytes();
  EXPECT_EQ(encode_g_lock(lock), expected);
  EXPECT_EQ(decode_g_lock(expected).value(), lock);
}

TEST(GLock, SurvivesTheRoundTripWithEverythingInIt) {
  GLockValue lock;
  lock.watchers = {{kBob, 7}, {kAlice, 8}};
  lock.shared = {kAlice, kBob};
  lock.data_epoch = 9;
  lock.user_data = "data";
  EXPECT_EQ(decode_g_lock(encode_g_lock(lock)).value(), lock);
}

TEST(GLock, IsEmptyWhenNobodyIsInterested) {
  EXPECT_EQ(encode_g_lock({}), "");
  EXPECT_FALSE(decode_g_lock("").value().held());
}

TEST(GLock, KeepsWatchersOfAFreeLock) {
  GLockValue lock;
  lock.watchers = {{kBob, 7}};
  const auto again = decode_g_lock(encode_g_lock(lock)).value();
  EXPECT_FALSE(again.held());
  EXPECT_EQ(again.watchers, lock.watchers);
}

TEST(GLock, RecognisesTheCtdbToolsEntries) {
  const Bytes entry = ByteWriter()
                          .put(std::uint32_t{1})
                          .put(std::uint32_t{0})
                          .put(std::uint64_t{99})
                          .put(std::uint32_t{0x3ef19640})
                          .put(std::uint32_t{2})
                          .put(std::uint64_t{0x3ef1964000000063})
                          .bytes();
  const auto lock = decode_g_lock(entry).value();
  ASSERT_EQ(lock.ctdb_tool.size(), 1u);
  EXPECT_EQ(lock.ctdb_tool[0].pid, 99u);
  EXPECT_TRUE(lock.held());
}

TEST(GLock, RefusesEveryTruncation) {
  GLockValue lock;
  lock.watchers = {{kBob, 7}};
  lock.exclusive = kAlice;
  const Bytes whole = encode_g_lock(lock);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    if (size == 36) continue;  // ends behind the watchers: a free lock
    EXPECT_FALSE(decode_g_lock(BytesView(whole).substr(0, size))) << size;
  }
}

}  // namespace
}  // namespace tdbmesh
