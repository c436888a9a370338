#include "recovery/persisted_state.h"

#include <array>

#include "recovery/messages.h"
#include "recovery/pack_view.h"

namespace tdbmesh::recovery {
namespace {

constexpr std::uint64_t kStateVersion = 2;
constexpr std::uint64_t kMagic = 0x3174535f6d746474u;  // first eight bytes of a slot
constexpr std::size_t kSlotHeader = 8 + 8 + 4 + 4;

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1u) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

}  // namespace

std::uint32_t crc32(BytesView bytes) {
  std::uint32_t c = 0xFFFFFFFFu;
  for (const char ch : bytes) c = kCrcTable[(c ^ static_cast<unsigned char>(ch)) & 0xFFu] ^ (c >> 8);
  return c ^ 0xFFFFFFFFu;
}

Bytes encode(const PersistedState& s) {
  Packer out;
  out.array(9).u64(kStateVersion).u64(s.incarnation).u64(s.term).pnn(s.voted_for).flag(s.voter);
  out.generation(s.installed).array(s.accepted ? 1 : 0);
  if (s.accepted) pack_view(out, *s.accepted);
  out.array(5).u64(s.config.epoch).u64(static_cast<std::uint64_t>(s.config.quorum)).u64(s.config.digest);
  pack_pnns(out, s.config.nodes);
  pack_pnns(out, s.config.voters);
  return std::move(out).take();
}

Result<PersistedState> decode_state(BytesView bytes) {
  Unpacker in(bytes);
  PersistedState s;
  expect_array(in, 9);
  if (in.u64() != kStateVersion) in.fail();
  s.incarnation = in.u64();
  s.term = in.u64();
  s.voted_for = in.pnn();
  s.voter = in.flag();
  s.installed = in.generation();
  if (in.array(1) == 1) s.accepted = unpack_view(in);
  expect_array(in, 5);
  s.config.epoch = in.u64();
  const std::uint64_t quorum = in.u64();
  if (quorum > static_cast<std::uint64_t>(QuorumMode::None)) in.fail();
  s.config.quorum = in.ok() ? static_cast<QuorumMode>(quorum) : QuorumMode::Majority;
  s.config.digest = in.u64();
  s.config.nodes = unpack_pnns(in);
  s.config.voters = unpack_pnns(in);
  if (!in.finished()) return failure(Fault::Malformed, "a state record that does not decode");
  return s;
}

Result<Bytes> make_slot(std::uint64_t sequence, BytesView payload) {
  if (payload.size() > kStateSlotBytes - kSlotHeader) {
    return failure(Fault::StoreFull, "the state record does not fit its slot");
  }
  ByteWriter covered;
  covered.put(sequence).put(static_cast<std::uint32_t>(payload.size())).put_bytes(payload);
  ByteWriter slot;
  slot.put(kMagic).put(crc32(covered.bytes())).put_bytes(covered.bytes());
  slot.put_zeros(kStateSlotBytes - slot.size());
  return std::move(slot).take();
}

Result<SlotContent> read_slot(BytesView slot) {
  const auto corrupt = [] { return failure(Fault::StoreCorrupt, "a state slot that was not written whole"); };
  if (slot.size() < kSlotHeader) return corrupt();
  ByteReader in(slot);
  if (in.get<std::uint64_t>() != kMagic) return corrupt();
  const auto crc = in.get<std::uint32_t>();
  const BytesView covered = in.rest();
  SlotContent content;
  content.sequence = in.get<std::uint64_t>();
  const auto length = in.get<std::uint32_t>();
  const BytesView payload = in.get_bytes(length);
  if (!in.ok()) return corrupt();
  if (crc32(covered.substr(0, 12 + std::size_t{length})) != crc) return corrupt();
  content.payload = Bytes(payload);
  return content;
}

std::optional<SlotContent> newer_slot(BytesView first, BytesView second) {
  auto a = read_slot(first);
  auto b = read_slot(second);
  if (a && b) return a->sequence > b->sequence ? std::move(*a) : std::move(*b);
  if (a) return std::move(*a);
  if (b) return std::move(*b);
  return std::nullopt;
}

}  // namespace tdbmesh::recovery
