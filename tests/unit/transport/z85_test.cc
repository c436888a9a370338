#include "transport/z85.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

TEST(Z85, GivesTheSpecificationsExample) {
  const Bytes bytes = from_hex("864fd26fb559f75b").value();
  EXPECT_EQ(z85_encode(bytes), "HelloWorld");
  EXPECT_EQ(z85_decode("HelloWorld"), bytes);
}

TEST(Z85, BringsAllBytesBack) {
  Bytes bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  EXPECT_EQ(z85_decode(z85_encode(bytes)), bytes);
  EXPECT_EQ(z85_encode(from_hex("ffffffff").value()), "%nSc0");
  EXPECT_EQ(z85_encode(""), "");
}

TEST(Z85, RefusesOtherLengthsCharactersAndNumbersBeyond32Bits) {
  EXPECT_FALSE(z85_decode("Hell"));
  EXPECT_FALSE(z85_decode("Hell "));
  EXPECT_FALSE(z85_decode("Hell\""));
  EXPECT_FALSE(z85_decode("%nSc1"));
  EXPECT_FALSE(z85_decode("#####"));
}

}  // namespace
}  // namespace tdbmesh
