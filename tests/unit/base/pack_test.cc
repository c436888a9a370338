#include "db/base/pack.h"

#include <gtest/gtest.h>

#include <algorithm>

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

TEST(Pack, ReadsNumbersAndLengthsOfEverySize) {
  for (const std::uint64_t value : {0x0ull, 0x7Full, 0x80ull, 0xFFull, 0x100ull, 0xFFFFull, 0x1'0000ull, 0xFFFF'FFFFull,
                                    0x1'0000'0000ull, 0xFFFF'FFFF'FFFF'FFFFull}) {
    Packer p;
    p.u64(value).bytes(Bytes(std::min(value, std::uint64_t{0x1'0000}), 'x')).u64(1);
    const Bytes wire = std::move(p).take();
    Unpacker u(wire);
    EXPECT_EQ(u.u64(), value);
    EXPECT_EQ(u.bytes().size(), std::min(value, std::uint64_t{0x1'0000}));
    EXPECT_EQ(u.rest(), "\x01");
    EXPECT_EQ(u.u64(), 1u);
    EXPECT_TRUE(u.finished());
  }
  for (const std::size_t count : {0u, 15u, 16u, 0xFFFFu, 0x1'0000u}) {
    Packer p;
    p.array(count);
    const Bytes wire = std::move(p).take() + Bytes(count, '\0');
    Unpacker u(wire);
    EXPECT_EQ(u.array(count), count);
    EXPECT_EQ(u.rest().size(), count);
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
