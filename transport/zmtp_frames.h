#pragma once
// ZeroMQ's wire protocol, ZMTP 3 (RFC 23 and 37), as far as a PUSH that connects to a PULL needs it: greeting, frames,
// commands and their properties. What is inside a frame when a connection is encrypted: curve.h. Both in order on one
// connection: zmtp_session.h.
//
// Pure. Decoding trusts nothing, allocates nothing and hands out views into its input.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "db/base/bytes.h"

namespace tdbmesh::zmtp {

enum class Mechanism { Null, Curve };

// What both sides say first.
inline constexpr std::size_t kGreetingBytes = 64;
[[nodiscard]] Bytes greeting(Mechanism mechanism);

enum class GreetingCheck {
  NeedMore,        // right so far
  Good,            // kGreetingBytes of it are a greeting of our mechanism
  NotOurProtocol,  // something else, or a ZMTP before 3
  OtherMechanism,
};
// Judges as much of a greeting as has arrived, so that what cannot become one is refused at its first bytes.
[[nodiscard]] GreetingCheck check_greeting(BytesView begun, Mechanism expected);

struct FrameHeader {
  bool more = false;     // another frame of the same message follows
  bool command = false;  // for the protocol itself
  std::uint64_t size = 0;         // of the body
  std::size_t header_bytes = 0;
};
enum class HeaderCheck { NeedMore, Good, Malformed };
[[nodiscard]] HeaderCheck read_frame_header(BytesView begun, FrameHeader& header);
inline constexpr std::size_t kMostHeaderBytes = 9;

inline constexpr std::uint8_t kMore = 1;
inline constexpr std::uint8_t kCommand = 4;
// Header of a frame of `size` bytes; `flags` of kMore and kCommand.
void append_frame_header(Bytes& out, std::uint8_t flags, std::size_t size);

// The body of a command: one byte for the length of its name, the name, data.
struct Command {
  BytesView name;
  BytesView data;
};
[[nodiscard]] std::optional<Command> read_command(BytesView body);
// A whole command frame.
void append_command(Bytes& out, BytesView name, BytesView data);

// Properties ("metadata") that each side tells at the end of the handshake. We say what kind of socket we are.
[[nodiscard]] Bytes socket_type_property(BytesView type);
// The Socket-Type among `properties`, empty if there is none; nullopt if they are malformed.
[[nodiscard]] std::optional<BytesView> find_socket_type(BytesView properties);

// Big-endian numbers, as ZMTP has them.
void put_u64(char* at, std::uint64_t value);
[[nodiscard]] std::uint64_t get_u64(const char* at);

}  // namespace tdbmesh::zmtp
