#pragma once
// Packets of CTDB's client protocol: how they are cut out of a stream, and what they say. Pure.
//
// A packet is a 32-byte header (native byte order, first word the total length), a fixed part that depends on
// the operation, and variable parts whose lengths stand in the fixed part. Samba does not pad its packets, so
// the next one may begin at an odd offset; the ctdb tool and the daemon pad to a multiple of 8 with zeros and
// count the padding in the total. Decoding checks every embedded length against what is there and copies:
// what it returns owns its bytes.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "transport/ctdb_controls.h"

namespace tdbmesh::ctdb {

inline constexpr std::uint32_t kMagic = 0x43544442;
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kHeaderSize = 32;
// What the daemon accepts from a client. The largest legal packet is a commit of several values of the
// maximum size; memory is taken only as the bytes arrive, so the announced length costs nothing.
inline constexpr std::size_t kMaxPacketSize = std::size_t{256} * 1024 * 1024;

enum class Operation : std::uint32_t {
  ReqCall = 0,
  ReplyCall = 1,
  ReqDmaster = 2,    // between CTDB's own daemons; ignored on a client socket
  ReplyDmaster = 3,  // likewise
  ReplyError = 4,
  ReqMessage = 5,
  ReqControl = 7,
  ReplyControl = 8,
  ReqKeepalive = 9,  // likewise
  ReqTunnel = 10,
};

// The addressing part of the header. Length, magic, version and operation are the codec's business.
struct Header {
  std::uint32_t generation = 0;  // ignored by both sides on the client socket
  std::uint32_t destnode = 0;    // a pnn or one of the special destinations
  std::uint32_t srcnode = 0;
  std::uint32_t reqid = 0;  // the client's choice, echoed in the reply; 0 in messages
  friend bool operator==(const Header&, const Header&) = default;
};

struct ReqCall {
  std::uint32_t flags = 0;  // kCall...
  DatabaseId database{};
  CallId callid = CallId::Null;  // any number may arrive
  std::uint32_t hopcount = 0;
  Bytes key;
  Bytes calldata;
  friend bool operator==(const ReqCall&, const ReqCall&) = default;
};

struct ReplyCall {
  std::int32_t status = 0;
  Bytes data;
  friend bool operator==(const ReplyCall&, const ReplyCall&) = default;
};

struct ReplyError {
  std::int32_t status = -1;
  std::string text;  // without the NUL that ends it on the wire
  friend bool operator==(const ReplyError&, const ReplyError&) = default;
};

struct ReqMessage {
  Srvid srvid{};
  Bytes data;
  friend bool operator==(const ReqMessage&, const ReqMessage&) = default;
};

struct ReqControl {
  ControlOpcode opcode{};  // any number may arrive
  std::uint32_t pad = 0;   // always 0, kept so that a packet survives decoding and encoding
  Srvid srvid{};           // an argument of some controls (a srvid, a database id)
  std::uint32_t client_id = 0;
  std::uint32_t flags = 0;  // kControl...
  Bytes data;
  friend bool operator==(const ReqControl&, const ReqControl&) = default;
};

// With status != 0 `data` must be empty: the ctdb tool reads the error text where data would begin.
struct ReplyControl {
  std::int32_t status = 0;
  Bytes data;
  std::string error;  // no NUL on the wire
  friend bool operator==(const ReplyControl&, const ReplyControl&) = default;
};

struct ReqTunnel {
  std::uint64_t tunnel_id = 0;
  std::uint32_t flags = 0;  // kTunnel...
  Bytes data;
  friend bool operator==(const ReqTunnel&, const ReqTunnel&) = default;
};

using Body = std::variant<ReqCall, ReplyCall, ReplyError, ReqMessage, ReqControl, ReplyControl, ReqTunnel>;

struct Packet {
  Header header;
  Body body;
  friend bool operator==(const Packet&, const Packet&) = default;
};

[[nodiscard]] Operation operation_of(const Body& body);

// Daemon: zeros up to a multiple of 8 and up to the size of the C structure of the packet's type (48 bytes
// for calls' replies, messages and controls' replies), as every client has always seen it. Tool: up to a
// multiple of 8. None: as Samba sends it.
enum class Padding { None, Tool, Daemon };

[[nodiscard]] Bytes encode_packet(const Packet& packet, Padding padding = Padding::Daemon);

// One whole packet, header and padding included. Malformed if its length word differs from its size, magic or
// version are wrong, the operation is not one of Body's, or an embedded length does not fit. None of these is
// worth a disconnect: the packet is dropped.
[[nodiscard]] Result<Packet> decode_packet(BytesView bytes);

// Shortcuts of the daemon's side. `own` is the pnn of this node, `request` the header that is answered.
[[nodiscard]] Header reply_header(const Header& request, Pnn own, std::uint32_t generation);
[[nodiscard]] Bytes encode_message(Pnn own, std::uint32_t generation, Srvid srvid, BytesView data);

// Cuts packets out of a stream. Take all packets after every push:
//
//   framer.push(bytes);
//   while (auto packet = framer.next()) handle(*packet);
//   if (framer.broken()) close the connection
//
// Broken means that the stream cannot be followed any more: a length below the header's (0 is how a client
// says goodbye) or over the limit. Packets of a wrong magic or version are skipped and counted.
class PacketFramer {
 public:
  explicit PacketFramer(std::size_t limit = kMaxPacketSize) : limit_(limit) {}
  void push(BytesView bytes);
  // A whole packet, or nothing if more bytes are needed or the stream is broken. The view holds until the
  // next call of push().
  [[nodiscard]] std::optional<BytesView> next();
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] std::uint64_t skipped() const { return skipped_; }
  // Bytes of an unfinished packet.
  [[nodiscard]] std::size_t pending() const { return buffer_.size() - at_; }

 private:
  std::size_t limit_;
  Bytes buffer_;
  std::size_t at_ = 0;  // what lies before was handed out
  std::uint64_t skipped_ = 0;
  bool broken_ = false;
};

}  // namespace tdbmesh::ctdb
