// CurveZMQ's two ends against each other; against ZeroMQ itself: tests/contract/zmtp_interop_test.cc.

#include "transport/curve.h"

#include <gtest/gtest.h>

namespace tdbmesh::zmtp {
namespace {

class Curve : public testing::Test {
 protected:
  // A whole handshake; what is changed on the way is up to the tests.
  [[nodiscard]] Bytes initiate() {
    const auto welcome = server_.on_hello(client_.hello());
    return client_.on_welcome(welcome.value(), "client").value();
  }
  void shake() {
    Bytes bytes = initiate();
    ASSERT_EQ(server_.on_initiate(bytes.data(), bytes.size()), BytesView("client"));
    Bytes ready = server_.ready("server");
    ASSERT_EQ(client_.on_ready(ready.data(), ready.size()), BytesView("server"));
    from_client_ = client_.box();
    to_server_ = server_.box();
  }
  // What `box` makes of a body that it may change.
  static std::optional<Bytes> opened(CurveBox& box, Bytes body) {
    const auto opened = box.open(body.data(), body.size());
    if (!opened) return std::nullopt;
    return Bytes(opened->payload);
  }

  CurvePair cluster_ = CurvePair::generate();
  CurveClient client_{cluster_};
  CurveServer server_{cluster_};
  CurveBox from_client_;
  CurveBox to_server_;
};

TEST_F(Curve, BothDirectionsCarryWhatIsSealed) {
  shake();
  for (const std::size_t size : {0, 1, 30, 31, 32, 33, 62, 63, 64, 65, 95, 96, 100'000}) {
    const Bytes payload(size, 'y');
    Bytes there;
    from_client_.seal(CurveBox::kMore, {}, payload, there);
    EXPECT_EQ(there.size(), payload.size() + CurveBox::kOverhead);
    const auto opened = to_server_.open(there.data(), there.size());
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->payload, payload);
    EXPECT_EQ(opened->flags, CurveBox::kMore);
    Bytes back;
    to_server_.seal(0, {}, payload, back);
    EXPECT_EQ(Curve::opened(from_client_, back), payload);
  }
}

TEST_F(Curve, EveryFlippedBitOfAMessageIsSeen) {
  shake();
  Bytes good;
  from_client_.seal(0, "pay", "load", good);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    Bytes bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(opened(to_server_, bad)) << bit;
  }
  EXPECT_EQ(opened(to_server_, good), "payload");
}

TEST_F(Curve, EveryTruncatedMessageIsRefused) {
  shake();
  Bytes good;
  from_client_.seal(0, "pay", "load", good);
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(opened(to_server_, good.substr(0, n))) << n;
  EXPECT_FALSE(opened(to_server_, good + "x"));
  EXPECT_EQ(opened(to_server_, good), "payload");
}

TEST_F(Curve, RepeatedAndReorderedMessagesAreRefused) {
  shake();
  Bytes first;
  Bytes second;
  from_client_.seal(0, {}, "first", first);
  from_client_.seal(0, {}, "second", second);
  EXPECT_EQ(opened(to_server_, second), "second");
  EXPECT_FALSE(opened(to_server_, second));
  EXPECT_FALSE(opened(to_server_, first));
}

TEST_F(Curve, AMessageIsNotTakenForOneOfTheOtherDirection) {
  shake();
  Bytes message;
  from_client_.seal(0, {}, "there", message);
  EXPECT_FALSE(opened(from_client_, message));
}

TEST_F(Curve, HelloOfAnotherClusterOrDamagedIsRefused) {
  CurveClient stranger(CurvePair::generate());
  EXPECT_FALSE(server_.on_hello(stranger.hello()));
  const Bytes good = client_.hello();
  ASSERT_EQ(good.size(), 200u);
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(server_.on_hello(BytesView(good).substr(0, n)));
  EXPECT_FALSE(server_.on_hello(good + "x"));
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    const bool padding = at >= 8 && at < 80;
    EXPECT_EQ(server_.on_hello(bad).has_value(), padding) << at;
  }
  Bytes weak = good;  // a key of small order
  weak.replace(80, 32, Bytes(32, '\0'));
  EXPECT_FALSE(server_.on_hello(weak));
  EXPECT_TRUE(server_.on_hello(good));
}

TEST_F(Curve, WelcomeOfAnotherServerOrDamagedIsRefused) {
  const Bytes good = server_.on_hello(client_.hello()).value();
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(client_.on_welcome(BytesView(good).substr(0, n), ""));
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    EXPECT_FALSE(client_.on_welcome(bad, "")) << at;
  }
  CurveClient other(cluster_);
  CurveServer its_server(cluster_);
  EXPECT_FALSE(client_.on_welcome(its_server.on_hello(other.hello()).value(), "")) << "meant for somebody else";
  EXPECT_TRUE(client_.on_welcome(good, ""));
}

TEST_F(Curve, InitiateDamagedTruncatedOrRepeatedIsRefused) {
  const Bytes good = initiate();
  for (std::size_t n = 0; n < good.size(); ++n) {
    Bytes bad = good.substr(0, n);
    EXPECT_FALSE(server_.on_initiate(bad.data(), bad.size())) << n;
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    CurveServer server = server_;
    Bytes bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    EXPECT_FALSE(server.on_initiate(bad.data(), bad.size())) << at;
  }
  Bytes once = good;
  EXPECT_TRUE(server_.on_initiate(once.data(), once.size()));
  Bytes twice = good;
  EXPECT_FALSE(server_.on_initiate(twice.data(), twice.size()));
}

TEST_F(Curve, AnInitiateOfAnotherConnectionIsRefused) {
  Bytes theirs = initiate();
  CurveServer other(cluster_);
  ASSERT_TRUE(other.on_hello(client_.hello()));
  EXPECT_FALSE(other.on_initiate(theirs.data(), theirs.size()));
}

TEST_F(Curve, WhoKnowsThePublicKeyOnlyGetsNoFurtherThanHello) {
  CurvePair half = CurvePair::generate();
  half.public_key = cluster_.public_key;
  CurveClient impostor(half);
  const auto welcome = server_.on_hello(impostor.hello());
  ASSERT_TRUE(welcome) << "HELLO proves nothing but that the server's public key is known";
  Bytes initiate = impostor.on_welcome(*welcome, "").value();
  EXPECT_FALSE(server_.on_initiate(initiate.data(), initiate.size())) << "the vouch needs the secret one";
}

TEST_F(Curve, ReadyDamagedOrTruncatedIsRefused) {
  Bytes bytes = initiate();
  ASSERT_TRUE(server_.on_initiate(bytes.data(), bytes.size()));
  const Bytes good = server_.ready("server");
  for (std::size_t n = 0; n < good.size(); ++n) {
    Bytes bad = good.substr(0, n);
    EXPECT_FALSE(client_.on_ready(bad.data(), bad.size())) << n;
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    EXPECT_FALSE(client_.on_ready(bad.data(), bad.size())) << at;
  }
  Bytes ready = good;
  EXPECT_TRUE(client_.on_ready(ready.data(), ready.size()));
}

}  // namespace
}  // namespace tdbmesh::zmtp
