#include "transport/ctdb_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/base/random.h"
#include "tests/support/captured_packets.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctdb {
namespace {

Packet decoded(std::string_view name) { return decode_packet(captured(name)).value(); }

template <class B>
B body_of(std::string_view name) {
  return std::get<B>(decoded(name).body);
}

void set_word(Bytes& bytes, std::size_t at, std::uint32_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

TEST(CtdbWire, EveryCapturedPacketSurvivesDecodingAndEncodingByteForByte) {
  for (const auto& capture : captured_packets()) {
    const auto packet = decode_packet(capture.bytes);
    ASSERT_TRUE(packet) << capture.name << ": " << packet.error().context;
    EXPECT_EQ(to_hex(encode_packet(*packet, capture.padding)), to_hex(capture.bytes)) << capture.name;
  }
}

TEST(CtdbWire, GetPnnRequestOfSambaIsAControlToTheLocalNode) {
  const Packet packet = decoded("get_pnn_request");
  EXPECT_EQ(packet.header, (Header{.generation = 0, .destnode = kCurrentNode, .srcnode = 0, .reqid = 1}));
  const auto& control = std::get<ReqControl>(packet.body);
  EXPECT_EQ(control.opcode, ControlOpcode::GetPnn);
  EXPECT_EQ(control.data, "");
  EXPECT_EQ(control.flags, 0u);
}

TEST(CtdbWire, GetPnnReplyIsWhatWeWouldAnswer) {
  const Packet request = decoded("get_pnn_request");
  const Packet reply{reply_header(request.header, Pnn{0}, 0x10df50ea), ReplyControl{.status = 0, .data = {}, .error = {}}};
  EXPECT_EQ(to_hex(encode_packet(reply)), to_hex(captured("get_pnn_reply")));
}

TEST(CtdbWire, AttachRequestCarriesTheNameAndItsReplyTheDatabaseId) {
  const auto request = body_of<ReqControl>("attach_request");
  EXPECT_EQ(request.opcode, ControlOpcode::DbAttachPersistent);
  EXPECT_EQ(decode_text(request.data).value(), "passdb.tdb");
  EXPECT_EQ(decode_u32(body_of<ReplyControl>("attach_reply").data).value(), 0x3EF19640u);
}

TEST(CtdbWire, NullCallNamesTheLockOfTheTransaction) {
  const auto call = body_of<ReqCall>("null_call");
  EXPECT_EQ(call.callid, CallId::Null);
  EXPECT_EQ(call.flags, kCallImmediateMigration);
  EXPECT_EQ(call.database, DatabaseId{0x4D2A432B});
  EXPECT_EQ(call.key, Bytes("transaction_db_0x3ef19640\0", 26));
  EXPECT_EQ(body_of<ReplyCall>("null_call_reply"), ReplyCall{});
}

TEST(CtdbWire, ScheduledDeletionIsNotToBeAnswered) {
  const auto control = body_of<ReqControl>("schedule_for_deletion");
  EXPECT_EQ(control.opcode, ControlOpcode::ScheduleForDeletion);
  EXPECT_EQ(control.flags & kControlNoReply, kControlNoReply);
  EXPECT_EQ(control.srvid, Srvid{0x4D2A432B});
}

TEST(CtdbWire, MessageIsEncodedAsTheRealDaemonDeliversIt) {
  EXPECT_EQ(to_hex(encode_message(Pnn{0}, 1, kSrvidReleaseIp, encode_text("10.99.1.2"))),
            to_hex(captured("release_ip_message")));
  EXPECT_EQ(to_hex(encode_message(Pnn{0}, 1, kSrvidLeader, encode_u32(0))), to_hex(captured("leader_message")));
}

TEST(CtdbWire, ErrorTextOfAReplyStartsWhereTheToolLooksForIt) {
  const Bytes bytes = encode_packet(
      {Header{}, ReplyControl{.status = -1, .data = {}, .error = "ctdb_control to disconnected node"}});
  EXPECT_EQ(bytes.substr(44, 33), "ctdb_control to disconnected node");
  EXPECT_EQ(bytes.size(), 80u);
}

TEST(CtdbWire, RepliesThatWereNotCapturedSurviveTheRoundTrip) {
  const Packet error{Header{.generation = 7, .destnode = 0, .srcnode = 2, .reqid = 9},
                     ReplyError{.status = -1, .text = "unknown database"}};
  const Packet tunnel{Header{}, ReqTunnel{.tunnel_id = 0x1122334455667788u, .flags = 1, .data = "abc"}};
  for (const auto& packet : {error, tunnel}) {
    for (const auto padding : {Padding::None, Padding::Tool, Padding::Daemon}) {
      EXPECT_EQ(decode_packet(encode_packet(packet, padding)).value(), packet);
    }
  }
}

TEST(CtdbWire, PacketsOfTheDaemonArePaddedAndNeverTooShort) {
  EXPECT_EQ(encode_packet({Header{}, ReplyError{}}).size(), 48u);
  EXPECT_EQ(encode_packet({Header{}, ReqMessage{}}).size(), 48u);
  EXPECT_EQ(encode_packet({Header{}, ReqTunnel{}}).size(), 56u);
  EXPECT_EQ(encode_packet({Header{}, ReqControl{}}).size(), 64u);
  EXPECT_EQ(encode_packet({Header{}, ReqMessage{.srvid = {}, .data = Bytes(5, 'x')}}).size(), 56u);
}

TEST(CtdbWire, TruncationAtEveryOffsetIsMalformed) {
  for (const auto& capture : captured_packets()) {
    const std::size_t unpadded = encode_packet(decode_packet(capture.bytes).value(), Padding::None).size();
    for (std::size_t size = 0; size < unpadded; ++size) {
      Bytes cut = capture.bytes.substr(0, size);
      EXPECT_FALSE(decode_packet(cut)) << capture.name << " at " << size;
      // The same with a length word that admits it: now the embedded lengths are what does not fit.
      if (size < kHeaderSize) continue;
      set_word(cut, 0, static_cast<std::uint32_t>(size));
      EXPECT_FALSE(decode_packet(cut)) << capture.name << " declared at " << size;
    }
  }
}

TEST(CtdbWire, EmbeddedLengthsBeyondThePacketAreMalformed) {
  for (const std::uint32_t length : {0x00000100u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFE6u}) {
    Bytes call = captured("null_call");
    set_word(call, 48, length);
    EXPECT_FALSE(decode_packet(call));
    Bytes control = captured("attach_request");
    set_word(control, 56, length);
    EXPECT_FALSE(decode_packet(control));
    Bytes reply = captured("attach_reply");
    set_word(reply, 40, length);
    EXPECT_FALSE(decode_packet(reply));
  }
}

TEST(CtdbWire, OperationsBetweenDaemonsAndUnknownOnesAreMalformed) {
  for (const std::uint32_t operation : {2u, 3u, 6u, 9u, 11u, 0xFFFFFFFFu}) {
    Bytes bytes = captured("get_pnn_request");
    set_word(bytes, 16, operation);
    EXPECT_FALSE(decode_packet(bytes)) << operation;
  }
}

TEST(CtdbWire, MutatedPacketsDecodeToSomethingThatEncodesOrNotAtAll) {
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    for (const auto& capture : captured_packets()) {
      Bytes bytes = capture.bytes;
      for (std::uint64_t i = 0; i <= random.below(4); ++i) {
        bytes[4 + random.below(bytes.size() - 4)] = static_cast<char>(random.next());
      }
      const auto packet = decode_packet(bytes);
      if (packet) {
        EXPECT_EQ(decode_packet(encode_packet(*packet, Padding::None)).value(), *packet);
      }
    }
  }
}

std::vector<std::string> all_packets(PacketFramer& framer) {
  std::vector<std::string> packets;
  while (const auto packet = framer.next()) packets.emplace_back(*packet);
  return packets;
}

TEST(PacketFramer, PacketsAtOddOffsetsAreFoundHoweverTheStreamIsCut) {
  Bytes stream;
  std::vector<std::string> expected;
  for (const auto& capture : captured_packets()) {
    stream += capture.bytes;
    expected.push_back(capture.bytes);
  }
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{61}, std::size_t{500}, stream.size()}) {
    PacketFramer framer;
    std::vector<std::string> packets;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      framer.push(BytesView(stream).substr(at, piece));
      for (auto& packet : all_packets(framer)) packets.push_back(std::move(packet));
    }
    EXPECT_EQ(packets, expected);
    EXPECT_EQ(framer.pending(), 0u);
    EXPECT_FALSE(framer.broken());
  }
}

TEST(PacketFramer, LengthsBelowTheHeaderBreakTheStream) {
  for (const std::uint32_t length : {0u, 1u, 31u}) {
    PacketFramer framer;
    framer.push(encode_u32(length));
    EXPECT_EQ(framer.next(), std::nullopt);
    EXPECT_TRUE(framer.broken());
    framer.push(captured("get_pnn_request"));
    EXPECT_EQ(framer.next(), std::nullopt);
  }
}

TEST(PacketFramer, LengthOverTheLimitBreaksTheStreamBeforeItsBytesArrive) {
  PacketFramer framer(1000);
  framer.push(encode_u32(1001));
  EXPECT_EQ(framer.next(), std::nullopt);
  EXPECT_TRUE(framer.broken());
}

TEST(PacketFramer, WrongMagicOrVersionSkipsThatPacketOnly) {
  for (const std::size_t word : {4u, 8u}) {
    Bytes wrong = captured("null_call");
    set_word(wrong, word, 77);
    PacketFramer framer;
    framer.push(wrong + captured("get_pnn_request"));
    EXPECT_EQ(all_packets(framer), std::vector<std::string>{captured("get_pnn_request")});
    EXPECT_EQ(framer.skipped(), 1u);
  }
}

TEST(CtdbControls, NamesAreThoseThatOperatorsKnow) {
  EXPECT_EQ(to_string(ControlOpcode::GetDbPath), "GETDBPATH");
  EXPECT_EQ(to_string(ControlOpcode{999}), "CONTROL_999");
  EXPECT_TRUE(is_known(ControlOpcode{156}));
  EXPECT_FALSE(is_known(ControlOpcode::Trans2Commit));
  EXPECT_FALSE(is_known(ControlOpcode{2}));
  EXPECT_EQ(srvid_name(kSrvidLeader), "LEADER");
  EXPECT_EQ(srvid_name(Srvid{1234}), "PID 1234");
  EXPECT_EQ(srvid_name(Srvid{0xCE01000012340001u}), "0xce01000012340001");
}

}  // namespace
}  // namespace tdbmesh::ctdb
