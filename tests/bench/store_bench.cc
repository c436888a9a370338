// The store behind the libtdb shim against libtdb itself, through the same calls, side by side in one run.
//
// usage: store_bench [--dir DIR] [--disk DIR] [--benchmark_...]
//   --dir   where the volatile databases stand (default /dev/shm), --disk for the persistent ones (default: here)
// Ends with a table: median of ours, of libtdb's, and the ratio (above 1: ours is faster). Use
// --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true for figures that mean something.
//
// libtdb is opened as ctdbd opens it: robust mutexes, hash size 100001, 5 dead records. The callback of a parse reads all
// of the value. Values are 200 bytes, keys 24, databases 100,000 records, unless the row says otherwise.
#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "db/gate.h"
#include "db/lmdb_store.h"

extern "C" {
#include <tdb.h>
}

using namespace tdbmesh;

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kRecords = 100'000;
constexpr std::size_t kValueSize = 200;
constexpr auto kTurn = std::chrono::milliseconds(200);

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "store_bench: %s\n", why.c_str());
  std::exit(1);
}

void complain(tdb_context*, tdb_debug_level, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
}

// The calls of one library, so that both can be in one process.
struct Calls {
  decltype(&::tdb_open_ex) open_ex;
  decltype(&::tdb_close) close;
  decltype(&::tdb_chainlock) chainlock;
  decltype(&::tdb_chainunlock) chainunlock;
  decltype(&::tdb_parse_record) parse_record;
  decltype(&::tdb_store) store;
  decltype(&::tdb_delete) erase;
  decltype(&::tdb_traverse_read) traverse_read;
  decltype(&::tdb_reopen_all) reopen_all;
  decltype(&::tdb_set_max_dead) set_max_dead;
  decltype(&::tdb_transaction_start) transaction_start;
  decltype(&::tdb_transaction_commit) transaction_commit;
  decltype(&::tdb_wipe_all) wipe_all;

  explicit Calls(const char* library) {
    void* loaded = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (loaded == nullptr) give_up(::dlerror());
    const auto get = [&](auto& function, const char* name) {
      void* found = ::dlsym(loaded, name);
      if (found == nullptr) give_up(::dlerror());
      std::memcpy(&function, &found, sizeof(found));
    };
    get(open_ex, "tdb_open_ex");
    get(close, "tdb_close");
    get(chainlock, "tdb_chainlock");
    get(chainunlock, "tdb_chainunlock");
    get(parse_record, "tdb_parse_record");
    get(store, "tdb_store");
    get(erase, "tdb_delete");
    get(traverse_read, "tdb_traverse_read");
    get(reopen_all, "tdb_reopen_all");
    get(set_max_dead, "tdb_set_max_dead");
    get(transaction_start, "tdb_transaction_start");
    get(transaction_commit, "tdb_transaction_commit");
    get(wipe_all, "tdb_wipe_all");
  }
};

enum class Kind { Volatile, Replicated, Persistent };

// One of the two sides: makes databases and opens them.
class Side {
 public:
  Side(const char* library, bool ours, std::string memory, std::string disk)
      : calls(library), ours_(ours), memory_(std::move(memory)), disk_(std::move(disk)) {
    if (!ours_) return;
    auto gate = GateKeeper::open(memory_ + "/gate");
    if (!gate) give_up(gate.error().context);
    gate_ = std::move(*gate);
    gate_->set_open_until(std::numeric_limits<std::uint64_t>::max(), 1);
    auto store = LmdbStore::create({memory_ + "/volatile", disk_ + "/persistent", memory_ + "/gate", Pnn{0}, 0, ~std::uint64_t{0}});
    if (!store) give_up(store.error().context);
    store_ = std::move(*store);
  }

  std::string create(const std::string& name, Kind kind) {
    if (!ours_) {
      const std::string path = (kind == Kind::Persistent ? disk_ : memory_) + "/" + name;
      calls.close(open(path, kind, O_CREAT));
      return path;
    }
    auto made = store_->open(name, kind == Kind::Volatile     ? DatabaseKind::Volatile
                                   : kind == Kind::Replicated ? DatabaseKind::Replicated
                                                              : DatabaseKind::Persistent);
    if (!made) give_up(made.error().context);
    return (*made)->path();
  }
  tdb_context* open(const std::string& path, Kind kind, int more = 0) const {
    int flags = TDB_DISALLOW_NESTING;
    if (kind != Kind::Persistent) flags |= TDB_NOSYNC | TDB_INCOMPATIBLE_HASH;
    if (kind == Kind::Volatile) flags |= TDB_CLEAR_IF_FIRST | TDB_MUTEX_LOCKING;
    tdb_logging_context log{complain, nullptr};
    tdb_context* db = calls.open_ex(path.c_str(), kind == Kind::Persistent ? 0 : 100001, flags, O_RDWR | more, 0600, &log, nullptr);
    if (db == nullptr) give_up("cannot open " + path);
    calls.set_max_dead(db, 5);
    return db;
  }

  const Calls calls;

 private:
  const bool ours_;
  const std::string memory_;
  const std::string disk_;
  std::unique_ptr<GateKeeper> gate_;
  std::unique_ptr<LmdbStore> store_;
};

struct Key {
  char text[25];
  explicit Key(std::uint32_t n) {  // by hand: printf would be a good part of what is measured
    std::memcpy(text, "record 00000000000000000", sizeof(text));
    for (std::size_t at = 23; n > 0; --at, n /= 10) text[at] = static_cast<char>('0' + n % 10);
  }
  TDB_DATA data() { return {reinterpret_cast<unsigned char*>(text), 24}; }
};

// A step of work is done again and again; the number says which one it is.
using Step = std::function<void(std::uint64_t)>;
// Makes the step of one of several processes, in that process.
using MakeStep = std::function<Step(int process, int processes)>;

std::uint32_t scattered(std::uint64_t n) { return static_cast<std::uint32_t>((n * 0x9E3779B97F4A7C15u) >> 33); }

// Steps per second of so many processes together.
double rate(int processes, const MakeStep& make) {
  struct Shared {
    std::atomic<int> ready;
    std::atomic<bool> go;
    std::atomic<bool> stop;
    std::atomic<std::uint64_t> steps;
  };
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) give_up("no memory");
  auto* shared = new (memory) Shared{};
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      const Step step = make(i, processes);
      shared->ready.fetch_add(1);
      while (!shared->go.load()) ::usleep(100);
      std::uint64_t done = 0;
      while (!shared->stop.load(std::memory_order_relaxed)) {
        for (int n = 0; n < 16; ++n) step(done++);
      }
      shared->steps.fetch_add(done);
      ::_exit(0);
    }
    children.push_back(child);
  }
  while (shared->ready.load() < processes) ::usleep(100);
  const auto began = Clock::now();
  shared->go = true;
  ::usleep(static_cast<useconds_t>(std::chrono::microseconds(kTurn).count()));
  shared->stop = true;
  const std::chrono::duration<double> took = Clock::now() - began;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) give_up("a process of a measurement failed");
  }
  const double result = static_cast<double>(shared->steps.load()) / took.count();
  ::munmap(memory, sizeof(Shared));
  return result;
}

void must(int rc, const char* what) {
  if (rc != 0) give_up(std::string(what) + " failed");
}

int read_all(TDB_DATA, TDB_DATA value, void* into) {
  if (value.dsize > 0) std::memcpy(into, value.dptr, std::min<std::size_t>(value.dsize, 4096));
  return 0;
}

// The measurements of one side, by name of the row. Each returns operations per second.
class Rows {
 public:
  Rows(Side& side) : side_(side), path_(side.create("bench.tdb", Kind::Volatile)), scratch_(side.create("scratch.tdb", Kind::Volatile)) {
    // Kept open for the life of the process: the last close of a TDB that is "clear if first" empties it.
    db_ = side_.open(path_, Kind::Volatile);
    empty_ = side_.open(scratch_, Kind::Volatile);
    for (std::uint32_t n = 0; n < kRecords; ++n) put(db_, n, kValueSize, 'a');
  }

  double parse(int processes) {
    return with_handle(processes, [this](tdb_context* db, int process, int) -> Step {
      return [this, db, process](std::uint64_t n) {
        char into[4096];
        Key key(scattered(n + static_cast<std::uint64_t>(process) * 77777) % kRecords);
        must(side_.calls.parse_record(db, key.data(), read_all, into), "parse");
      };
    });
  }
  // Lock, read, store something else, unlock.
  double cycle(int processes, bool same_key, std::size_t smallest, std::size_t largest) {
    return with_handle(processes, [=, this](tdb_context* db, int process, int of) -> Step {
      return [=, this](std::uint64_t n) {
        char into[4096] = {};
        const auto share = kRecords / static_cast<std::uint32_t>(of);
        Key key(same_key ? 7 : static_cast<std::uint32_t>(process) * share + scattered(n) % share);
        const std::size_t size = smallest + (largest > smallest ? scattered(n * 31) % (largest - smallest) : 0);
        must(side_.calls.chainlock(db, key.data()), "lock");
        must(side_.calls.parse_record(db, key.data(), read_all, into), "parse");
        std::uint64_t counter = 0;
        std::memcpy(&counter, into, sizeof(counter));
        ++counter;
        std::memcpy(into, &counter, sizeof(counter));
        must(side_.calls.store(db, key.data(), {reinterpret_cast<unsigned char*>(into), size}, TDB_REPLACE), "store");
        must(side_.calls.chainunlock(db, key.data()), "unlock");
      };
    });
  }
  double insert() {
    must(side_.calls.wipe_all(empty_), "wipe");
    const auto began = Clock::now();
    for (std::uint32_t n = 0; n < kRecords; ++n) put(empty_, n, kValueSize, 'i');
    return per_second(kRecords, began);
  }
  double erase() {
    must(side_.calls.wipe_all(empty_), "wipe");
    for (std::uint32_t n = 0; n < kRecords; ++n) put(empty_, n, kValueSize, 'i');
    const auto began = Clock::now();
    for (std::uint32_t n = 0; n < kRecords; ++n) {
      Key key(n);
      must(side_.calls.erase(empty_, key.data()), "delete");
    }
    return per_second(kRecords, began);
  }
  double insert_and_delete(int processes) {
    return with_handle(processes, [this](tdb_context* db, int process, int) -> Step {
      return [this, db, process](std::uint64_t n) {
        Key key(kRecords + static_cast<std::uint32_t>(process) * 1000 + static_cast<std::uint32_t>(n % 1000));
        put(db, key, kValueSize, 'n');
        must(side_.calls.erase(db, key.data()), "delete");
      };
    });
  }
  double traverse() {
    const auto began = Clock::now();
    char into[4096];
    const int count = side_.calls.traverse_read(
        db_, [](tdb_context*, TDB_DATA key, TDB_DATA value, void* to) { return read_all(key, value, to); }, into);
    if (count < static_cast<int>(kRecords)) give_up("traverse missed records");
    return per_second(static_cast<std::uint64_t>(count), began);
  }
  double open_and_close() {
    return in_child([this] {
      return [this](std::uint64_t) { side_.calls.close(side_.open(scratch_, Kind::Volatile)); };
    });
  }
  // A fork with 20 databases open, and a first read from each in the child.
  double fork_with_twenty() {
    if (twenty_.empty()) {
      for (int i = 0; i < 20; ++i) {
        tdb_context* db = side_.open(side_.create(fmt::format("fork{}.tdb", i), Kind::Volatile), Kind::Volatile);
        put(db, 1, kValueSize, 'f');
        twenty_.push_back(db);
      }
    }
    constexpr std::uint64_t kForks = 50;
    const auto began = Clock::now();
    for (std::uint64_t i = 0; i < kForks; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        must(side_.calls.reopen_all(1), "reopen");
        char into[4096];
        Key key(1);
        for (tdb_context* db : twenty_) must(side_.calls.parse_record(db, key.data(), read_all, into), "parse");
        ::_exit(0);
      }
      int status = 0;
      ::waitpid(child, &status, 0);
      if (status != 0) give_up("a forked child failed");
    }
    return per_second(kForks, began);
  }
  double transactions(Kind kind, std::uint32_t records) {
    tdb_context*& db = transactional_[kind];
    if (db == nullptr) db = side_.open(side_.create(kind == Kind::Persistent ? "durable.tdb" : "replicated.tdb", kind), kind);
    const auto began = Clock::now();
    std::uint64_t count = 0;
    while (Clock::now() - began < kTurn) {
      must(side_.calls.transaction_start(db), "transaction");
      ++serial_;  // repeating values would not be written again
      for (std::uint32_t n = 0; n < records; ++n) put(db, n, kValueSize, static_cast<char>('a' + serial_ % 26));
      must(side_.calls.transaction_commit(db), "commit");
      ++count;
    }
    return per_second(count, began);
  }

 private:
  using MakeWithHandle = std::function<Step(tdb_context*, int, int)>;
  // With the handle that the process inherits, as smbd's children do.
  double with_handle(int processes, const MakeWithHandle& make) {
    return rate(processes, [&](int process, int of) {
      must(side_.calls.reopen_all(1), "reopen");
      return make(db_, process, of);
    });
  }
  double in_child(const std::function<Step()>& make) {
    return rate(1, [&](int, int) {
      side_.calls.close(empty_);  // a file is open once in a process
      return make();
    });
  }
  static double per_second(std::uint64_t count, Clock::time_point began) {
    return static_cast<double>(count) / std::chrono::duration<double>(Clock::now() - began).count();
  }
  void put(tdb_context* db, Key key, std::size_t size, char fill) const {
    char value[4096];
    std::memset(value, fill, size);
    must(side_.calls.store(db, key.data(), {reinterpret_cast<unsigned char*>(value), size}, TDB_REPLACE), "store");
  }
  void put(tdb_context* db, std::uint32_t n, std::size_t size, char fill) const { put(db, Key(n), size, fill); }

  Side& side_;
  const std::string path_;
  const std::string scratch_;
  tdb_context* db_ = nullptr;
  tdb_context* empty_ = nullptr;
  std::vector<tdb_context*> twenty_;
  std::map<Kind, tdb_context*> transactional_;
  std::uint64_t serial_ = 0;
};

struct Row {
  std::string name;
  std::function<double(Rows&)> measure;
};

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const int n : {1, 2, 4}) rows.push_back({fmt::format("parse, {} processes", n), [n](Rows& r) { return r.parse(n); }});
  for (const int n : {1, 2, 4}) {
    rows.push_back({fmt::format("lock cycle, {} processes, other keys", n), [n](Rows& r) { return r.cycle(n, false, kValueSize, kValueSize); }});
  }
  for (const int n : {1, 2, 4}) {
    rows.push_back({fmt::format("lock cycle, {} processes, one key", n), [n](Rows& r) { return r.cycle(n, true, kValueSize, kValueSize); }});
  }
  rows.push_back({"insert", [](Rows& r) { return r.insert(); }});
  rows.push_back({"delete", [](Rows& r) { return r.erase(); }});
  for (const int n : {1, 2}) {
    rows.push_back({fmt::format("insert and delete again, {} processes", n), [n](Rows& r) { return r.insert_and_delete(n); }});
  }
  rows.push_back({"traverse (records)", [](Rows& r) { return r.traverse(); }});
  rows.push_back({"open and close", [](Rows& r) { return r.open_and_close(); }});
  rows.push_back({"fork with 20 databases, read in the child", [](Rows& r) { return r.fork_with_twenty(); }});
  for (const std::uint32_t n : {1u, 10u, 100u}) {
    rows.push_back({fmt::format("durable transaction, {} records", n), [n](Rows& r) { return r.transactions(Kind::Persistent, n); }});
    rows.push_back({fmt::format("transaction without fsync, {} records", n), [n](Rows& r) { return r.transactions(Kind::Replicated, n); }});
  }
  // Last: it leaves TDB's file in pieces.
  rows.push_back({"lock cycle, 1 process, 200-300 bytes", [](Rows& r) { return r.cycle(1, false, 200, 300); }});
  return rows;
}

// What Google Benchmark ran, kept for the table.
class TableReporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      const auto found = run.counters.find("rate");
      if (found != run.counters.end()) rates[run.run_name.function_name].push_back(found->second.value);
    }
  }
  std::map<std::string, std::vector<double>> rates;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::string memory = "/dev/shm";
  std::string disk = ".";
  std::vector<char*> rest;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if ((word == "--dir" || word == "--disk") && i + 1 < argc) {
      (word == "--dir" ? memory : disk) = argv[++i];
    } else {
      rest.push_back(argv[i]);
    }
  }
  int count = static_cast<int>(rest.size());
  rest.push_back(nullptr);
  benchmark::Initialize(&count, rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, rest.data())) return 2;

  const auto directory = [](const std::string& in) {
    std::string pattern = fs::absolute(in).string() + "/store-bench-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) give_up("cannot make a directory in " + in);
    return pattern;
  };
  const std::vector<std::string> made = {directory(memory), directory(disk), directory(memory), directory(disk)};
  {
    // Both live to the end: with the last handle of a TDB its contents go.
    static Side theirs("libtdb.so.1", false, made[0], made[1]);
    static Side ours(TDBMESH_SHIM_LIBRARY, true, made[2], made[3]);
    static Rows their_rows(theirs);
    static Rows our_rows(ours);
    const std::vector<Row> rows = all_rows();
    for (const Row& row : rows) {
      for (const bool of_ours : {false, true}) {
        benchmark::RegisterBenchmark((row.name + (of_ours ? "/tdbmesh" : "/libtdb")).c_str(), [&row, of_ours](benchmark::State& state) {
          double last = 0;
          for (auto _ : state) {
            last = row.measure(of_ours ? our_rows : their_rows);
            state.SetIterationTime(0.2);
          }
          state.counters["rate"] = last;
        })->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond);
      }
    }
    TableReporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    fmt::print("\n| {:<44} | libtdb, mutexes | tdbmesh | ratio | spread of the ratio |\n|---|---|---|---|---|\n", "");
    for (const Row& row : rows) {
      const auto& a = reporter.rates[row.name + "/libtdb"];
      const auto& b = reporter.rates[row.name + "/tdbmesh"];
      if (a.empty() || b.empty()) continue;
      const auto [low_a, high_a] = std::minmax_element(a.begin(), a.end());
      const auto [low_b, high_b] = std::minmax_element(b.begin(), b.end());
      fmt::print("| {:<44} | {:.0f}/s | {:.0f}/s | {:.2f} | {:.2f} - {:.2f} |\n", row.name, median(a), median(b), median(b) / median(a),
                 *low_b / *high_a, *high_b / *low_a);
    }
  }
  for (const std::string& path : made) fs::remove_all(path);
}
