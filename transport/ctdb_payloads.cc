#include "transport/ctdb_payloads.h"

#include <algorithm>
#include <limits>

#include "db/base/check.h"

namespace tdbmesh::ctdb {
namespace {

constexpr std::size_t kIfaceNameSize = 18;  // with its NUL
constexpr std::size_t kIfaceSize = 24;
constexpr std::size_t kPublicIpSize = 32;
constexpr std::size_t kConnectionSize = 2 * kSockAddrSize;

std::uint32_t count_of(std::size_t count) {
  TDBMESH_CHECK(count < std::numeric_limits<std::uint32_t>::max() / 4);
  return static_cast<std::uint32_t>(count);
}

// The result of a decoder that read all its fields: everything there and nothing left over.
template <class T>
Result<T> finished(const ByteReader& in, T value, const char* what) {
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, std::string("bad ") + what);
  return value;
}

// A u32 count and that many elements of `element_size` bytes. A count that the rest cannot hold fails the
// reader before a byte is allocated.
template <class T, class Get>
std::vector<T> get_list(ByteReader& in, std::size_t element_size, Get get) {
  const std::size_t count = in.get<std::uint32_t>();
  std::vector<T> list;
  if (count > in.remaining() / element_size) {
    in.fail();
    return list;
  }
  list.reserve(count);
  for (std::size_t i = 0; i < count; ++i) list.push_back(get(in));
  return list;
}

template <class T, class Put>
void put_list(ByteWriter& out, const std::vector<T>& list, Put put) {
  out.put(count_of(list.size()));
  for (const T& element : list) put(out, element);
}

template <class T>
Result<T> decode_number(BytesView bytes) {
  ByteReader in(bytes);
  const T value = in.get<T>();
  return finished(in, value, "number");
}

DatabaseId get_database(ByteReader& in) { return DatabaseId{in.get<std::uint32_t>()}; }
Pnn get_pnn(ByteReader& in) { return Pnn{in.get<std::uint32_t>()}; }
Srvid get_srvid(ByteReader& in) { return Srvid{in.get<std::uint64_t>()}; }

void put_public_ip(ByteWriter& out, const PublicIp& ip) {
  out.put(number(ip.pnn));
  put_address(out, ip.address);
}
PublicIp get_public_ip(ByteReader& in) {
  PublicIp ip;
  ip.pnn = get_pnn(in);
  ip.address = get_address(in);
  return ip;
}

void put_connection(ByteWriter& out, const Connection& connection) {
  put_address(out, connection.client);
  put_address(out, connection.server);
}
Connection get_connection(ByteReader& in) {
  Connection connection;
  connection.client = get_address(in);
  connection.server = get_address(in);
  return connection;
}

void put_iface(ByteWriter& out, const Iface& iface) {
  const BytesView name = BytesView(iface.name).substr(0, kIfaceNameSize - 1);
  out.put_bytes(name).put_zeros(kIfaceNameSize - name.size());
  out.put(static_cast<std::uint16_t>(iface.link_up ? 1 : 0)).put(iface.references);
}
Iface get_iface(ByteReader& in) {
  Iface iface;
  const BytesView name = in.get_bytes(kIfaceNameSize);
  iface.name = name.substr(0, std::min(name.find('\0'), kIfaceNameSize - 1));
  iface.link_up = in.get<std::uint16_t>() != 0;
  iface.references = in.get<std::uint32_t>();
  return iface;
}

void put_time(ByteWriter& out, const TimeVal& time) { out.put(time.seconds).put(time.microseconds); }
TimeVal get_time(ByteReader& in) {
  TimeVal time;
  time.seconds = in.get<std::int64_t>();
  time.microseconds = in.get<std::int64_t>();
  return time;
}

void put_traverse_start(ByteWriter& out, const TraverseStart& start) {
  out.put(number(start.database)).put(start.reqid).put(number(start.srvid));
}
TraverseStart get_traverse_start(ByteReader& in) {
  TraverseStart start;
  start.database = get_database(in);
  start.reqid = in.get<std::uint32_t>();
  start.srvid = get_srvid(in);
  return start;
}

}  // namespace

// ---- numbers and texts ----

Bytes encode_u32(std::uint32_t value) { return std::move(ByteWriter().put(value)).take(); }
Bytes encode_i32(std::int32_t value) { return std::move(ByteWriter().put(value)).take(); }
Bytes encode_u64(std::uint64_t value) { return std::move(ByteWriter().put(value)).take(); }
Result<std::uint32_t> decode_u32(BytesView bytes) { return decode_number<std::uint32_t>(bytes); }
Result<std::int32_t> decode_i32(BytesView bytes) { return decode_number<std::int32_t>(bytes); }
Result<std::uint64_t> decode_u64(BytesView bytes) { return decode_number<std::uint64_t>(bytes); }

Bytes encode_padded_database(DatabaseId database) {
  return std::move(ByteWriter().put(number(database)).put_zeros(4)).take();
}
Result<DatabaseId> decode_padded_database(BytesView bytes) {
  ByteReader in(bytes);
  const DatabaseId database = get_database(in);
  in.skip(4);
  return finished(in, database, "padded database id");
}

Bytes encode_text(std::string_view text) { return Bytes(text) + '\0'; }
Result<std::string> decode_text(BytesView bytes) {
  if (!bytes.empty() && bytes.back() == '\0') bytes.remove_suffix(1);
  if (bytes.find('\0') != BytesView::npos) return failure(Fault::Malformed, "text with a NUL inside");
  return std::string(bytes);
}

Bytes encode(const SockAddr& value) {
  ByteWriter out;
  put_address(out, value);
  return std::move(out).take();
}
template <>
Result<SockAddr> decode<SockAddr>(BytesView bytes) {
  ByteReader in(bytes);
  const SockAddr address = get_address(in);
  return finished(in, address, "socket address");
}

// ---- the cluster ----

Bytes encode(const NodeMap& value) {
  ByteWriter out;
  put_list(out, value.nodes, [](ByteWriter& w, const NodeMap::Node& node) {
    w.put(number(node.pnn)).put(node.flags);
    put_address(w, node.address);
  });
  return std::move(out).take();
}
template <>
Result<NodeMap> decode<NodeMap>(BytesView bytes) {
  ByteReader in(bytes);
  NodeMap map;
  map.nodes = get_list<NodeMap::Node>(in, 8 + kSockAddrSize, [](ByteReader& r) {
    NodeMap::Node node;
    node.pnn = get_pnn(r);
    node.flags = r.get<std::uint32_t>();
    node.address = get_address(r);
    return node;
  });
  return finished(in, std::move(map), "node map");
}

Bytes encode(const VnnMap& value) {
  ByteWriter out;
  out.put(value.generation);
  put_list(out, value.map, [](ByteWriter& w, Pnn pnn) { w.put(number(pnn)); });
  return std::move(out).take();
}
template <>
Result<VnnMap> decode<VnnMap>(BytesView bytes) {
  ByteReader in(bytes);
  VnnMap map;
  map.generation = in.get<std::uint32_t>();
  map.map = get_list<Pnn>(in, 4, get_pnn);
  return finished(in, std::move(map), "vnnmap");
}

Bytes encode(const Uptime& value) {
  ByteWriter out;
  put_time(out, value.current);
  put_time(out, value.daemon_started);
  put_time(out, value.last_recovery_started);
  put_time(out, value.last_recovery_finished);
  return std::move(out).take();
}
template <>
Result<Uptime> decode<Uptime>(BytesView bytes) {
  ByteReader in(bytes);
  Uptime uptime;
  uptime.current = get_time(in);
  uptime.daemon_started = get_time(in);
  uptime.last_recovery_started = get_time(in);
  uptime.last_recovery_finished = get_time(in);
  return finished(in, uptime, "uptime");
}

Bytes encode(const BanState& value) {
  return std::move(ByteWriter().put(number(value.pnn)).put(value.seconds)).take();
}
template <>
Result<BanState> decode<BanState>(BytesView bytes) {
  ByteReader in(bytes);
  BanState state;
  state.pnn = get_pnn(in);
  state.seconds = in.get<std::uint32_t>();
  return finished(in, state, "ban state");
}

Bytes encode(const NodeFlagChange& value) {
  return std::move(ByteWriter().put(number(value.pnn)).put(value.new_flags).put(value.old_flags)).take();
}
template <>
Result<NodeFlagChange> decode<NodeFlagChange>(BytesView bytes) {
  ByteReader in(bytes);
  NodeFlagChange change;
  change.pnn = get_pnn(in);
  change.new_flags = in.get<std::uint32_t>();
  change.old_flags = in.get<std::uint32_t>();
  return finished(in, change, "flag change");
}

// ---- databases ----

Bytes encode(const DatabaseMap& value) {
  ByteWriter out;
  put_list(out, value.databases, [](ByteWriter& w, const DatabaseMap::Database& database) {
    w.put(number(database.id)).put(database.flags).put_zeros(3);
  });
  return std::move(out).take();
}
template <>
Result<DatabaseMap> decode<DatabaseMap>(BytesView bytes) {
  ByteReader in(bytes);
  DatabaseMap map;
  map.databases = get_list<DatabaseMap::Database>(in, 8, [](ByteReader& r) {
    DatabaseMap::Database database;
    database.id = get_database(r);
    database.flags = r.get<std::uint8_t>();
    r.skip(3);
    return database;
  });
  return finished(in, std::move(map), "database map");
}

Bytes encode(const KeyData& value) {
  ByteWriter out;
  out.put(number(value.database)).put_zeros(4);
  out.put(value.rsn).put(value.dmaster).put_zeros(4).put(value.flags).put_zeros(4);
  out.put(count_of(value.key.size())).put_bytes(value.key);
  return std::move(out).take();
}
template <>
Result<KeyData> decode<KeyData>(BytesView bytes) {
  ByteReader in(bytes);
  KeyData data;
  data.database = get_database(in);
  in.skip(4);
  data.rsn = in.get<std::uint64_t>();
  data.dmaster = in.get<std::uint32_t>();
  in.skip(4);
  data.flags = in.get<std::uint32_t>();
  in.skip(4);
  data.key = in.get_bytes(in.get<std::uint32_t>());
  return finished(in, std::move(data), "key data");
}

Bytes encode(const TransactionDatabase& value) {
  return std::move(ByteWriter().put(number(value.database)).put(value.transaction)).take();
}
template <>
Result<TransactionDatabase> decode<TransactionDatabase>(BytesView bytes) {
  ByteReader in(bytes);
  TransactionDatabase value;
  value.database = get_database(in);
  value.transaction = in.get<std::uint32_t>();
  return finished(in, value, "transaction");
}

Bytes encode(const PullDatabase& value) {
  return std::move(ByteWriter().put(number(value.database)).put(number(value.lmaster)).put(number(value.srvid)))
      .take();
}
template <>
Result<PullDatabase> decode<PullDatabase>(BytesView bytes) {
  ByteReader in(bytes);
  PullDatabase value;
  value.database = get_database(in);
  value.lmaster = get_pnn(in);
  value.srvid = get_srvid(in);
  return finished(in, value, "pull or push request");
}

Bytes encode(const VacuumDatabase& value) {
  return std::move(ByteWriter().put(number(value.database)).put(static_cast<std::uint8_t>(value.full))).take();
}
template <>
Result<VacuumDatabase> decode<VacuumDatabase>(BytesView bytes) {
  ByteReader in(bytes);
  VacuumDatabase value;
  value.database = get_database(in);
  value.full = in.get<std::uint8_t>() != 0;
  return finished(in, value, "vacuum request");
}

Bytes encode(const TraverseStart& value) {
  ByteWriter out;
  put_traverse_start(out, value);
  return std::move(out).take();
}
template <>
Result<TraverseStart> decode<TraverseStart>(BytesView bytes) {
  ByteReader in(bytes);
  const TraverseStart start = get_traverse_start(in);
  return finished(in, start, "traverse request");
}

Bytes encode(const TraverseStartExt& value) {
  ByteWriter out;
  put_traverse_start(out, value.start);
  out.put(static_cast<std::uint8_t>(value.with_empty_records)).put_zeros(7);
  return std::move(out).take();
}
template <>
Result<TraverseStartExt> decode<TraverseStartExt>(BytesView bytes) {
  ByteReader in(bytes);
  TraverseStartExt value;
  value.start = get_traverse_start(in);
  value.with_empty_records = in.get<std::uint8_t>() != 0;
  in.skip(7);
  return finished(in, value, "traverse request");
}

Bytes encode(const TraverseRecord& value) {
  ByteWriter out;
  out.put(count_of(16 + value.key.size() + value.data.size())).put(value.reqid);
  out.put(count_of(value.key.size())).put(count_of(value.data.size()));
  out.put_bytes(value.key).put_bytes(value.data);
  return std::move(out).take();
}
template <>
Result<TraverseRecord> decode<TraverseRecord>(BytesView bytes) {
  ByteReader in(bytes);
  TraverseRecord record;
  const auto length = in.get<std::uint32_t>();
  record.reqid = in.get<std::uint32_t>();
  const auto key_length = in.get<std::uint32_t>();
  const auto data_length = in.get<std::uint32_t>();
  record.key = in.get_bytes(key_length);
  record.data = in.get_bytes(data_length);
  if (length != bytes.size()) in.fail();
  return finished(in, std::move(record), "traverse record");
}

// ---- processes and messages ----

Bytes encode(const PidSrvid& value) {
  return std::move(ByteWriter().put(value.pid).put(number(value.srvid))).take();
}
template <>
Result<PidSrvid> decode<PidSrvid>(BytesView bytes) {
  ByteReader in(bytes);
  PidSrvid value;
  value.pid = in.get<std::int32_t>();
  value.srvid = get_srvid(in);
  return finished(in, value, "pid and srvid");
}

Bytes encode(const NotifyData& value) {
  ByteWriter out;
  out.put(number(value.srvid)).put(count_of(value.data.size())).put_bytes(value.data);
  return std::move(out).take();
}
template <>
Result<NotifyData> decode<NotifyData>(BytesView bytes) {
  ByteReader in(bytes);
  NotifyData value;
  value.srvid = get_srvid(in);
  value.data = in.get_bytes(in.get<std::uint32_t>());
  return finished(in, std::move(value), "notify data");
}

Bytes encode(const EchoData& value) {
  ByteWriter out;
  out.put(value.timeout).put(count_of(value.data.size())).put_bytes(value.data);
  return std::move(out).take();
}
template <>
Result<EchoData> decode<EchoData>(BytesView bytes) {
  ByteReader in(bytes);
  EchoData value;
  value.timeout = in.get<std::uint32_t>();
  value.data = in.get_bytes(in.get<std::uint32_t>());
  return finished(in, std::move(value), "echo data");
}

Bytes encode(const SrvidMessage& value) {
  return std::move(ByteWriter().put(number(value.pnn)).put_zeros(4).put(number(value.srvid))).take();
}
template <>
Result<SrvidMessage> decode<SrvidMessage>(BytesView bytes) {
  ByteReader in(bytes);
  SrvidMessage value;
  value.pnn = get_pnn(in);
  in.skip(4);
  value.srvid = get_srvid(in);
  return finished(in, value, "srvid message");
}

Bytes encode(const DisableMessage& value) {
  ByteWriter out;
  out.put(number(value.pnn)).put_zeros(4).put(number(value.srvid)).put(value.seconds).put_zeros(4);
  return std::move(out).take();
}
template <>
Result<DisableMessage> decode<DisableMessage>(BytesView bytes) {
  ByteReader in(bytes);
  DisableMessage value;
  value.pnn = get_pnn(in);
  in.skip(4);
  value.srvid = get_srvid(in);
  value.seconds = in.get<std::uint32_t>();
  in.skip(4);
  return finished(in, value, "disable message");
}

// ---- public addresses ----

Bytes encode(const PublicIp& value) {
  ByteWriter out;
  put_public_ip(out, value);
  return std::move(out).take();
}
template <>
Result<PublicIp> decode<PublicIp>(BytesView bytes) {
  ByteReader in(bytes);
  const PublicIp ip = get_public_ip(in);
  return finished(in, ip, "public address");
}

Bytes encode(const PublicIpList& value) {
  ByteWriter out;
  put_list(out, value.addresses, put_public_ip);
  return std::move(out).take();
}
template <>
Result<PublicIpList> decode<PublicIpList>(BytesView bytes) {
  ByteReader in(bytes);
  PublicIpList list;
  list.addresses = get_list<PublicIp>(in, kPublicIpSize, get_public_ip);
  return finished(in, std::move(list), "list of public addresses");
}

Bytes encode(const Connection& value) {
  ByteWriter out;
  put_connection(out, value);
  return std::move(out).take();
}
template <>
Result<Connection> decode<Connection>(BytesView bytes) {
  ByteReader in(bytes);
  const Connection connection = get_connection(in);
  return finished(in, connection, "connection");
}

Bytes encode(const TickleList& value) {
  ByteWriter out;
  put_address(out, value.address);
  put_list(out, value.connections, put_connection);
  return std::move(out).take();
}
template <>
Result<TickleList> decode<TickleList>(BytesView bytes) {
  ByteReader in(bytes);
  TickleList list;
  list.address = get_address(in);
  list.connections = get_list<Connection>(in, kConnectionSize, get_connection);
  return finished(in, std::move(list), "tickle list");
}

Bytes encode(const Iface& value) {
  ByteWriter out;
  put_iface(out, value);
  return std::move(out).take();
}
template <>
Result<Iface> decode<Iface>(BytesView bytes) {
  ByteReader in(bytes);
  Iface iface = get_iface(in);
  return finished(in, std::move(iface), "interface");
}

Bytes encode(const IfaceList& value) {
  ByteWriter out;
  put_list(out, value.ifaces, put_iface);
  return std::move(out).take();
}
template <>
Result<IfaceList> decode<IfaceList>(BytesView bytes) {
  ByteReader in(bytes);
  IfaceList list;
  list.ifaces = get_list<Iface>(in, kIfaceSize, get_iface);
  return finished(in, std::move(list), "list of interfaces");
}

Bytes encode(const PublicIpInfo& value) {
  ByteWriter out;
  put_public_ip(out, value.ip);
  out.put(value.active);
  put_list(out, value.ifaces, put_iface);
  return std::move(out).take();
}
template <>
Result<PublicIpInfo> decode<PublicIpInfo>(BytesView bytes) {
  ByteReader in(bytes);
  PublicIpInfo info;
  info.ip = get_public_ip(in);
  info.active = in.get<std::uint32_t>();
  info.ifaces = get_list<Iface>(in, kIfaceSize, get_iface);
  return finished(in, std::move(info), "public address information");
}

Bytes encode(const AddressInfo& value) {
  ByteWriter out;
  put_address(out, value.address);
  const Bytes text = value.ifaces.empty() ? Bytes() : encode_text(value.ifaces);
  out.put(value.mask_bits).put(count_of(text.size())).put_bytes(text);
  return std::move(out).take();
}
template <>
Result<AddressInfo> decode<AddressInfo>(BytesView bytes) {
  ByteReader in(bytes);
  AddressInfo info;
  info.address = get_address(in);
  info.mask_bits = in.get<std::uint32_t>();
  auto text = decode_text(in.get_bytes(in.get<std::uint32_t>()));
  if (!text) return tl::unexpected(text.error());
  info.ifaces = std::move(*text);
  return finished(in, std::move(info), "address information");
}

}  // namespace tdbmesh::ctdb
