#pragma once
// What stands in front of every message between nodes: who sends, in which life, and the number that lets
// the receiver see what is missing. On the wire a message is one frame: this header (one msgpack array), then
// the body, untouched. (As two frames it was encrypted twice, which for most messages is the dearest part of it.)
//
// Numbers: a `session` is one life of the sender talking to one life of the receiver; within it `sequence`
// counts from 1 every message that was handed over for this receiver, dropped ones too, so whatever was lost
// leaves a hole. `connection` grows when the sender gives a connection up: messages of an older one are
// refused, since the newer one may have overtaken them. Both only grow within an incarnation of the sender.
//
// Pure. Decoding trusts nothing and allocates nothing.

#include <cstddef>
#include <cstdint>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "transport/link.h"

namespace tdbmesh {

inline constexpr std::uint32_t kMeshVersion = 2;
// The largest body; a larger one is refused by sender and receiver. Room for the largest database value
// that we promise plus its surroundings, small enough that one peer cannot make us allocate without end.
inline constexpr std::size_t kMostMessageBytes = std::size_t{256} << 20;
inline constexpr std::size_t kMostEnvelopeBytes = 128;

struct Envelope {
  // No body: "so many messages have I sent until now". Goes ahead after a reconnect, and after a drop, so
  // that a lost tail shows.
  static constexpr std::uint16_t kCounts = 0;

  std::uint16_t kind = kCounts;  // kCounts or a MessageKind
  Pnn from = kNoPnn;
  Incarnation incarnation = 0;
  std::uint64_t session = 0;
  std::uint64_t connection = 0;
  std::uint64_t sequence = 0;  // of this message; for kCounts of the last one before it
  friend bool operator==(const Envelope&, const Envelope&) = default;
};

[[nodiscard]] Bytes encode_envelope(const Envelope& envelope);
// Takes it from the front of a message; the body is left. Malformed for anything but a header of this version with a known
// kind, an incarnation and sane numbers.
[[nodiscard]] Result<Envelope> take_envelope(BytesView& message);

}  // namespace tdbmesh
