#pragma once
// TCP between nodes: non-blocking sockets at numeric addresses, IPv4 and IPv6, and what we ask of the kernel for them.
// Descriptors are the caller's to close.

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "db/base/result.h"

namespace tdbmesh {

// One text per address: "10.0.0.1" however it was written. nullopt if it is no numeric IPv4 or IPv6 address.
[[nodiscard]] std::optional<std::string> canonical_address(const std::string& address);
// The canonical address of a peer as accept() tells it; "unknown" if that is no IP address.
[[nodiscard]] std::string canonical_address(const sockaddr_storage& address);

// Errors say what to do.
[[nodiscard]] Result<int> listen_at(const std::string& address, std::uint16_t port);

// Begins to connect, from address `own`: writable once it is decided. The error is errno's.
[[nodiscard]] Result<int> begin_connect(const std::string& own, const std::string& peer, std::uint16_t port);

// For a connection: small messages leave at once, and who vanished without a word is noticed within ten seconds; a
// stalled but living peer keeps its connection.
void tune_connection(int fd);

// What was read so far need not be acknowledged at once: the kernel then sends one acknowledgement for two messages or
// for 40 ms, and not one from within each recv. It falls back by itself when a connection rests, so ask before reads.
void acknowledge_lazily(int fd);

}  // namespace tdbmesh
