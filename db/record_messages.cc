#include "db/record_messages.h"

#include "db/base/match.h"
#include "db/message_envelope.h"
#include "db/record.h"

namespace tdbmesh {

namespace {

using namespace record;

void pack_optional(Packer& packer, const std::optional<Rsn>& rsn) {
  packer.flag(rsn.has_value()).u64(rsn.value_or(0));
}

std::optional<Rsn> unpack_optional(Unpacker& in) {
  const bool there = in.flag();
  const Rsn rsn = in.u64();
  return there ? std::optional<Rsn>(rsn) : std::nullopt;
}

void pack_vacuum(Packer& packer, const std::vector<VacuumEntry>& entries) {
  packer.array(1).array(entries.size());
  for (const VacuumEntry& entry : entries) packer.array(2).bytes(entry.key).u64(entry.rsn);
}

void pack_body(Packer& packer, const Body& body) {
  std::visit(
      Match{
          [&](const Request& m) { packer.array(3).bytes(m.key).u64(m.q).u64(static_cast<std::uint8_t>(m.kind)); },
          [&](const Forward& m) {
            packer.array(7).bytes(m.key).pnn(m.to).u64(m.q).u64(static_cast<std::uint8_t>(m.kind)).u64(m.after);
            pack_optional(packer, m.adopt);
          },
          [&](const Grant& m) {
            packer.array(5).bytes(m.key).u64(m.q).u64(m.rsn).flag(m.migrated_with_data).bytes(m.value);
          },
          [&](const Copy& m) {
            packer.array(5).bytes(m.key).u64(m.q).u64(m.rsn).flag(m.delegated).bytes(m.value);
          },
          [&](const Miss& m) {
            packer.array(4).bytes(m.key).pnn(m.to).u64(m.q).u64(static_cast<std::uint8_t>(m.kind));
          },
          [&](const Query& m) { packer.array(2).bytes(m.key).u64(m.round); },
          [&](const Answer& m) {
            packer.array(5).bytes(m.key).u64(m.round).flag(m.own);
            pack_optional(packer, m.rsn);
          },
          [&](const Claim& m) {
            packer.array(3).flag(m.last).flag(m.every_slot).array(m.entries.size());
            for (const ClaimEntry& entry : m.entries) {
              packer.array(3).bytes(entry.key).flag(entry.own).u64(entry.rsn);
            }
          },
          [&](const Revoke& m) { packer.array(1).bytes(m.key); },
          [&](const Revoked& m) { packer.array(1).bytes(m.key); },
          [&](const Tomb& m) { pack_vacuum(packer, m.entries); },
          [&](const Purge& m) { pack_vacuum(packer, m.entries); },
          [&](const VacuumAck& m) {
            packer.array(2).u64(m.phase).array(m.entries.size());
            for (const VacuumAckEntry& entry : m.entries) {
              packer.array(3).bytes(entry.key).u64(entry.rsn).flag(entry.ok);
            }
          },
          [&](const Gone& m) { packer.array(2).bytes(m.key).u64(m.rsn); },
          [&](const Leaving& m) {
            packer.array(2).u64(m.round).array(m.entries.size());
            for (const LeavingEntry& entry : m.entries) {
              packer.array(3).bytes(entry.key).u64(entry.rsn).pnn(entry.taker);
            }
          },
          [&](const Keeping& m) {
            packer.array(3).u64(m.round).flag(m.leaving).array(m.kept.size());
            for (const bool kept : m.kept) packer.flag(kept);
          },
      },
      body);
}

// Reads the fields of one body; opens its array and insists on the exact count.
class BodyReader {
 public:
  explicit BodyReader(Unpacker& in) : in_(in) {}

  void fields(std::size_t count) {
    if (in_.array(count) != count) in_.fail();
  }
  Bytes key() {
    const BytesView key = in_.bytes();
    if (key.empty() || key.size() > kMaxKeySize) in_.fail();
    return Bytes(key);
  }
  Bytes value() {
    const BytesView value = in_.bytes();
    if (value.size() > kMaxValueSize) in_.fail();
    return Bytes(value);
  }
  Kind kind() {
    const std::uint64_t kind = in_.u64();
    if (kind > 1) in_.fail();
    return kind == 0 ? Kind::Write : Kind::Read;
  }
  template <class Entry, class Read>
  std::vector<Entry> batch(Read read) {
    std::vector<Entry> entries;
    const std::size_t count = in_.array(kMaxRecordBatch);
    for (std::size_t i = 0; i < count && in_.ok(); ++i) entries.push_back(read());
    return entries;
  }
  std::vector<VacuumEntry> vacuum() {
    fields(1);
    return batch<VacuumEntry>([this] {
      fields(2);
      Bytes k = key();
      return VacuumEntry{std::move(k), in_.u64()};
    });
  }

  Body read(std::uint64_t tag) {
    switch (tag) {
      case 0: {
        Request m;
        fields(3);
        m.key = key();
        m.q = in_.u64();
        m.kind = kind();
        return m;
      }
      case 1: {
        Forward m;
        fields(7);
        m.key = key();
        m.to = in_.pnn();
        m.q = in_.u64();
        m.kind = kind();
        m.after = in_.u64();
        m.adopt = unpack_optional(in_);
        return m;
      }
      case 2: {
        Grant m;
        fields(5);
        m.key = key();
        m.q = in_.u64();
        m.rsn = in_.u64();
        m.migrated_with_data = in_.flag();
        m.value = value();
        return m;
      }
      case 3: {
        Copy m;
        fields(5);
        m.key = key();
        m.q = in_.u64();
        m.rsn = in_.u64();
        m.delegated = in_.flag();
        m.value = value();
        return m;
      }
      case 4: {
        Miss m;
        fields(4);
        m.key = key();
        m.to = in_.pnn();
        m.q = in_.u64();
        m.kind = kind();
        return m;
      }
      case 5: {
        Query m;
        fields(2);
        m.key = key();
        m.round = in_.u64();
        return m;
      }
      case 6: {
        Answer m;
        fields(5);
        m.key = key();
        m.round = in_.u64();
        m.own = in_.flag();
        m.rsn = unpack_optional(in_);
        return m;
      }
      case 7: {
        Claim m;
        fields(3);
        m.last = in_.flag();
        m.every_slot = in_.flag();
        m.entries = batch<ClaimEntry>([this] {
          ClaimEntry entry;
          fields(3);
          entry.key = key();
          entry.own = in_.flag();
          entry.rsn = in_.u64();
          return entry;
        });
        return m;
      }
      case 8:
        fields(1);
        return Revoke{key()};
      case 9:
        fields(1);
        return Revoked{key()};
      case 10:
        return Tomb{vacuum()};
      case 11:
        return Purge{vacuum()};
      case 12: {
        VacuumAck m;
        fields(2);
        const std::uint64_t phase = in_.u64();
        if (phase != 1 && phase != 2) in_.fail();
        m.phase = phase == 1 ? 1 : 2;
        m.entries = batch<VacuumAckEntry>([this] {
          VacuumAckEntry entry;
          fields(3);
          entry.key = key();
          entry.rsn = in_.u64();
          entry.ok = in_.flag();
          return entry;
        });
        return m;
      }
      case 13: {
        Gone m;
        fields(2);
        m.key = key();
        m.rsn = in_.u64();
        return m;
      }
      case 14: {
        Leaving m;
        fields(2);
        m.round = in_.u64();
        m.entries = batch<LeavingEntry>([this] {
          LeavingEntry entry;
          fields(3);
          entry.key = key();
          entry.rsn = in_.u64();
          entry.taker = in_.pnn();
          return entry;
        });
        return m;
      }
      case 15: {
        Keeping m;
        fields(3);
        m.round = in_.u64();
        m.leaving = in_.flag();
        m.kept = batch<bool>([this] { return in_.flag(); });
        return m;
      }
      default:
        in_.fail();
        return Gone{};
    }
  }

 private:
  Unpacker& in_;
};

}  // namespace

Bytes encode_record_message(const RecordMessage& message) { return encode_enveloped(message, pack_body); }

Result<RecordMessage> decode_record_message(BytesView bytes) {
  return decode_enveloped<RecordMessage>(
      bytes, [](Unpacker& in, std::uint64_t tag) { return BodyReader(in).read(tag); }, "a record message");
}

std::string_view name_of(const record::Body& body) {
  static constexpr std::string_view kNames[] = {"REQ",   "FWD",    "GRANT",   "COPY", "MISS",  "QUERY",  "ANSWER",
                                                "CLAIM", "REVOKE", "REVOKED", "TOMB", "PURGE", "VACACK", "GONE",
                                                "LEAVING", "KEEPING"};
  return kNames[body.index()];
}

}  // namespace tdbmesh
