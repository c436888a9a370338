#include <algorithm>
#include <fmt/format.h>

#include "db/base/match.h"
#include "recovery/messages.h"
#include "recovery/pack_view.h"

namespace tdbmesh::recovery {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kMaxAge = std::uint64_t{1} << 56;
constexpr std::size_t kMaxAddresses = 1024;
constexpr std::size_t kMaxAddressBytes = 64;

void pack_optional_view(Packer& out, const std::optional<View>& view) {
  out.array(view ? 1 : 0);
  if (view) pack_view(out, *view);
}
std::optional<View> unpack_optional_view(Unpacker& in) {
  if (in.array(1) == 0) return std::nullopt;
  return unpack_view(in);
}

void pack_texts(Packer& out, const std::vector<std::string>& texts) {
  out.array(texts.size());
  for (const std::string& text : texts) out.bytes(text);
}
std::vector<std::string> unpack_texts(Unpacker& in, std::size_t most, std::size_t most_bytes) {
  std::vector<std::string> texts;
  const std::size_t count = in.array(most);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    const BytesView text = in.bytes();
    if (text.size() > most_bytes) in.fail();
    texts.emplace_back(text);
  }
  return texts;
}
std::string unpack_text(Unpacker& in, std::size_t most) {
  const BytesView text = in.bytes();
  if (text.size() > most) in.fail();
  return in.ok() ? std::string(text) : std::string();
}

void pack_version(Packer& out, const CopyVersion& v) { out.generation(v.generation).u64(v.seqnum); }
CopyVersion unpack_version(Unpacker& in) {
  CopyVersion v;
  v.generation = in.generation();
  v.seqnum = in.u64();
  return v;
}
DatabaseKind unpack_kind(Unpacker& in) {
  const std::uint64_t kind = in.u64();
  if (kind > static_cast<std::uint64_t>(DatabaseKind::Persistent)) in.fail();
  return in.ok() ? static_cast<DatabaseKind>(kind) : DatabaseKind::Volatile;
}

void pack_copies(Packer& out, const std::vector<CopyReport>& copies) {
  out.array(copies.size());
  for (const CopyReport& c : copies) {
    out.array(6).u64(number(c.db)).bytes(c.name).u64(static_cast<std::uint64_t>(c.kind));
    pack_version(out, c.version);
  }
}
std::vector<CopyReport> unpack_copies(Unpacker& in) {
  std::vector<CopyReport> copies;
  const std::size_t count = in.array(kMaxDatabases);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    expect_array(in, 6);
    CopyReport c;
    c.db = DatabaseId{in.u32()};
    c.name = unpack_text(in, kMaxNameBytes);
    c.kind = unpack_kind(in);
    c.version = unpack_version(in);
    copies.push_back(std::move(c));
  }
  return copies;
}

// One pair of functions per message; the array of each message starts with version and kind.
struct Body {
  Packer& out;
  void operator()(const PreVote& m) { out.u64(m.term).generation(m.accepted).flag(m.fresh); }
  void operator()(const PreVoted& m) {
    out.u64(m.asked).u64(m.term).flag(m.granted);
    pack_optional_view(out, m.accepted);
  }
  void operator()(const Vote& m) { out.u64(m.term).generation(m.accepted).flag(m.fresh).flag(m.transfer); }
  void operator()(const Voted& m) {
    out.u64(m.asked).u64(m.term).flag(m.granted);
    pack_optional_view(out, m.accepted);
  }
  void operator()(const AskView&) {}
  void operator()(const AcceptedView& m) { pack_view(out, m.view); }
  void operator()(const Prepare& m) {
    out.u64(m.term);
    pack_view(out, m.view);
  }
  void operator()(const Prepared& m) {
    out.generation(m.generation).array(m.ages.size());
    for (const SupportAge& a : m.ages) {
      out.array(2).pnn(a.pnn).u64(static_cast<std::uint64_t>(std::max<std::int64_t>(a.age.count(), 0)));
    }
    out.generation(m.installed).generation(m.persisted_installed).flag(m.fresh);
    pack_copies(out, m.copies);
    out.array(m.incomplete_slots.size());
    for (const std::uint32_t slot : m.incomplete_slots) out.u64(slot);
    out.u64(m.flags);
    pack_texts(out, m.addresses);
  }
  void operator()(const PrepareRefused& m) {
    out.generation(m.generation).u64(static_cast<std::uint64_t>(m.why)).u64(m.term).generation(m.accepted);
  }
  void operator()(const Settle& m) {
    out.generation(m.generation).u64(number(m.db)).bytes(m.name).u64(static_cast<std::uint64_t>(m.kind));
    out.pnn(m.source);
    pack_version(out, m.version);
  }
  void operator()(const Settled& m) { out.generation(m.generation).u64(number(m.db)).flag(m.ok).bytes(m.reason); }
  void operator()(const Install& m) { out.u64(m.term).generation(m.generation); }
  void operator()(const Installed& m) {
    out.generation(m.generation);
    pack_texts(out, m.addresses);
  }
  void operator()(const Join& m) { out.u64(m.config_epoch).u64(m.file_digest).u64(m.version); }
  void operator()(const JoinRefused& m) { out.bytes(m.reason); }
  void operator()(const Transfer& m) { out.u64(m.term); }
  void operator()(const Bump& m) { out.generation(m.generation).bytes(m.reason).pnn(m.failed); }
  void operator()(const Retired& m) { out.generation(m.installed).flag(m.leaving); }
  void operator()(const Fenced& m) { out.pnn(m.pnn).u64(m.incarnation); }
};

PreVote read(Unpacker& in, const PreVote&) {
  PreVote m;
  m.term = in.u64();
  m.accepted = in.generation();
  m.fresh = in.flag();
  return m;
}
PreVoted read(Unpacker& in, const PreVoted&) {
  PreVoted m;
  m.asked = in.u64();
  m.term = in.u64();
  m.granted = in.flag();
  m.accepted = unpack_optional_view(in);
  return m;
}
Vote read(Unpacker& in, const Vote&) {
  Vote m;
  m.term = in.u64();
  m.accepted = in.generation();
  m.fresh = in.flag();
  m.transfer = in.flag();
  return m;
}
Voted read(Unpacker& in, const Voted&) {
  Voted m;
  m.asked = in.u64();
  m.term = in.u64();
  m.granted = in.flag();
  m.accepted = unpack_optional_view(in);
  return m;
}
AskView read(Unpacker&, const AskView&) { return {}; }
AcceptedView read(Unpacker& in, const AcceptedView&) { return {unpack_view(in)}; }
Prepare read(Unpacker& in, const Prepare&) {
  Prepare m;
  m.term = in.u64();
  m.view = unpack_view(in);
  return m;
}
Prepared read(Unpacker& in, const Prepared&) {
  Prepared m;
  m.generation = in.generation();
  const std::size_t ages = in.array(kMaxNodes);
  for (std::size_t i = 0; i < ages && in.ok(); ++i) {
    expect_array(in, 2);
    SupportAge a;
    a.pnn = in.pnn();
    const std::uint64_t age = in.u64();
    if (age > kMaxAge) in.fail();
    a.age = Duration(static_cast<std::int64_t>(in.ok() ? age : 0));
    m.ages.push_back(a);
  }
  m.installed = in.generation();
  m.persisted_installed = in.generation();
  m.fresh = in.flag();
  m.copies = unpack_copies(in);
  const std::size_t slots = in.array(kMaxNodes);
  for (std::size_t i = 0; i < slots && in.ok(); ++i) m.incomplete_slots.push_back(in.u32());
  m.flags = in.u32();
  m.addresses = unpack_texts(in, kMaxAddresses, kMaxAddressBytes);
  return m;
}
PrepareRefused read(Unpacker& in, const PrepareRefused&) {
  PrepareRefused m;
  m.generation = in.generation();
  const std::uint64_t why = in.u64();
  if (why > static_cast<std::uint64_t>(PrepareRefusal::NeedsJoin)) in.fail();
  if (in.ok()) m.why = static_cast<PrepareRefusal>(why);
  m.term = in.u64();
  m.accepted = in.generation();
  return m;
}
Settle read(Unpacker& in, const Settle&) {
  Settle m;
  m.generation = in.generation();
  m.db = DatabaseId{in.u32()};
  m.name = unpack_text(in, kMaxNameBytes);
  m.kind = unpack_kind(in);
  m.source = in.pnn();
  m.version = unpack_version(in);
  return m;
}
Settled read(Unpacker& in, const Settled&) {
  Settled m;
  m.generation = in.generation();
  m.db = DatabaseId{in.u32()};
  m.ok = in.flag();
  m.reason = unpack_text(in, kMaxText);
  return m;
}
Install read(Unpacker& in, const Install&) {
  Install m;
  m.term = in.u64();
  m.generation = in.generation();
  return m;
}
Installed read(Unpacker& in, const Installed&) {
  Installed m;
  m.generation = in.generation();
  m.addresses = unpack_texts(in, kMaxAddresses, kMaxAddressBytes);
  return m;
}
Join read(Unpacker& in, const Join&) {
  Join m;
  m.config_epoch = in.u64();
  m.file_digest = in.u64();
  m.version = in.u32();
  return m;
}
JoinRefused read(Unpacker& in, const JoinRefused&) { return {unpack_text(in, kMaxText)}; }
Transfer read(Unpacker& in, const Transfer&) { return {in.u64()}; }
Bump read(Unpacker& in, const Bump&) {
  Bump m;
  m.generation = in.generation();
  m.reason = unpack_text(in, kMaxText);
  m.failed = in.pnn();
  return m;
}
Retired read(Unpacker& in, const Retired&) {
  Retired m;
  m.installed = in.generation();
  m.leaving = in.flag();
  return m;
}
Fenced read(Unpacker& in, const Fenced&) {
  Fenced m;
  m.pnn = in.pnn();
  m.incarnation = in.u64();
  return m;
}

// Kinds on the wire are 1 + index in Message; the counts say how many values follow version and kind.
template <std::size_t I = 0>
Message read_kind(Unpacker& in, std::uint64_t kind) {
  if constexpr (I == std::variant_size_v<Message>) {
    in.fail();
    return AskView{};
  } else {
    if (kind == I + 1) return read(in, std::variant_alternative_t<I, Message>{});
    return read_kind<I + 1>(in, kind);
  }
}

}  // namespace

void expect_array(Unpacker& in, std::size_t count) {
  if (in.array(count) != count) in.fail();
}

void pack_pnns(Packer& out, const std::vector<Pnn>& pnns) {
  out.array(pnns.size());
  for (const Pnn p : pnns) out.pnn(p);
}

std::vector<Pnn> unpack_pnns(Unpacker& in) {
  std::vector<Pnn> pnns;
  const std::size_t count = in.array(kMaxNodes);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    const Pnn pnn = in.pnn();
    if (!pnns.empty() && pnn <= pnns.back()) in.fail();
    pnns.push_back(pnn);
  }
  return pnns;
}

void pack_view(Packer& out, const View& view) {
  out.array(13).generation(view.generation).pnn(view.leader).u64(view.config.epoch);
  out.u64(static_cast<std::uint64_t>(view.config.quorum)).u64(static_cast<std::uint64_t>(view.config.old_quorum));
  for (const auto* list : {&view.config.nodes, &view.config.voters, &view.config.old_nodes, &view.config.old_voters}) {
    pack_pnns(out, *list);
  }
  out.array(view.members.size());
  for (const Member& m : view.members) out.array(4).pnn(m.pnn).u64(m.incarnation).generation(m.join);
  out.array(view.vnnmap.size());
  for (const Slot& s : view.vnnmap) out.array(3).pnn(s.lmaster).generation(s.since);
  out.array(view.chain.size());
  for (const ChainLink& link : view.chain) {
    out.array(3).generation(link.generation);
    pack_pnns(out, link.members);
  }
}

View unpack_view(Unpacker& in) {
  View view;
  expect_array(in, 13);
  view.generation = in.generation();
  view.leader = in.pnn();
  view.config.epoch = in.u64();
  for (QuorumMode* mode : {&view.config.quorum, &view.config.old_quorum}) {
    const std::uint64_t said = in.u64();
    if (said > static_cast<std::uint64_t>(QuorumMode::None)) in.fail();
    *mode = in.ok() ? static_cast<QuorumMode>(said) : QuorumMode::Majority;
  }
  for (auto* list : {&view.config.nodes, &view.config.voters, &view.config.old_nodes, &view.config.old_voters}) {
    *list = unpack_pnns(in);
  }
  const std::size_t members = in.array(kMaxNodes);
  for (std::size_t i = 0; i < members && in.ok(); ++i) {
    expect_array(in, 4);
    Member m;
    m.pnn = in.pnn();
    m.incarnation = in.u64();
    m.join = in.generation();
    if (!view.members.empty() && m.pnn <= view.members.back().pnn) in.fail();
    view.members.push_back(m);
  }
  const std::size_t slots = in.array(kMaxNodes);
  for (std::size_t i = 0; i < slots && in.ok(); ++i) {
    expect_array(in, 3);
    Slot s;
    s.lmaster = in.pnn();
    s.since = in.generation();
    view.vnnmap.push_back(s);
  }
  // Whoever looks a key up divides by the number of slots.
  if (!view.members.empty() && view.vnnmap.empty()) in.fail();
  const std::size_t links = in.array(kMaxChain);
  for (std::size_t i = 0; i < links && in.ok(); ++i) {
    expect_array(in, 3);
    ChainLink link;
    link.generation = in.generation();
    link.members = unpack_pnns(in);
    view.chain.push_back(std::move(link));
  }
  return view;
}

Bytes encode(const Message& message) {
  Packer body;
  std::visit(Body{body}, message);
  Packer out;
  // The fields follow unframed: finished() tells whether exactly the right ones were there.
  out.u64(kVersion).u64(message.index() + 1);
  return std::move(out).take() + std::move(body).take();
}

Result<Message> decode_message(BytesView bytes) {
  Unpacker in(bytes);
  if (in.u64() != kVersion) in.fail();
  const std::uint64_t kind = in.u64();
  Message message = read_kind(in, kind);
  // AskView has no fields, so an empty rest is right for it.
  if (!in.finished()) return failure(Fault::Malformed, "a control message that does not decode");
  return message;
}

std::string describe(const Message& message) {
  const auto g = [](Generation x) { return to_string(x); };
  return std::visit(
      Match{
          [&](const PreVote& m) { return fmt::format("PREVOTE term {} accepted {}", m.term, g(m.accepted)); },
          [&](const PreVoted& m) {
            return fmt::format("PREVOTED term {} {}{}", m.asked, m.granted ? "yes" : "no",
                               m.accepted ? " view " + g(m.accepted->generation) : "");
          },
          [&](const Vote& m) { return fmt::format("VOTE term {} accepted {}", m.term, g(m.accepted)); },
          [&](const Voted& m) { return fmt::format("VOTED term {} {}", m.asked, m.granted ? "yes" : "no"); },
          [&](const AskView&) { return std::string("ASKVIEW"); },
          [&](const AcceptedView& m) { return fmt::format("VIEW {}", g(m.view.generation)); },
          [&](const Prepare& m) {
            std::string members;
            for (const Member& x : m.view.members) members += " " + to_string(x.pnn);
            return fmt::format("PREPARE {}:{}", g(m.view.generation), members);
          },
          [&](const Prepared& m) { return fmt::format("PREPARED {}", g(m.generation)); },
          [&](const PrepareRefused& m) {
            return fmt::format("PREPARE_REFUSED {} why {}", g(m.generation), static_cast<int>(m.why));
          },
          [&](const Settle& m) {
            return fmt::format("SETTLE {} {} from {}", g(m.generation), m.name, to_string(m.source));
          },
          [&](const Settled& m) {
            return fmt::format("SETTLED {} {} {}", g(m.generation), to_string(m.db), m.ok ? "ok" : m.reason);
          },
          [&](const Install& m) { return fmt::format("INSTALL {}", g(m.generation)); },
          [&](const Installed& m) { return fmt::format("INSTALLED {}", g(m.generation)); },
          [&](const Join&) { return std::string("JOIN"); },
          [&](const JoinRefused& m) { return "JOIN_REFUSED " + m.reason; },
          [&](const Transfer& m) { return fmt::format("TRANSFER term {}", m.term); },
          [&](const Bump& m) { return "BUMP " + m.reason; },
          [&](const Retired& m) { return std::string(m.leaving ? "RETIRED leaving" : "RETIRED"); },
          [&](const Fenced& m) { return "FENCED " + to_string(m.pnn); },
      },
      message);
}

}  // namespace tdbmesh::recovery
