// What clients of the event daemon's socket send.

#include "db/base/check.h"
#include "ipfailover/eventd_messages.h"
#include "tests/fuzz/fuzz.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const BytesView bytes = fuzz_view(data, size);
  if (const auto request = eventd::decode_request(bytes)) {
    const auto again = eventd::decode_request(eventd::encode_request(*request));
    TDBMESH_CHECK(again && again->name == request->name && again->component == request->component);
  }
  (void)eventd::decode_reply(bytes);
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  const EventRecord record{1, {{"50.samba", 1, 2, 1, "out"}}};
  return {eventd::encode_request({1, eventd::Command::Run, "legacy", "monitor", "a b", 30, 0}),
          eventd::encode_request({1, eventd::Command::Status, "legacy", "monitor", "", 0, 0}),
          eventd::encode_request({1, eventd::Command::Script, "legacy", "50.samba", "", 0, 1}),
          eventd::encode_reply(1, eventd::Command::Status, 0, &record)};
}
