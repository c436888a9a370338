#include "transport/zmtp_frames.h"

#include <algorithm>
#include <array>
#include <limits>

namespace tdbmesh::zmtp {
namespace {

// Greeting: ff, 8 bytes of padding, 7f, version (major, minor), mechanism, as-server, filler.
constexpr std::size_t kSignatureEnd = 9;
constexpr std::size_t kMajorAt = 10;
constexpr std::size_t kMechanismAt = 12;
constexpr std::size_t kMechanismBytes = 20;
constexpr char kMajor = 3;
constexpr char kMinor = 1;  // with PING and PONG

constexpr std::uint8_t kLong = 2;

constexpr BytesView kSocketType = "Socket-Type";

constexpr BytesView name_of(Mechanism mechanism) { return mechanism == Mechanism::Curve ? "CURVE" : "NULL"; }

}  // namespace

void put_u64(char* at, std::uint64_t value) {
  for (int i = 7; i >= 0; --i) {
    at[i] = static_cast<char>(value & 0xff);
    value >>= 8;
  }
}

std::uint64_t get_u64(const char* at) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}

Bytes greeting(Mechanism mechanism) {
  Bytes out(kGreetingBytes, '\0');
  out[0] = '\xff';
  out[kSignatureEnd - 1] = 1;  // where the protocol's first version has the length of an empty identity
  out[kSignatureEnd] = '\x7f';
  out[kMajorAt] = kMajor;
  out[kMajorAt + 1] = kMinor;
  std::ranges::copy(name_of(mechanism), out.begin() + kMechanismAt);
  return out;
}

GreetingCheck check_greeting(BytesView begun, Mechanism expected) {
  if (!begun.empty() && begun[0] != '\xff') return GreetingCheck::NotOurProtocol;
  if (begun.size() > kSignatureEnd && begun[kSignatureEnd] != '\x7f') return GreetingCheck::NotOurProtocol;
  if (begun.size() > kMajorAt && static_cast<unsigned char>(begun[kMajorAt]) < kMajor) return GreetingCheck::NotOurProtocol;
  if (begun.size() < kGreetingBytes) return GreetingCheck::NeedMore;
  BytesView mechanism = begun.substr(kMechanismAt, kMechanismBytes);
  if (const auto end = mechanism.find('\0'); end != BytesView::npos) {
    if (mechanism.find_first_not_of('\0', end) != BytesView::npos) return GreetingCheck::NotOurProtocol;
    mechanism = mechanism.substr(0, end);
  }
  return mechanism == name_of(expected) ? GreetingCheck::Good : GreetingCheck::OtherMechanism;
}

HeaderCheck read_frame_header(BytesView begun, FrameHeader& header) {
  if (begun.empty()) return HeaderCheck::NeedMore;
  const auto flags = static_cast<std::uint8_t>(begun[0]);
  if ((flags & ~(kMore | kLong | kCommand)) != 0) return HeaderCheck::Malformed;
  header.more = (flags & kMore) != 0;
  header.command = (flags & kCommand) != 0;
  if (header.more && header.command) return HeaderCheck::Malformed;
  header.header_bytes = (flags & kLong) != 0 ? kMostHeaderBytes : 2;
  if (begun.size() < header.header_bytes) return HeaderCheck::NeedMore;
  header.size = (flags & kLong) != 0 ? get_u64(begun.data() + 1) : static_cast<unsigned char>(begun[1]);
  return HeaderCheck::Good;
}

void append_frame_header(Bytes& out, std::uint8_t flags, std::size_t size) {
  if (size <= std::numeric_limits<std::uint8_t>::max()) {
    out.push_back(static_cast<char>(flags));
    out.push_back(static_cast<char>(size));
    return;
  }
  std::array<char, kMostHeaderBytes> header{};
  header[0] = static_cast<char>(flags | kLong);
  put_u64(header.data() + 1, size);
  out.append(header.data(), header.size());
}

std::optional<Command> read_command(BytesView body) {
  if (body.empty()) return std::nullopt;
  const std::size_t length = static_cast<unsigned char>(body[0]);
  if (length == 0 || body.size() < 1 + length) return std::nullopt;
  return Command{body.substr(1, length), body.substr(1 + length)};
}

void append_command(Bytes& out, BytesView name, BytesView data) {
  append_frame_header(out, kCommand, 1 + name.size() + data.size());
  out.push_back(static_cast<char>(name.size()));
  out.append(name);
  out.append(data);
}

Bytes socket_type_property(BytesView type) {
  Bytes out;
  out.push_back(static_cast<char>(kSocketType.size()));
  out.append(kSocketType);
  out.append(3, '\0');
  out.push_back(static_cast<char>(type.size()));
  out.append(type);
  return out;
}

std::optional<BytesView> find_socket_type(BytesView properties) {
  BytesView found;
  while (!properties.empty()) {
    const std::size_t name_length = static_cast<unsigned char>(properties[0]);
    properties.remove_prefix(1);
    if (name_length == 0 || properties.size() < name_length + 4) return std::nullopt;
    const BytesView name = properties.substr(0, name_length);
    properties.remove_prefix(name_length);
    std::uint64_t value_length = 0;
    for (std::size_t i = 0; i < 4; ++i) value_length = value_length << 8 | static_cast<unsigned char>(properties[i]);
    properties.remove_prefix(4);
    if (properties.size() < value_length) return std::nullopt;
    if (name == kSocketType) found = properties.substr(0, value_length);
    properties.remove_prefix(value_length);
  }
  return found;
}

}  // namespace tdbmesh::zmtp
