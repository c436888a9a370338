// What a client may throw at the daemon's socket: a stream, cut into packets and decoded.

#include "db/base/check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/captured_packets.h"
#include "transport/ctdb_wire.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::ctdb;

void check_packet(BytesView bytes) {
  const auto packet = decode_packet(bytes);
  if (!packet) return;
  for (const auto padding : {Padding::None, Padding::Tool, Padding::Daemon}) {
    const auto again = decode_packet(encode_packet(*packet, padding));
    TDBMESH_CHECK(again && *again == *packet);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const BytesView input = fuzz_view(data, size);
  check_packet(input);

  // As a stream, in pieces of a size that the input chooses. However it is cut, the packets are the same.
  const std::size_t piece = size == 0 ? 1 : 1 + data[0] % 64;
  PacketFramer whole(1 << 20);
  PacketFramer pieces(1 << 20);
  whole.push(input);
  std::vector<Bytes> expected;
  while (const auto packet = whole.next()) {
    check_packet(*packet);
    expected.emplace_back(*packet);
  }
  std::size_t found = 0;
  for (std::size_t at = 0; at < size; at += piece) {
    pieces.push(input.substr(at, piece));
    while (const auto packet = pieces.next()) {
      TDBMESH_CHECK(found < expected.size() && expected[found] == *packet);
      ++found;
    }
  }
  TDBMESH_CHECK(found == expected.size() && whole.broken() == pieces.broken() && whole.skipped() == pieces.skipped());
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  std::vector<Bytes> seeds;
  Bytes all;
  for (const auto& capture : captured_packets()) {
    seeds.push_back(capture.bytes);
    all += capture.bytes;
  }
  seeds.push_back(all.substr(0, 600));
  seeds.push_back(encode_packet({Header{}, ReplyError{.status = -1, .text = "no"}}));
  seeds.push_back(encode_packet({Header{}, ReqTunnel{.tunnel_id = 1, .flags = 2, .data = "data"}}));
  return seeds;
}
