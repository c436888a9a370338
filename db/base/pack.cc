#include "db/base/pack.h"

#include <msgpack.hpp>

namespace tdbmesh {
namespace {

// msgpack::packer wants a stream with write(); ours appends to a string.
struct StringSink {
  Bytes& out;
  void write(const char* data, std::size_t size) { out.append(data, size); }
};

// Reads exactly one header or scalar; arrays are opened by hand so that a hostile count allocates nothing.
struct ScalarVisitor : msgpack::v2::null_visitor {
  enum class Kind { None, Integer, Binary, Array } kind = Kind::None;
  std::uint64_t integer = 0;
  BytesView binary;
  bool visit_positive_integer(std::uint64_t value) {
    kind = Kind::Integer;
    integer = value;
    return true;
  }
  bool visit_bin(const char* data, std::uint32_t size) {
    kind = Kind::Binary;
    binary = BytesView(data, size);
    return true;
  }
  bool visit_negative_integer(std::int64_t) { return false; }
  bool visit_float32(float) { return false; }
  bool visit_float64(double) { return false; }
  bool visit_boolean(bool) { return false; }
  bool visit_nil() { return false; }
  bool visit_str(const char*, std::uint32_t) { return false; }
  bool visit_ext(const char*, std::uint32_t) { return false; }
  bool start_array(std::uint32_t) { return false; }
  bool start_map(std::uint32_t) { return false; }
};

}  // namespace

Packer& Packer::array(std::size_t count) {
  StringSink sink{out_};
  msgpack::packer<StringSink>(sink).pack_array(static_cast<std::uint32_t>(count));
  return *this;
}

Packer& Packer::u64(std::uint64_t value) {
  StringSink sink{out_};
  msgpack::packer<StringSink>(sink).pack_uint64(value);
  return *this;
}

Packer& Packer::bytes(BytesView value) {
  StringSink sink{out_};
  msgpack::packer<StringSink> packer(sink);
  packer.pack_bin(static_cast<std::uint32_t>(value.size()));
  packer.pack_bin_body(value.data(), static_cast<std::uint32_t>(value.size()));
  return *this;
}

Unpacker::Unpacker(BytesView input) : input_(input) {}

void Unpacker::fail() {
  ok_ = false;
  at_ = input_.size();
}

std::size_t Unpacker::array(std::size_t most) {
  if (!ok_ || at_ >= input_.size()) {
    fail();
    return 0;
  }
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(input_[at_ + i])); };
  const std::size_t left = input_.size() - at_;
  std::size_t count = 0;
  std::size_t header = 0;
  if ((byte(0) & 0xF0u) == 0x90u) {
    count = byte(0) & 0x0Fu;
    header = 1;
  } else if (byte(0) == 0xDC && left >= 3) {
    count = byte(1) << 8 | byte(2);
    header = 3;
  } else if (byte(0) == 0xDD && left >= 5) {
    count = byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
    header = 5;
  } else {
    fail();
    return 0;
  }
  // Each value takes at least one byte, so a larger count is a lie.
  if (count > most || count > left - header) {
    fail();
    return 0;
  }
  at_ += header;
  return count;
}

std::uint64_t Unpacker::u64() {
  ScalarVisitor visitor;
  if (!ok_ || at_ >= input_.size() || !msgpack::parse(input_.data(), input_.size(), at_, visitor) ||
      visitor.kind != ScalarVisitor::Kind::Integer) {
    fail();
    return 0;
  }
  return visitor.integer;
}

std::uint32_t Unpacker::u32() {
  const std::uint64_t value = u64();
  if (value > 0xFFFFFFFFu) {
    fail();
    return 0;
  }
  return static_cast<std::uint32_t>(value);
}

BytesView Unpacker::bytes() {
  ScalarVisitor visitor;
  if (!ok_ || at_ >= input_.size() || !msgpack::parse(input_.data(), input_.size(), at_, visitor) ||
      visitor.kind != ScalarVisitor::Kind::Binary) {
    fail();
    return {};
  }
  return visitor.binary;
}

}  // namespace tdbmesh
