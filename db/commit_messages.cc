#include "db/commit_messages.h"

#include "db/base/match.h"
#include "db/message_envelope.h"

namespace tdbmesh {

namespace {

using namespace commit;

void pack_version(Packer& packer, const CopyVersion& version) {
  packer.generation(version.generation).u64(version.seqnum);
}

void pack_entries(Packer& packer, const std::vector<RecordEntry>& entries) {
  packer.array(entries.size());
  for (const RecordEntry& entry : entries) {
    packer.array(6).u64(entry.reqid).bytes(entry.key).u64(entry.header.rsn).pnn(entry.header.dmaster);
    packer.u64(entry.header.flags).bytes(entry.value);
  }
}

void pack_body(Packer& packer, const Body& body) {
  std::visit(Match{
                 [&](const Request& m) {
                   packer.array(4).u64(m.id).flag(m.replace_all).u64(m.seqnum);
                   pack_entries(packer, m.entries);
                 },
                 [&](const Write& m) {
                   packer.array(3).u64(m.seqnum).flag(m.replace_all);
                   pack_entries(packer, m.entries);
                 },
                 [&](const Durable& m) { packer.array(1).u64(m.seqnum); },
                 [&](const Done& m) {
                   packer.array(3).u64(m.id).u64(static_cast<std::uint32_t>(m.status)).bytes(m.text);
                 },
                 [&](const Pull& m) {
                   packer.array(5).u64(m.id);
                   pack_version(packer, m.have);
                   packer.u64(m.position);
                 },
                 [&](const PullData& m) {
                   packer.array(12).u64(m.id);
                   pack_version(packer, m.version);
                   pack_version(packer, m.visible);
                   packer.flag(m.difference).flag(m.done).u64(m.position).u64(m.next);
                   pack_entries(packer, m.entries);
                 },
                 [&](const PullRefused& m) { packer.array(2).u64(m.id).bytes(m.reason); },
                 [&](const AskCopies&) { packer.array(0); },
                 [&](const Copies& m) {
                   packer.array(3).generation(m.installed).array(m.copies.size());
                   for (const Copies::Copy& copy : m.copies) {
                     packer.array(6).u64(number(copy.database)).bytes(copy.name).u64(static_cast<std::uint8_t>(copy.kind));
                     pack_version(packer, copy.version);
                   }
                 },
             },
             body);
}

class BodyReader {
 public:
  explicit BodyReader(Unpacker& in) : in_(in) {}

  void fields(std::size_t count) {
    if (in_.array(count) != count) in_.fail();
  }
  CopyVersion version() {
    const Generation generation = in_.generation();
    return {generation, in_.u64()};
  }
  std::string text() {
    const BytesView text = in_.bytes();
    if (text.size() > 4096) in_.fail();
    return std::string(text);
  }
  std::vector<RecordEntry> entries() {
    std::vector<RecordEntry> read;
    const std::size_t count = in_.array(kMaxCommitEntries);
    for (std::size_t i = 0; i < count && in_.ok(); ++i) {
      RecordEntry entry;
      fields(6);
      entry.reqid = in_.u32();
      entry.key = Bytes(in_.bytes());
      entry.header.rsn = in_.u64();
      entry.header.dmaster = in_.pnn();
      entry.header.flags = in_.u32();
      entry.value = Bytes(in_.bytes());
      if (entry.key.empty() || entry.key.size() > kMaxKeySize || entry.value.size() > kMaxValueSize) in_.fail();
      read.push_back(std::move(entry));
    }
    return read;
  }

  Body read(std::uint64_t tag) {
    switch (tag) {
      case 0: {
        Request m;
        fields(4);
        m.id = in_.u64();
        m.replace_all = in_.flag();
        m.seqnum = in_.u64();
        m.entries = entries();
        return m;
      }
      case 1: {
        Write m;
        fields(3);
        m.seqnum = in_.u64();
        m.replace_all = in_.flag();
        m.entries = entries();
        return m;
      }
      case 2:
        fields(1);
        return Durable{in_.u64()};
      case 3: {
        Done m;
        fields(3);
        m.id = in_.u64();
        m.status = static_cast<std::int32_t>(in_.u32());
        m.text = text();
        return m;
      }
      case 4: {
        Pull m;
        fields(5);
        m.id = in_.u64();
        m.have = version();
        m.position = in_.u64();
        return m;
      }
      case 5: {
        PullData m;
        fields(12);
        m.id = in_.u64();
        m.version = version();
        m.visible = version();
        m.difference = in_.flag();
        m.done = in_.flag();
        m.position = in_.u64();
        m.next = in_.u64();
        m.entries = entries();
        return m;
      }
      case 6: {
        PullRefused m;
        fields(2);
        m.id = in_.u64();
        m.reason = text();
        return m;
      }
      case 7:
        fields(0);
        return AskCopies{};
      case 8: {
        Copies m;
        fields(3);
        m.installed = in_.generation();
        const std::size_t count = in_.array(kMaxCopies);
        for (std::size_t i = 0; i < count && in_.ok(); ++i) {
          Copies::Copy copy;
          fields(6);
          copy.database = DatabaseId{in_.u32()};
          copy.name = text();
          const std::uint64_t kind = in_.u64();
          if (kind != static_cast<std::uint8_t>(DatabaseKind::Persistent) &&
              kind != static_cast<std::uint8_t>(DatabaseKind::Replicated)) {
            in_.fail();
          }
          copy.kind = static_cast<DatabaseKind>(kind);
          copy.version = version();
          if (copy.name.empty() || copy.name.size() > 255) in_.fail();
          m.copies.push_back(std::move(copy));
        }
        return m;
      }
      default:
        in_.fail();
        return Durable{};
    }
  }

 private:
  Unpacker& in_;
};

}  // namespace

Bytes encode_commit_message(const CommitMessage& message) { return encode_enveloped(message, pack_body); }

Result<CommitMessage> decode_commit_message(BytesView bytes) {
  return decode_enveloped<CommitMessage>(
      bytes, [](Unpacker& in, std::uint64_t tag) { return BodyReader(in).read(tag); }, "a commit message");
}

std::string_view name_of(const commit::Body& body) {
  static constexpr std::string_view kNames[] = {"COMMIT_REQUEST", "COMMIT_WRITE", "DURABLE",     "COMMIT_DONE",
                                                "PULL",           "PULL_DATA",    "PULL_REFUSED", "ASK_COPIES",
                                                "COPIES"};
  return kNames[body.index()];
}

}  // namespace tdbmesh
