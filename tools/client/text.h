#pragma once
// Bytes as operators read and write them on a command line, and times as CTDB's tools print them. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "db/base/bytes.h"
#include "db/base/result.h"

namespace tdbmesh {

// Printable ASCII as it is, except `"` and `\`; everything else as \XX in upper-case hex. The ctdb tool's form.
[[nodiscard]] std::string escape_hex(BytesView bytes);

// C-like: \n \t \r \\ \" \0 and \xNN; readable for mostly textual values, unambiguous for all.
[[nodiscard]] std::string escape_c(BytesView bytes);
// The reverse of escape_c. Malformed: a backslash that starts no known escape.
[[nodiscard]] Result<Bytes> unescape_c(std::string_view text);

// "0x" followed by hex digits means these bytes, anything else means itself. Malformed carries the ctdb
// tool's words.
[[nodiscard]] Result<Bytes> text_or_hex(std::string_view text);

[[nodiscard]] std::string to_base64(BytesView bytes);
[[nodiscard]] Result<Bytes> from_base64(std::string_view text);

// "Mon Nov 23 17:51:59 2026" in the time zone of the process.
[[nodiscard]] std::string date_text(std::int64_t epoch_seconds);
// "(001 02:03:04)": days, hours, minutes, seconds between two times.
[[nodiscard]] std::string elapsed_text(std::int64_t seconds);

// Decimal, 0x hex or 0 octal, the whole text; what strtoul accepts. nullopt otherwise or over 32 bits.
[[nodiscard]] std::optional<std::uint32_t> parse_u32(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_u64(std::string_view text);

}  // namespace tdbmesh
