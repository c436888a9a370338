#pragma once
// What every message between databases begins with: [tag, term, serial, database, [fields...]]. The tag is the
// message's place in its variant.

#include <cstdint>
#include <string_view>

#include "db/base/ids.h"
#include "db/base/pack.h"
#include "db/base/result.h"

namespace tdbmesh {

// Message: {Generation generation; DatabaseId database; Body body}. `pack_body` appends the body's own array.
template <class Message, class PackBody>
[[nodiscard]] Bytes encode_enveloped(const Message& message, PackBody pack_body) {
  Packer packer;
  packer.array(5).u64(message.body.index()).generation(message.generation).u64(number(message.database));
  pack_body(packer, message.body);
  return std::move(packer).take();
}

// `read_body(in, tag)` reads the body's array. Malformed unless all bytes were used and nothing failed.
template <class Message, class ReadBody>
[[nodiscard]] Result<Message> decode_enveloped(BytesView bytes, ReadBody read_body, std::string_view what) {
  Unpacker in(bytes);
  Message message;
  if (in.array(5) != 5) in.fail();
  const std::uint64_t tag = in.u64();
  message.generation = in.generation();
  message.database = DatabaseId{in.u32()};
  message.body = read_body(in, tag);
  if (!in.finished()) return failure(Fault::Malformed, std::string(what) + " that does not decode");
  return message;
}

}  // namespace tdbmesh
