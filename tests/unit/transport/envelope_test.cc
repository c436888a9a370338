#include "transport/envelope.h"

#include <gtest/gtest.h>

#include "db/base/pack.h"

namespace tdbmesh {
namespace {

Envelope sample() {
  Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(MessageKind::Record);
  envelope.from = Pnn{2};
  envelope.incarnation = 7;
  envelope.session = 300;
  envelope.connection = 301;
  envelope.sequence = 70000;
  return envelope;
}

Result<Envelope> taken(BytesView message) { return take_envelope(message); }

TEST(Envelope, ComesBackAsItWasSentAndLeavesTheBody) {
  const Bytes message = encode_envelope(sample()) + "body";
  BytesView rest = message;
  const auto decoded = take_envelope(rest);
  ASSERT_TRUE(decoded) << decoded.error().context;
  EXPECT_EQ(*decoded, sample());
  EXPECT_EQ(rest, "body");
}

TEST(Envelope, HasTheseBytesInVersionTwo) {
  EXPECT_EQ(to_hex(encode_envelope(sample())), "9702020207cd012ccd012dce00011170");
}

TEST(Envelope, IsRefusedWhenCutAnywhere) {
  const Bytes whole = encode_envelope(sample());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(taken(BytesView(whole).substr(0, length))) << length;
  }
}

TEST(Envelope, IsNoLongerThanWeSay) {
  Envelope envelope = sample();
  envelope.incarnation = envelope.session = envelope.connection = envelope.sequence = ~std::uint64_t{0};
  envelope.from = kNoPnn;
  EXPECT_LE(encode_envelope(envelope).size(), kMostEnvelopeBytes);
}

TEST(Envelope, IsRefusedWithAnUnknownKindOrImpossibleNumbers) {
  for (const auto& spoil : {+[](Envelope& e) { e.kind = 99; }, +[](Envelope& e) { e.incarnation = 0; },
                            +[](Envelope& e) { e.session = 0; }, +[](Envelope& e) { e.connection = 0; },
                            +[](Envelope& e) { e.sequence = 0; }}) {
    Envelope envelope = sample();
    spoil(envelope);
    EXPECT_FALSE(taken(encode_envelope(envelope)));
  }
}

TEST(Envelope, OfAnotherVersionIsRefused) {
  Packer packer;
  packer.array(7).u64(kMeshVersion + 1).u64(2).u64(2).u64(7).u64(1).u64(1).u64(1);
  EXPECT_FALSE(taken(std::move(packer).take()));
}

TEST(Envelope, WithCountsMayTellThatNothingWasSent) {
  Envelope envelope = sample();
  envelope.kind = Envelope::kCounts;
  envelope.sequence = 0;
  EXPECT_TRUE(taken(encode_envelope(envelope)));
}

}  // namespace
}  // namespace tdbmesh
