// Record headers and record buffers, as they come from clients (commits, restores) and from other nodes.

#include "db/base/check.h"
#include "db/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/captured_packets.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const BytesView input = fuzz_view(data, size);
  if (const auto header = decode_header(input)) TDBMESH_CHECK(decode_header(encode_header(*header)) == header);
  const auto buffer = decode_buffer(input);
  if (!buffer) return 0;
  (void)sequence_number_in(*buffer);
  const auto again = decode_buffer(encode_buffer(*buffer));
  TDBMESH_CHECK(again && again->database == buffer->database && again->entries == buffer->entries);
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  const auto commit = ctdb::decode_packet(ctdb::captured("commit_request"));
  return {std::get<ctdb::ReqControl>(commit->body).data,
          encode_buffer({DatabaseId{1}, {{7, "key", {3, Pnn{1}, 0}, "value"}, {8, "other", {4, Pnn{1}, 0}, ""}}}),
          encode_buffer({DatabaseId{1}, {}}), encode_header({5, Pnn{2}, kRecordMigratedWithData})};
}
