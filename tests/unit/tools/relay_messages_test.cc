#include "tools/daemon/relay_messages.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

std::vector<RelayPayload> samples() {
  return {
      RelayMessage{Srvid{0xFE00000000000002u}, Bytes("hello\0world", 11)},
      RelayControl{77, 151, 0x1234, 1, "data"},
      RelayControlReply{77, -1, "", "node is disconnected"},
      RelayAttach{5, {{"passdb.tdb", DatabaseKind::Persistent, false, false}, {"g_lock.tdb", DatabaseKind::Volatile, true, true}},
                  Generation{2, 9}},
      RelayAttached{5},
      RelayDetach{8, DatabaseId{0x4D2A432B}, Generation{4, 7}},
      RelayDetached{8, "AllowClientDBAttach is 1"},
      RelayMissed{},
      RelayTraverse{9, DatabaseId{0x4D2A432B}, true, 77},
      RelayTraverseBatch{9, 77, 99, false, {{"key", {{7, Pnn{2}, kRecordMigratedWithData}, "value"}}}},
  };
}

TEST(RelayMessages, ReadBackWhatWasWritten) {
  for (const RelayPayload& payload : samples()) {
    const auto read = decode_relay(encode_relay(payload));
    ASSERT_TRUE(read.has_value()) << payload.index();
    EXPECT_EQ(*read, payload);
  }
}

TEST(RelayMessages, EveryTruncationIsMalformed) {
  for (const RelayPayload& payload : samples()) {
    const Bytes wire = encode_relay(payload);
    for (std::size_t cut = 0; cut < wire.size(); ++cut) {
      EXPECT_FALSE(decode_relay(BytesView(wire).substr(0, cut)).has_value()) << payload.index() << " at " << cut;
    }
  }
}

TEST(RelayMessages, ANameThatLeadsOutOfTheDirectoryIsMalformed) {
  for (const char* name : {"", "../etc/passwd", "a/b"}) {
    EXPECT_FALSE(decode_relay(encode_relay(RelayAttach{0, {{name, DatabaseKind::Volatile, false, false}}})).has_value());
  }
}

}  // namespace
}  // namespace tdbmesh
