#include <algorithm>

#include "db/base/pack.h"
#include "ipfailover/supervisor_messages.h"

namespace tdbmesh::ipfailover::supervisor {
namespace {

constexpr std::size_t kMaxPeers = 1024;
constexpr std::size_t kMaxAnnouncements = 64;
constexpr std::uint64_t kMaxMicros = std::uint64_t{1} << 56;

enum class Kind : std::uint64_t {
  Setup = 1, Configure, Take, Release, DropAll, Announce, Ping,
  Taken = 32, Released, Dropped, Lapsed, Lost, Pong, Notice,
};

void put(Packer& out, const Address& a) {
  out.u64(static_cast<std::uint64_t>(a.family)).bytes(BytesView(reinterpret_cast<const char*>(a.bytes.data()), 16));
}
Address get_address(Unpacker& in) {
  Address a;
  const std::uint64_t family = in.u64();
  const BytesView bytes = in.bytes();
  if (family > 2 || bytes.size() != a.bytes.size()) {
    in.fail();
    return a;
  }
  a.family = static_cast<Address::Family>(family);
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(a.bytes.data()));
  return a;
}
// Beyond kMaxMicros (kNever) is as good as that.
std::uint64_t micros(Duration d) {
  return d.count() < 0 ? 0 : std::min(static_cast<std::uint64_t>(d.count()), kMaxMicros);
}
Duration get_micros(Unpacker& in) {
  const std::uint64_t value = in.u64();
  if (value > kMaxMicros) in.fail();
  return value > kMaxMicros ? Duration{0} : Duration(static_cast<std::int64_t>(value));
}
std::uint8_t get_prefix(Unpacker& in) {
  const std::uint64_t value = in.u64();
  if (value > 128) in.fail();
  return static_cast<std::uint8_t>(value);
}
std::string get_text(Unpacker& in) { return std::string(in.bytes()); }
void put(Packer& out, const std::vector<Address>& addresses) {
  out.array(addresses.size());
  for (const Address& a : addresses) put(out, a);
}
std::vector<Address> get_addresses(Unpacker& in) {
  std::vector<Address> all;
  const std::size_t count = in.array(2 * kMaxPublicAddresses);
  for (std::size_t i = 0; i < count && in.ok(); ++i) all.push_back(get_address(in));
  return all;
}

struct PackCommand {
  Packer& out;
  Packer& head(Kind kind) const { return out.u64(static_cast<std::uint64_t>(kind)); }
  void operator()(const Setup& m) const {
    head(Kind::Setup).pnn(m.self).u64(m.incarnation).bytes(m.address).u64(m.port);
    out.array(m.peers.size());
    for (const PeerAddress& peer : m.peers) out.pnn(peer.pnn).bytes(peer.address);
    out.flag(m.key.has_value()).bytes(m.key ? m.key->public_key : "").bytes(m.key ? m.key->secret_key : "");
    out.bytes(m.gate_path).u64(static_cast<std::uint32_t>(m.daemon_pid)).u64(m.lifetime).u64(micros(m.drop_allowance));
    out.array(m.announce_after.size());
    for (const Duration d : m.announce_after) out.u64(micros(d));
  }
  void operator()(const Configure& m) const {
    head(Kind::Configure).array(m.addresses.size());
    for (const PublicAddress& a : m.addresses) {
      put(out, a.address);
      out.u64(a.prefix).array(a.interfaces.size());
      for (const std::string& name : a.interfaces) out.bytes(name);
    }
  }
  void operator()(const Take& m) const {
    head(Kind::Take).u64(m.ticket);
    put(out, m.where.address);
    out.u64(m.where.prefix).bytes(m.where.interface).u64(micros(m.lease_until.time_since_epoch()));
  }
  void operator()(const Release& m) const {
    head(Kind::Release).u64(m.ticket);
    put(out, m.address);
  }
  void operator()(const DropAll& m) const { head(Kind::DropAll).u64(m.ticket); }
  void operator()(const Announce& m) const {
    head(Kind::Announce);
    put(out, m.address);
    out.bytes(m.interface);
  }
  void operator()(const Ping& m) const { head(Kind::Ping).u64(m.number); }
};

struct PackReport {
  Packer& out;
  Packer& head(Kind kind) const { return out.u64(static_cast<std::uint64_t>(kind)); }
  void operator()(const Taken& m) const {
    head(Kind::Taken).u64(m.ticket);
    put(out, m.address);
    out.bytes(m.error);
  }
  void operator()(const Released& m) const {
    head(Kind::Released).u64(m.ticket);
    put(out, m.address);
    out.bytes(m.error);
  }
  void operator()(const Dropped& m) const {
    head(Kind::Dropped).u64(m.ticket);
    put(out, m.found);
    out.bytes(m.error);
  }
  void operator()(const Lapsed& m) const {
    head(Kind::Lapsed);
    put(out, m.addresses);
    out.u64(micros(m.late));
  }
  void operator()(const Lost& m) const {
    head(Kind::Lost);
    put(out, m.address);
    out.bytes(m.why);
  }
  void operator()(const Pong& m) const { head(Kind::Pong).u64(m.number); }
  void operator()(const Notice& m) const { head(Kind::Notice).flag(m.warning).bytes(m.text); }
};

Setup get_setup(Unpacker& in) {
  Setup m;
  m.self = in.pnn();
  m.incarnation = in.u64();
  m.address = get_text(in);
  const std::uint64_t port = in.u64();
  if (port > 65535) in.fail();
  m.port = static_cast<std::uint16_t>(port);
  const std::size_t peers = in.array(kMaxPeers);
  for (std::size_t i = 0; i < peers && in.ok(); ++i) {
    PeerAddress peer;
    peer.pnn = in.pnn();
    peer.address = get_text(in);
    m.peers.push_back(std::move(peer));
  }
  const bool keyed = in.flag();
  ClusterKey key;
  key.public_key = get_text(in);
  key.secret_key = get_text(in);
  if (keyed) m.key = std::move(key);
  m.gate_path = get_text(in);
  m.daemon_pid = static_cast<std::int32_t>(in.u32());
  m.lifetime = in.u32();
  m.drop_allowance = get_micros(in);
  const std::size_t announcements = in.array(kMaxAnnouncements);
  for (std::size_t i = 0; i < announcements && in.ok(); ++i) m.announce_after.push_back(get_micros(in));
  return m;
}

Configure get_configure(Unpacker& in) {
  Configure m;
  const std::size_t count = in.array(kMaxPublicAddresses);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    PublicAddress a;
    a.address = get_address(in);
    a.prefix = get_prefix(in);
    const std::size_t interfaces = in.array(kMaxInterfacesOfAddress);
    for (std::size_t j = 0; j < interfaces && in.ok(); ++j) a.interfaces.push_back(get_text(in));
    m.addresses.push_back(std::move(a));
  }
  return m;
}

}  // namespace

Bytes encode(const Command& command) {
  Packer out;
  std::visit(PackCommand{out}, command);
  return std::move(out).take();
}

Bytes encode(const Report& report) {
  Packer out;
  std::visit(PackReport{out}, report);
  return std::move(out).take();
}

Result<Command> decode_command(BytesView bytes) {
  Unpacker in(bytes);
  Command command;
  switch (static_cast<Kind>(in.u64())) {
    case Kind::Setup: command = get_setup(in); break;
    case Kind::Configure: command = get_configure(in); break;
    case Kind::Take: {
      Take m;
      m.ticket = in.u64();
      m.where.address = get_address(in);
      m.where.prefix = get_prefix(in);
      m.where.interface = get_text(in);
      m.lease_until = Instant(get_micros(in));
      command = std::move(m);
      break;
    }
    case Kind::Release: {
      Release m;
      m.ticket = in.u64();
      m.address = get_address(in);
      command = m;
      break;
    }
    case Kind::DropAll: command = DropAll{in.u64()}; break;
    case Kind::Announce: {
      Announce m;
      m.address = get_address(in);
      m.interface = get_text(in);
      command = std::move(m);
      break;
    }
    case Kind::Ping: command = Ping{in.u64()}; break;
    default: in.fail();
  }
  if (!in.finished()) return failure(Fault::Malformed, "a command to the supervisor that does not decode");
  return command;
}

Result<Report> decode_report(BytesView bytes) {
  Unpacker in(bytes);
  Report report;
  switch (static_cast<Kind>(in.u64())) {
    case Kind::Taken: {
      Taken m;
      m.ticket = in.u64();
      m.address = get_address(in);
      m.error = get_text(in);
      report = std::move(m);
      break;
    }
    case Kind::Released: {
      Released m;
      m.ticket = in.u64();
      m.address = get_address(in);
      m.error = get_text(in);
      report = std::move(m);
      break;
    }
    case Kind::Dropped: {
      Dropped m;
      m.ticket = in.u64();
      m.found = get_addresses(in);
      m.error = get_text(in);
      report = std::move(m);
      break;
    }
    case Kind::Lapsed: {
      Lapsed m;
      m.addresses = get_addresses(in);
      m.late = get_micros(in);
      report = std::move(m);
      break;
    }
    case Kind::Lost: {
      Lost m;
      m.address = get_address(in);
      m.why = get_text(in);
      report = std::move(m);
      break;
    }
    case Kind::Pong: report = Pong{in.u64()}; break;
    case Kind::Notice: {
      Notice m;
      m.warning = in.flag();
      m.text = get_text(in);
      report = std::move(m);
      break;
    }
    default: in.fail();
  }
  if (!in.finished()) return failure(Fault::Malformed, "a report of the supervisor that does not decode");
  return report;
}

}  // namespace tdbmesh::ipfailover::supervisor
