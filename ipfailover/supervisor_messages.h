#pragma once
// What the daemon and its supervisor say to each other over a SEQPACKET socket pair: one message a packet, both ends
// of one build and of one machine. Commands are carried out in the order in which they were sent.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "ipfailover/address_kernel.h"
#include "transport/cluster_key.h"
#include "transport/peer_address.h"

namespace tdbmesh::ipfailover::supervisor {

inline constexpr std::size_t kMaxMessage = 160 * 1024;  // kMaxPublicAddresses of them fit

struct AddressOnInterface {
  Address address;
  std::uint8_t prefix = 32;
  std::string interface;
  friend bool operator==(const AddressOnInterface&, const AddressOnInterface&) = default;
};

// ---- daemon -> supervisor ----
// First of all, and again when the nodes file was read anew.
struct Setup {
  Pnn self{};
  Incarnation incarnation = 0;
  std::string address;      // own, numeric: FENCED goes out from it
  std::uint16_t port = 0;   // of heartbeats
  std::vector<PeerAddress> peers;
  std::optional<ClusterKey> key;
  std::string gate_path;
  std::int32_t daemon_pid = 0;
  std::uint32_t lifetime = 1;  // seconds an address stands in the kernel without being renewed
  Duration drop_allowance{};   // Timing::drop_allowance: later than half of it is reported
  std::vector<Duration> announce_after;  // when an address taken is announced, counted from the taking
  friend bool operator==(const Setup&, const Setup&) = default;
};
struct Configure {
  std::vector<PublicAddress> addresses;
  friend bool operator==(const Configure&, const Configure&) = default;
};
struct Take {
  KernelTicket ticket = 0;  // 0: taken before by an earlier supervisor, no answer if it is still there
  AddressOnInterface where;
  Instant lease_until{};
  friend bool operator==(const Take&, const Take&) = default;
};
struct Release {
  KernelTicket ticket = 0;
  Address address;
  friend bool operator==(const Release&, const Release&) = default;
};
struct DropAll {
  KernelTicket ticket = 0;
  friend bool operator==(const DropAll&, const DropAll&) = default;
};
struct Announce {
  Address address;
  std::string interface;
  friend bool operator==(const Announce&, const Announce&) = default;
};
struct Ping {
  std::uint64_t number = 0;
  friend bool operator==(const Ping&, const Ping&) = default;
};
using Command = std::variant<Setup, Configure, Take, Release, DropAll, Announce, Ping>;

// ---- supervisor -> daemon ----
// The gate was shut while addresses were held: they are gone.
struct Lapsed {
  std::vector<Address> addresses;
  Duration late{};  // from the lapse until the kernel had none of them
  friend bool operator==(const Lapsed&, const Lapsed&) = default;
};
// A held address could not be renewed, e.g. because its interface is gone.
struct Lost {
  Address address;
  std::string why;
  friend bool operator==(const Lost&, const Lost&) = default;
};
struct Pong {
  std::uint64_t number = 0;
  friend bool operator==(const Pong&, const Pong&) = default;
};
struct Notice {  // for the log
  bool warning = true;
  std::string text;
  friend bool operator==(const Notice&, const Notice&) = default;
};
using Report = std::variant<Taken, Released, Dropped, Lapsed, Lost, Pong, Notice>;

[[nodiscard]] Bytes encode(const Command& command);
[[nodiscard]] Bytes encode(const Report& report);
[[nodiscard]] Result<Command> decode_command(BytesView bytes);
[[nodiscard]] Result<Report> decode_report(BytesView bytes);

}  // namespace tdbmesh::ipfailover::supervisor
