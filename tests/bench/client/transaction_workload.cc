// Transactions of a persistent database, as Samba makes them: a g_lock, a read of the local copy, one TRANS3_COMMIT that
// is durable on all nodes, and the g_lock given back.
//
// The lock is a record of g_lock.tdb in Samba's layout. Who finds it held writes himself down as a watcher and is woken by
// a message when it is his turn. Unlike Samba's, a client that finds watchers before it lets them go first: without that
// the node that has the record takes the lock again before anybody else can, and the figure is that of one client.

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "tools/client/g_lock_value.h"
#include "transport/ctdb_payloads.h"
#include "workload.h"

namespace tdbmesh::bench {
namespace {

// A watcher that was not woken looks by itself.
constexpr Duration kLookAgain = std::chrono::seconds(1);
constexpr Duration kPatience = std::chrono::seconds(30);

class Lock {
 public:
  Lock(ctdb::Client& client, Pnn own, DatabaseId database)
      : client_(client),
        records_(client, kGLockDatabase),
        key_(transaction_lock_key(database)),
        self_{.pid = static_cast<std::uint64_t>(getpid()), .task_id = 0, .vnn = own, .unique_id = kUniqueIdNotToVerify},
        wake_srvid_{0xBEE1000000000000u | self_.pid} {
    or_die(client.register_srvid(wake_srvid_), "REGISTER_SRVID");
  }

  void take() {
    while (true) {
      records_.fetch_locked(key_);
      GLockValue lock = or_die(decode_g_lock(records_.value()), "the value of the lock");
      auto& watchers = lock.watchers;
      const auto mine = std::find_if(watchers.begin(), watchers.end(), [&](const auto& watcher) { return watcher.who == self_; });
      const bool my_turn = mine == watchers.begin() || watchers.empty();
      if (lock.exclusive.pid == 0 && (my_turn || overslept_)) {
        if (mine != watchers.end()) watchers.erase(mine);
        lock.exclusive = self_;
        ++lock.lock_epoch;
        records_.store(encode_g_lock(lock));
        records_.unlock();
        overslept_ = false;
        return;
      }
      if (mine == watchers.end()) {
        watchers.push_back({self_, 0});
        records_.store(encode_g_lock(lock));
      }
      records_.unlock();
      const auto woken = client_.wait_message(wake_srvid_, kLookAgain);
      if (!woken && woken.error().fault != Fault::Busy) die(woken.error().context);
      overslept_ = !woken.has_value();
      if (overslept_) ++missed_;
    }
  }

  void release() {
    records_.fetch_locked(key_);
    GLockValue lock = or_die(decode_g_lock(records_.value()), "the value of the lock");
    if (!(lock.exclusive == self_)) die("somebody else has the lock that this process holds");
    lock.exclusive = {};
    records_.store(encode_g_lock(lock));
    records_.unlock();
    if (lock.watchers.empty()) return;
    const ServerId& next = lock.watchers.front().who;
    or_die(client_.send_message(number(next.vnn), Srvid{0xBEE1000000000000u | next.pid}, "wake"), "message");
  }

  // Times that a message to wake this process did not come.
  [[nodiscard]] std::uint64_t missed() const { return missed_; }

 private:
  ctdb::Client& client_;
  SharedDatabase records_;
  Bytes key_;
  ServerId self_;
  Srvid wake_srvid_;
  bool overslept_ = false;
  std::uint64_t missed_ = 0;
};

}  // namespace

void transactions(ctdb::Client& client, const Options& options) {
  const Pnn own = or_die(client.pnn(), "GET_PNN");
  SharedDatabase database(client, options.database, SharedDatabase::Type::Persistent);
  Lock lock(client, own, database.id());
  const Bytes key = "counter-" + options.tag;
  std::uint64_t value = 0;
  Run run(options);
  for (auto before = Clock::now(); before < run.end();) {
    lock.take();
    RecordBuffer buffer{.database = database.id(), .entries = {}};
    const auto put = [&](BytesView name, auto change) {
      RecordEntry entry;
      entry.key = Bytes(name);
      const bool there = database.fetch(name);
      if (there) entry.header = database.header();
      entry.header.dmaster = own;
      ++entry.header.rsn;
      entry.value = change(there ? BytesView(database.value()) : BytesView{});
      buffer.entries.push_back(std::move(entry));
    };
    put(key, [&](BytesView old) { return counter_value(value = counter_in(old) + 1, options.value_size); });
    put(kSequenceNumberKey, [](BytesView old) {
      return ctdb::encode_u64((old.size() == sizeof(std::uint64_t) ? or_die(ctdb::decode_u64(old), "sequence number") : 0) + 1);
    });
    or_die(client.control_data(ctdb::ControlOpcode::Trans3Commit, ctdb::kCurrentNode, encode_buffer(buffer), kPatience,
                               {.srvid = Srvid{number(database.id())}, .flags = 0}),
           "TRANS3_COMMIT");
    lock.release();
    const auto after = Clock::now();
    run.add(after - before);
    before = after;
  }
  run.tell("value", static_cast<double>(value));
  run.tell("missed wake-ups", static_cast<double>(lock.missed()));
  run.report("txn", own);
}

}  // namespace tdbmesh::bench
