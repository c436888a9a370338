#pragma once
// Keys as text: ZeroMQ's Z85 (RFC 32), five printable characters for four bytes. Pure.

#include <optional>
#include <string>
#include <string_view>

#include "db/base/bytes.h"

namespace tdbmesh {

// `bytes` has a multiple of four.
[[nodiscard]] std::string z85_encode(BytesView bytes);
// nullopt if `text` is not what z85_encode() gives.
[[nodiscard]] std::optional<Bytes> z85_decode(std::string_view text);

}  // namespace tdbmesh
