#include <gtest/gtest.h>

#include "db/commit_messages.h"
#include "db/record_messages.h"

namespace tdbmesh {
namespace {

using namespace record;

const Generation kGeneration{7, 3};
const DatabaseId kDatabase{0x4d2a432b};

std::vector<Body> one_of_each() {
  return {Request{"key", 5, Kind::Read},
          Forward{"key", Pnn{2}, 9, Kind::Write, 4, Rsn{17}},
          Grant{"key", 5, 6, true, "value"},
          Copy{"key", 5, 6, true, ""},
          Miss{"key", Pnn{1}, 5, Kind::Write},
          Query{"key", 300},
          Answer{"key", 300, false, std::nullopt},
          Claim{{{"a", true, 1}, {"b", false, 70000}}, true, false},
          Revoke{"key"},
          Revoked{"key"},
          Tomb{{{"a", 3}, {"b", 4}}},
          Purge{{{"a", 3}}},
          VacuumAck{2, {{"a", 3, true}, {"b", 4, false}}},
          Gone{Bytes("k\0y", 3), ~Rsn{0}},
          Leaving{8, {{"a", 3, Pnn{1}}, {"b", 4, kNoPnn}}},
          Keeping{8, true, {true, false}}};
}

std::vector<commit::Body> one_commit_of_each() {
  const std::vector<RecordEntry> entries{{1, "key", RecordHeader{2, Pnn{1}, 3}, "value"}, {0, "other", {}, ""}};
  return {commit::Request{9, true, 4, entries},
          commit::Write{5, false, entries},
          commit::Durable{5},
          commit::Done{9, -1, "no"},
          commit::Pull{3, CopyVersion{kGeneration, 8}, 12},
          commit::PullData{3, CopyVersion{kGeneration, 8}, CopyVersion{kGeneration, 9}, true, false, 1, 2, entries},
          commit::PullRefused{3, "not here"}};
}

TEST(RecordMessages, EveryMessageComesBackAsItWas) {
  for (const Body& body : one_of_each()) {
    const RecordMessage message{kGeneration, kDatabase, body};
    const auto decoded = decode_record_message(encode_record_message(message));
    ASSERT_TRUE(decoded) << name_of(body);
    EXPECT_EQ(*decoded, message) << name_of(body);
  }
}

TEST(RecordMessages, BytesOnTheWireDoNotChange) {
  const auto hex = [](Body body) { return to_hex(encode_record_message({kGeneration, kDatabase, std::move(body)})); };
  EXPECT_EQ(hex(Request{"key", 5, Kind::Read}), "95000703ce4d2a432b93c4036b65790501");
  EXPECT_EQ(hex(Grant{"k", 1, 2, true, "v"}), "95020703ce4d2a432b95c4016b010201c40176");
  EXPECT_EQ(hex(Gone{"k", 300}), "950d0703ce4d2a432b92c4016bcd012c");
  EXPECT_EQ(hex(Keeping{8, false, {true}}), "950f0703ce4d2a432b9308009101");
}

TEST(RecordMessages, EveryTruncationIsMalformed) {
  for (const Body& body : one_of_each()) {
    const Bytes whole = encode_record_message({kGeneration, kDatabase, body});
    for (std::size_t size = 0; size < whole.size(); ++size) {
      EXPECT_FALSE(decode_record_message(BytesView(whole).substr(0, size))) << name_of(body) << " at " << size;
    }
    EXPECT_FALSE(decode_record_message(whole + "x")) << name_of(body);
  }
}

TEST(RecordMessages, WhatNoNodeSendsIsRefused) {
  const auto refused = [](Body body) {
    return !decode_record_message(encode_record_message({kGeneration, kDatabase, std::move(body)}));
  };
  EXPECT_TRUE(refused(Request{"", 1, Kind::Write}));
  EXPECT_TRUE(refused(Request{Bytes(kMaxKeySize + 1, 'k'), 1, Kind::Write}));
  EXPECT_TRUE(refused(VacuumAck{3, {}}));
  EXPECT_TRUE(refused(Tomb{std::vector<VacuumEntry>(kMaxRecordBatch + 1, VacuumEntry{"k", 1})}));
  Bytes unknown = encode_record_message({kGeneration, kDatabase, Revoke{"k"}});
  unknown[1] = 16;
  EXPECT_FALSE(decode_record_message(unknown));
}

TEST(CommitMessages, EveryMessageComesBackAsItWas) {
  for (const commit::Body& body : one_commit_of_each()) {
    const CommitMessage message{kGeneration, kDatabase, body};
    const auto decoded = decode_commit_message(encode_commit_message(message));
    ASSERT_TRUE(decoded) << name_of(body);
    EXPECT_EQ(*decoded, message) << name_of(body);
  }
}

TEST(CommitMessages, EveryTruncationIsMalformed) {
  for (const commit::Body& body : one_commit_of_each()) {
    const Bytes whole = encode_commit_message({kGeneration, kDatabase, body});
    for (std::size_t size = 0; size < whole.size(); ++size) {
      EXPECT_FALSE(decode_commit_message(BytesView(whole).substr(0, size))) << name_of(body) << " at " << size;
    }
    EXPECT_FALSE(decode_commit_message(whole + "x")) << name_of(body);
  }
}

TEST(CommitMessages, BytesOnTheWireDoNotChange) {
  const auto hex = [](commit::Body body) {
    return to_hex(encode_commit_message({kGeneration, kDatabase, std::move(body)}));
  };
  EXPECT_EQ(hex(commit::Durable{5}), "95020703ce4d2a432b9105");
  EXPECT_EQ(hex(commit::Done{1, -1, "no"}), "95030703ce4d2a432b9301ceffffffffc4026e6f");
}

}  // namespace
}  // namespace tdbmesh
