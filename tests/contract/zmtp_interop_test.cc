// Our side of ZeroMQ's protocol against ZeroMQ itself, both ways and with both mechanisms: what nodes of a version whose
// mesh was made of ZeroMQ's sockets say and expect, and whoever looks at the wire with ZeroMQ.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zmq.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/mesh_network.h"
#include "transport/envelope.h"
#include "transport/zmq_guard.h"
#include "transport/zmq_sockets.h"

namespace tdbmesh {
namespace {

using testing::HasSubstr;

// ZeroMQ's end in the place of a node, without blocking.
class ZmqEnd {
 public:
  ZmqEnd() : context_(zmq_ctx_new()) {}
  ~ZmqEnd() {
    if (socket_ != nullptr) zmq_close(socket_);
    if (guard_) zmq_ctx_shutdown(context_);
    if (guard_) guard_->stop();
    zmq_ctx_term(context_);
  }
  ZmqEnd(const ZmqEnd&) = delete;
  ZmqEnd& operator=(const ZmqEnd&) = delete;

  void push_to(int node, const std::optional<ClusterKey>& key, int from) {
    socket_ = open_sender(context_, key, MeshNetwork::address(from), {});
    ASSERT_TRUE(connect_sender(socket_, MeshNetwork::address(from), MeshNetwork::address(node), MeshNetwork::kPort));
  }
  void pull_at(int node, const std::optional<ClusterKey>& key, const std::vector<PeerAddress>& let_in) {
    socket_ = open_receiver(context_, key, MeshNetwork::address(node), 1000, std::size_t{64} << 20);
    access_.set(let_in, Pnn{99});
    guard_ = std::make_unique<ZmqGuard>(context_, access_, key ? key->public_key : "", [](const Rejection&) {});
    ASSERT_TRUE(guard_->start(socket_));
    ASSERT_TRUE(bind_receiver(socket_, MeshNetwork::address(node), MeshNetwork::kPort));
  }
  void send(const Envelope& envelope, const Bytes& body) {
    const Bytes header = encode_envelope(envelope);
    ASSERT_GE(zmq_send(socket_, header.data(), header.size(), ZMQ_SNDMORE), 0);
    ASSERT_GE(zmq_send(socket_, body.data(), body.size(), 0), 0);
  }
  // Takes what has arrived: bodies of messages; counts are only counted.
  void take() {
    while (true) {
      std::vector<Bytes> frames;
      int more = 1;
      while (more != 0) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        const bool got = zmq_msg_recv(&message, socket_, frames.empty() ? ZMQ_DONTWAIT : 0) >= 0;
        if (got) frames.emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
        more = got ? zmq_msg_more(&message) : 0;
        zmq_msg_close(&message);
        if (!got) return;
      }
      ASSERT_EQ(frames.size(), 2u);
      const auto envelope = decode_envelope(frames[0]);
      ASSERT_TRUE(envelope);
      if (envelope->kind != Envelope::kCounts) bodies.push_back(frames[1]);
    }
  }

  std::vector<Bytes> bodies;

 private:
  void* context_;
  void* socket_ = nullptr;
  AccessList access_;
  std::unique_ptr<ZmqGuard> guard_;
};

class Interop : public testing::TestWithParam<bool> {
 protected:
  static std::vector<Bytes> assorted() {
    std::vector<Bytes> all{"", "a", Bytes(221, 'b'), Bytes(222, 'c'), Bytes(255, 'd'), Bytes(256, 'e'),
                           Bytes(65'536, 'f'), Bytes(8 << 20, '\xff')};
    for (int i = 0; i < 30; ++i) all.push_back(fmt::format("message {}", i));
    return all;
  }
  MeshNetwork network_{2, GetParam()};
  ZmqEnd other_;
};

INSTANTIATE_TEST_SUITE_P(Mechanisms, Interop, testing::Bool(),
                         [](const auto& which) { return which.param ? "Curve" : "Null"; });

TEST_P(Interop, WeUnderstandZeroMq) {
  network_.start(0, 1);
  other_.push_to(0, network_.key(), 1);
  const auto sent = assorted();
  Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(MessageKind::Record);
  envelope.from = Pnn{1};
  envelope.incarnation = envelope.session = envelope.connection = 1;
  for (const Bytes& body : sent) {
    ++envelope.sequence;
    other_.send(envelope, body);
  }
  ASSERT_TRUE(network_.until([&] { return network_.heard(0).bodies().size() == sent.size(); }));
  EXPECT_EQ(network_.heard(0).bodies(), sent);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 0u);
}

TEST_P(Interop, ZeroMqUnderstandsUs) {
  other_.pull_at(1, network_.key(), network_.addresses());
  network_.start(0, 1);
  const auto sent = assorted();
  for (const Bytes& body : sent) network_.link(0).send(Pnn{1}, MessageKind::Record, body);
  ASSERT_TRUE(network_.until([&] {
    other_.take();
    return other_.bodies.size() == sent.size();
  }));
  EXPECT_EQ(other_.bodies, sent);
}

TEST_P(Interop, ZeroMqTellsUsThatWeMayNotComeIn) {
  other_.pull_at(1, network_.key(), {});
  network_.start(0, 1);
  ASSERT_TRUE(network_.until([&] { return !network_.reports(0).empty(); }));
  EXPECT_THAT(network_.reports(0).front(),
              HasSubstr("connection to " + MeshNetwork::address(1) + ": the node there does not let us in"));
  EXPECT_EQ(network_.heard(0).count(Heard::Reset), 0u);
}

TEST_P(Interop, WeRefuseZeroMqWithTheOtherSecurity) {
  network_.start(0, 1);
  other_.push_to(0, GetParam() ? std::nullopt : std::optional(generate_cluster_key().value()), 1);
  ASSERT_TRUE(network_.until([&] { return !network_.reports(0).empty(); }));
  // It may go before it has said which security it wants.
  EXPECT_THAT(network_.reports(0).front(), HasSubstr("refused a connection from " + MeshNetwork::address(1)));
  EXPECT_TRUE(network_.heard(0).bodies().empty());
}

}  // namespace
}  // namespace tdbmesh
