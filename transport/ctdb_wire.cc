#include "transport/ctdb_wire.h"

#include <algorithm>
#include <array>
#include <limits>

#include <fmt/format.h>

#include "db/base/check.h"
#include "db/base/match.h"

namespace tdbmesh::ctdb {
namespace {

// Lengths are 32 bits on the wire. Our own packets never come near that; one that does is a bug here.
std::uint32_t length_of(BytesView bytes) {
  TDBMESH_CHECK(bytes.size() < std::numeric_limits<std::uint32_t>::max() / 4);
  return static_cast<std::uint32_t>(bytes.size());
}

// Fixed part, and after it (unaligned) one byte of the variable part, rounded up to 8: what the C structures
// of the packet types measure, and so the shortest packet that CTDB's daemon sends of each type.
std::size_t shortest(Operation operation) {
  switch (operation) {
    case Operation::ReqCall:
    case Operation::ReqControl: return 64;
    case Operation::ReqTunnel: return 56;
    default: return 48;
  }
}

constexpr std::size_t rounded_up(std::size_t size) { return (size + 7) / 8 * 8; }

void put_body(ByteWriter& out, const ReqCall& b) {
  out.put(b.flags).put(number(b.database)).put(static_cast<std::uint32_t>(b.callid)).put(b.hopcount);
  out.put(length_of(b.key)).put(length_of(b.calldata)).put_bytes(b.key).put_bytes(b.calldata);
}
void put_body(ByteWriter& out, const ReplyCall& b) {
  out.put(b.status).put(length_of(b.data)).put_bytes(b.data);
}
void put_body(ByteWriter& out, const ReplyError& b) {
  out.put(b.status).put(length_of(b.text) + 1).put_bytes(b.text).put_zeros(1);
}
void put_body(ByteWriter& out, const ReqMessage& b) {
  out.put(number(b.srvid)).put(length_of(b.data)).put_bytes(b.data);
}
void put_body(ByteWriter& out, const ReqControl& b) {
  out.put(static_cast<std::uint32_t>(b.opcode)).put(b.pad).put(number(b.srvid)).put(b.client_id).put(b.flags);
  out.put(length_of(b.data)).put_bytes(b.data);
}
void put_body(ByteWriter& out, const ReplyControl& b) {
  out.put(b.status).put(length_of(b.data)).put(length_of(b.error)).put_bytes(b.data).put_bytes(b.error);
}
void put_body(ByteWriter& out, const ReqTunnel& b) {
  out.put(b.tunnel_id).put(b.flags).put(length_of(b.data)).put_bytes(b.data);
}

// The length word of the packet, once all of it is known.
void set_length(Bytes& packet) {
  const std::uint32_t length = length_of(packet);
  std::memcpy(packet.data(), &length, sizeof(length));
}

void put_header(ByteWriter& out, const Header& header, Operation operation) {
  // The first is the length, see set_length. At once: each of a packet's appends is a call into the library.
  const std::array<std::uint32_t, 8> words{0, kMagic, kVersion, header.generation, static_cast<std::uint32_t>(operation),
                                           header.destnode, header.srcnode, header.reqid};
  out.put_bytes({reinterpret_cast<const char*>(words.data()), sizeof words});
}

Bytes finish(ByteWriter&& out, Operation operation, Padding padding) {
  Bytes packet = std::move(out).take();
  if (padding != Padding::None) {
    const std::size_t least = padding == Padding::Daemon ? shortest(operation) : 0;
    packet.resize(std::max(least, rounded_up(packet.size())), '\0');
  }
  set_length(packet);
  return packet;
}

ReqCall get_call(ByteReader& in) {
  ReqCall b;
  b.flags = in.get<std::uint32_t>();
  b.database = DatabaseId{in.get<std::uint32_t>()};
  b.callid = CallId{in.get<std::uint32_t>()};
  b.hopcount = in.get<std::uint32_t>();
  const auto key_length = in.get<std::uint32_t>();
  const auto data_length = in.get<std::uint32_t>();
  b.key = in.get_bytes(key_length);
  b.calldata = in.get_bytes(data_length);
  return b;
}
ReplyCall get_reply_call(ByteReader& in) {
  ReplyCall b;
  b.status = in.get<std::int32_t>();
  b.data = in.get_bytes(in.get<std::uint32_t>());
  return b;
}
ReplyError get_reply_error(ByteReader& in) {
  ReplyError b;
  b.status = in.get<std::int32_t>();
  BytesView text = in.get_bytes(in.get<std::uint32_t>());
  if (!text.empty() && text.back() == '\0') text.remove_suffix(1);
  b.text = text;
  return b;
}
ReqMessage get_message(ByteReader& in) {
  ReqMessage b;
  b.srvid = Srvid{in.get<std::uint64_t>()};
  b.data = in.get_bytes(in.get<std::uint32_t>());
  return b;
}
ReqControl get_control(ByteReader& in) {
  ReqControl b;
  b.opcode = ControlOpcode{in.get<std::uint32_t>()};
  b.pad = in.get<std::uint32_t>();
  b.srvid = Srvid{in.get<std::uint64_t>()};
  b.client_id = in.get<std::uint32_t>();
  b.flags = in.get<std::uint32_t>();
  b.data = in.get_bytes(in.get<std::uint32_t>());
  return b;
}
ReplyControl get_reply_control(ByteReader& in) {
  ReplyControl b;
  b.status = in.get<std::int32_t>();
  const auto data_length = in.get<std::uint32_t>();
  const auto error_length = in.get<std::uint32_t>();
  b.data = in.get_bytes(data_length);
  b.error = in.get_bytes(error_length);
  return b;
}
ReqTunnel get_tunnel(ByteReader& in) {
  ReqTunnel b;
  b.tunnel_id = in.get<std::uint64_t>();
  b.flags = in.get<std::uint32_t>();
  b.data = in.get_bytes(in.get<std::uint32_t>());
  return b;
}

// Fails the reader for an operation that has no place on a client socket.
Body get_body(ByteReader& in, std::uint32_t operation) {
  switch (Operation{operation}) {
    case Operation::ReqCall: return get_call(in);
    case Operation::ReplyCall: return get_reply_call(in);
    case Operation::ReplyError: return get_reply_error(in);
    case Operation::ReqMessage: return get_message(in);
    case Operation::ReqControl: return get_control(in);
    case Operation::ReplyControl: return get_reply_control(in);
    case Operation::ReqTunnel: return get_tunnel(in);
    case Operation::ReqDmaster:
    case Operation::ReplyDmaster:
    case Operation::ReqKeepalive: break;
  }
  in.fail();
  return ReqMessage{};
}

}  // namespace

Operation operation_of(const Body& body) {
  return std::visit(Match{[](const ReqCall&) { return Operation::ReqCall; },
                          [](const ReplyCall&) { return Operation::ReplyCall; },
                          [](const ReplyError&) { return Operation::ReplyError; },
                          [](const ReqMessage&) { return Operation::ReqMessage; },
                          [](const ReqControl&) { return Operation::ReqControl; },
                          [](const ReplyControl&) { return Operation::ReplyControl; },
                          [](const ReqTunnel&) { return Operation::ReqTunnel; }},
                    body);
}

Bytes encode_packet(const Packet& packet, Padding padding) {
  const Operation operation = operation_of(packet.body);
  ByteWriter out;
  put_header(out, packet.header, operation);
  std::visit([&](const auto& body) { put_body(out, body); }, packet.body);
  return finish(std::move(out), operation, padding);
}

Result<Packet> decode_packet(BytesView bytes) {
  ByteReader in(bytes);
  const auto length = in.get<std::uint32_t>();
  const auto magic = in.get<std::uint32_t>();
  const auto version = in.get<std::uint32_t>();
  Packet packet;
  packet.header.generation = in.get<std::uint32_t>();
  const auto operation = in.get<std::uint32_t>();
  packet.header.destnode = in.get<std::uint32_t>();
  packet.header.srcnode = in.get<std::uint32_t>();
  packet.header.reqid = in.get<std::uint32_t>();
  if (!in.ok() || length != bytes.size() || magic != kMagic || version != kVersion) {
    return failure(Fault::Malformed, fmt::format("packet of {} bytes: bad header", bytes.size()));
  }
  packet.body = get_body(in, operation);
  if (!in.ok()) {
    return failure(Fault::Malformed,
                   fmt::format("packet of {} bytes, operation {}: bad contents", bytes.size(), operation));
  }
  return packet;
}

Header reply_header(const Header& request, Pnn own, std::uint32_t generation) {
  return Header{.generation = generation, .destnode = 0, .srcnode = number(own), .reqid = request.reqid};
}

Bytes encode_message(Pnn own, std::uint32_t generation, Srvid srvid, BytesView data) {
  // Written without a Packet in between: a message to a thousand clients should copy its data once.
  ByteWriter out;
  put_header(out, Header{.generation = generation, .destnode = 0, .srcnode = number(own), .reqid = 0},
             Operation::ReqMessage);
  out.put(number(srvid)).put(length_of(data)).put_bytes(data);
  return finish(std::move(out), Operation::ReqMessage, Padding::Daemon);
}

void PacketFramer::push(BytesView bytes) {
  // Make room by forgetting what was handed out, and give memory back after a large packet: a server has
  // thousands of mostly idle connections.
  constexpr std::size_t kKeptCapacity = 16 * 1024;
  if (at_ == buffer_.size()) {
    at_ = 0;
    if (buffer_.capacity() > kKeptCapacity) {
      buffer_ = Bytes();
    } else {
      buffer_.clear();
    }
  } else if (at_ > 0) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  if (!broken_) buffer_.append(bytes);
}

std::optional<BytesView> PacketFramer::next() {
  while (!broken_) {
    const BytesView rest = BytesView(buffer_).substr(at_);
    ByteReader in(rest);
    const auto length = in.get<std::uint32_t>();
    if (!in.ok()) return std::nullopt;
    if (length < kHeaderSize || length > limit_) {
      broken_ = true;
      return std::nullopt;
    }
    if (rest.size() < length) return std::nullopt;
    at_ += length;
    const auto magic = in.get<std::uint32_t>();
    const auto version = in.get<std::uint32_t>();
    if (magic == kMagic && version == kVersion) return rest.substr(0, length);
    ++skipped_;
  }
  return std::nullopt;
}

}  // namespace tdbmesh::ctdb
