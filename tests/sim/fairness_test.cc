// Many nodes, one record: each node's client writes it again as soon as it can. How the turns are shared out, and that a
// granted record is used before it moves on. Virtual time: the figures are the same on every machine.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/sim/node_cluster.h"
#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {
namespace {

const std::string kName = "hot.tdb";
const Bytes kKey = "the record";

// Locks the chain, looks, and either counts the record up or has it fetched: what Samba does, without a pause.
class Eager final : public SimClient {
 public:
  Eager(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) { want({kName, DatabaseKind::Volatile, false}); }
  void start_round() override {}
  [[nodiscard]] bool round_done() const override { return true; }
  [[nodiscard]] std::uint64_t written() const { return written_; }
  [[nodiscard]] Duration longest_wait() const { return longest_wait_; }

 private:
  void ready() override {
    since_ = cluster_.world().now();
    go();
  }
  void go() {
    lock(id_of(kName), kKey, [this] { locked(); });
  }
  void locked() {
    MemoryDatabase* db = database(id_of(kName));
    if (db == nullptr) return;
    const auto found = db->fetch(kKey);
    if (found && *found && (*found)->header.dmaster == node_.pnn()) {
      return later(kHold, [this, record = **found] { store(record); });
    }
    unlock(id_of(kName), kKey);
    ctdb::ReqCall call;
    call.flags = ctdb::kCallImmediateMigration;
    call.database = id_of(kName);
    call.callid = ctdb::CallId::Null;
    call.key = kKey;
    request(call, [this](const ctdb::Packet&) { go(); });
  }
  void store(const StoredRecord& record) {
    MemoryDatabase* db = database(id_of(kName));
    if (db == nullptr) return;
    ASSERT_TRUE(client_store(*db, kKey, record.header, std::to_string(++written_)));
    unlock(id_of(kName), kKey);
    longest_wait_ = std::max(longest_wait_, Duration(cluster_.world().now() - since_));
    since_ = cluster_.world().now();
    later(kHold, [this] { go(); });
  }

  static constexpr Duration kHold{10};
  std::uint64_t written_ = 0;
  Duration longest_wait_{0};
  Instant since_{};
};

class Fairness : public testing::TestWithParam<std::size_t> {};

TEST_P(Fairness, EachNodeHasItsShareOfAHotRecord) {
  const std::size_t nodes = GetParam();
  ClusterSettings settings;
  settings.nodes = nodes;
  settings.record_clients = settings.commit_clients = settings.talk_clients = 0;
  NodeCluster cluster(1, settings);
  std::vector<Eager*> clients;
  for (std::uint32_t n = 0; n < nodes; ++n) {
    auto client = std::make_unique<Eager>(cluster, cluster.node(Pnn{n}));
    clients.push_back(client.get());
    cluster.node(Pnn{n}).add_client(std::move(client));
  }
  ASSERT_TRUE(cluster.run_for(seconds(10), [&] {
    return cluster.well() && std::all_of(clients.begin(), clients.end(), [](Eager* c) { return c->written() > 0; });
  })) << cluster.violation();
  struct Count {
    std::uint64_t written, grants, handed_over;
  };
  const auto look = [&](std::uint32_t n) {
    const RecordCounters counters = cluster.node(Pnn{n}).node().records().counters();
    return Count{clients[n]->written(), counters.grants_in, counters.handed_over};
  };
  std::vector<Count> before;
  for (std::uint32_t n = 0; n < nodes; ++n) before.push_back(look(n));
  const std::int64_t lasting = 10;
  (void)cluster.run_for(seconds(lasting), nullptr);
  ASSERT_EQ(cluster.violation(), "");

  std::vector<Count> after;
  std::uint64_t written = 0, grants = 0;
  for (std::uint32_t n = 0; n < nodes; ++n) {
    after.push_back(look(n));
    written += after[n].written - before[n].written;
    grants += after[n].grants - before[n].grants;
  }
  fmt::print("{} nodes: {} grants/s, {} writes/s; share of writes:", nodes, grants / lasting, written / lasting);
  for (std::uint32_t n = 0; n < nodes; ++n) {
    const std::uint64_t mine = after[n].written - before[n].written;
    fmt::print(" {:.1f} %", 100.0 * static_cast<double>(mine) / static_cast<double>(written));
    EXPECT_GE(mine * nodes * 2, written) << "node " << n << " has less than half of its fair share";
    EXPECT_GE((after[n].grants - before[n].grants) * nodes * 2, grants) << "node " << n;
    // Every stay here was used, except perhaps the one that has just begun.
    EXPECT_GE(mine + 1, after[n].handed_over - before[n].handed_over) << "node " << n;
  }
  Duration longest{0};
  for (const Eager* client : clients) longest = std::max(longest, client->longest_wait());
  fmt::print("; longest wait {:.1f} ms\n", static_cast<double>(longest.count()) / 1000);
}

INSTANTIATE_TEST_SUITE_P(Nodes, Fairness, testing::Values(3, 5));

}  // namespace
}  // namespace tdbmesh::sim
