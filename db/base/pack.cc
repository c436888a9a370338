#include "db/base/pack.h"

#include <msgpack.hpp>

namespace tdbmesh {
namespace {

// msgpack::packer wants a stream with write(); ours appends to a string.
struct StringSink {
  Bytes& out;
  void write(const char* data, std::size_t size) { out.append(data, size); }
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

// msgpack's own parser makes room on the heap for the nesting of every value that it is asked for, which was a tenth of what a
// record's move cost here; a message has some thirty values.
std::uint64_t Unpacker::big_endian(std::size_t from, std::size_t size) const {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8 | byte(from + i);
  return value;
}

bool Unpacker::header(std::uint8_t first_format, std::size_t formats, std::size_t smallest, std::uint64_t& value) {
  const std::size_t format = std::size_t{byte(at_)} - first_format;  // wraps around below the first: out of range as well
  if (format >= formats) return false;
  const std::size_t size = smallest << format;
  if (input_.size() - at_ - 1 < size) return false;
  value = big_endian(at_ + 1, size);
  at_ += 1 + size;
  return true;
}

std::size_t Unpacker::array(std::size_t most) {
  std::uint64_t count = 0;
  if (at_end()) return fail(), 0;
  if ((byte(at_) & 0xF0u) == 0x90u) {
    count = byte(at_++) & 0x0Fu;
  } else if (!header(0xDC, 2, 2, count)) {
    return fail(), 0;
  }
  // Each value takes at least one byte, so a larger count is a lie.
  if (count > most || count > input_.size() - at_) return fail(), 0;
  return static_cast<std::size_t>(count);
}

std::uint64_t Unpacker::u64() {
  std::uint64_t value = 0;
  if (at_end()) return fail(), 0;
  if (byte(at_) < 0x80u) return byte(at_++);
  if (!header(0xCC, 4, 1, value)) return fail(), 0;
  return value;
}

std::uint32_t Unpacker::u32() {
  const std::uint64_t value = u64();
  if (value > 0xFFFFFFFFu) return fail(), 0;
  return static_cast<std::uint32_t>(value);
}

BytesView Unpacker::bytes() {
  std::uint64_t size = 0;
  if (at_end() || !header(0xC4, 3, 1, size) || size > input_.size() - at_) return fail(), BytesView{};
  const BytesView value = input_.substr(at_, static_cast<std::size_t>(size));
  at_ += value.size();
  return value;
}

}  // namespace tdbmesh
