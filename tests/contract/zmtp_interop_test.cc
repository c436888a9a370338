// Our side of ZeroMQ's protocol against ZeroMQ itself, both ways and with both mechanisms: what
// whoever looks at the wire with ZeroMQ sees, and may say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/mesh_network.h"
#include "tests/support/zmq_end.h"
#include "transport/envelope.h"

namespace tdbmesh {
namespace {

using testing::HasSubstr;

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
    other_.send({encode_envelope(envelope) + body});
  }
  ASSERT_TRUE(network_.until([&] { return network_.heard(0).bodies().size() == sent.size(); }));
  EXPECT_EQ(network_.heard(0).bodies(), sent);
  EXPECT_EQ(network_.heard(0).count(Heard::Gap), 0u);
}

TEST_P(Interop, ZeroMqUnderstandsUs) {
  other_.pull_at(1, network_.key());
  network_.start(0, 1);
  const auto sent = assorted();
  for (const Bytes& body : sent) network_.link(0).send(Pnn{1}, MessageKind::Record, body);
  std::vector<Bytes> bodies;
  ASSERT_TRUE(network_.until([&] {
    for (std::vector<Bytes> frames; other_.take(frames);) {
      BytesView message = frames.at(0);
      const auto envelope = take_envelope(message);
      EXPECT_TRUE(envelope && frames.size() == 1);
      if (envelope && envelope->kind != Envelope::kCounts) bodies.emplace_back(message);
    }
    return bodies.size() == sent.size();
  }));
  EXPECT_EQ(bodies, sent);
}

TEST_P(Interop, ZeroMqTellsUsThatWeMayNotComeIn) {
  other_.let_nobody_in();
  other_.pull_at(1, network_.key());
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
