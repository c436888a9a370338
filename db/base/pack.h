#pragma once
// msgpack for the codec files of all rooms: a message is one msgpack array of integers, byte strings and
// nested arrays. This is the only place that includes msgpack.
//
// Unpacker trusts nothing: counts, lengths and depth are bounded by the bytes that are there before anything
// is allocated. After the first wrong field everything that follows reads as zero or empty, so a decoder
// reads all its fields and asks finished() once.

#include <cstdint>
#include <memory>

#include "db/base/bytes.h"
#include "db/base/ids.h"

namespace tdbmesh {

class Packer {
 public:
  Packer() { out_.reserve(kUsualBytes); }
  Packer& array(std::size_t count);  // `count` values follow and belong to it
  Packer& u64(std::uint64_t value);
  Packer& flag(bool value) { return u64(value ? 1 : 0); }
  Packer& bytes(BytesView value);
  Packer& pnn(Pnn value) { return u64(number(value)); }
  Packer& generation(Generation g) { return u64(g.term).u64(g.serial); }  // two values
  [[nodiscard]] Bytes take() && { return std::move(out_); }

 private:
  static constexpr std::size_t kUsualBytes = 120;  // most messages are shorter, and a string that grows is moved each time
  Bytes out_;
};

class Unpacker {
 public:
  explicit Unpacker(BytesView input);  // `input` must outlive the Unpacker and the views it hands out

  // Opens an array and returns its count: at most `most`, and never more than bytes that are left.
  std::size_t array(std::size_t most);
  std::uint64_t u64();
  std::uint32_t u32();  // a value over 32 bits is an error
  bool flag() { return u64() != 0; }
  BytesView bytes();
  Pnn pnn() { return Pnn{u32()}; }
  Generation generation() {
    const std::uint64_t term = u64();
    return Generation{term, u32()};
  }
  void fail();
  [[nodiscard]] bool ok() const { return ok_; }
  // All fields were right and nothing is left over.
  [[nodiscard]] bool finished() const { return ok_ && at_ == input_.size(); }
  // What has not been read.
  [[nodiscard]] BytesView rest() const { return input_.substr(at_); }

 private:
  [[nodiscard]] bool at_end() const { return !ok_ || at_ >= input_.size(); }
  [[nodiscard]] std::uint8_t byte(std::size_t at) const { return static_cast<std::uint8_t>(input_[at]); }
  [[nodiscard]] std::uint64_t big_endian(std::size_t from, std::size_t size) const;
  // Reads one of `formats` formats from `first_format` on, each with a number of twice the size of that of the one before it. Not at
  // the end; false, and nothing is read, when it is none of them or cut short.
  bool header(std::uint8_t first_format, std::size_t formats, std::size_t smallest, std::uint64_t& value);

  BytesView input_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace tdbmesh
