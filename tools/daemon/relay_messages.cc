#include "tools/daemon/relay_messages.h"

#include "db/base/match.h"
#include "db/base/pack.h"

namespace tdbmesh {
namespace {

constexpr std::uint64_t kVersion = 2;
constexpr std::size_t kMaxDatabases = 10'000;  // far above any site; bounds what a message can make us build
constexpr std::size_t kMaxBatch = 100'000;

enum Type : std::uint64_t {
  kMessage = 1,
  kControl,
  kControlReply,
  kAttach,
  kAttached,
  kTraverse,
  kTraverseBatch,
  kDetach,
  kDetached,
  kMissed,
};

Packer begin(Type type, std::size_t fields) {
  Packer p;
  p.array(fields + 2).u64(kVersion).u64(type);
  return p;
}

void pack_record(Packer& p, const KeyedRecord& r) {
  p.array(5).bytes(r.key).u64(r.record.header.rsn).pnn(r.record.header.dmaster).u64(r.record.header.flags).bytes(
      r.record.value);
}

KeyedRecord unpack_record(Unpacker& u) {
  KeyedRecord r;
  if (u.array(5) != 5) u.fail();
  r.key = Bytes(u.bytes());
  r.record.header.rsn = u.u64();
  r.record.header.dmaster = u.pnn();
  r.record.header.flags = u.u32();
  r.record.value = Bytes(u.bytes());
  return r;
}

AttachedDatabase unpack_database(Unpacker& u) {
  AttachedDatabase d;
  if (u.array(4) != 4) u.fail();
  d.name = Bytes(u.bytes());
  const std::uint64_t kind = u.u64();
  if (kind > static_cast<std::uint64_t>(DatabaseKind::Persistent) || d.name.empty() ||
      d.name.find('\0') != std::string::npos || d.name.find('/') != std::string::npos) {
    u.fail();
  }
  d.kind = static_cast<DatabaseKind>(kind & 3);
  d.readonly = u.flag();
  d.sticky = u.flag();
  return d;
}

// Field counts by type, the two of the preamble left out.
std::optional<std::size_t> fields_of(std::uint64_t type) {
  switch (type) {
    case kMessage: return 2;
    case kControl: return 5;
    case kControlReply: return 4;
    case kAttach: return 3;
    case kAttached: return 1;
    case kTraverse: return 4;
    case kTraverseBatch: return 5;
    case kDetach: return 4;
    case kDetached: return 2;
    case kMissed: return 0;
    default: return std::nullopt;
  }
}

RelayPayload unpack_fields(std::uint64_t type, Unpacker& u) {
  switch (type) {
    case kMessage: {
      RelayMessage m;
      m.srvid = Srvid{u.u64()};
      m.data = Bytes(u.bytes());
      return m;
    }
    case kControl: {
      RelayControl m;
      m.id = u.u64();
      m.opcode = u.u32();
      m.srvid = u.u64();
      m.flags = u.u32();
      m.data = Bytes(u.bytes());
      return m;
    }
    case kControlReply: {
      RelayControlReply m;
      m.id = u.u64();
      m.status = static_cast<std::int32_t>(u.u32());
      m.data = Bytes(u.bytes());
      m.error = Bytes(u.bytes());
      return m;
    }
    case kAttach: {
      RelayAttach m;
      m.id = u.u64();
      const std::size_t count = u.array(kMaxDatabases);
      for (std::size_t i = 0; i < count && u.ok(); ++i) m.databases.push_back(unpack_database(u));
      m.generation = u.generation();
      return m;
    }
    case kAttached: return RelayAttached{u.u64()};
    case kTraverse: {
      RelayTraverse m;
      m.id = u.u64();
      m.database = DatabaseId{u.u32()};
      m.with_empty = u.flag();
      m.position = u.u64();
      return m;
    }
    case kDetach: {
      RelayDetach m;
      m.id = u.u64();
      m.database = DatabaseId{u.u32()};
      m.generation = u.generation();
      return m;
    }
    case kDetached: {
      RelayDetached m;
      m.id = u.u64();
      m.refused = Bytes(u.bytes());
      return m;
    }
    case kMissed: return RelayMissed{};
    default: {
      RelayTraverseBatch m;
      m.id = u.u64();
      m.position = u.u64();
      m.next = u.u64();
      m.done = u.flag();
      const std::size_t count = u.array(kMaxBatch);
      for (std::size_t i = 0; i < count && u.ok(); ++i) m.records.push_back(unpack_record(u));
      return m;
    }
  }
}

}  // namespace

Bytes encode_relay(const RelayPayload& payload) {
  return std::visit(
      Match{
          [](const RelayMessage& m) {
            Packer p = begin(kMessage, 2);
            p.u64(number(m.srvid)).bytes(m.data);
            return std::move(p).take();
          },
          [](const RelayControl& m) {
            Packer p = begin(kControl, 5);
            p.u64(m.id).u64(m.opcode).u64(m.srvid).u64(m.flags).bytes(m.data);
            return std::move(p).take();
          },
          [](const RelayControlReply& m) {
            Packer p = begin(kControlReply, 4);
            p.u64(m.id).u64(static_cast<std::uint32_t>(m.status)).bytes(m.data).bytes(m.error);
            return std::move(p).take();
          },
          [](const RelayAttach& m) {
            Packer p = begin(kAttach, 3);
            p.u64(m.id).array(m.databases.size());
            for (const AttachedDatabase& d : m.databases) {
              p.array(4).bytes(d.name).u64(static_cast<std::uint64_t>(d.kind)).flag(d.readonly).flag(d.sticky);
            }
            p.generation(m.generation);
            return std::move(p).take();
          },
          [](const RelayAttached& m) {
            Packer p = begin(kAttached, 1);
            p.u64(m.id);
            return std::move(p).take();
          },
          [](const RelayTraverse& m) {
            Packer p = begin(kTraverse, 4);
            p.u64(m.id).u64(number(m.database)).flag(m.with_empty).u64(m.position);
            return std::move(p).take();
          },
          [](const RelayDetach& m) {
            Packer p = begin(kDetach, 4);
            p.u64(m.id).u64(number(m.database)).generation(m.generation);
            return std::move(p).take();
          },
          [](const RelayDetached& m) {
            Packer p = begin(kDetached, 2);
            p.u64(m.id).bytes(m.refused);
            return std::move(p).take();
          },
          [](const RelayMissed&) { return begin(kMissed, 0).take(); },
          [](const RelayTraverseBatch& m) {
            Packer p = begin(kTraverseBatch, 5);
            p.u64(m.id).u64(m.position).u64(m.next).flag(m.done).array(m.records.size());
            for (const KeyedRecord& r : m.records) pack_record(p, r);
            return std::move(p).take();
          },
      },
      payload);
}

Result<RelayPayload> decode_relay(BytesView bytes) {
  Unpacker u(bytes);
  const std::size_t count = u.array(16);
  const std::uint64_t version = u.u64();
  const std::uint64_t type = u.u64();
  const std::optional<std::size_t> fields = fields_of(type);
  if (!u.ok() || version != kVersion || !fields || count != *fields + 2) {
    return failure(Fault::Malformed, "relay message of another version or shape");
  }
  RelayPayload payload = unpack_fields(type, u);
  if (!u.finished()) return failure(Fault::Malformed, "relay message that is cut or has wrong fields");
  return payload;
}

}  // namespace tdbmesh
