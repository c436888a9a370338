#include "tools/daemon/traverses.h"

#include <gtest/gtest.h>

#include <deque>

#include "db/base/match.h"
#include "db/memory_store.h"
#include "tests/unit/tools/idle_services.h"

namespace tdbmesh {
namespace {

// Three nodes whose relays wait in one queue until the test pumps it.
class Cluster;
class FakeNode final : public IdleServices {
 public:
  FakeNode(Cluster& cluster, Pnn pnn);
  void send_relay(Pnn to, const RelayPayload& payload) override;
  void deliver(Srvid, BytesView data) override { delivered.emplace_back(data); }

  MemoryStore store;
  Database* database = nullptr;
  Traverses traverses;
  std::vector<Bytes> delivered;

 private:
  Cluster& cluster_;
};

class Cluster {
 public:
  Cluster() {
    for (std::uint32_t i = 0; i < 3; ++i) nodes.push_back(std::make_unique<FakeNode>(*this, Pnn{i}));
  }
  void pump() {
    while (!queue.empty()) {
      const auto [from, to, payload] = queue.front();
      queue.pop_front();
      std::visit(Match{
                     [&, f = from, t = to](const RelayTraverse& m) { nodes[number(t)]->traverses.on_message(f, m); },
                     [&, f = from, t = to](const RelayTraverseBatch& m) {
                       largest_batch = std::max(largest_batch, m.records.size());
                       nodes[number(t)]->traverses.on_message(f, m);
                     },
                     [](const auto&) { FAIL(); },
                 },
                 payload);
    }
  }
  std::vector<std::unique_ptr<FakeNode>> nodes;
  std::deque<std::tuple<Pnn, Pnn, RelayPayload>> queue;
  std::size_t largest_batch = 0;
};

FakeNode::FakeNode(Cluster& cluster, Pnn pnn)
    : IdleServices(pnn),
      traverses(*this, [this](DatabaseId id) { return id == database->id() ? database : nullptr; }),
      cluster_(cluster) {
  database = *store.open("locking.tdb", DatabaseKind::Volatile);
}

void FakeNode::send_relay(Pnn to, const RelayPayload& payload) { cluster_.queue.emplace_back(self(), to, payload); }

Traverses::Request request(const FakeNode& node) {
  Traverses::Request r;
  r.client = ClientId{1};
  r.database = node.database->id();
  r.reqid = 4;
  r.srvid = Srvid{9};
  r.deadline = Instant{seconds(20)};
  return r;
}

void put(FakeNode& node, const std::string& key, Pnn dmaster, const std::string& value) {
  ASSERT_TRUE(node.database->try_lock(key));
  ASSERT_TRUE(node.database->store(key, {1, dmaster, 0}, value).has_value());
  node.database->unlock(key);
}

TEST(Traverses, EveryOwnedRecordComesOnceAndThenTheEnd) {
  Cluster cluster;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::string key = "key" + std::to_string(i);
    put(*cluster.nodes[i % 3], key, Pnn{i % 3}, "v");
    put(*cluster.nodes[(i + 1) % 3], key, Pnn{i % 3}, "old copy");  // a backup, somebody else owns it
  }
  put(*cluster.nodes[1], "deleted", Pnn{1}, "");
  cluster.nodes[0]->traverses.start(request(*cluster.nodes[0]));
  cluster.pump();
  auto& delivered = cluster.nodes[0]->delivered;
  ASSERT_EQ(delivered.size(), 1001u);
  EXPECT_EQ(delivered.back(), traverse_entry(4, nullptr));
  EXPECT_EQ(std::set<Bytes>(delivered.begin(), delivered.end()).size(), 1001u);
  EXPECT_LE(cluster.largest_batch, 256u);
}

TEST(Traverses, AMemberThatLeavesEndsItsPart) {
  Cluster cluster;
  put(*cluster.nodes[0], "a", Pnn{0}, "v");
  auto wanted = request(*cluster.nodes[0]);
  cluster.nodes[0]->traverses.start(wanted);
  std::erase_if(cluster.queue, [](const auto& m) { return std::get<1>(m) != Pnn{0}; });  // the others are gone
  cluster.pump();
  EXPECT_EQ(cluster.nodes[0]->delivered.size(), 1u);
  cluster.nodes[0]->traverses.on_deadline(Instant{seconds(20)});
  EXPECT_EQ(cluster.nodes[0]->delivered.back(), traverse_entry(4, nullptr));
  EXPECT_EQ(cluster.nodes[0]->traverses.timeouts(), 1u);
}

TEST(Traverses, ABatchThatWasLostIsAskedForAgainAndNoneIsShownTwice) {
  Cluster cluster;
  for (int i = 0; i < 700; ++i) put(*cluster.nodes[1], "key" + std::to_string(i), Pnn{1}, "v");
  FakeNode& asker = *cluster.nodes[0];
  asker.traverses.start(request(asker));
  std::erase_if(cluster.queue, [](const auto& m) { return std::get<1>(m) == Pnn{1}; });  // the question is lost
  cluster.pump();
  EXPECT_TRUE(asker.delivered.empty());
  asker.traverses.members_changed();
  asker.traverses.members_changed();  // both questions are answered
  cluster.pump();
  ASSERT_EQ(asker.delivered.size(), 701u);
  EXPECT_EQ(std::set<Bytes>(asker.delivered.begin(), asker.delivered.end()).size(), 701u);
}

TEST(Traverses, AClientThatGoesStopsTheSources) {
  Cluster cluster;
  for (int i = 0; i < 2000; ++i) put(*cluster.nodes[1], "key" + std::to_string(i), Pnn{1}, "v");
  cluster.nodes[0]->traverses.start(request(*cluster.nodes[0]));
  cluster.nodes[0]->traverses.client_gone(ClientId{1});
  cluster.pump();
  EXPECT_TRUE(cluster.nodes[0]->delivered.empty());
}

TEST(Traverses, AnUnreadableDatabaseStillEnds) {
  Cluster cluster;
  cluster.nodes[2]->store.faults.failing = true;
  cluster.nodes[0]->traverses.start(request(*cluster.nodes[0]));
  cluster.pump();
  EXPECT_EQ(cluster.nodes[0]->delivered.size(), 1u);
}

}  // namespace
}  // namespace tdbmesh
