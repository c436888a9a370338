#pragma once
// Counters as CTDB's clients read them: STATISTICS (488 bytes), STAT_HISTORY, GET_DB_STATISTICS. Pure.

#include <array>
#include <cstdint>
#include <vector>

#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctdb {

inline constexpr std::size_t kStatisticsSize = 488;
inline constexpr std::size_t kBucketCount = 16;
inline constexpr std::size_t kHotKeyCount = 10;
using Buckets = std::array<std::uint32_t, kBucketCount>;

struct Latency {  // seconds
  std::int32_t count = 0;
  double min = 0;
  double max = 0;
  double total = 0;
  void add(double sample);
  friend bool operator==(const Latency&, const Latency&) = default;
};

// The bucket of a lock wait or hold of `seconds`: below 1 ms, 10 ms, 100 ms, 1 s, 2, 4, 8, 16, 32, 64 s, more.
[[nodiscard]] std::size_t lock_bucket(double seconds);
// The bucket of a hop count: 0, 1, 2-3, 4-7, ... (bits of the number), at most the last.
[[nodiscard]] std::size_t hop_bucket(std::uint32_t hops);

struct LockCounters {
  std::uint32_t calls = 0;
  std::uint32_t current = 0;
  std::uint32_t pending = 0;
  std::uint32_t failed = 0;
  Latency latency;
  Buckets buckets{};
  friend bool operator==(const LockCounters&, const LockCounters&) = default;
};

// Plain counters unless said otherwise; those about other nodes count our own link's messages.
struct Statistics {
  std::uint32_t num_clients = 0;  // now
  std::uint32_t frozen = 0;
  std::uint32_t recovering = 0;
  std::uint32_t client_packets_sent = 0;
  std::uint32_t client_packets_recv = 0;
  std::uint32_t node_packets_sent = 0;
  std::uint32_t node_packets_recv = 0;
  std::uint32_t keepalive_packets_sent = 0;
  std::uint32_t keepalive_packets_recv = 0;
  struct Node {
    std::uint32_t req_call = 0, reply_call = 0, req_dmaster = 0, reply_dmaster = 0, reply_error = 0;
    std::uint32_t req_message = 0, req_control = 0, reply_control = 0, req_tunnel = 0;
    friend bool operator==(const Node&, const Node&) = default;
  } node;
  struct Client {
    std::uint32_t req_call = 0, req_message = 0, req_control = 0, req_tunnel = 0;
    friend bool operator==(const Client&, const Client&) = default;
  } client;
  struct Timeouts {
    std::uint32_t call = 0, control = 0, traverse = 0;
    friend bool operator==(const Timeouts&, const Timeouts&) = default;
  } timeouts;
  Latency reclock_ctdbd;
  Latency reclock_recd;
  LockCounters locks;
  std::uint32_t total_calls = 0;
  std::uint32_t pending_calls = 0;  // now
  std::uint32_t childwrite_calls = 0;
  std::uint32_t pending_childwrite_calls = 0;
  std::uint32_t memory_used = 0;
  std::uint32_t internal_counter = 0;
  std::uint32_t max_hop_count = 0;
  Buckets hop_count_buckets{};
  Latency call_latency;
  Latency childwrite_latency;
  std::uint32_t num_recoveries = 0;
  TimeVal started;  // wall clock: counted since
  TimeVal current;
  std::uint32_t total_ro_delegations = 0;
  std::uint32_t total_ro_revokes = 0;
  friend bool operator==(const Statistics&, const Statistics&) = default;
};
TDBMESH_PAYLOAD(Statistics);

// Newest first; slots that were never filled have started == 0.
struct StatisticsHistory {
  std::vector<Statistics> slots;
  friend bool operator==(const StatisticsHistory&, const StatisticsHistory&) = default;
};
TDBMESH_PAYLOAD(StatisticsHistory);

struct DatabaseStatistics {
  LockCounters locks;
  Latency vacuum_latency;
  std::uint32_t ro_delegations = 0;
  std::uint32_t ro_revokes = 0;
  Buckets hop_count_buckets{};
  struct HotKey {
    std::uint32_t count = 0;
    Bytes key;
    friend bool operator==(const HotKey&, const HotKey&) = default;
  };
  std::array<HotKey, kHotKeyCount> hot_keys;  // all are on the wire; unused ones are empty
  friend bool operator==(const DatabaseStatistics&, const DatabaseStatistics&) = default;
};
TDBMESH_PAYLOAD(DatabaseStatistics);

}  // namespace tdbmesh::ctdb
