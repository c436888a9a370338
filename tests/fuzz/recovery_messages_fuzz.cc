// Messages of the control plane from other nodes, and the state file. The first byte chooses.

#include <utility>

#include "db/base/check.h"
#include "recovery/messages.h"
#include "recovery/persisted_state.h"
#include "tests/fuzz/fuzz.h"

using namespace tdbmesh;
using namespace tdbmesh::recovery;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const BytesView input = fuzz_view(data + 1, size - 1);
  if (data[0] % 4 == 0) {
    (void)decode_state(input);
    return 0;
  }
  const auto message = decode_message(input);
  if (!message) return 0;
  (void)describe(*message);
  const Bytes bytes = encode(*message);
  const auto again = decode_message(bytes);
  TDBMESH_CHECK(again && encode(*again) == bytes);
  return 0;
}

namespace {

template <std::size_t... kIndexes>
std::vector<Bytes> one_of_each(std::index_sequence<kIndexes...>) {
  return {'\1' + encode(Message{std::variant_alternative_t<kIndexes, Message>{}})...};
}

}  // namespace

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  auto seeds = one_of_each(std::make_index_sequence<std::variant_size_v<Message>>());
  PersistedState state;
  state.incarnation = 3;
  state.term = 4;
  seeds.push_back('\0' + encode(state));
  return seeds;
}
