#include "transport/zmtp_session.h"

#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tdbmesh::zmtp {
namespace {

using What = Session::Step::What;

// One end with the wire that leads to it.
struct End {
  explicit End(Session::Role role, const std::optional<CurvePair>& key, bool admitted = true, std::size_t most = 100'000)
      : session(role, key, admitted, most), out(session.opening()) {}

  // Bytes arrive; all that can be done with them is done.
  void arrive(BytesView bytes) {
    in.append(bytes);
    while (true) {
      const Session::Step step = session.next(in.data(), in.size(), out);
      if (step.what == What::Frame) frames.emplace_back(Bytes(step.frame), step.more);
      in.erase(0, step.used);
      if (step.what == What::Failed || step.what == What::NeedMore) return;
    }
  }
  [[nodiscard]] bool ready() const { return session.state() == Session::State::Ready; }

  Session session;
  Bytes out;
  Bytes in;
  std::vector<std::pair<Bytes, bool>> frames;
};

// Carries bytes to and fro, `piece` at a time, until nobody says anything.
void talk(End& one, End& other, std::size_t piece = SIZE_MAX) {
  while (!one.out.empty() || !other.out.empty()) {
    for (auto [from, to] : {std::pair{&one, &other}, std::pair{&other, &one}}) {
      const Bytes carried = from->out.substr(0, piece);
      from->out.erase(0, carried.size());
      to->arrive(carried);
    }
  }
}

class ZmtpSession : public testing::TestWithParam<bool> {
 protected:
  std::optional<CurvePair> key_ = GetParam() ? std::optional(CurvePair::generate()) : std::nullopt;
  End sender_{Session::Role::Sender, key_};
  End receiver_{Session::Role::Receiver, key_};
};

INSTANTIATE_TEST_SUITE_P(Mechanisms, ZmtpSession, testing::Bool(),
                         [](const auto& which) { return which.param ? "Curve" : "Null"; });

TEST_P(ZmtpSession, ConnectsAndCarriesFrames) {
  talk(sender_, receiver_);
  ASSERT_TRUE(sender_.ready() && receiver_.ready());
  sender_.session.put_message({}, "small", sender_.out);
  sender_.session.put_message("header ", Bytes(70'000, 'b'), sender_.out);
  talk(sender_, receiver_);
  ASSERT_EQ(receiver_.frames.size(), 2u);
  EXPECT_EQ(receiver_.frames[0], std::pair(Bytes("small"), false));
  EXPECT_EQ(receiver_.frames[1], std::pair("header " + Bytes(70'000, 'b'), false));
}

TEST_P(ZmtpSession, DoesSoByteByByte) {
  talk(sender_, receiver_, 1);
  ASSERT_TRUE(sender_.ready() && receiver_.ready());
  sender_.session.put_message({}, "body", sender_.out);
  talk(sender_, receiver_, 1);
  ASSERT_EQ(receiver_.frames.size(), 1u);
  EXPECT_EQ(receiver_.frames[0].first, "body");
}

TEST_P(ZmtpSession, TellsWhoMayNotComeIn) {
  End door(Session::Role::Receiver, key_, false);
  talk(sender_, door);
  EXPECT_EQ(door.session.failure(), "no node has this address");
  EXPECT_EQ(sender_.session.failure(), "the node there does not let us in");
}

TEST_P(ZmtpSession, RefusesTheOtherMechanism) {
  const auto other = GetParam() ? std::nullopt : std::optional(CurvePair::generate());
  End stranger(Session::Role::Sender, other);
  talk(stranger, receiver_);
  EXPECT_EQ(receiver_.session.failure(), "its [transport] security setting differs from ours");
  EXPECT_EQ(stranger.session.failure(), "its [transport] security setting differs from ours");
}

TEST_P(ZmtpSession, RefusesNoise) {
  receiver_.arrive("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(receiver_.session.failure(), "does not speak our protocol");
}

TEST_P(ZmtpSession, RefusesAnotherSender) {
  End other(Session::Role::Receiver, key_);
  talk(other, receiver_);  // both wait for the other to begin
  EXPECT_FALSE(other.ready() || receiver_.ready());
}

TEST_P(ZmtpSession, BoundsTheFramesOfAHandshake) {
  receiver_.arrive(sender_.out);
  Bytes header;
  append_frame_header(header, kCommand, kMostHandshakeFrame + 1);
  receiver_.arrive(header);
  EXPECT_EQ(receiver_.session.failure(), "does not speak our protocol");
}

TEST_P(ZmtpSession, BoundsTheFramesOfTraffic) {
  talk(sender_, receiver_);
  sender_.session.put_message({}, Bytes(100'001, 'x'), sender_.out);
  receiver_.arrive(sender_.out);
  EXPECT_EQ(receiver_.session.failure(), "does not speak our protocol");
  EXPECT_TRUE(receiver_.frames.empty());
}

TEST_P(ZmtpSession, RefusesTrafficBeforeTheHandshakeIsOver) {
  receiver_.arrive(sender_.out);
  Bytes frame;
  append_frame_header(frame, 0, 3);
  receiver_.arrive(frame + "abc");
  EXPECT_EQ(receiver_.session.failure(), "does not speak our protocol");
}

TEST_P(ZmtpSession, RefusesMessagesThatComeBackToASender) {
  talk(sender_, receiver_);
  receiver_.session.put_message({}, "psst", receiver_.out);
  sender_.arrive(receiver_.out);
  EXPECT_EQ(sender_.session.state(), Session::State::Failed);
}

TEST_P(ZmtpSession, GoesOnTakingNothingOnceItFailed) {
  receiver_.arrive("noise");
  const Bytes out = receiver_.out;
  receiver_.arrive(sender_.out);
  EXPECT_EQ(receiver_.out, out);
  EXPECT_EQ(receiver_.session.state(), Session::State::Failed);
}

TEST(ZmtpSessionNull, AnswersAPing) {
  End sender(Session::Role::Sender, std::nullopt);
  End receiver(Session::Role::Receiver, std::nullopt);
  talk(sender, receiver);
  Bytes ping;
  append_command(ping, "PING", BytesView("\0\x64" "context", 9));
  receiver.arrive(ping);
  Bytes pong;
  append_command(pong, "PONG", "context");
  EXPECT_EQ(receiver.out, pong);
  sender.arrive(pong);
  EXPECT_TRUE(sender.ready());
}

TEST(ZmtpSessionNull, RefusesAPingWithoutTimeToLiveAndCommandsThatDoNotDecode) {
  for (const Bytes& body : {Bytes("\x04PING"), Bytes("\x04PING\0", 6), Bytes("\x09PING"), Bytes()}) {
    End sender(Session::Role::Sender, std::nullopt);
    End receiver(Session::Role::Receiver, std::nullopt);
    talk(sender, receiver);
    Bytes frame;
    append_frame_header(frame, kCommand, body.size());
    receiver.arrive(frame + body);
    EXPECT_EQ(receiver.session.failure(), "does not speak our protocol");
  }
}

TEST(ZmtpSessionNull, RefusesASocketThatIsNoPush) {
  End receiver(Session::Role::Receiver, std::nullopt);
  receiver.arrive(greeting(Mechanism::Null));
  Bytes ready;
  append_command(ready, "READY", socket_type_property("DEALER"));
  receiver.arrive(ready);
  EXPECT_EQ(receiver.session.failure(), "does not speak our protocol");
}

class ZmtpSessionCurve : public testing::Test {
 protected:
  const CurvePair key_ = CurvePair::generate();
  End sender_{Session::Role::Sender, key_};
  End receiver_{Session::Role::Receiver, key_};
};

TEST_F(ZmtpSessionCurve, RefusesAnotherKey) {
  End stranger(Session::Role::Sender, CurvePair::generate());
  talk(stranger, receiver_);
  EXPECT_EQ(receiver_.session.failure(), "does not hold our cluster key");
}

TEST_F(ZmtpSessionCurve, RefusesARepeatedMessageAndOneInTheClear) {
  talk(sender_, receiver_);
  sender_.session.put_message({}, "once", sender_.out);
  receiver_.arrive(sender_.out);
  ASSERT_EQ(receiver_.frames.size(), 1u);
  receiver_.arrive(sender_.out);
  EXPECT_EQ(receiver_.session.failure(), "does not hold our cluster key");
  EXPECT_EQ(receiver_.frames.size(), 1u);

  End again(Session::Role::Sender, key_);
  End door(Session::Role::Receiver, key_);
  talk(again, door);
  Bytes plain;
  append_frame_header(plain, 0, 5);
  door.arrive(plain + "plain");
  EXPECT_EQ(door.session.failure(), "does not hold our cluster key");
  EXPECT_TRUE(door.frames.empty());
}

TEST_F(ZmtpSessionCurve, AnswersAPingInsideTheBox) {
  // A client by hand, whose commands can be sealed.
  CurveClient client(key_);
  const auto frame = [](std::uint8_t flags, const Bytes& body) {
    Bytes bytes;
    append_frame_header(bytes, flags, body.size());
    return bytes + body;
  };
  // The body of the only frame that the receiver says.
  const auto said = [&] {
    FrameHeader header;
    EXPECT_EQ(read_frame_header(receiver_.out, header), HeaderCheck::Good);
    return std::exchange(receiver_.out, {}).substr(header.header_bytes);
  };
  receiver_.out.clear();
  receiver_.arrive(greeting(Mechanism::Curve) + frame(kCommand, client.hello()));
  receiver_.arrive(frame(kCommand, client.on_welcome(said(), socket_type_property("PUSH")).value()));
  Bytes ready = said();
  ASSERT_TRUE(client.on_ready(ready.data(), ready.size()));
  CurveBox box = client.box();
  Bytes sealed;
  box.seal(CurveBox::kCommand, {}, BytesView("\x04PING\0\x64" "context", 14), sealed);
  receiver_.arrive(frame(0, sealed));
  Bytes answer = said();
  const auto opened = box.open(answer.data(), answer.size());
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->payload, "\x04PONGcontext");
  EXPECT_EQ(opened->flags, CurveBox::kCommand);
}

TEST_F(ZmtpSessionCurve, RefusesStepsOutOfOrder) {
  // A second HELLO where INITIATE is due.
  receiver_.arrive(sender_.out);
  sender_.out.clear();
  sender_.arrive(receiver_.out);
  receiver_.out.clear();
  const Bytes hello = sender_.out;
  receiver_.arrive(hello);
  EXPECT_FALSE(receiver_.out.empty());
  receiver_.arrive(hello);
  EXPECT_EQ(receiver_.session.failure(), "does not hold our cluster key");
}

}  // namespace
}  // namespace tdbmesh::zmtp
