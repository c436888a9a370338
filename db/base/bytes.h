#pragma once
// Bytes in memory: owned (Bytes) and borrowed (BytesView), and bounded readers and writers for the native
// little-endian layouts that CTDB's clients use. Nothing here trusts a length before it was compared with
// what is there.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace tdbmesh {

using Bytes = std::string;
using BytesView = std::string_view;

// Appends plain integers in native order.
class ByteWriter {
 public:
  template <class T>
    requires std::is_integral_v<T> || std::is_floating_point_v<T>
  ByteWriter& put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    out_.append(raw, sizeof(T));
    return *this;
  }
  ByteWriter& put_bytes(BytesView bytes) {
    out_.append(bytes);
    return *this;
  }
  ByteWriter& put_zeros(std::size_t count) {
    out_.append(count, '\0');
    return *this;
  }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] Bytes take() && { return std::move(out_); }
  [[nodiscard]] const Bytes& bytes() const { return out_; }

 private:
  Bytes out_;
};

// Takes integers and byte runs from the front. After the first miss everything that follows misses too, so a
// decoder may read all its fields and ask ok() once. Views point into the input.
class ByteReader {
 public:
  explicit ByteReader(BytesView input) : rest_(input) {}
  template <class T>
    requires std::is_integral_v<T> || std::is_floating_point_v<T>
  T get() {
    T value{};
    if (rest_.size() < sizeof(T)) {
      fail();
      return value;
    }
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  BytesView get_bytes(std::size_t count) {
    if (rest_.size() < count) {
      fail();
      return {};
    }
    const BytesView taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  void skip(std::size_t count) { (void)get_bytes(count); }
  void fail() {
    ok_ = false;
    rest_ = {};
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] BytesView rest() const { return rest_; }
  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }

 private:
  BytesView rest_;
  bool ok_ = true;
};

// Lower-case hex without separators, and back. from_hex accepts an even number of digits only.
[[nodiscard]] std::string to_hex(BytesView bytes);
[[nodiscard]] std::optional<Bytes> from_hex(std::string_view text);

}  // namespace tdbmesh
