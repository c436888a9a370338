#include "transport/ctdb_statistics.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "db/base/check.h"

namespace tdbmesh::ctdb {
namespace {

void put_latency(ByteWriter& out, const Latency& latency) {
  out.put(latency.count).put_zeros(4).put(latency.min).put(latency.max).put(latency.total);
}
Latency get_latency(ByteReader& in) {
  Latency latency;
  latency.count = in.get<std::int32_t>();
  in.skip(4);
  latency.min = in.get<double>();
  latency.max = in.get<double>();
  latency.total = in.get<double>();
  return latency;
}

void put_buckets(ByteWriter& out, const Buckets& buckets) {
  for (const std::uint32_t count : buckets) out.put(count);
}
Buckets get_buckets(ByteReader& in) {
  Buckets buckets{};
  for (auto& count : buckets) count = in.get<std::uint32_t>();
  return buckets;
}

void put_locks(ByteWriter& out, const LockCounters& locks) {
  out.put(locks.calls).put(locks.current).put(locks.pending).put(locks.failed);
  put_latency(out, locks.latency);
  put_buckets(out, locks.buckets);
}
LockCounters get_locks(ByteReader& in) {
  LockCounters locks;
  locks.calls = in.get<std::uint32_t>();
  locks.current = in.get<std::uint32_t>();
  locks.pending = in.get<std::uint32_t>();
  locks.failed = in.get<std::uint32_t>();
  locks.latency = get_latency(in);
  locks.buckets = get_buckets(in);
  return locks;
}

// One list of the fields in the order of the wire serves both directions, so the two cannot disagree.
struct Writer {
  ByteWriter& out;
  void u32(const std::uint32_t& field) { out.put(field); }
  void pad() { out.put_zeros(4); }
  void latency(const Latency& field) { put_latency(out, field); }
  void locks(const LockCounters& field) { put_locks(out, field); }
  void buckets(const Buckets& field) { put_buckets(out, field); }
  void time(const TimeVal& field) { out.put(field.seconds).put(field.microseconds); }
};
struct Reader {
  ByteReader& in;
  void u32(std::uint32_t& field) { field = in.get<std::uint32_t>(); }
  void pad() { in.skip(4); }
  void latency(Latency& field) { field = get_latency(in); }
  void locks(LockCounters& field) { field = get_locks(in); }
  void buckets(Buckets& field) { field = get_buckets(in); }
  void time(TimeVal& field) {
    field.seconds = in.get<std::int64_t>();
    field.microseconds = in.get<std::int64_t>();
  }
};

template <class Direction, class S>
void all_fields(Direction d, S& s) {
  for (auto* field : {&s.num_clients, &s.frozen, &s.recovering, &s.client_packets_sent, &s.client_packets_recv,
                      &s.node_packets_sent, &s.node_packets_recv, &s.keepalive_packets_sent,
                      &s.keepalive_packets_recv, &s.node.req_call, &s.node.reply_call, &s.node.req_dmaster,
                      &s.node.reply_dmaster, &s.node.reply_error, &s.node.req_message, &s.node.req_control,
                      &s.node.reply_control, &s.node.req_tunnel, &s.client.req_call, &s.client.req_message,
                      &s.client.req_control, &s.client.req_tunnel, &s.timeouts.call, &s.timeouts.control,
                      &s.timeouts.traverse}) {
    d.u32(*field);
  }
  d.pad();
  d.latency(s.reclock_ctdbd);
  d.latency(s.reclock_recd);
  d.locks(s.locks);
  for (auto* field : {&s.total_calls, &s.pending_calls, &s.childwrite_calls, &s.pending_childwrite_calls,
                      &s.memory_used, &s.internal_counter, &s.max_hop_count}) {
    d.u32(*field);
  }
  d.buckets(s.hop_count_buckets);
  d.pad();
  d.latency(s.call_latency);
  d.latency(s.childwrite_latency);
  d.u32(s.num_recoveries);
  d.pad();
  d.time(s.started);
  d.time(s.current);
  d.u32(s.total_ro_delegations);
  d.u32(s.total_ro_revokes);
}

std::uint32_t count_of(std::size_t count) {
  TDBMESH_CHECK(count < std::numeric_limits<std::uint32_t>::max());
  return static_cast<std::uint32_t>(count);
}

}  // namespace

void Latency::add(double sample) {
  min = count == 0 ? sample : std::min(min, sample);
  max = count == 0 ? sample : std::max(max, sample);
  total += sample;
  if (count < std::numeric_limits<std::int32_t>::max()) ++count;
}

std::size_t lock_bucket(double seconds) {
  constexpr double kBounds[] = {0.001, 0.01, 0.1, 1, 2, 4, 8, 16, 32, 64};
  return static_cast<std::size_t>(std::upper_bound(std::begin(kBounds), std::end(kBounds), seconds) -
                                  std::begin(kBounds));
}

std::size_t hop_bucket(std::uint32_t hops) {
  return std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(hops)), kBucketCount - 1);
}

Bytes encode(const Statistics& value) {
  ByteWriter out;
  all_fields(Writer{out}, value);
  TDBMESH_CHECK(out.size() == kStatisticsSize);
  return std::move(out).take();
}
template <>
Result<Statistics> decode<Statistics>(BytesView bytes) {
  ByteReader in(bytes);
  Statistics statistics;
  all_fields(Reader{in}, statistics);
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "bad statistics");
  return statistics;
}

Bytes encode(const StatisticsHistory& value) {
  ByteWriter out;
  out.put(count_of(value.slots.size())).put_zeros(4);
  for (const Statistics& slot : value.slots) all_fields(Writer{out}, slot);
  return std::move(out).take();
}
template <>
Result<StatisticsHistory> decode<StatisticsHistory>(BytesView bytes) {
  ByteReader in(bytes);
  StatisticsHistory history;
  const std::size_t count = in.get<std::uint32_t>();
  in.skip(4);
  if (!in.ok() || in.remaining() % kStatisticsSize != 0 || count != in.remaining() / kStatisticsSize) {
    return failure(Fault::Malformed, "bad statistics history");
  }
  history.slots.resize(count);
  for (Statistics& slot : history.slots) all_fields(Reader{in}, slot);
  return history;
}

Bytes encode(const DatabaseStatistics& value) {
  ByteWriter out;
  put_locks(out, value.locks);
  put_latency(out, value.vacuum_latency);
  out.put(value.ro_delegations).put(value.ro_revokes);
  put_buckets(out, value.hop_count_buckets);
  out.put(count_of(value.hot_keys.size())).put_zeros(4);
  for (const auto& hot : value.hot_keys) {
    // Eight bytes in the middle are a pointer of the original's memory: nobody reads them.
    out.put(hot.count).put_zeros(12).put(static_cast<std::uint64_t>(hot.key.size()));
  }
  for (const auto& hot : value.hot_keys) out.put_bytes(hot.key);
  return std::move(out).take();
}
template <>
Result<DatabaseStatistics> decode<DatabaseStatistics>(BytesView bytes) {
  ByteReader in(bytes);
  DatabaseStatistics value;
  value.locks = get_locks(in);
  value.vacuum_latency = get_latency(in);
  value.ro_delegations = in.get<std::uint32_t>();
  value.ro_revokes = in.get<std::uint32_t>();
  value.hop_count_buckets = get_buckets(in);
  if (in.get<std::uint32_t>() > kHotKeyCount) in.fail();  // the ten slots are there whatever the number says
  in.skip(4);
  std::array<std::uint64_t, kHotKeyCount> lengths{};
  for (std::size_t i = 0; i < kHotKeyCount; ++i) {
    value.hot_keys[i].count = in.get<std::uint32_t>();
    in.skip(12);
    lengths[i] = in.get<std::uint64_t>();
  }
  for (std::size_t i = 0; i < kHotKeyCount; ++i) value.hot_keys[i].key = in.get_bytes(lengths[i]);
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "bad database statistics");
  return value;
}

}  // namespace tdbmesh::ctdb
