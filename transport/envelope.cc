#include "transport/envelope.h"

#include "db/base/pack.h"

namespace tdbmesh {

Bytes encode_envelope(const Envelope& envelope) {
  Packer packer;
  packer.array(7)
      .u64(kMeshVersion)
      .u64(envelope.kind)
      .pnn(envelope.from)
      .u64(envelope.incarnation)
      .u64(envelope.session)
      .u64(envelope.connection)
      .u64(envelope.sequence);
  return std::move(packer).take();
}

Result<Envelope> take_envelope(BytesView& message) {
  Unpacker unpacker(message);
  if (unpacker.array(7) != 7) return failure(Fault::Malformed, "envelope with wrong number of fields");
  if (unpacker.u64() != kMeshVersion) return failure(Fault::Malformed, "envelope of another version");
  Envelope envelope;
  const std::uint64_t kind = unpacker.u64();
  envelope.kind = static_cast<std::uint16_t>(kind);
  envelope.from = unpacker.pnn();
  envelope.incarnation = unpacker.u64();
  envelope.session = unpacker.u64();
  envelope.connection = unpacker.u64();
  envelope.sequence = unpacker.u64();
  if (!unpacker.ok()) return failure(Fault::Malformed, "envelope truncated or with wrong fields");
  if (kind > static_cast<std::uint64_t>(MessageKind::Address)) return failure(Fault::Malformed, "unknown message kind");
  if (envelope.incarnation == 0 || envelope.session == 0 || envelope.connection == 0 ||
      (envelope.sequence == 0 && kind != Envelope::kCounts)) {
    return failure(Fault::Malformed, "envelope with impossible numbers");
  }
  message = unpacker.rest();
  return envelope;
}

}  // namespace tdbmesh
