// What only the real store (LMDB, and the heap of volatile databases) has to stand: several processes, kills, fork, full disks, large maps, damaged files.
#include "db/lmdb_database.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "db/base/random.h"
#include "db/chain_waiter.h"
#include "db/commit_worker_thread.h"
#include "db/lmdb_store.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

namespace fs = std::filesystem;
using Role = LmdbDatabase::Role;

AnchorSettings settings_at(const std::string& path, DatabaseKind kind, std::uint64_t map_size = 0) {
  AnchorSettings s;
  s.name = fs::path(path).filename().string();
  s.kind = kind;
  s.data_dir = path + ".lmdb";
  s.gate_path = "/nonexistent/gate";
  s.identity = 11;
  s.hash_seed = 22;
  s.map_size = map_size;
  return s;
}

std::unique_ptr<LmdbDatabase> must_open(const std::string& path, Role role = Role::Client) {
  auto database = LmdbDatabase::open(path, role);
  if (!database) throw std::runtime_error(database.error().context);
  return std::move(*database);
}

std::unique_ptr<LmdbDatabase> make(const std::string& path, DatabaseKind kind, std::uint64_t map_size = 0,
                                   std::uint64_t hash_mask = ~std::uint64_t{0}, std::uint32_t chain_count = kDefaultChainCount) {
  AnchorSettings s = settings_at(path, kind, map_size);
  s.hash_mask = hash_mask;
  s.chain_count = chain_count;
  if (auto made = LmdbDatabase::create(path, s); !made) throw std::runtime_error(made.error().context);
  return must_open(path);
}

std::map<Bytes, Bytes> all(LmdbDatabase& database) {
  std::map<Bytes, Bytes> found;
  std::uint64_t at = 0;
  for (bool done = false; !done;) {
    auto batch = database.scan(at, 50);
    if (!batch) throw std::runtime_error(batch.error().context);
    for (LmdbItem& item : batch->items) EXPECT_TRUE(found.emplace(std::move(item.key), std::move(item.value)).second);
    at = batch->next;
    done = batch->done;
  }
  return found;
}

std::set<std::string> descriptors_without_cloexec() {
  std::set<std::string> found;
  for (const auto& item : fs::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(item.path().filename().string());
    std::error_code error;
    const std::string target = fs::read_symlink(item.path(), error).string();
    if (fd > 2 && (::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 && target.find("tdbmesh-test") != std::string::npos) found.insert(target);
  }
  return found;
}

std::string kind_name(const testing::TestParamInfo<DatabaseKind>& info) {
  if (info.param == DatabaseKind::Persistent) return "Persistent";
  return info.param == DatabaseKind::Volatile ? "Volatile" : "Replicated";
}

// Where the records of a database are.
std::vector<std::string> data_files(DatabaseKind kind) {
  if (kind == DatabaseKind::Volatile) return {"/heap"};
  return {"/data.mdb", "/lock.mdb"};
}

class Lmdb : public testing::TestWithParam<DatabaseKind> {
 protected:
  TempDir dir{in_memory()};  // the kills here end processes, not the machine
  std::string path = dir / "test.tdb.0";
};

INSTANTIATE_TEST_SUITE_P(Kinds, Lmdb, testing::Values(DatabaseKind::Volatile, DatabaseKind::Replicated, DatabaseKind::Persistent), kind_name);

TEST_P(Lmdb, KeysWithOneHashLiveSideBySide) {
  const auto db = make(path, GetParam(), 0, 0x300);  // four hashes for all keys
  std::map<Bytes, Bytes> expected;
  Random random(5);
  for (int step = 0; step < 1500; ++step) {
    const Bytes key = "key " + std::to_string(random.below(300));
    if (random.chance(3)) {
      EXPECT_EQ(*db->erase(key), expected.erase(key) == 1);
    } else {
      const Bytes value = std::to_string(step);
      ASSERT_TRUE(db->store(key, value));
      expected[key] = value;
    }
    if (step % 100 == 0) {
      ASSERT_EQ(all(*db), expected);
    }
  }
  EXPECT_EQ(all(*db), expected);
  EXPECT_EQ(*db->record_count(), expected.size());
  for (int i = 0; i < 300; ++i) {
    const Bytes key = "key " + std::to_string(i);
    EXPECT_EQ(*db->exists(key), expected.contains(key));
  }
  std::set<Bytes> walked;
  for (auto key = *db->first_key(); key; key = *db->next_key(*key)) EXPECT_TRUE(walked.insert(*key).second);
  EXPECT_EQ(walked.size(), expected.size());
  EXPECT_TRUE(db->check());
}

TEST_P(Lmdb, MoreKeysOnOneHashThanSlotsIsAnErrorForThatKeyOnly) {
  const auto db = make(path, GetParam(), 0, 0x100, 1);  // one chain, two hashes
  if (GetParam() == DatabaseKind::Persistent) {
    ASSERT_TRUE(db->begin());
  }
  int stored = 0;
  for (int i = 0; i < 700; ++i) stored += db->store(std::to_string(i), "v").has_value() ? 1 : 0;
  if (GetParam() == DatabaseKind::Persistent) {
    EXPECT_FALSE(db->commit());  // a transaction is all or nothing
    EXPECT_EQ(*db->record_count(), 0u);
  } else {
    EXPECT_EQ(*db->record_count(), static_cast<std::uint64_t>(stored));
    EXPECT_GE(stored, 256);
    EXPECT_LT(stored, 700);
  }
}

TEST_P(Lmdb, InsertAndModifyRespectWhatIsThere) {
  const auto db = make(path, GetParam());
  EXPECT_EQ(db->store("k", "v", StoreMode::Modify).error().fault, Fault::NotFound);
  ASSERT_TRUE(db->store("k", "v", StoreMode::Insert));
  EXPECT_EQ(db->store("k", "w", StoreMode::Insert).error().fault, Fault::Exists);
  EXPECT_EQ(db->store("k", "v", StoreMode::Insert).error().fault, Fault::Exists);
  ASSERT_TRUE(db->store("k", "x", StoreMode::Modify));
  EXPECT_EQ(**db->fetch("k"), "x");
}

TEST_P(Lmdb, ValueIsTheConcatenationOfItsParts) {
  const auto db = make(path, GetParam());
  const BytesView parts[] = {"head", "", "body"};
  ASSERT_TRUE(db->store("k", parts));
  EXPECT_EQ(**db->fetch("k"), "headbody");
  ASSERT_TRUE(db->store("empty", ""));
  EXPECT_EQ(**db->fetch("empty"), "");
  EXPECT_TRUE(*db->exists("empty"));
}

TEST_P(Lmdb, TheSameBytesAreNotWrittenAgainButCounted) {
  const auto db = make(path, GetParam());
  db->enable_seqnum();
  ASSERT_TRUE(db->store("k", "v"));
  const std::uint64_t generation = db->generation();
  const std::uint32_t seqnum = db->seqnum();
  ASSERT_TRUE(db->store("k", "v"));
  EXPECT_EQ(db->generation(), generation);
  EXPECT_EQ(db->seqnum(), seqnum + 1);
  EXPECT_FALSE(*db->erase("nothing"));
  EXPECT_EQ(db->seqnum(), seqnum + 1);
}

TEST_P(Lmdb, TransactionIsSeenByItsOwnerFirstAndByAllAfterCommit) {
  const auto db = make(path, GetParam());
  db->enable_seqnum();
  ASSERT_TRUE(db->store("k", "old"));
  const std::uint32_t seqnum = db->seqnum();
  const auto seen_elsewhere = [&](const Bytes& expected, std::uint32_t expected_seqnum) {
    // Forked: the same object, which must find its way back to the committed state.
    ChildProcess child([&] {
      if (db->in_transaction()) return 1;
      if (**db->fetch("k") != expected) return 2;
      return db->seqnum() == expected_seqnum ? 0 : 3;
    });
    EXPECT_EQ(child.wait(), 0);
  };
  ASSERT_TRUE(db->begin());
  ASSERT_TRUE(db->store("k", "new"));
  ASSERT_TRUE(db->store("l", "new"));
  EXPECT_EQ(**db->fetch("k"), "new");
  EXPECT_EQ(all(*db).size(), 2u);
  EXPECT_EQ(db->seqnum(), seqnum + 2);
  seen_elsewhere("old", seqnum);
  db->cancel();
  EXPECT_EQ(**db->fetch("k"), "old");
  EXPECT_EQ(db->seqnum(), seqnum);
  ASSERT_TRUE(db->begin());
  ASSERT_TRUE(db->store("k", "new"));
  ASSERT_TRUE(db->commit());
  seen_elsewhere("new", seqnum + 1);
}

TEST_P(Lmdb, WriterInAnotherProcessIsWaitedForOrBusy) {
  const auto db = make(path, GetParam());
  Signpost begun;
  ChildProcess child([&] {
    if (!db->begin()) return 1;
    begun.post();
    ::pause();
    return 0;
  });
  begun.wait();
  EXPECT_EQ(db->try_begin().error().fault, Fault::Busy);
  child.kill_and_wait();
  EXPECT_TRUE(db->try_begin());
  EXPECT_TRUE(db->store("k", "v"));
  EXPECT_TRUE(db->commit());
}

TEST_P(Lmdb, DaemonDoesNotWaitLongForAStoppedWriter) {
  make(path, GetParam()).reset();
  Signpost begun;
  ChildProcess child([&] {
    const auto mine = must_open(path);
    if (!mine->begin()) return 1;
    begun.post();
    ::pause();
    return 0;
  });
  begun.wait();
  const auto daemon = must_open(path, Role::Daemon);
  EXPECT_EQ(daemon->store("k", "v").error().fault, Fault::Busy);
  child.kill_and_wait();
  EXPECT_TRUE(daemon->store("k", "v"));
}

TEST_P(Lmdb, SecondOpenInOneProcessIsBusy) {
  const auto db = make(path, GetParam());
  EXPECT_TRUE(LmdbDatabase::same_file_open(path));
  EXPECT_EQ(LmdbDatabase::open(path, Role::Client).error().fault, Fault::Busy);
  fs::create_hard_link(path, dir / "other name");
  EXPECT_EQ(LmdbDatabase::open(dir / "other name", Role::Client).error().fault, Fault::Busy);
}

TEST_P(Lmdb, RenamedAnchorFindsItsDataAndMovedDirectoryToo) {
  ASSERT_TRUE(make(path, GetParam())->store("k", "v"));
  fs::create_directory(dir / "elsewhere");
  fs::rename(path, dir / "elsewhere/renamed");
  EXPECT_EQ(**must_open(dir / "elsewhere/renamed")->fetch("k"), "v");
  fs::rename(dir / "elsewhere/renamed", dir / "renamed");
  EXPECT_EQ(**must_open(dir / "renamed")->fetch("k"), "v");
}

TEST_P(Lmdb, DataFilesArePrivateAndNoDescriptorSurvivesExec) {
  const auto db = make(path, GetParam());
  ASSERT_TRUE(db->store("k", "v"));
  ASSERT_EQ(::fchmod(db->fd(), 0644), 0);  // what a client does to the anchor does not open the data
  for (const std::string& file : data_files(GetParam())) {
    struct stat st {};
    ASSERT_EQ(::stat((path + ".lmdb" + file).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0077, 0u) << file;
  }
  EXPECT_EQ(descriptors_without_cloexec(), std::set<std::string>{});
}

TEST_P(Lmdb, ForkedChildReadsAndWritesAndTheParentGoesOn) {
  const auto db = make(path, GetParam());
  ASSERT_TRUE(db->store("k", "parent"));
  const auto inside = db->parse("k", [&](BytesView held) {
    // The parent reads, and holds a chain while the child works.
    ASSERT_NE(db->chain_of("k"), db->chain_of("held"));
    ASSERT_TRUE(db->lock("held"));
    ChildProcess child([&] {
      if (!db->reopen()) return 1;
      if (db->try_lock("held")) return 2;
      for (int i = 0; i < 200; ++i) {
        if (!db->store("k", "child " + std::to_string(i))) return 3;
      }
      return **db->fetch("k") == "child 199" ? 0 : 4;
    });
    EXPECT_EQ(child.wait(), 0);
    EXPECT_EQ(held, "parent");  // what it reads was not reused
    EXPECT_TRUE(db->unlock("held"));
  });
  ASSERT_TRUE(inside);
  EXPECT_EQ(**db->fetch("k"), "child 199");
  EXPECT_TRUE(db->store("k", "parent again"));
  EXPECT_TRUE(db->check());
}

TEST_P(Lmdb, ChildOfAChildWorksToo) {
  const auto db = make(path, GetParam());
  ASSERT_TRUE(db->store("n", "0"));
  ChildProcess child([&] {
    if (!db->store("n", "1")) return 1;
    ChildProcess grandchild([&] { return db->store("n", "2") ? 0 : 1; });
    if (grandchild.wait() != 0) return 2;
    return **db->fetch("n") == "2" ? 0 : 3;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(**db->fetch("n"), "2");
}

TEST_P(Lmdb, EmptiedUnderALockedChainRefusesTheWrite) {
  make(path, GetParam()).reset();
  Signpost locked, emptied;
  ChildProcess client([&] {
    const auto mine = must_open(path);
    if (!mine->lock("k") || !mine->store("k", "1")) return 1;
    locked.post();
    emptied.wait();
    const auto refused = mine->store("k", "2");
    if (refused || refused.error().fault != Fault::Refused) return 2;
    if (!mine->unlock("k") || !mine->lock("k")) return 3;
    return mine->store("k", "3") ? 0 : 4;
  });
  locked.wait();
  const auto daemon = must_open(path, Role::Daemon);
  ASSERT_TRUE(daemon->drop_all());  // without the chains: what the epoch is there for
  EXPECT_EQ(*daemon->record_count(), 0u);
  emptied.post();
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(**daemon->fetch("k"), "3");
}

TEST_P(Lmdb, FullMapGrowsForAllProcesses) {
  make(path, GetParam(), 256 * 1024).reset();
  Signpost grow, grown;
  ChildProcess other([&] {
    const auto mine = must_open(path);
    if (!mine->store("first", "1")) return 1;
    grow.post();
    grown.wait();
    if ((*mine->fetch("big 39"))->size() != 100'000) return 2;  // beyond the map that this process knows
    if (!mine->store("from child", Bytes(300'000, 'c'))) return 3;
    return mine->check() ? 0 : 4;
  });
  grow.wait();
  const auto db = must_open(path);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(db->store("big " + std::to_string(i), Bytes(100'000, 'b'))) << i;
  EXPECT_GT(db->map_size(), 4'000'000u);
  grown.post();
  EXPECT_EQ(other.wait(), 0);
  EXPECT_EQ((*db->fetch("from child"))->size(), 300'000u);
  EXPECT_EQ(**db->fetch("first"), "1");
  EXPECT_EQ(*db->record_count(), 42u);
  EXPECT_TRUE(db->check());
}

TEST_P(Lmdb, TransactionLargerThanTheMapFailsWholeAndFitsWhenRepeated) {
  const auto db = make(path, GetParam(), 256 * 1024);
  ASSERT_TRUE(db->store("k", "v"));
  int rounds = 0;
  for (bool committed = false; !committed; ++rounds) {
    ASSERT_LT(rounds, 10);
    ASSERT_TRUE(db->begin());
    for (int i = 0; i < 10; ++i) (void)db->store(std::to_string(i), Bytes(100'000, 'x'));
    committed = db->commit().has_value();
    EXPECT_EQ(*db->record_count(), committed ? 11u : 1u);
  }
  if (GetParam() != DatabaseKind::Volatile) {
    EXPECT_GT(rounds, 1);  // a heap has no map that could be too small
  }
}

TEST_P(Lmdb, BigValuesComeAndGoWithoutGrowingForEver) {
  // A disk should not have to take the largest values durably, again and again.
  const bool costly = GetParam() == DatabaseKind::Persistent && !dir.is_in_memory();
  const std::size_t size = costly ? kMaxValueSize / 32 : kMaxValueSize;
  const auto db = make(path, GetParam(), 1 << 20);
  const Bytes big(size, 'x');
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(db->store("k", big.substr(static_cast<std::size_t>(i))));
  }
  EXPECT_EQ((*db->fetch("k"))->size(), size - 3);
  EXPECT_LT(db->map_size(), 8 * size);
}

TEST_P(Lmdb, MissingOrForeignDataIsCorruptNotEmpty) {
  make(path, GetParam(), 1 << 20).reset();  // the file is copied below
  const std::string other = dir / "other.tdb.0";
  AnchorSettings s = settings_at(other, GetParam(), 1 << 20);
  s.identity = 99;
  ASSERT_TRUE(LmdbDatabase::create(other, s));
  const std::string file = ".lmdb" + data_files(GetParam()).front();
  fs::remove(path + file);
  EXPECT_EQ(LmdbDatabase::open(path, Role::Client).error().fault, Fault::StoreCorrupt);
  EXPECT_FALSE(fs::exists(path + file));
  fs::copy_file(other + file, path + file);
  EXPECT_EQ(LmdbDatabase::open(path, Role::Client).error().fault, Fault::StoreCorrupt);
}

TEST_P(Lmdb, RetiredAnchorRefusesEverything) {
  const auto db = make(path, GetParam());
  ASSERT_TRUE(db->store("k", "v"));
  db->anchor().retire();
  EXPECT_EQ(db->store("k", "w").error().fault, Fault::Refused);
  EXPECT_EQ(db->store("k", "v").error().fault, Fault::Refused);
  EXPECT_EQ(db->lock("k").error().fault, Fault::Refused);
  EXPECT_EQ(db->fetch("k").error().fault, Fault::Refused);
}

TEST_P(Lmdb, InspectorReadsButDoesNotWrite) {
  ASSERT_TRUE(make(path, GetParam())->store("k", "v"));
  const auto db = must_open(path, Role::Inspector);
  EXPECT_EQ(**db->fetch("k"), "v");
  EXPECT_EQ(db->store("k", "w").error().fault, Fault::Refused);
  EXPECT_EQ(db->begin().error().fault, Fault::Refused);
}

// Four writers count under chain locks while others of their kind are killed: no count is lost but the one under way,
// no record is torn, nobody gets stuck.
TEST_P(Lmdb, KilledWritersTearNothingAndBlockNobody) {
  make(path, GetParam()).reset();
  const int kills = GetParam() == DatabaseKind::Persistent ? 20 : 40;
  constexpr int kKeys = 5;
  const auto work = [&](std::uint64_t seed, int rounds) {
    const auto db = must_open(path);
    Random random(seed);
    for (int i = 0; rounds == 0 || i < rounds; ++i) {
      const Bytes key = "counter " + std::to_string(random.below(kKeys));
      if (!db->lock(key)) return 1;
      const auto old = db->fetch(key);
      if (!old) return 2;
      // A value is its number, repeated: torn ones show.
      std::uint64_t n = 0;
      if (*old) {
        const Bytes& value = **old;
        const Bytes number = value.substr(0, value.find(';'));
        n = std::stoull(number);
        for (std::size_t at = 0; at < value.size(); at += number.size() + 1) {
          if (value.compare(at, number.size() + 1, number + ";") != 0) return 3;
        }
      }
      Bytes value;
      const std::size_t size = 100 + random.below(6000);
      while (value.size() < size) value += std::to_string(n + 1) + ";";
      if (!db->store(key, value)) return 4;
      if (random.chance(20) && !db->erase("other " + std::to_string(random.below(50)))) return 5;
      if (random.chance(20) && !db->store("other " + std::to_string(random.below(50)), Bytes(random.below(9000), 'o'))) return 6;
      if (!db->unlock(key)) return 7;
    }
    return 0;
  };
  ChildProcess survivor([&] { return work(1, 0); });
  Random random(2);
  for (int kill = 0; kill < kills; ++kill) {
    ChildProcess victim([&] { return work(100 + static_cast<std::uint64_t>(kill), 0); });
    ::usleep(static_cast<useconds_t>(3000 + random.below(15000)));  // the random moment is the test
    ASSERT_EQ(victim.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
  }
  ASSERT_EQ(survivor.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
  ChildProcess after([&] { return work(3, 200); });
  EXPECT_EQ(after.wait(), 0);
  const auto db = must_open(path);
  EXPECT_TRUE(db->check());
  for (std::uint32_t chain = 0; chain < db->anchor().chain_count(); ++chain) {
    ASSERT_TRUE(db->locks().try_lock(chain)) << chain;
    ASSERT_TRUE(db->locks().unlock(chain));
  }
}

TEST_P(Lmdb, CountersOfManyProcessesLoseNothing) {
  make(path, GetParam()).reset();
  const int rounds = GetParam() == DatabaseKind::Volatile ? 500 : 50;
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int c = 0; c < 8; ++c) {
    children.push_back(std::make_unique<ChildProcess>([&] {
      const auto db = must_open(path);
      for (int i = 0; i < rounds; ++i) {
        if (!db->lock("n")) return 1;
        const auto old = db->fetch("n");
        if (!old) return 2;
        if (!db->store("n", std::to_string(*old ? std::stoi(**old) + 1 : 1))) return 3;
        if (!db->unlock("n")) return 4;
      }
      return 0;
    }));
  }
  for (auto& child : children) EXPECT_EQ(child->wait(), 0);
  EXPECT_EQ(**must_open(path)->fetch("n"), std::to_string(8 * rounds));
}

class SmallDisk : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a small tmpfs";
    if (::mount("tdbmesh-test", dir.path().c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "cannot mount a tmpfs here";
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) {
      ::umount2(dir.path().c_str(), MNT_DETACH);
    }
  }
  TempDir dir;
  bool mounted_ = false;
};

INSTANTIATE_TEST_SUITE_P(Kinds, SmallDisk, testing::Values(DatabaseKind::Volatile, DatabaseKind::Replicated, DatabaseKind::Persistent), kind_name);

TEST_P(SmallDisk, FullDiskIsAnErrorOfThatOperationAndLosesNothing) {
  const std::string path = dir / "test.tdb.0";
  const auto db = make(path, GetParam());
  std::map<Bytes, Bytes> expected;
  bool full = false;
  for (int i = 0; i < 2000 && !full; ++i) {
    const Bytes key = "key " + std::to_string(i);
    const Bytes value(10'000, static_cast<char>('a' + i % 26));
    const auto stored = db->store(key, value);
    if (stored) {
      expected[key] = value;
    } else {
      full = true;
      EXPECT_EQ(stored.error().fault, Fault::StoreFull) << stored.error().context;
    }
  }
  ASSERT_TRUE(full);
  EXPECT_GT(expected.size(), 50u);
  EXPECT_EQ(all(*db), expected);
  // Somebody else fills what is left, to the last block.
  std::ofstream filler(dir / "filler");
  while (filler.write(Bytes(4096, 'f').data(), 4096).flush()) {
  }
  EXPECT_EQ(db->store("one more", Bytes(100'000, 'x')).error().fault, Fault::StoreFull);
  EXPECT_EQ(LmdbDatabase::create(dir / "another.tdb.0", settings_at(dir / "another.tdb.0", GetParam())).error().fault, Fault::StoreFull);
  EXPECT_EQ(all(*db), expected);
  fs::remove(dir / "filler");
  filler.close();
  // With room again it goes on.
  const Bytes last = expected.rbegin()->first;
  EXPECT_TRUE(db->erase(last));
  expected.erase(last);
  EXPECT_TRUE(db->store("small", "v"));
  expected["small"] = "v";
  EXPECT_EQ(all(*db), expected);
  EXPECT_TRUE(db->check());
}

TEST(LmdbMany, TwoThousandHandlesInFortyProcesses) {
  TempDir dir(in_memory());
  constexpr int kDatabases = 50;
  constexpr int kProcesses = 40;
  std::vector<std::string> paths;
  for (int i = 0; i < kDatabases; ++i) {
    paths.push_back(dir / ("db" + std::to_string(i) + ".tdb.0"));
    make(paths.back(), DatabaseKind::Volatile, 64 << 20).reset();
  }
  Signpost ready, go;
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(std::make_unique<ChildProcess>([&, p] {
      std::vector<std::unique_ptr<LmdbDatabase>> open;
      for (const std::string& path : paths) open.push_back(must_open(path));
      for (auto& db : open) {
        if (!db->fetch("k")) return 1;
      }
      ready.post();
      go.wait();  // all 2,000 are open, each with its reader slot
      for (auto& db : open) {
        if (!db->lock("k") || !db->store("p" + std::to_string(p), "v") || !db->unlock("k")) return 2;
      }
      return 0;
    }));
  }
  for (int p = 0; p < kProcesses; ++p) ready.wait();
  for (int p = 0; p < kProcesses; ++p) go.post();
  for (auto& child : children) EXPECT_EQ(child->wait(), 0);
  for (const std::string& path : paths) EXPECT_EQ(*must_open(path)->record_count(), static_cast<std::uint64_t>(kProcesses));
}

TEST(LmdbMany, ReaderSlotsOfTheDeadAreFoundAgain) {
  TempDir dir(in_memory());
  const std::string path = dir / "test.tdb.0";
  const auto db = make(path, DatabaseKind::Replicated, 4 << 20);
  ASSERT_TRUE(db->store("k", Bytes(10'000, 'a')));
  Signpost reading;
  ChildProcess reader([&] {
    (void)db->parse("k", [&](BytesView) {
      reading.post();
      ::pause();
    });
    return 0;
  });
  reading.wait();
  reader.kill_and_wait();
  // Its snapshot keeps pages until its slot is cleared; without that the map would fill up.
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(db->store("k", Bytes(10'000, static_cast<char>('a' + i % 26)))) << i;
  EXPECT_LE(db->map_size(), std::uint64_t{8} << 20);
}

class LmdbStoreFiles : public testing::Test {
 protected:
  std::unique_ptr<LmdbStore> start() {
    auto made = LmdbStore::create({dir / "volatile", dir / "persistent", dir / "gate", Pnn{0}, 0, ~std::uint64_t{0}});
    if (!made) throw std::runtime_error(made.error().context);
    return std::move(*made);
  }
  void fill(LmdbStore& store, int records) {
    Database* db = *store.open("secrets.tdb", DatabaseKind::Persistent);
    CommitWorkerThread worker(store);
    DurableChange change{db->id(), {Generation{1, 1}, 5}, false, {}};
    for (int i = 0; i < records; ++i) change.entries.push_back({0, "key " + std::to_string(i), {1, Pnn{0}, 0}, Bytes(500, 'v')});
    worker.submit(1, change);
    pollfd wanted{worker.fd(), POLLIN, 0};
    ::poll(&wanted, 1, -1);
    ASSERT_TRUE(worker.take().at(0).result);
  }
  TempDir dir;
  std::string anchor = dir / "persistent/secrets.tdb.0";
  std::string data = dir / "persistent/secrets.tdb.0.lmdb/data.mdb";
};

TEST_F(LmdbStoreFiles, DamagedPersistentDatabaseIsSetAsideAndSaidSo) {
  fill(*start(), 2000);
  const auto size = fs::file_size(data);
  const auto damage = [&](int how) {
    std::fstream file(data, std::ios::in | std::ios::out | std::ios::binary);
    const auto overwrite = [&](std::uintmax_t at, std::size_t count) {
      file.seekp(static_cast<std::streamoff>(at));
      file.write(Bytes(count, '\xee').data(), static_cast<std::streamsize>(count));
    };
    if (how == 0) overwrite(0, 8192);                 // both meta pages
    if (how == 1) overwrite(8192, size - 8192);       // all but the meta pages
    if (how == 2) fs::resize_file(data, 65536);       // cut off
    if (how == 3) fs::resize_file(data, 0);
    if (how == 4) fs::remove(data);
  };
  for (int how = 0; how < 5; ++how) {
    damage(how);
    const auto store = start();
    auto opened = store->open("secrets.tdb", DatabaseKind::Persistent);
    ASSERT_TRUE(opened) << how << " " << opened.error().context;
    EXPECT_EQ((*opened)->record_count(), 0u) << how;
    EXPECT_EQ((*opened)->version(), CopyVersion{}) << how;
    EXPECT_EQ(store->take_notices().size(), 1u) << how;
    EXPECT_TRUE(fs::exists(dir / ("persistent/secrets.tdb.0.lmdb.corrupt-" + std::to_string(how + 1)))) << how;
    fill(*store, 2000);
  }
  EXPECT_EQ((*start()->existing()).size(), 1u);  // what was set aside is not taken for a database
}

TEST_F(LmdbStoreFiles, LostOrDamagedAnchorIsMadeAgainFromTheData) {
  fill(*start(), 10);
  for (const bool lost : {true, false}) {
    if (lost) {
      fs::remove(anchor);
    } else {
      std::fstream(anchor, std::ios::in | std::ios::out | std::ios::binary).seekp(100).write("damage", 6);
    }
    const auto store = start();
    EXPECT_EQ((*store->existing()).size(), 1u);
    Database* db = *store->open("secrets.tdb", DatabaseKind::Persistent);
    EXPECT_EQ(db->record_count(), 10u);
    EXPECT_EQ(db->version().seqnum, 5u);
    EXPECT_TRUE(store->take_notices().empty());
  }
}

TEST_F(LmdbStoreFiles, TdbOfCtdbIsNotTouched) {
  start();
  std::ofstream(anchor) << "TDB file\n" << std::string(100, '\0');
  const auto store = start();
  EXPECT_EQ(store->open("secrets.tdb", DatabaseKind::Persistent).error().fault, Fault::Refused);
  EXPECT_TRUE((*store->existing()).empty());
  EXPECT_EQ(fs::file_size(anchor), 109u);
}

TEST_F(LmdbStoreFiles, ClientsOfAnEarlierDaemonAreCutOffAndTheEpochGoesOn) {
  const std::string path = dir / "volatile/locking.tdb.0";
  Signpost created, opened, restarted;
  ChildProcess client([&] {
    created.wait();
    const auto mine = must_open(path);
    if (!mine->lock("k") || !mine->store("k", "v")) return 1;
    opened.post();
    restarted.wait();
    if (mine->store("k", "w")) return 2;
    if (mine->fetch("k")) return 3;
    (void)mine->unlock("k");
    return mine->lock("k") ? 4 : 0;
  });
  auto store = start();
  Database* db = *store->open("locking.tdb", DatabaseKind::Volatile);
  ASSERT_EQ(db->path(), path);
  const std::uint64_t epoch = store->lmdb(db->id())->epoch();
  created.post();
  opened.wait();
  store.reset();
  store = start();
  db = *store->open("locking.tdb", DatabaseKind::Volatile);
  restarted.post();
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(db->record_count(), 0u);
  EXPECT_GT(store->lmdb(db->id())->epoch(), epoch);
}

TEST_F(LmdbStoreFiles, CommitsOfOneDatabaseAreReportedInOrderAndShareTransactions) {
  const auto store = start();
  Database* db = *store->open("secrets.tdb", DatabaseKind::Persistent);
  Database* other = *store->open("passdb.tdb", DatabaseKind::Persistent);
  const std::uint64_t before = store->lmdb(db->id())->generation();
  std::vector<std::uint64_t> reported;
  {
    CommitWorkerThread worker(*store);
    for (std::uint64_t n = 1; n <= 200; ++n) {
      worker.submit(n, {db->id(), {Generation{1, 1}, n}, false, {{0, "k", {n, Pnn{0}, 0}, std::to_string(n)}}});
      worker.submit(1000 + n, {other->id(), {Generation{1, 1}, n}, false, {{0, "k", {n, Pnn{0}, 0}, std::to_string(n)}}});
    }
    while (reported.size() < 400) {
      pollfd wanted{worker.fd(), POLLIN, 0};
      ::poll(&wanted, 1, -1);
      for (const Completion& done : worker.take()) {
        ASSERT_TRUE(done.result) << done.result.error().context;
        reported.push_back(done.ticket);
      }
    }
  }
  std::uint64_t last[2] = {0, 1000};
  for (const std::uint64_t ticket : reported) {
    EXPECT_EQ(ticket, last[ticket / 1001] + 1);
    last[ticket / 1001] = ticket;
  }
  EXPECT_EQ(db->version().seqnum, 200u);
  EXPECT_EQ((*db->fetch("k"))->value, "200");
  EXPECT_LT(store->lmdb(db->id())->generation() - before, 200u);
}

TEST_F(LmdbStoreFiles, RefusedCommitDoesNotTakeItsNeighboursAlong) {
  const auto store = start();
  Database* db = *store->open("secrets.tdb", DatabaseKind::Persistent);
  CommitWorkerThread worker(*store);
  for (std::uint64_t n = 1; n <= 9; ++n) {
    const Bytes key = n == 5 ? Bytes(kMaxKeySize + 1, 'k') : "k" + std::to_string(n);
    worker.submit(n, {db->id(), {Generation{1, 1}, n}, false, {{0, key, {n, Pnn{0}, 0}, "v"}}});
  }
  std::map<std::uint64_t, bool> results;
  while (results.size() < 9) {
    pollfd wanted{worker.fd(), POLLIN, 0};
    ::poll(&wanted, 1, -1);
    for (const Completion& done : worker.take()) results[done.ticket] = done.result.has_value();
  }
  for (const auto& [ticket, good] : results) EXPECT_EQ(good, ticket != 5) << ticket;
  EXPECT_EQ(db->record_count(), 8u);
}

TEST_F(LmdbStoreFiles, WaiterTellsWhenAChainIsFree) {
  const auto store = start();
  Database* db = *store->open("g_lock.tdb", DatabaseKind::Volatile);
  Signpost locked, release;
  const std::string path = db->path();
  ChildProcess client([&] {
    const auto mine = Anchor::open(path);
    ChainLocks locks(**mine, LockRole::Client);
    for (std::uint32_t chain = 0; chain < 4; ++chain) (void)locks.lock(chain);
    locked.post();
    release.wait();
    return 0;  // ends with the locks held
  });
  locked.wait();
  ChainWaiter waiter(*store);
  std::set<std::uint32_t> wanted;
  for (int i = 0; wanted.size() < 3; ++i) {
    const Bytes key = std::to_string(i);
    const std::uint32_t chain = store->lmdb(db->id())->chain_of(key);
    if (chain >= 4) continue;
    EXPECT_FALSE(db->try_lock(key));
    waiter.wait_for(db->id(), key);
    wanted.insert(chain);
  }
  pollfd ready{waiter.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 30), 0) << "nothing is free yet";
  release.post();
  EXPECT_EQ(client.wait(), 0);
  std::set<std::uint32_t> freed;
  while (freed.size() < wanted.size()) {
    ::poll(&ready, 1, -1);
    for (const auto& free : waiter.take()) EXPECT_TRUE(freed.insert(free.chain).second);
  }
  EXPECT_EQ(freed, wanted);
}

}  // namespace
}  // namespace tdbmesh
