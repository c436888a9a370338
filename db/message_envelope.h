#pragma once
// How messages between databases lie in msgpack: [tag, term, serial, database, [fields...]]. The tag is the message's
// place in its variant.
//
// Each message tells its fields once, in order, and the same words serve writing and reading, so that the two cannot
// differ:
//
//   void fields(auto& f, IsA<Gone> auto& m) { f(Key{m.key}, m.rsn); }
//
// An optional number takes two places of the array (is it there, the number), a generation two, a version three. What
// a field may be (length, values, number of entries) is said by the wrappers; reading anything else is Malformed.

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "db/base/ids.h"
#include "db/base/pack.h"
#include "db/base/result.h"
#include "db/record.h"
#include "db/store.h"

namespace tdbmesh {

// T or const T.
template <class M, class T>
concept IsA = std::same_as<std::remove_const_t<M>, T>;

// A byte string of kLeast to kMost bytes.
template <class T, std::size_t kLeast, std::size_t kMost>
struct SizedBytes {
  T& bytes;
};
template <class T>
struct Key : SizedBytes<T, 1, kMaxKeySize> {};
template <class T>
struct Value : SizedBytes<T, 0, kMaxValueSize> {};
template <class T>
struct Text : SizedBytes<T, 0, 4096> {};
template <class T>
struct Name : SizedBytes<T, 1, 255> {};
template <class T> Key(T&) -> Key<T>;
template <class T> Value(T&) -> Value<T>;
template <class T> Text(T&) -> Text<T>;
template <class T> Name(T&) -> Name<T>;

// One of these numbers and no other.
template <class T, auto... kAllowed>
struct Choice {
  T& value;
};
template <auto... kAllowed, class T>
[[nodiscard]] Choice<T, kAllowed...> one_of(T& value) {
  return {value};
}

// An array of at most kMost entries, each a flag or something with fields of its own.
template <std::size_t kMost, class T>
struct List {
  T& entries;
};
template <std::size_t kMost, class T>
[[nodiscard]] List<kMost, T> list(T& entries) {
  return {entries};
}

void fields(auto& f, IsA<RecordEntry> auto& m) {
  f(m.reqid, Key{m.key}, m.header.rsn, m.header.dmaster, m.header.flags, Value{m.value});
}

// How many places of the array a field takes.
template <class T>
inline constexpr std::size_t kPlaces = 1;
template <class T>
inline constexpr std::size_t kPlaces<std::optional<T>> = 2;
template <>
inline constexpr std::size_t kPlaces<Generation> = 2;
template <>
inline constexpr std::size_t kPlaces<CopyVersion> = 3;

class PutFields {
 public:
  explicit PutFields(Packer& out) : out_(out) {}

  template <class... T>
  void operator()(const T&... all) {
    out_.array((kPlaces<T> + ... + 0));
    (put(all), ...);
  }

 private:
  void put(bool value) { out_.flag(value); }
  void put(std::uint64_t value) { out_.u64(value); }
  void put(std::uint32_t value) { out_.u64(value); }
  void put(std::int32_t value) { out_.u64(static_cast<std::uint32_t>(value)); }
  void put(Pnn value) { out_.pnn(value); }
  void put(DatabaseId value) { out_.u64(number(value)); }
  void put(Generation value) { out_.generation(value); }
  void put(const CopyVersion& value) { out_.generation(value.generation).u64(value.seqnum); }
  void put(const std::optional<std::uint64_t>& value) { out_.flag(value.has_value()).u64(value.value_or(0)); }
  template <class T, std::size_t kLeast, std::size_t kMost>
  void put(const SizedBytes<T, kLeast, kMost>& field) { out_.bytes(field.bytes); }
  template <class T, auto... kAllowed>
  void put(const Choice<T, kAllowed...>& field) { out_.u64(static_cast<std::uint64_t>(field.value)); }
  template <std::size_t kMost, class T>
  void put(const List<kMost, T>& field) {
    out_.array(field.entries.size());
    for (const auto& entry : field.entries) fields(*this, entry);
  }
  template <std::size_t kMost>
  void put(const List<kMost, const std::vector<bool>>& field) {
    out_.array(field.entries.size());
    for (const bool entry : field.entries) out_.flag(entry);
  }

  Packer& out_;
};

class GetFields {
 public:
  explicit GetFields(Unpacker& in) : in_(in) {}

  template <class... T>
  void operator()(T&&... all) {
    constexpr std::size_t kCount = (kPlaces<std::remove_cvref_t<T>> + ... + 0);
    if (in_.array(kCount) != kCount) in_.fail();
    (get(all), ...);
  }

 private:
  void get(bool& value) { value = in_.flag(); }
  void get(std::uint64_t& value) { value = in_.u64(); }
  void get(std::uint32_t& value) { value = in_.u32(); }
  void get(std::int32_t& value) { value = static_cast<std::int32_t>(in_.u32()); }
  void get(Pnn& value) { value = in_.pnn(); }
  void get(DatabaseId& value) { value = DatabaseId{in_.u32()}; }
  void get(Generation& value) { value = in_.generation(); }
  void get(CopyVersion& value) {
    value.generation = in_.generation();
    value.seqnum = in_.u64();
  }
  void get(std::optional<std::uint64_t>& value) {
    const bool there = in_.flag();
    const std::uint64_t number = in_.u64();
    value = there ? std::optional(number) : std::nullopt;
  }
  template <class T, std::size_t kLeast, std::size_t kMost>
  void get(SizedBytes<T, kLeast, kMost>& field) {
    const BytesView bytes = in_.bytes();
    if (bytes.size() < kLeast || bytes.size() > kMost) in_.fail();
    field.bytes = Bytes(bytes);
  }
  template <class T, auto... kAllowed>
  void get(Choice<T, kAllowed...>& field) {
    const std::uint64_t value = in_.u64();
    if (((value != static_cast<std::uint64_t>(kAllowed)) && ...)) return in_.fail();
    field.value = static_cast<T>(value);
  }
  template <std::size_t kMost, class T>
  void get(List<kMost, T>& field) {
    const std::size_t count = in_.array(kMost);
    for (std::size_t i = 0; i < count && in_.ok(); ++i) fields(*this, field.entries.emplace_back());
  }
  template <std::size_t kMost>
  void get(List<kMost, std::vector<bool>>& field) {
    const std::size_t count = in_.array(kMost);
    for (std::size_t i = 0; i < count && in_.ok(); ++i) field.entries.push_back(in_.flag());
  }

  Unpacker& in_;
};

// Message: {Generation generation; DatabaseId database; std::variant<...> body}.
template <class Message>
[[nodiscard]] Bytes encode_enveloped(const Message& message) {
  Packer packer;
  packer.array(5).u64(message.body.index()).generation(message.generation).u64(number(message.database));
  PutFields put(packer);
  std::visit([&](const auto& body) { fields(put, body); }, message.body);
  return std::move(packer).take();
}

// Makes the alternative number `tag` of the variant and reads it.
template <std::size_t kTag = 0, class... Alternatives>
void read_alternative(Unpacker& in, std::uint64_t tag, std::variant<Alternatives...>& body) {
  if constexpr (kTag == sizeof...(Alternatives)) {
    in.fail();
  } else if (tag == kTag) {
    GetFields get(in);
    fields(get, body.template emplace<kTag>());
  } else {
    read_alternative<kTag + 1>(in, tag, body);
  }
}

// Malformed unless all bytes were used and nothing failed.
template <class Message>
[[nodiscard]] Result<Message> decode_enveloped(BytesView bytes, std::string_view what) {
  Unpacker in(bytes);
  Message message;
  if (in.array(5) != 5) in.fail();
  const std::uint64_t tag = in.u64();
  message.generation = in.generation();
  message.database = DatabaseId{in.u32()};
  read_alternative(in, tag, message.body);
  if (!in.finished()) return failure(Fault::Malformed, std::string(what) + " that does not decode");
  return message;
}

}  // namespace tdbmesh
