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

TEST(Envelope, ComesBackAsItWasSent) {
  const auto decoded = decode_envelope(encode_envelope(sample()));
  ASSERT_TRUE(decoded) << decoded.error().context;
  EXPECT_EQ(*decoded, sample());
}

TEST(Envelope, HasTheseBytesInVersionOne) {
  EXPECT_EQ(to_hex(encode_envelope(sample())), "9701020207cd012ccd012dce00011170");
}

TEST(Envelope, IsRefusedWhenCutAnywhere) {
  const Bytes whole = encode_envelope(sample());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(decode_envelope(BytesView(whole).substr(0, length))) << length;
  }
}

TEST(Envelope, IsRefusedWithBytesLeftOver) { EXPECT_FALSE(decode_envelope(encode_envelope(sample()) + '\0')); }

TEST(Envelope, IsRefusedWhenLongerThanAnyHeader) {
  EXPECT_FALSE(decode_envelope(Bytes(kMostEnvelopeBytes + 1, '\x97')));
}

TEST(Envelope, IsRefusedWithAnUnknownKindOrImpossibleNumbers) {
  for (const auto& spoil : {+[](Envelope& e) { e.kind = 99; }, +[](Envelope& e) { e.incarnation = 0; },
                            +[](Envelope& e) { e.session = 0; }, +[](Envelope& e) { e.connection = 0; },
                            +[](Envelope& e) { e.sequence = 0; }}) {
    Envelope envelope = sample();
    spoil(envelope);
    EXPECT_FALSE(decode_envelope(encode_envelope(envelope)));
  }
}

TEST(Envelope, OfAnotherVersionIsRefused) {
  Packer packer;
  packer.array(7).u64(kMeshVersion + 1).u64(2).u64(2).u64(7).u64(1).u64(1).u64(1);
  EXPECT_FALSE(decode_envelope(std::move(packer).take()));
}

TEST(Envelope, WithCountsMayTellThatNothingWasSent) {
  Envelope envelope = sample();
  envelope.kind = Envelope::kCounts;
  envelope.sequence = 0;
  EXPECT_TRUE(decode_envelope(encode_envelope(envelope)));
}

}  // namespace
}  // namespace tdbmesh
