// One suite over both stores: what makes the simulator's fake believable.
#include "db/store.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <map>
#include <memory>
#include <set>

#include "db/commit_worker_thread.h"
#include "db/lmdb_store.h"
#include "db/memory_store.h"
#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

RecordHeader header(Rsn rsn) { return {rsn, Pnn{1}, 0}; }

// A store, a commit worker, a client beneath it, and a way to start the daemon again.
struct MemoryFixture {
  MemoryStore memory;
  std::unique_ptr<DatabaseStore> unused;
  DatabaseStore& store() { return memory; }
  void restart() { memory.crash(); }
  Result<void> apply(DurableChange change) {
    memory.worker().submit(1, std::move(change));
    return memory.worker().complete(1).at(0).result;
  }
  bool client_lock(Database& database, BytesView key) { return static_cast<MemoryDatabase&>(database).client_try_lock(key, 7); }
  void client_unlock(Database& database, BytesView key) { static_cast<MemoryDatabase&>(database).client_unlock(key, 7); }
};

struct LmdbFixture {
  TempDir dir;
  std::unique_ptr<LmdbStore> lmdb = start();
  std::unique_ptr<CommitWorkerThread> worker = std::make_unique<CommitWorkerThread>(*lmdb);
  std::unique_ptr<Anchor> client_anchor;
  std::unique_ptr<ChainLocks> client;

  std::unique_ptr<LmdbStore> start() {
    auto made = LmdbStore::create({dir / "volatile", dir / "persistent", dir / "gate", Pnn{1}, 0, ~std::uint64_t{0}});
    if (!made) throw std::runtime_error(made.error().context);
    return std::move(*made);
  }
  DatabaseStore& store() { return *lmdb; }
  void restart() {
    client.reset();
    client_anchor.reset();
    worker.reset();
    lmdb.reset();
    lmdb = start();
    worker = std::make_unique<CommitWorkerThread>(*lmdb);
  }
  Result<void> apply(DurableChange change) {
    worker->submit(1, std::move(change));
    pollfd wanted{worker->fd(), POLLIN, 0};
    ::poll(&wanted, 1, -1);
    return worker->take().at(0).result;
  }
  // A second lock view of the same anchor, with its own mapping, counts as a client.
  ChainLocks& locks(Database& database) {
    if (!client) {
      client_anchor = std::move(*Anchor::open(database.path()));
      client = std::make_unique<ChainLocks>(*client_anchor, LockRole::Client);
    }
    return *client;
  }
  std::uint32_t chain(Database& database, BytesView key) { return lmdb->lmdb(database.id())->chain_of(key); }
  bool client_lock(Database& database, BytesView key) { return locks(database).try_lock(chain(database, key)).has_value(); }
  void client_unlock(Database& database, BytesView key) { (void)locks(database).unlock(chain(database, key)); }
};

template <class Fixture>
class StoreContract : public testing::Test, protected Fixture {
 protected:
  Database& open(const std::string& name, DatabaseKind kind) {
    auto database = this->store().open(name, kind);
    if (!database) throw std::runtime_error(database.error().context);
    return **database;
  }
  static std::map<Bytes, StoredRecord> all(const Database& database, std::size_t batch) {
    std::map<Bytes, StoredRecord> found;
    ScanPosition at;
    for (bool done = false; !done;) {
      const auto part = database.scan(at, batch);
      if (!part) throw std::runtime_error(part.error().context);
      for (const KeyedRecord& record : part->records) EXPECT_TRUE(found.emplace(record.key, record.record).second) << "twice";
      EXPECT_LE(part->records.size(), batch);
      at = part->next;
      done = part->done;
    }
    return found;
  }
};

using Stores = testing::Types<MemoryFixture, LmdbFixture>;
TYPED_TEST_SUITE(StoreContract, Stores);

TYPED_TEST(StoreContract, StoredRecordIsFetchedUntilErased) {
  Database& db = this->open("locking.tdb", DatabaseKind::Volatile);
  EXPECT_EQ(*db.fetch("k"), std::nullopt);
  ASSERT_TRUE(db.store("k", header(3), "value"));
  EXPECT_EQ(*db.fetch("k"), (StoredRecord{header(3), "value"}));
  ASSERT_TRUE(db.store("k", header(4), ""));
  EXPECT_EQ(*db.fetch("k"), (StoredRecord{header(4), ""}));
  EXPECT_EQ(db.record_count(), 1u);
  ASSERT_TRUE(db.erase("k"));
  ASSERT_TRUE(db.erase("k"));
  EXPECT_EQ(*db.fetch("k"), std::nullopt);
  EXPECT_EQ(db.record_count(), 0u);
}

TYPED_TEST(StoreContract, KeysMayHaveAnyBytesAndAnyLengthUpTo64KiB) {
  Database& db = this->open("registry.tdb", DatabaseKind::Volatile);
  const std::vector<Bytes> keys{"", Bytes("\0", 1), Bytes("\0\0", 2), "a", Bytes("a\0", 2), Bytes(511, 'x'), Bytes(512, 'x'), Bytes(kMaxKeySize, '\xff')};
  for (const Bytes& key : keys) ASSERT_TRUE(db.store(key, header(key.size()), key));
  for (const Bytes& key : keys) EXPECT_EQ(*db.fetch(key), (StoredRecord{header(key.size()), key}));
  EXPECT_EQ(db.record_count(), keys.size());
  EXPECT_EQ(db.store(Bytes(kMaxKeySize + 1, 'x'), header(1), "").error().fault, Fault::Malformed);
}

TYPED_TEST(StoreContract, ValuesMayHave64MiB) {
  Database& db = this->open("big.tdb", DatabaseKind::Volatile);
  const Bytes big(kMaxValueSize, 'b');
  ASSERT_TRUE(db.store("k", header(1), big));
  EXPECT_EQ((*db.fetch("k"))->value, big);
  EXPECT_EQ(db.store("k", header(2), big + "x").error().fault, Fault::Malformed);
  EXPECT_EQ((*db.fetch("k"))->header.rsn, 1u);
}

TYPED_TEST(StoreContract, ScanShowsEachRecordOnceWhateverTheBatch) {
  Database& db = this->open("brlock.tdb", DatabaseKind::Volatile);
  std::map<Bytes, StoredRecord> expected;
  for (int i = 0; i < 500; ++i) {
    const Bytes key = "key " + std::to_string(i);
    ASSERT_TRUE(db.store(key, header(static_cast<Rsn>(i)), "v"));
    expected[key] = {header(static_cast<Rsn>(i)), "v"};
  }
  EXPECT_EQ(this->all(db, 1), expected);
  EXPECT_EQ(this->all(db, 64), expected);
  EXPECT_EQ(this->all(db, 500), expected);
  EXPECT_EQ(this->all(db, 1000), expected);
}

TYPED_TEST(StoreContract, ScanOfAnEmptyDatabaseIsDoneAtOnce) {
  const auto batch = this->open("empty.tdb", DatabaseKind::Volatile).scan({}, 10);
  EXPECT_TRUE(batch->done);
  EXPECT_TRUE(batch->records.empty());
}

TYPED_TEST(StoreContract, ScanGoesOnWhileRecordsAreErased) {
  Database& db = this->open("leases.tdb", DatabaseKind::Volatile);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(db.store("k" + std::to_string(i), header(1), "v"));
  std::set<Bytes> seen;
  ScanPosition at;
  for (bool done = false; !done;) {
    const auto batch = db.scan(at, 7);
    for (const KeyedRecord& record : batch->records) {
      EXPECT_TRUE(seen.insert(record.key).second);
      ASSERT_TRUE(db.erase(record.key));
    }
    at = batch->next;
    done = batch->done;
  }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(db.record_count(), 0u);
}

TYPED_TEST(StoreContract, ChainHeldByAClientIsNotForTheDaemon) {
  Database& db = this->open("g_lock.tdb", DatabaseKind::Volatile);
  ASSERT_TRUE(this->client_lock(db, "k"));
  EXPECT_FALSE(db.try_lock("k"));
  this->client_unlock(db, "k");
  ASSERT_TRUE(db.try_lock("k"));
  EXPECT_FALSE(this->client_lock(db, "k"));
  ASSERT_TRUE(db.try_lock("k"));  // counted
  db.unlock("k");
  EXPECT_FALSE(this->client_lock(db, "k"));
  db.unlock("k");
  EXPECT_TRUE(this->client_lock(db, "k"));
  this->client_unlock(db, "k");
}

TYPED_TEST(StoreContract, LocksOfClientsAreCountedThoseOfTheDaemonAreNot) {
  Database& db = this->open("g_lock.tdb", DatabaseKind::Volatile);
  const std::uint64_t before = db.client_locks("k");
  ASSERT_TRUE(db.try_lock("k"));
  db.unlock("k");
  EXPECT_EQ(db.client_locks("k"), before);
  ASSERT_TRUE(this->client_lock(db, "k"));
  EXPECT_EQ(db.client_locks("k"), before + 1);
  this->client_unlock(db, "k");
  EXPECT_EQ(db.client_locks("k"), before + 1);
}

TYPED_TEST(StoreContract, DropAllWaitsForClientsThenEmpties) {
  Database& db = this->open("locking.tdb", DatabaseKind::Volatile);
  ASSERT_TRUE(db.store("k", header(1), "v"));
  ASSERT_TRUE(this->client_lock(db, "other"));
  EXPECT_EQ(db.drop_all().error().fault, Fault::Busy);
  EXPECT_EQ(db.record_count(), 1u);
  this->client_unlock(db, "other");
  ASSERT_TRUE(db.drop_all());
  EXPECT_EQ(db.record_count(), 0u);
  EXPECT_TRUE(this->client_lock(db, "other"));
  this->client_unlock(db, "other");
}

TYPED_TEST(StoreContract, DropAllWorksUnderTheDaemonsOwnLocks) {
  Database& db = this->open("locking.tdb", DatabaseKind::Volatile);
  ASSERT_TRUE(db.try_lock("mine"));
  ASSERT_TRUE(db.drop_all());
  ASSERT_TRUE(db.store("mine", header(1), "v"));
  db.unlock("mine");
}

TYPED_TEST(StoreContract, ChangeInPartsShowsOnlyWhenItIsComplete) {
  using Part = DurableChange::Part;
  Database& db = this->open("secrets.tdb", DatabaseKind::Persistent);
  ASSERT_TRUE(this->apply({db.id(), {Generation{1, 1}, 1}, false, {{0, "old", header(1), "1"}}}));
  const auto part = [&](Part which, const char* key, std::uint64_t seqnum) {
    return this->apply({db.id(), {Generation{1, 2}, seqnum}, true, {{0, key, header(1), "x"}}, which});
  };
  ASSERT_TRUE(part(Part::First, "given up", 5));
  ASSERT_TRUE(part(Part::First, "a", 9));
  ASSERT_TRUE(part(Part::More, "b", 9));
  EXPECT_EQ(db.record_count(), 1u);
  EXPECT_EQ(db.version(), (CopyVersion{Generation{1, 1}, 1}));
  ASSERT_TRUE(part(Part::Last, "c", 9));
  EXPECT_EQ(db.record_count(), 3u);
  EXPECT_EQ(db.version(), (CopyVersion{Generation{1, 2}, 9}));
  for (const char* key : {"a", "b", "c"}) EXPECT_EQ((*db.fetch(key))->value, "x");
  EXPECT_EQ(*db.fetch("old"), std::nullopt);
}

TYPED_TEST(StoreContract, DurableChangeIsAppliedWithItsVersion) {
  Database& db = this->open("secrets.tdb", DatabaseKind::Persistent);
  EXPECT_EQ(db.version(), CopyVersion{});
  const CopyVersion version{Generation{3, 1}, 12};
  ASSERT_TRUE(this->apply({db.id(), version, false, {{0, "a", header(1), "1"}, {0, "b", header(1), ""}, {0, "a", header(2), "2"}}}));
  EXPECT_EQ(db.version(), version);
  EXPECT_EQ(*db.fetch("a"), (StoredRecord{header(2), "2"}));
  EXPECT_EQ(*db.fetch("b"), (StoredRecord{header(1), ""}));
}

TYPED_TEST(StoreContract, ReplaceAllForgetsWhatWasThere) {
  Database& db = this->open("secrets.tdb", DatabaseKind::Persistent);
  ASSERT_TRUE(this->apply({db.id(), {Generation{1, 1}, 1}, false, {{0, "old", header(1), "1"}, {0, "both", header(1), "1"}}}));
  ASSERT_TRUE(this->apply({db.id(), {Generation{2, 1}, 9}, true, {{0, "both", header(5), "5"}}}));
  EXPECT_EQ(this->all(db, 10), (std::map<Bytes, StoredRecord>{{"both", {header(5), "5"}}}));
  EXPECT_EQ(db.version(), (CopyVersion{Generation{2, 1}, 9}));
}

TYPED_TEST(StoreContract, ChangeWithAnImpossibleRecordIsRefusedAsAWhole) {
  Database& db = this->open("secrets.tdb", DatabaseKind::Persistent);
  const auto result = this->apply({db.id(), {Generation{1, 1}, 1}, false, {{0, "a", header(1), "1"}, {0, Bytes(kMaxKeySize + 1, 'k'), header(1), "1"}}});
  ASSERT_FALSE(result);
  EXPECT_EQ(db.record_count(), 0u);
  EXPECT_EQ(db.version(), CopyVersion{});
}

TYPED_TEST(StoreContract, ChangeOfAnUnknownDatabaseIsReported) {
  EXPECT_EQ(this->apply({DatabaseId{12345}, {}, false, {}}).error().fault, Fault::NotFound);
}

TYPED_TEST(StoreContract, OnlyPersistentDataSurvivesTheDaemon) {
  {
    Database& persistent = this->open("secrets.tdb", DatabaseKind::Persistent);
    Database& replicated = this->open("replicated.tdb", DatabaseKind::Replicated);
    Database& gone = this->open("locking.tdb", DatabaseKind::Volatile);
    ASSERT_TRUE(this->apply({persistent.id(), {Generation{1, 1}, 7}, false, {{0, "a", header(1), "1"}}}));
    ASSERT_TRUE(this->apply({replicated.id(), {Generation{1, 1}, 7}, false, {{0, "a", header(1), "1"}}}));
    ASSERT_TRUE(gone.store("k", header(1), "v"));
    EXPECT_EQ(replicated.record_count(), 1u);
  }
  this->restart();
  const auto existing = this->store().existing();
  ASSERT_TRUE(existing);
  EXPECT_EQ(*existing, (std::vector<std::pair<std::string, DatabaseKind>>{{"secrets.tdb", DatabaseKind::Persistent}}));
  Database& persistent = this->open("secrets.tdb", DatabaseKind::Persistent);
  EXPECT_EQ(*persistent.fetch("a"), (StoredRecord{header(1), "1"}));
  EXPECT_EQ(persistent.version(), (CopyVersion{Generation{1, 1}, 7}));
  EXPECT_EQ(this->open("replicated.tdb", DatabaseKind::Replicated).record_count(), 0u);
  EXPECT_EQ(this->open("replicated.tdb", DatabaseKind::Replicated).version(), CopyVersion{});
  EXPECT_EQ(this->open("locking.tdb", DatabaseKind::Volatile).record_count(), 0u);
}

TYPED_TEST(StoreContract, OpenedTwiceIsTheSameDatabaseAndKindsDoNotMix) {
  Database& db = this->open("a.tdb", DatabaseKind::Volatile);
  EXPECT_EQ(&this->open("a.tdb", DatabaseKind::Volatile), &db);
  EXPECT_EQ(this->store().open("a.tdb", DatabaseKind::Persistent).error().fault, Fault::Exists);
  EXPECT_EQ(this->store().open("../a.tdb", DatabaseKind::Volatile).error().fault, Fault::Malformed);
  EXPECT_EQ(this->store().open("", DatabaseKind::Volatile).error().fault, Fault::Malformed);
}

TYPED_TEST(StoreContract, RemovedDatabaseComesBackEmpty) {
  Database& db = this->open("a.tdb", DatabaseKind::Volatile);
  ASSERT_TRUE(db.store("k", header(1), "v"));
  const DatabaseId id = db.id();
  ASSERT_TRUE(this->store().remove(id));
  EXPECT_EQ(this->store().remove(id).error().fault, Fault::NotFound);
  EXPECT_EQ(this->open("a.tdb", DatabaseKind::Volatile).record_count(), 0u);
}

TYPED_TEST(StoreContract, SeqnumCountsChangesOnceEnabled) {
  Database& db = this->open("locking.tdb", DatabaseKind::Volatile);
  const std::uint32_t before = db.seqnum();
  ASSERT_TRUE(db.store("k", header(1), "v"));
  EXPECT_EQ(db.seqnum(), before);
  db.enable_seqnum();
  EXPECT_TRUE(db.seqnum_enabled());
  ASSERT_TRUE(db.store("k", header(2), "v"));
  EXPECT_EQ(db.seqnum(), before + 1);
  ASSERT_TRUE(db.store("k", header(2), "v"));  // the same bytes count as well
  EXPECT_EQ(db.seqnum(), before + 2);
  db.bump_seqnum();
  EXPECT_EQ(db.seqnum(), before + 3);
}

TEST(MemoryStore, CrashForgetsWhatWasNotOnDiskYet) {
  MemoryStore store;
  Database* db = *store.open("secrets.tdb", DatabaseKind::Persistent);
  for (std::uint64_t n = 1; n <= 3; ++n) {
    store.worker().submit(n, {db->id(), {Generation{1, 1}, n}, false, {{0, "k" + std::to_string(n), header(n), "v"}}});
  }
  ASSERT_EQ(store.worker().complete(1).size(), 1u);
  store.crash(1);
  EXPECT_EQ(store.worker().queued(), 0u);
  db = *store.open("secrets.tdb", DatabaseKind::Persistent);
  EXPECT_EQ(db->version().seqnum, 2u);
  EXPECT_EQ(db->record_count(), 2u);
}

TEST(MemoryStore, FaultsHitWritesAndReads) {
  MemoryStore store;
  Database* db = *store.open("a.tdb", DatabaseKind::Volatile);
  ASSERT_TRUE(db->store("k", header(1), "v"));
  store.faults.full = true;
  EXPECT_EQ(db->store("k", header(2), "v").error().fault, Fault::StoreFull);
  EXPECT_TRUE(db->fetch("k"));
  store.faults.failing = true;
  EXPECT_EQ(db->fetch("k").error().fault, Fault::Io);
}

TEST(MemoryStore, ClientWhoseDatabaseWasEmptiedCannotWrite) {
  MemoryStore store(1);
  auto* db = static_cast<MemoryDatabase*>(*store.open("a.tdb", DatabaseKind::Volatile));
  ASSERT_TRUE(db->client_try_lock("k", 5));
  EXPECT_FALSE(db->try_lock("any other key"));  // one chain only
  EXPECT_TRUE(db->client_store("k", 5, header(1), "v"));
  db->client_died(5);
  ASSERT_TRUE(db->drop_all());
  EXPECT_EQ(db->client_store("k", 5, header(1), "v").error().fault, Fault::Refused);
}

}  // namespace
}  // namespace tdbmesh
