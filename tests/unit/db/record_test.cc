#include "db/record.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

RecordBuffer sample() {
  RecordBuffer buffer;
  buffer.database = DatabaseId{0x11223344};
  buffer.entries.push_back({7, "key", {5, Pnn{2}, kRecordMigratedWithData}, "value"});
  buffer.entries.push_back({0, Bytes(kSequenceNumberKey), {6, Pnn{2}, 0}, Bytes("\x2a\0\0\0\0\0\0\0", 8)});
  return buffer;
}

TEST(Record, HeaderKeepsItsFieldsAndItsLayout) {
  const RecordHeader header{0x0102030405060708, Pnn{3}, kRecordReadOnlyCopy};
  const Bytes bytes = encode_header(header);
  EXPECT_EQ(to_hex(bytes), "080706050403020103000000000000000000000200000000");
  EXPECT_EQ(decode_header(bytes), header);
  EXPECT_EQ(decode_header(bytes + "the value"), header);
}

TEST(Record, LessThanAHeaderIsNoRecord) {
  const Bytes bytes = encode_header({1, Pnn{0}, 0});
  for (std::size_t size = 0; size < bytes.size(); ++size) EXPECT_EQ(decode_header(BytesView(bytes).substr(0, size)), std::nullopt);
}

TEST(Record, BufferHasTheLayoutThatClientsSend) {
  RecordBuffer buffer{DatabaseId{0xA1B2C3D4}, {{1, "k", {2, Pnn{1}, 0}, "v"}}};
  EXPECT_EQ(to_hex(encode_buffer(buffer)),
            "d4c3b2a1" "01000000"                                    // database, count
            "2a000000" "01000000" "01000000" "19000000" "6b"         // length, reqid, key and data size, key
            "0200000000000000" "01000000" "00000000" "00000000" "00000000" "76");
  EXPECT_EQ(encode_entry(buffer.entries[0]), encode_buffer(buffer).substr(8));
}

TEST(Record, BufferSurvivesARoundTrip) {
  const RecordBuffer buffer = sample();
  const auto decoded = decode_buffer(encode_buffer(buffer));
  ASSERT_TRUE(decoded) << decoded.error().context;
  EXPECT_EQ(decoded->database, buffer.database);
  EXPECT_EQ(decoded->entries, buffer.entries);
}

TEST(Record, EmptyBufferIsABuffer) {
  const auto decoded = decode_buffer(encode_buffer({DatabaseId{9}, {}}));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(decoded->entries.empty());
}

TEST(Record, BufferCutOffAnywhereIsMalformed) {
  const Bytes bytes = encode_buffer(sample());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = decode_buffer(BytesView(bytes).substr(0, size));
    ASSERT_FALSE(decoded) << size;
    EXPECT_EQ(decoded.error().fault, Fault::Malformed);
  }
  EXPECT_FALSE(decode_buffer(bytes + "x"));
}

TEST(Record, LyingLengthsAreMalformed) {
  const Bytes good = encode_buffer(sample());
  // count, then length, key size and data size of the first entry.
  for (const std::size_t at : {4u, 8u, 16u, 20u}) {
    for (const int lie : {0x00, 0x7f, 0xff}) {
      Bytes bad = good;
      bad[at + 3] = static_cast<char>(lie);
      if (lie == 0) bad[at] = static_cast<char>(bad[at] + 1);
      EXPECT_FALSE(decode_buffer(bad)) << at << " " << lie;
    }
  }
}

TEST(Record, KeyMustNotBeEmptyOrOverlong) {
  EXPECT_FALSE(decode_buffer(encode_buffer({DatabaseId{1}, {{0, "", {}, "v"}}})));
  EXPECT_TRUE(decode_buffer(encode_buffer({DatabaseId{1}, {{0, Bytes(kMaxKeySize, 'k'), {}, "v"}}})));
  EXPECT_FALSE(decode_buffer(encode_buffer({DatabaseId{1}, {{0, Bytes(kMaxKeySize + 1, 'k'), {}, "v"}}})));
}

TEST(Record, LastSequenceNumberInABufferWins) {
  RecordBuffer buffer = sample();
  EXPECT_EQ(sequence_number_in(buffer), 42u);
  buffer.entries.push_back({0, Bytes(kSequenceNumberKey), {7, Pnn{2}, 0}, Bytes("\x2b\0\0\0\0\0\0\0", 8)});
  EXPECT_EQ(sequence_number_in(buffer), 43u);
  buffer.entries.resize(1);
  EXPECT_EQ(sequence_number_in(buffer), std::nullopt);
}

}  // namespace
}  // namespace tdbmesh
