// Volatile records: what a lock, a move to another node, a read and a traverse cost.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include <fmt/format.h>

#include "transport/ctdb_payloads.h"
#include "workload.h"

namespace tdbmesh::bench {
namespace {

constexpr Srvid kRingSrvid{0xBEE0000000000001u};
constexpr Srvid kTraverseSrvid{0xBEE0000000000002u};
constexpr Duration kPatience = std::chrono::seconds(30);

// Of so many operations the duration of one is taken, where taking it would cost a part of the operation itself.
constexpr std::uint64_t kSampleEvery = 16;

// Increments the locked counter and lets go of it.
std::uint64_t increment(SharedDatabase& database, int size) {
  const std::uint64_t count = counter_in(database.value()) + 1;
  database.store(counter_value(count, size));
  database.unlock();
  return count;
}

// Makes this client's own records, then does `operation` with one after the other until the time is over.
template <class Operation>
Run on_local_records(ctdb::Client& client, SharedDatabase& database, const Options& options, Operation operation) {
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  std::vector<Bytes> keys;
  for (int i = 0; i < options.keys; ++i) {
    keys.push_back(fmt::format("local-{}-{}-{}", number(own), options.tag, i));
    database.fetch_locked(keys.back());
    increment(database, options.value_size);
  }
  std::uint64_t done = 0;
  Run run(options);
  for (auto before = Clock::now(); before < run.end(); before = Clock::now()) {
    operation(keys[done++ % keys.size()]);
    run.add(Clock::now() - before);
    for (std::uint64_t i = 1; i < kSampleEvery; ++i) operation(keys[done++ % keys.size()]);
  }
  run.count(done);
  return run;
}

// Zipf's distribution over `keys`, or the uniform one, from a generator that is the same everywhere.
class KeyChoice {
 public:
  KeyChoice(int keys, double exponent, std::uint64_t seed) : random_(seed), keys_(static_cast<std::size_t>(keys)) {
    if (exponent <= 0) return;
    double sum = 0;
    for (std::size_t i = 0; i < keys_; ++i) sums_.push_back(sum += 1 / std::pow(static_cast<double>(i + 1), exponent));
  }
  std::size_t next() {
    const double share = static_cast<double>(random_() >> 11) * 0x1p-53;
    if (sums_.empty()) return static_cast<std::size_t>(share * static_cast<double>(keys_));
    const auto found = std::upper_bound(sums_.begin(), sums_.end(), share * sums_.back());
    return std::min(static_cast<std::size_t>(found - sums_.begin()), keys_ - 1);
  }

 private:
  std::mt19937_64 random_;
  std::size_t keys_;
  std::vector<double> sums_;
};

}  // namespace

std::uint64_t counter_in(BytesView value) {
  std::uint64_t count = 0;
  std::from_chars(value.data(), value.data() + value.size(), count);
  return count;
}

Bytes counter_value(std::uint64_t count, int size) {
  Bytes value(static_cast<std::size_t>(std::max(size, 20)), ' ');  // a library that formats would cost more than what is measured
  const char* const end = std::to_chars(value.data(), value.data() + value.size(), count).ptr;
  value.resize(static_cast<std::size_t>(std::max<std::ptrdiff_t>(size, end - value.data())));
  return value;
}

// One record goes from node to node: each locks it, increments it and tells the next one. A hop is one migration and
// one message; the durations are those of the lock, migration included.
void ring(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  or_die(client.register_srvid(kRingSrvid), "REGISTER_SRVID");
  const std::uint32_t next = (number(own) + 1) % options.nodes;
  const Bytes key = "ring-" + options.tag;
  std::uint64_t value = 0;
  Run run(options);
  if (number(own) == 0) or_die(client.send_message(next, kRingSrvid, "go"), "message");
  while (!run.over()) {
    const auto message = client.wait_message(kRingSrvid, run.left());
    if (!message && message.error().fault == Fault::Busy) break;
    if (!message) die(message.error().context);
    const auto before = Clock::now();
    database.fetch_locked(key);
    run.add(Clock::now() - before);
    value = increment(database, options.value_size);
    or_die(client.send_message(next, kRingSrvid, "go"), "message");
  }
  run.tell("value", static_cast<double>(value));
  run.report("ring", own);
}

// All nodes want one record all the time.
void hot(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  const Bytes key = "hot-" + options.tag;
  std::uint64_t value = 0;
  std::uint64_t remote = 0;
  Run run(options);
  for (auto before = Clock::now(); before < run.end();) {
    remote += database.fetch_locked(key) ? 1 : 0;
    value = increment(database, options.value_size);
    const auto after = Clock::now();
    run.add(after - before);
    before = after;
  }
  run.tell("value", static_cast<double>(value));
  run.tell("remote", static_cast<double>(remote));
  run.report("hot", or_die(client.pnn(), "GET_PNN"));
}

// Random keys out of many.
void many(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  KeyChoice choice(options.keys, options.zipf, options.seed * 1000 + number(own));
  std::vector<Bytes> keys;
  for (int i = 0; i < options.keys; ++i) keys.push_back(fmt::format("many-{}-{}", options.tag, i));
  std::uint64_t remote = 0;
  Run run(options);
  for (auto before = Clock::now(); before < run.end();) {
    remote += database.fetch_locked(keys[choice.next()]) ? 1 : 0;
    increment(database, options.value_size);
    const auto after = Clock::now();
    run.add(after - before);
    before = after;
  }
  run.tell("remote", static_cast<double>(remote));
  run.report("many", own);
}

// Records that are here already and that nobody else wants: locked and stored, or only read.
void local(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  std::uint64_t remote = 0;
  Run run = on_local_records(client, database, options, [&](const Bytes& key) {
    remote += database.fetch_locked(key) ? 1 : 0;
    increment(database, options.value_size);
  });
  run.tell("remote", static_cast<double>(remote));
  run.report("local", or_die(client.pnn(), "GET_PNN"));
}

void parse(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  Run run = on_local_records(client, database, options, [&](const Bytes& key) { database.parse_local(key); });
  run.report("parse", or_die(client.pnn(), "GET_PNN"));
}

// Puts new records there, owned by this node.
void fill(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  Run run(options);
  for (int i = 0; i < options.keys; ++i) {
    const auto before = Clock::now();
    database.fetch_locked(fmt::format("fill-{}-{}-{}", number(own), options.tag, i));
    increment(database, options.value_size);
    run.add(Clock::now() - before);
  }
  run.report("fill", own);
}

// Whole traverses by the daemon, as smbstatus does them; the operations are records.
void traverse(ctdb::Client& client, const Options& options) {
  SharedDatabase database(client, options.database);
  or_die(client.register_srvid(kTraverseSrvid), "REGISTER_SRVID");
  std::uint64_t records = 0;
  std::uint64_t rounds = 0;
  std::uint32_t reqid = 100;
  Run run(options);
  do {
    const auto before = Clock::now();
    const ctdb::TraverseStart start{.database = database.id(), .reqid = ++reqid, .srvid = kTraverseSrvid};
    or_die(client.control_data(ctdb::ControlOpcode::TraverseStart, ctdb::kCurrentNode, ctdb::encode(start), kPatience),
           "TRAVERSE_START");
    std::uint64_t found = 0;
    while (true) {
      const auto message = or_die(client.wait_message(kTraverseSrvid, kPatience), "a record of the traverse");
      if (or_die(ctdb::decode<ctdb::TraverseRecord>(message.data), "a record of the traverse").is_end()) break;
      ++found;
    }
    run.add(Clock::now() - before);
    records += found;
    ++rounds;
  } while (!run.over());
  run.count(records);
  run.tell("records", static_cast<double>(records) / static_cast<double>(rounds));
  run.report("traverse", or_die(client.pnn(), "GET_PNN"));
}

// New databases, or with --again what every program of Samba does when it opens one that is there.
void attach(ctdb::Client& client, const Options& options) {
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  Run run(options);
  for (int i = 0; i < options.count; ++i) {
    const auto before = Clock::now();
    SharedDatabase database(client, fmt::format("attach-{}-{}.tdb", options.tag, options.again ? 0 : i));
    run.add(Clock::now() - before);
  }
  run.report("attach", own);
}

}  // namespace tdbmesh::bench
