#pragma once
// What stands in the data of controls and messages (client protocol sheet, section 8). Pure structures.
//
// For every structure T here, in ctdb_address.h, ctdb_statistics.h and ctdb_tunables.h there are
//
//   Bytes      encode(const T&)              the bytes for the wire
//   Result<T>  decode<T>(BytesView)          Malformed unless the size is exactly what the content says
//
// Counts are compared with the bytes that are there before anything is allocated.

#include <cstdint>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/result.h"
#include "transport/ctdb_address.h"

namespace tdbmesh::ctdb {

template <class T>
[[nodiscard]] Result<T> decode(BytesView bytes) = delete;

#define TDBMESH_PAYLOAD(T)                \
  [[nodiscard]] Bytes encode(const T& value); \
  template <>                             \
  Result<T> decode<T>(BytesView bytes)

// ---- numbers and texts ----

[[nodiscard]] Bytes encode_u32(std::uint32_t value);
[[nodiscard]] Bytes encode_i32(std::int32_t value);
[[nodiscard]] Bytes encode_u64(std::uint64_t value);
[[nodiscard]] Result<std::uint32_t> decode_u32(BytesView bytes);
[[nodiscard]] Result<std::int32_t> decode_i32(BytesView bytes);
[[nodiscard]] Result<std::uint64_t> decode_u64(BytesView bytes);
// u32 database id + u32 0, the request of GET_DB_SEQNUM (8 bytes; 4 are refused).
[[nodiscard]] Bytes encode_padded_database(DatabaseId database);
[[nodiscard]] Result<DatabaseId> decode_padded_database(BytesView bytes);
// A name or text with its NUL. Decoding accepts a missing NUL; a NUL inside is Malformed. Empty is fine.
[[nodiscard]] Bytes encode_text(std::string_view text);
[[nodiscard]] Result<std::string> decode_text(BytesView bytes);
// A sock addr alone: the request of GET_TCP_TICKLE_LIST and GET_PUBLIC_IP_INFO.
TDBMESH_PAYLOAD(SockAddr);

// ---- the cluster ----

// Entries in order of pnn, index == pnn; deleted nodes stay as place holders.
struct NodeMap {
  struct Node {
    Pnn pnn{};
    NodeFlags flags = 0;
    SockAddr address;  // port 4379
    friend bool operator==(const Node&, const Node&) = default;
  };
  std::vector<Node> nodes;
  friend bool operator==(const NodeMap&, const NodeMap&) = default;
};
TDBMESH_PAYLOAD(NodeMap);

struct VnnMap {
  std::uint32_t generation = kInvalidClientGeneration;
  std::vector<Pnn> map;
  friend bool operator==(const VnnMap&, const VnnMap&) = default;
};
TDBMESH_PAYLOAD(VnnMap);

struct TimeVal {
  std::int64_t seconds = 0;
  std::int64_t microseconds = 0;
  friend bool operator==(const TimeVal&, const TimeVal&) = default;
};

// Wall clock, for people.
struct Uptime {
  TimeVal current;
  TimeVal daemon_started;
  TimeVal last_recovery_started;
  TimeVal last_recovery_finished;
  friend bool operator==(const Uptime&, const Uptime&) = default;
};
TDBMESH_PAYLOAD(Uptime);

struct BanState {
  Pnn pnn{};
  std::uint32_t seconds = 0;  // 0: not banned, lift the ban
  friend bool operator==(const BanState&, const BanState&) = default;
};
TDBMESH_PAYLOAD(BanState);

struct NodeFlagChange {
  Pnn pnn{};
  NodeFlags new_flags = 0;
  NodeFlags old_flags = 0;
  friend bool operator==(const NodeFlagChange&, const NodeFlagChange&) = default;
};
TDBMESH_PAYLOAD(NodeFlagChange);

// ---- databases ----

inline constexpr std::uint8_t kDatabasePersistent = 0x1;
inline constexpr std::uint8_t kDatabaseReadonly = 0x2;
inline constexpr std::uint8_t kDatabaseSticky = 0x4;
inline constexpr std::uint8_t kDatabaseReplicated = 0x8;

struct DatabaseMap {
  struct Database {
    DatabaseId id{};
    std::uint8_t flags = 0;  // kDatabase...
    friend bool operator==(const Database&, const Database&) = default;
  };
  std::vector<Database> databases;
  friend bool operator==(const DatabaseMap&, const DatabaseMap&) = default;
};
TDBMESH_PAYLOAD(DatabaseMap);

// SCHEDULE_FOR_DELETION: the key and the header that the client stored.
struct KeyData {
  DatabaseId database{};
  std::uint64_t rsn = 0;
  std::uint32_t dmaster = 0;
  std::uint32_t flags = 0;
  Bytes key;
  friend bool operator==(const KeyData&, const KeyData&) = default;
};
TDBMESH_PAYLOAD(KeyData);

// WIPE_DATABASE, DB_TRANSACTION_START, DB_TRANSACTION_COMMIT.
struct TransactionDatabase {
  DatabaseId database{};
  std::uint32_t transaction = 0;
  friend bool operator==(const TransactionDatabase&, const TransactionDatabase&) = default;
};
TDBMESH_PAYLOAD(TransactionDatabase);

// DB_PULL, DB_PUSH_START.
struct PullDatabase {
  DatabaseId database{};
  Pnn lmaster = kNoPnn;  // kNoPnn: any
  Srvid srvid{};
  friend bool operator==(const PullDatabase&, const PullDatabase&) = default;
};
TDBMESH_PAYLOAD(PullDatabase);

struct VacuumDatabase {  // 5 bytes
  DatabaseId database{};
  bool full = false;
  friend bool operator==(const VacuumDatabase&, const VacuumDatabase&) = default;
};
TDBMESH_PAYLOAD(VacuumDatabase);

// TRAVERSE_START and TRAVERSE_KILL (16 bytes) and TRAVERSE_START_EXT (24 bytes).
struct TraverseStart {
  DatabaseId database{};
  std::uint32_t reqid = 0;
  Srvid srvid{};
  friend bool operator==(const TraverseStart&, const TraverseStart&) = default;
};
TDBMESH_PAYLOAD(TraverseStart);

struct TraverseStartExt {
  TraverseStart start;
  bool with_empty_records = false;
  friend bool operator==(const TraverseStartExt&, const TraverseStartExt&) = default;
};
TDBMESH_PAYLOAD(TraverseStartExt);

// One message of a traverse. `data` is header and value; no key and no data mark the end.
struct TraverseRecord {
  std::uint32_t reqid = 0;
  Bytes key;
  Bytes data;
  [[nodiscard]] bool is_end() const { return key.empty() && data.empty(); }
  friend bool operator==(const TraverseRecord&, const TraverseRecord&) = default;
};
TDBMESH_PAYLOAD(TraverseRecord);

// ---- processes and messages ----

// CHECK_PID_SRVID: 12 packed bytes.
struct PidSrvid {
  std::int32_t pid = 0;
  Srvid srvid{};
  friend bool operator==(const PidSrvid&, const PidSrvid&) = default;
};
TDBMESH_PAYLOAD(PidSrvid);

// REGISTER_NOTIFY: sent to all when the connection ends.
struct NotifyData {
  Srvid srvid{};
  Bytes data;
  friend bool operator==(const NotifyData&, const NotifyData&) = default;
};
TDBMESH_PAYLOAD(NotifyData);

struct EchoData {
  std::uint32_t timeout = 0;
  Bytes data;
  friend bool operator==(const EchoData&, const EchoData&) = default;
};
TDBMESH_PAYLOAD(EchoData);

// TAKEOVER_RUN and MEM_DUMP: who asks and where the answer goes (srvid 0: none wanted).
struct SrvidMessage {
  Pnn pnn{};
  Srvid srvid{};
  friend bool operator==(const SrvidMessage&, const SrvidMessage&) = default;
};
TDBMESH_PAYLOAD(SrvidMessage);

// DISABLE_TAKEOVER_RUNS and DISABLE_RECOVERIES.
struct DisableMessage {
  Pnn pnn{};
  Srvid srvid{};
  std::uint32_t seconds = 0;  // 0: enable again
  friend bool operator==(const DisableMessage&, const DisableMessage&) = default;
};
TDBMESH_PAYLOAD(DisableMessage);

// ---- public addresses ----

struct PublicIp {
  Pnn pnn = kNoPnn;  // who hosts it
  SockAddr address;
  friend bool operator==(const PublicIp&, const PublicIp&) = default;
};
TDBMESH_PAYLOAD(PublicIp);

struct PublicIpList {
  std::vector<PublicIp> addresses;
  friend bool operator==(const PublicIpList&, const PublicIpList&) = default;
};
TDBMESH_PAYLOAD(PublicIpList);

// One TCP connection: TCP_CLIENT, TCP_ADD, TCP_REMOVE, TCP_ADD_DELAYED_UPDATE.
struct Connection {
  SockAddr client;
  SockAddr server;
  friend auto operator<=>(const Connection&, const Connection&) = default;
};
TDBMESH_PAYLOAD(Connection);

struct TickleList {
  SockAddr address;
  std::vector<Connection> connections;
  friend bool operator==(const TickleList&, const TickleList&) = default;
};
TDBMESH_PAYLOAD(TickleList);

struct Iface {
  std::string name;  // at most 17 bytes; encoding cuts the rest off
  bool link_up = false;
  std::uint32_t references = 0;
  friend bool operator==(const Iface&, const Iface&) = default;
};
TDBMESH_PAYLOAD(Iface);

struct IfaceList {
  std::vector<Iface> ifaces;
  friend bool operator==(const IfaceList&, const IfaceList&) = default;
};
TDBMESH_PAYLOAD(IfaceList);

inline constexpr std::uint32_t kNoActiveIface = 0xFFFFFFFF;
struct PublicIpInfo {
  PublicIp ip;
  std::uint32_t active = kNoActiveIface;  // index into ifaces
  std::vector<Iface> ifaces;
  friend bool operator==(const PublicIpInfo&, const PublicIpInfo&) = default;
};
TDBMESH_PAYLOAD(PublicIpInfo);

// ADD_PUBLIC_IP, DEL_PUBLIC_IP, SEND_GRATUITOUS_ARP.
struct AddressInfo {
  SockAddr address;
  std::uint32_t mask_bits = 0;
  std::string ifaces;  // "eth0,eth1"; empty: none
  friend bool operator==(const AddressInfo&, const AddressInfo&) = default;
};
TDBMESH_PAYLOAD(AddressInfo);

}  // namespace tdbmesh::ctdb
