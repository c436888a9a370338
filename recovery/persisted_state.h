#pragma once
// What a node must remember across its lives so that elections, leases and views stay safe, and its form on
// disk: two slots that are written in turn, each with a sequence number and a CRC, so that a write cut short
// leaves the older one. Pure; the file is state_file.h.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/view.h"

namespace tdbmesh::recovery {

using tdbmesh::ClusterConfig;
using tdbmesh::QuorumMode;

struct PersistedState {
  Incarnation incarnation = 0;  // of the life that wrote it; a start uses +1 and writes that before it sends
  // For a start. A node whose state was lost counts from the wall clock (ms): its peers remember the lives before the
  // loss and would refuse smaller numbers for ever.
  Incarnation begin_life(std::uint64_t wall_clock_ms) {
    return incarnation = incarnation == 0 ? std::max<Incarnation>(1, wall_clock_ms) : incarnation + 1;
  }
  std::uint64_t term = 0;
  Pnn voted_for = kNoPnn;       // in `term`
  bool voter = false;           // false: fresh (new disk), must not vote beside voters that remember
  std::optional<View> accepted;
  Generation installed;         // newest view this node ever installed
  ClusterConfig config;         // that of `accepted`; that of the files before there is one
  friend bool operator==(const PersistedState&, const PersistedState&) = default;
};

[[nodiscard]] Bytes encode(const PersistedState& state);
[[nodiscard]] Result<PersistedState> decode_state(BytesView bytes);

// One slot on disk: magic, sequence, length, CRC32, payload, zeros. A payload that does not fit is a caller's
// error (views of 256 nodes do fit).
inline constexpr std::size_t kStateSlotBytes = 16384;
[[nodiscard]] Result<Bytes> make_slot(std::uint64_t sequence, BytesView payload);
struct SlotContent {
  std::uint64_t sequence = 0;
  Bytes payload;
};
// StoreCorrupt for anything that was not written whole.
[[nodiscard]] Result<SlotContent> read_slot(BytesView slot);
// The newer of the two that are whole; nullopt if neither is.
[[nodiscard]] std::optional<SlotContent> newer_slot(BytesView first, BytesView second);

[[nodiscard]] std::uint32_t crc32(BytesView bytes);  // IEEE 802.3

}  // namespace tdbmesh::recovery
