#pragma once
// What the subcommands share: the options, the moment at which all clients begin, and the line of results.

#include <string>
#include <utility>
#include <vector>

#include "histogram.h"
#include "shared_database.h"

namespace tdbmesh::bench {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string socket;
  std::string database = "bench.tdb";
  std::string tag;        // makes the keys or names of this client its own
  double seconds = 5;
  std::uint32_t nodes = 1;  // that take part: pnn 0 to nodes - 1
  std::uint32_t node = 0;   // destination of `ping`
  int keys = 1000;
  int value_size = 200;
  double zipf = 0;          // 0: uniform
  std::uint64_t seed = 1;
  int count = 20;
  bool again = false;
  bool wait = false;
};

// Begins when the constructor is called: prints "ready" and reads a line first, with --wait, so that clients on
// several nodes begin together.
class Run {
 public:
  explicit Run(const Options& options);
  [[nodiscard]] bool over() const { return Clock::now() >= end_; }
  [[nodiscard]] Clock::time_point end() const { return end_; }
  [[nodiscard]] Duration left() const { return std::chrono::duration_cast<Duration>(end_ - Clock::now()); }

  // One operation that took so long.
  void add(std::chrono::nanoseconds took) { times_.add(took); }
  // Operations whose durations were not all taken.
  void count(std::uint64_t operations) { operations_ += operations; }
  // More to tell: a name and a number.
  void tell(std::string name, double value) { more_.emplace_back(std::move(name), value); }
  // Prints the line of JSON.
  void report(const char* what, Pnn pnn);

 private:
  Clock::time_point begin_;
  Clock::time_point end_;
  Histogram times_;
  std::uint64_t operations_ = 0;
  std::vector<std::pair<std::string, double>> more_;
};

void ring(ctdb::Client& client, const Options& options);
void hot(ctdb::Client& client, const Options& options);
void many(ctdb::Client& client, const Options& options);
void local(ctdb::Client& client, const Options& options);
void parse(ctdb::Client& client, const Options& options);
void fill(ctdb::Client& client, const Options& options);
void traverse(ctdb::Client& client, const Options& options);
void attach(ctdb::Client& client, const Options& options);
void transactions(ctdb::Client& client, const Options& options);
void message_ring(ctdb::Client& client, const Options& options);
void ping(ctdb::Client& client, const Options& options);

// Counters that the record workloads keep: a decimal number, filled up to the size of a value.
[[nodiscard]] std::uint64_t counter_in(BytesView value);
[[nodiscard]] Bytes counter_value(std::uint64_t count, int size);

}  // namespace tdbmesh::bench
