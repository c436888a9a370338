// Messages about volatile records, from other nodes.

#include <utility>

#include "db/base/check.h"
#include "db/record_messages.h"
#include "tests/fuzz/fuzz.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = decode_record_message(fuzz_view(data, size));
  if (!message) return 0;
  (void)name_of(message->body);
  const auto again = decode_record_message(encode_record_message(*message));
  TDBMESH_CHECK(again && *again == *message);
  return 0;
}

namespace {

// One message of each kind; those that have a key get one.
template <std::size_t... kIndexes>
std::vector<Bytes> one_of_each(std::index_sequence<kIndexes...>) {
  std::vector<Bytes> seeds;
  const auto add = [&](auto body) {
    if constexpr (requires { body.key = Bytes(); }) body.key = "key";
    seeds.push_back(encode_record_message({Generation{3, 1}, DatabaseId{7}, body}));
  };
  (add(std::variant_alternative_t<kIndexes, record::Body>{}), ...);
  return seeds;
}

}  // namespace

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  return one_of_each(std::make_index_sequence<std::variant_size_v<record::Body>>());
}
