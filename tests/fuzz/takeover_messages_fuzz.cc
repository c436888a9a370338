// Messages about public addresses from other nodes.

#include <utility>

#include "db/base/check.h"
#include "ipfailover/takeover_messages.h"
#include "tests/fuzz/fuzz.h"

using namespace tdbmesh;
using namespace tdbmesh::ipfailover;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = decode_takeover_message(fuzz_view(data, size));
  if (!message) return 0;
  (void)describe(*message);
  const Bytes bytes = encode(*message);
  const auto again = decode_takeover_message(bytes);
  TDBMESH_CHECK(again && *again == *message);
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  const Address address = ctdb::v4_address(10, 1, 2, 3);
  const Generation g{7, 3};
  HostReport report;
  report.generation = g;
  report.entries = {{address, "10.1.2.0/24 eth0", true, false}};
  return {encode(report), encode(TakeAddress{g, address, 5}), encode(TakeFailed{g, address, 5, "why"}),
          encode(ReleaseAddress{g, address, 5}), encode(HostTable{g, {{address, Pnn{1}}}}), encode(RunStarts{g}),
          encode(MoveWish{g, 4, address, Pnn{1}}), encode(MoveAnswer{g, 4, ""})};
}
