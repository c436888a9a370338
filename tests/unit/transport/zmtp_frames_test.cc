#include "transport/zmtp_frames.h"

#include <gtest/gtest.h>

namespace tdbmesh::zmtp {
namespace {

TEST(ZmtpGreeting, IsKnownAgainByItsOwnMechanismOnly) {
  for (const Mechanism mine : {Mechanism::Null, Mechanism::Curve}) {
    const Bytes bytes = greeting(mine);
    ASSERT_EQ(bytes.size(), kGreetingBytes);
    EXPECT_EQ(check_greeting(bytes, mine), GreetingCheck::Good);
    EXPECT_EQ(check_greeting(bytes, mine == Mechanism::Null ? Mechanism::Curve : Mechanism::Null), GreetingCheck::OtherMechanism);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      EXPECT_EQ(check_greeting(BytesView(bytes).substr(0, n), mine), GreetingCheck::NeedMore) << n;
    }
  }
}

TEST(ZmtpGreeting, HasTheBytesOfTheSpecification) {
  const Bytes bytes = greeting(Mechanism::Curve);
  EXPECT_EQ(to_hex(bytes.substr(0, 12)), "ff00000000000000017f0301");
  EXPECT_EQ(bytes.substr(12, 20), Bytes("CURVE") + Bytes(15, '\0'));
  EXPECT_EQ(bytes.substr(32), Bytes(32, '\0'));
}

TEST(ZmtpGreeting, IsRefusedAtTheFirstWrongByte) {
  const auto check = [](std::size_t at, char value) {
    Bytes bytes = greeting(Mechanism::Null);
    bytes[at] = value;
    return check_greeting(BytesView(bytes).substr(0, at + 1), Mechanism::Null);
  };
  EXPECT_EQ(check(0, 'G'), GreetingCheck::NotOurProtocol);
  EXPECT_EQ(check(9, '\x7e'), GreetingCheck::NotOurProtocol);
  EXPECT_EQ(check(10, '\x02'), GreetingCheck::NotOurProtocol);  // ZMTP 2
  EXPECT_EQ(check(10, '\x04'), GreetingCheck::NeedMore);        // a later one speaks ours too
  Bytes trailing = greeting(Mechanism::Null);
  trailing[30] = 'x';
  EXPECT_EQ(check_greeting(trailing, Mechanism::Null), GreetingCheck::NotOurProtocol);
}

TEST(ZmtpFrame, HeadersOfAllSizesComeBack) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{256}, std::size_t{1} << 40}) {
    for (const std::uint8_t flags : {std::uint8_t{0}, kMore, kCommand}) {
      Bytes bytes;
      append_frame_header(bytes, flags, size);
      EXPECT_EQ(bytes.size(), size < 256 ? 2u : 9u);
      FrameHeader header;
      for (std::size_t n = 0; n < bytes.size(); ++n) {
        EXPECT_EQ(read_frame_header(BytesView(bytes).substr(0, n), header), HeaderCheck::NeedMore);
      }
      ASSERT_EQ(read_frame_header(bytes, header), HeaderCheck::Good);
      EXPECT_EQ(header.size, size);
      EXPECT_EQ(header.more, flags == kMore);
      EXPECT_EQ(header.command, flags == kCommand);
      EXPECT_EQ(header.header_bytes, bytes.size());
    }
  }
}

TEST(ZmtpFrame, UnknownFlagsAreRefused) {
  FrameHeader header;
  for (int flags = 0; flags < 256; ++flags) {
    const Bytes bytes{static_cast<char>(flags), 0, 0, 0, 0, 0, 0, 0, 0};
    const bool known = flags < 8 && (flags & (kMore | kCommand)) != (kMore | kCommand);
    EXPECT_EQ(read_frame_header(bytes, header), known ? HeaderCheck::Good : HeaderCheck::Malformed) << flags;
  }
}

TEST(ZmtpCommand, ComesBackAndIsRefusedTruncated) {
  Bytes frame;
  append_command(frame, "PING", "data");
  const Bytes body = frame.substr(2);
  const auto command = read_command(body);
  ASSERT_TRUE(command);
  EXPECT_EQ(command->name, "PING");
  EXPECT_EQ(command->data, "data");
  EXPECT_FALSE(read_command(""));
  EXPECT_FALSE(read_command(BytesView("\0rest", 5)));
  EXPECT_FALSE(read_command("\x04PIN"));
}

TEST(ZmtpProperties, SocketTypeIsFoundAmongOthersAndTruncationIsRefused) {
  Bytes properties("\x08Identity\0\0\0\0", 13);
  properties += socket_type_property("PUSH");
  EXPECT_EQ(find_socket_type(properties), BytesView("PUSH"));
  EXPECT_EQ(find_socket_type(""), BytesView());
  const Bytes one = socket_type_property("PULL");
  for (std::size_t n = 1; n < one.size(); ++n) EXPECT_FALSE(find_socket_type(BytesView(one).substr(0, n))) << n;
  Bytes lying = one;
  lying[one.size() - 5 - 3] = '\x7f';  // a value of two thousand million bytes
  EXPECT_FALSE(find_socket_type(lying));
}

}  // namespace
}  // namespace tdbmesh::zmtp
