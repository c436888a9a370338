#include "db/base/pack.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

Bytes sample() {
  Packer p;
  p.array(4).u64(7).u64(~std::uint64_t{0}).bytes("key\0with nul").array(2).generation({5, 9});
  return std::move(p).take();
}

TEST(Pack, ReadsBackWhatItWrote) {
  const Bytes wire = sample();
  Unpacker u(wire);
  EXPECT_EQ(u.array(10), 4u);
  EXPECT_EQ(u.u64(), 7u);
  EXPECT_EQ(u.u64(), ~std::uint64_t{0});
  EXPECT_EQ(u.bytes(), "key");
  EXPECT_EQ(u.array(2), 2u);
  EXPECT_EQ(u.generation(), (Generation{5, 9}));
  EXPECT_TRUE(u.finished());
}

TEST(Pack, EveryTruncationIsNoticed) {
  const Bytes wire = sample();
  for (std::size_t cut = 0; cut < wire.size(); ++cut) {
    const Bytes part = wire.substr(0, cut);
    Unpacker u(part);
    u.array(10);
    u.u64();
    u.u64();
    u.bytes();
    u.array(2);
    u.generation();
    EXPECT_FALSE(u.finished()) << cut;
  }
}

TEST(Pack, ACountLargerThanTheInputIsRefusedBeforeAnythingIsAllocated) {
  const Bytes lie("\xDD\xFF\xFF\xFF\xFF", 5);
  Unpacker u(lie);
  EXPECT_EQ(u.array(0xFFFFFFFFu), 0u);
  EXPECT_FALSE(u.ok());
}

TEST(Pack, AByteStringLongerThanTheInputIsRefused) {
  const Bytes lie("\xC6\xFF\xFF\xFF\xFFx", 6);
  Unpacker u(lie);
  EXPECT_EQ(u.bytes(), "");
  EXPECT_FALSE(u.ok());
}

TEST(Pack, WrongTypesAreRefused) {
  const Bytes text("\xA3" "abc", 4);
  Unpacker a(text);
  EXPECT_EQ(a.bytes(), "");
  EXPECT_FALSE(a.ok());
  const Bytes negative("\xFF", 1);
  Unpacker b(negative);
  EXPECT_EQ(b.u64(), 0u);
  EXPECT_FALSE(b.ok());
}

}  // namespace
}  // namespace tdbmesh
