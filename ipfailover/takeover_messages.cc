#include "ipfailover/takeover_messages.h"

#include <fmt/format.h>

#include "db/base/match.h"
#include "db/base/pack.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr std::uint64_t kVersion = 1;

void pack_address(Packer& out, const Address& a) {
  const std::size_t size = a.family == Address::Family::V4 ? 4 : a.family == Address::Family::V6 ? 16 : 0;
  out.bytes(BytesView(reinterpret_cast<const char*>(a.bytes.data()), size));
}
// Four bytes or sixteen; sixteen that say an IPv4 address would be a second name of it and are refused.
Address unpack_address(Unpacker& in) {
  const BytesView raw = in.bytes();
  Address a;
  if (raw.size() == 4) {
    a.family = Address::Family::V4;
  } else if (raw.size() == 16) {
    a.family = Address::Family::V6;
    if (raw.substr(0, 12) == BytesView("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)) in.fail();
  } else {
    in.fail();
    return a;
  }
  for (std::size_t i = 0; i < raw.size(); ++i) a.bytes[i] = static_cast<std::uint8_t>(raw[i]);
  return a;
}
std::string unpack_text(Unpacker& in, std::size_t most) {
  const BytesView text = in.bytes();
  if (text.size() > most) in.fail();
  return in.ok() ? std::string(text) : std::string();
}
std::string cut(const std::string& text) { return text.substr(0, kMaxReason); }

struct Body {
  Packer& out;
  void operator()(const HostReport& m) {
    out.flag(m.no_takeover).flag(m.leaving).u64(m.flags).array(m.entries.size());
    for (const HostReport::Entry& e : m.entries) {
      out.array(4);
      pack_address(out, e.address);
      out.bytes(e.network).flag(e.available).flag(e.held);
    }
  }
  void operator()(const TakeAddress& m) { numbered(m); }
  void operator()(const AddressTaken& m) { numbered(m); }
  void operator()(const TakeFailed& m) {
    numbered(m);
    out.bytes(cut(m.reason));
  }
  void operator()(const ReleaseAddress& m) { numbered(m); }
  void operator()(const AddressReleased& m) { numbered(m); }
  void operator()(const AddressLost& m) {
    numbered(m);
    out.bytes(cut(m.reason));
  }
  void operator()(const HostTable& m) {
    out.array(m.entries.size());
    for (const HostTable::Entry& e : m.entries) {
      out.array(2);
      pack_address(out, e.address);
      out.pnn(e.host);
    }
  }
  void operator()(const MoveWish& m) {
    out.u64(m.id);
    pack_address(out, m.address);
    out.pnn(m.to);
  }
  void operator()(const MoveAnswer& m) { out.u64(m.id).bytes(cut(m.error)); }
  void operator()(const RunStarts&) {}

  template <class M>
  void numbered(const M& m) {
    pack_address(out, m.address);
    out.u64(m.number);
  }
};

template <class M>
M read_numbered(Unpacker& in) {
  M m;
  m.address = unpack_address(in);
  m.number = in.u64();
  return m;
}

HostReport read(Unpacker& in, const HostReport&) {
  HostReport m;
  m.no_takeover = in.flag();
  m.leaving = in.flag();
  m.flags = in.u32();
  const std::size_t count = in.array(kMaxPublicAddresses);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    if (in.array(4) != 4) in.fail();
    HostReport::Entry e;
    e.address = unpack_address(in);
    e.network = unpack_text(in, kMaxNetworkName);
    e.available = in.flag();
    e.held = in.flag();
    if (i > 0 && !(m.entries.back().address < e.address)) in.fail();
    m.entries.push_back(std::move(e));
  }
  return m;
}
TakeAddress read(Unpacker& in, const TakeAddress&) { return read_numbered<TakeAddress>(in); }
AddressTaken read(Unpacker& in, const AddressTaken&) { return read_numbered<AddressTaken>(in); }
TakeFailed read(Unpacker& in, const TakeFailed&) {
  auto m = read_numbered<TakeFailed>(in);
  m.reason = unpack_text(in, kMaxReason);
  return m;
}
ReleaseAddress read(Unpacker& in, const ReleaseAddress&) { return read_numbered<ReleaseAddress>(in); }
AddressReleased read(Unpacker& in, const AddressReleased&) { return read_numbered<AddressReleased>(in); }
AddressLost read(Unpacker& in, const AddressLost&) {
  auto m = read_numbered<AddressLost>(in);
  m.reason = unpack_text(in, kMaxReason);
  return m;
}
HostTable read(Unpacker& in, const HostTable&) {
  HostTable m;
  const std::size_t count = in.array(kMaxPublicAddresses);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    if (in.array(2) != 2) in.fail();
    HostTable::Entry e;
    e.address = unpack_address(in);
    e.host = in.pnn();
    m.entries.push_back(e);
  }
  return m;
}
MoveWish read(Unpacker& in, const MoveWish&) {
  MoveWish m;
  m.id = in.u64();
  m.address = unpack_address(in);
  m.to = in.pnn();
  return m;
}
MoveAnswer read(Unpacker& in, const MoveAnswer&) {
  MoveAnswer m;
  m.id = in.u64();
  m.error = unpack_text(in, kMaxReason);
  return m;
}

RunStarts read(Unpacker&, const RunStarts&) { return {}; }

template <std::size_t I = 0>
TakeoverMessage read_kind(std::uint64_t kind, Unpacker& in, Generation generation) {
  if constexpr (I == std::variant_size_v<TakeoverMessage>) {
    in.fail();
    return HostReport{};
  } else {
    if (kind != I) return read_kind<I + 1>(kind, in, generation);
    auto message = read(in, std::variant_alternative_t<I, TakeoverMessage>{});
    message.generation = generation;
    return message;
  }
}

// Values in the outer array of each kind: version, kind, two of the generation, and its own.
std::size_t fields_of(const TakeoverMessage& message) {
  return 4 + std::visit(Match{
                            [](const HostReport&) { return std::size_t{3}; },
                            [](const TakeFailed&) { return std::size_t{3}; },
                            [](const AddressLost&) { return std::size_t{3}; },
                            [](const HostTable&) { return std::size_t{1}; },
                            [](const RunStarts&) { return std::size_t{0}; },
                            [](const MoveWish&) { return std::size_t{3}; },
                            [](const auto&) { return std::size_t{2}; },
                        },
                        message);
}

}  // namespace

Generation generation_of(const TakeoverMessage& message) {
  return std::visit([](const auto& m) { return m.generation; }, message);
}

Bytes encode(const TakeoverMessage& message) {
  Packer out;
  out.array(fields_of(message)).u64(kVersion).u64(message.index()).generation(generation_of(message));
  std::visit(Body{out}, message);
  return std::move(out).take();
}

Result<TakeoverMessage> decode_takeover_message(BytesView bytes) {
  Unpacker in(bytes);
  const std::size_t fields = in.array(8);
  if (in.u64() != kVersion) in.fail();
  const std::uint64_t kind = in.u64();
  const Generation generation = in.generation();
  TakeoverMessage message = read_kind(kind, in, generation);
  if (!in.finished() || fields != fields_of(message)) {
    return failure(Fault::Malformed, "a message about public addresses does not decode");
  }
  return message;
}

std::string describe(const TakeoverMessage& message) {
  const auto numbered = [](const char* name, const auto& m) {
    return fmt::format("{} {} number {} in {}", name, ctdb::to_string(m.address), m.number, to_string(m.generation));
  };
  return std::visit(
      Match{
          [](const HostReport& m) {
            std::string held;
            for (const auto& e : m.entries) held += e.held ? " " + ctdb::to_string(e.address) : std::string();
            return fmt::format("HOSTREPORT {} addresses{} in {}, held:{}", m.entries.size(), m.leaving ? ", leaving" : "",
                               to_string(m.generation), held);
          },
          [&](const TakeAddress& m) { return numbered("TAKE", m); },
          [&](const AddressTaken& m) { return numbered("TAKEN", m); },
          [&](const TakeFailed& m) { return numbered("TAKEFAILED", m) + ": " + m.reason; },
          [&](const ReleaseAddress& m) { return numbered("RELEASE", m); },
          [&](const AddressReleased& m) { return numbered("RELEASED", m); },
          [&](const AddressLost& m) { return numbered("LOST", m) + ": " + m.reason; },
          [](const HostTable& m) { return fmt::format("HOSTS {} in {}", m.entries.size(), to_string(m.generation)); },
          [](const MoveWish& m) {
            return fmt::format("MOVE {} to {}", ctdb::to_string(m.address), to_string(m.to));
          },
          [](const RunStarts& m) { return "STARTS in " + to_string(m.generation); },
          [](const MoveAnswer& m) { return fmt::format("MOVED {}", m.error.empty() ? "done" : m.error); },
      },
      message);
}

}  // namespace tdbmesh::ipfailover
