// What another node may send in front of a message and in a heartbeat. The first byte chooses.

#include "db/base/check.h"
#include "tests/fuzz/fuzz.h"
#include "transport/envelope.h"
#include "transport/heartbeat_core.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const BytesView input = fuzz_view(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    BytesView rest = input;
    const auto envelope = take_envelope(rest);
    if (!envelope) return 0;
    const Bytes bytes = encode_envelope(*envelope) + Bytes(rest);
    BytesView again = bytes;
    TDBMESH_CHECK(take_envelope(again).value() == *envelope && again == rest);
    return 0;
  }
  const auto packet = decode_heartbeat_packet(input);
  if (!packet) return 0;
  TDBMESH_CHECK(packet->heartbeat.has_value() + packet->answer.has_value() + packet->fenced.has_value() == 1);
  const Bytes bytes = packet->heartbeat ? encode(*packet->heartbeat)
                      : packet->answer  ? encode(*packet->answer)
                                        : encode(*packet->fenced);
  const auto again = decode_heartbeat_packet(bytes);
  TDBMESH_CHECK(again && again->heartbeat == packet->heartbeat && again->answer == packet->answer &&
                again->fenced == packet->fenced);
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  Envelope envelope;
  envelope.kind = static_cast<std::uint16_t>(MessageKind::Record);
  envelope.from = Pnn{1};
  envelope.incarnation = 5;
  envelope.session = 6;
  envelope.connection = 7;
  envelope.sequence = 8;
  Heartbeat heartbeat;
  heartbeat.from = Pnn{1};
  heartbeat.incarnation = 5;
  heartbeat.seq = 9;
  heartbeat.hears = {Pnn{0}, Pnn{2}};
  HeartbeatAnswer answer;
  answer.from = Pnn{2};
  answer.incarnation = 4;
  answer.asker = 5;
  answer.seq = 9;
  return {'\0' + encode_envelope(envelope), '\1' + encode(heartbeat), '\1' + encode(answer)};
}
