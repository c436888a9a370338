// The load of the chaos test: one process on one node that increments counters for ever and writes down what it did.
//
//   chaos_load SOCKET records|transactions NAME KEYS PAUSE_MS LOG
//   chaos_load SOCKET read NAME KEYS          prints "KEY COUNT ID" of each counter of a volatile database
//   chaos_load SOCKET dump NAME               prints "KEY COUNT ID" of all records of this node's copy of a
//                                             persistent one, the operations' records among them
//
// Every value says which operation wrote it: "COUNT ID PREVIOUS", where ID is unique in the whole test and PREVIOUS is
// the operation whose value was found. So the log of all processes together is the history of each counter as a
// tree, and its last value names the branch that won.
//
//   records       a record of the volatile database NAME, fetched and locked as Samba does
//   transactions  a record of the persistent database NAME in a transaction that also stores a record per operation
//
// LOG, one line per event, written with one write(2) each so that nothing is lost if the process is killed:
//   T id key count previous time   about to write (the record is locked, or the transaction has begun)
//   A id time                      acknowledged
//   U id time text                 not known whether it was written
//   N id time text                 surely not written
//   E time text                    an error outside an operation; connects again
// Times are nanoseconds of the boot-time clock, which is one for all namespaces of a machine.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tools/client/locked_record.h"
#include "tools/client/transaction.h"

using namespace tdbmesh;

namespace {

constexpr Duration kPatience = std::chrono::seconds(20);

class Load {
 public:
  Load(std::string socket, bool transactions, std::string name, int keys, std::chrono::milliseconds pause, int log)
      : socket_(std::move(socket)), name_(std::move(name)), transactions_(transactions), keys_(keys), pause_(pause), log_(log) {}

  // The values at the end.
  Result<> read() {
    auto client = ctdb::Client::connect(socket_);
    if (!client) return tl::unexpected<Error>(client.error());
    auto database = open_database(*client, name_, ctdb::Client::DatabaseType::Volatile, kPatience);
    if (!database) return tl::unexpected<Error>(database.error());
    for (int i = 0; i < keys_; ++i) {
      const std::string key = fmt::format("counter-{}", i);
      auto record = LockedRecord::fetch(*client, *database, key, kPatience);
      if (!record) return tl::unexpected<Error>(record.error());
      const Value value = parse(record->value());
      fmt::print("{} {} {}\n", key, value.count, value.id);
    }
    return {};
  }

  Result<> dump() {
    auto client = ctdb::Client::connect(socket_);
    if (!client) return tl::unexpected<Error>(client.error());
    auto database = open_database(*client, name_, ctdb::Client::DatabaseType::Persistent, kPatience);
    if (!database) return tl::unexpected<Error>(database.error());
    for (std::uint64_t from = 0;;) {
      const auto batch = database->copy->lmdb().scan(from, 1000);
      if (!batch) return tl::unexpected<Error>(batch.error());
      for (const LmdbItem& item : batch->items) {
        if (item.key == kSequenceNumberKey || item.value.size() <= kRecordHeaderSize) continue;
        const Value value = parse(BytesView(item.value).substr(kRecordHeaderSize));
        fmt::print("{} {} {}\n", item.key, value.count, value.id);
      }
      if (batch->done) return {};
      from = batch->next;
    }
  }

  [[noreturn]] void run() {
    while (true) {
      if (auto done = session(); !done) write("E {} {}\n", now(), done.error().context);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));  // before the next attempt to connect
    }
  }

 private:
  struct Value {
    std::uint64_t count = 0;
    std::string id = "-";
  };

  template <class... Args>
  void write(std::string_view format, const Args&... args) const {
    const std::string line = fmt::vformat(format, fmt::make_format_args(args...));
    if (::write(log_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
  }
  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(boot_time_now().time_since_epoch()).count();
  }

  static Value parse(BytesView text) {
    if (text.empty()) return {};
    Value value;
    const std::size_t space = text.find(' ');
    const std::size_t second = text.find(' ', space + 1);
    value.count = std::strtoull(std::string(text.substr(0, space)).c_str(), nullptr, 10);
    value.id = std::string(text.substr(space + 1, second - space - 1));
    return value;
  }

  Result<> session() {
    auto client = ctdb::Client::connect(socket_);
    if (!client) return tl::unexpected<Error>(client.error());
    const auto pnn = client->pnn();
    if (!pnn) return tl::unexpected<Error>(pnn.error());
    node_ = number(*pnn);
    while (true) {
      if (transactions_) {
        if (auto done = transaction(*client); !done) return done;
      } else {
        auto database = open_database(*client, name_, ctdb::Client::DatabaseType::Volatile, kPatience);
        if (!database) return tl::unexpected<Error>(database.error());
        while (true) {
          if (auto done = increment(*client, *database); !done) return done;
          std::this_thread::sleep_for(pause_);
        }
      }
      std::this_thread::sleep_for(pause_);
    }
  }

  std::string next_id() { return fmt::format("{}.{}.{}", node_, getpid(), ++serial_); }
  std::string pick() { return fmt::format("counter-{}", std::uniform_int_distribution<int>(0, keys_ - 1)(random_)); }

  Result<> increment(ctdb::Client& client, OpenDatabase& database) {
    const std::string key = pick();
    auto record = LockedRecord::fetch(client, database, key, kPatience);
    if (!record) return tl::unexpected<Error>(record.error());
    const Value found = parse(record->value());
    const std::string id = next_id();
    write("T {} {} {} {} {}\n", id, key, found.count + 1, found.id, now());
    const auto stored = record->store(fmt::format("{} {} {}", found.count + 1, id, found.id));
    if (!stored) {
      write("N {} {} {}\n", id, now(), stored.error().context);
      return stored;
    }
    write("A {} {}\n", id, now());
    return {};
  }

  Result<> transaction(ctdb::Client& client) {
    const std::string key = pick();
    auto begun = Transaction::begin(client, name_, ctdb::Client::DatabaseType::Persistent, kPatience);
    if (!begun) return tl::unexpected<Error>(begun.error());
    const auto value = begun->fetch(key);
    if (!value) return tl::unexpected<Error>(value.error());
    const Value found = parse(*value ? BytesView(**value) : BytesView{});
    const std::string id = next_id();
    const std::string text = fmt::format("{} {} {}", found.count + 1, id, found.id);
    if (auto done = begun->store(key, text); !done) return done;
    if (auto done = begun->store("operation-" + id, text); !done) return done;
    write("T {} {} {} {} {}\n", id, key, found.count + 1, found.id, now());
    auto done = begun->commit();
    if (!done && done.error().fault == Fault::Refused) {
      write("N {} {} {}\n", id, now(), done.error().context);
      return done;
    }
    if (!done) {
      write("U {} {} {}\n", id, now(), done.error().context);
      return done;
    }
    write("A {} {}\n", id, now());
    return {};
  }

  std::string socket_;
  std::string name_;
  bool transactions_;
  int keys_;
  std::chrono::milliseconds pause_;
  int log_;
  std::uint32_t node_ = 0;
  std::uint64_t serial_ = 0;
  std::mt19937 random_{std::random_device{}()};
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 2 ? argv[2] : "";
  if ((argc == 5 && verb == "read") || (argc == 4 && verb == "dump")) {
    Load load(argv[1], false, argv[3], verb == "read" ? std::atoi(argv[4]) : 0, {}, -1);
    const auto done = verb == "read" ? load.read() : load.dump();
    if (!done) fmt::print(stderr, "chaos_load: {}\n", done.error().context);
    return done ? 0 : 1;
  }
  if (argc != 7) {
    fmt::print(stderr, "usage: see the beginning of chaos_load.cc\n");
    return 2;
  }
  const int log = ::open(argv[6], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) {
    fmt::print(stderr, "chaos_load: cannot open {}\n", argv[6]);
    return 1;
  }
  Load(argv[1], verb == "transactions", argv[3], std::atoi(argv[4]),
       std::chrono::milliseconds(std::atoi(argv[5])), log)
      .run();
}
