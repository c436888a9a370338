// Anchor files, chain locks and the gate, between real processes.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

extern "C" {
#include <fcntl.h>
#include <tdb.h>
}

#include "db/anchor.h"
#include "db/chain_locks.h"
#include "db/gate.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

AnchorSettings settings(const TempDir& dir) {
  AnchorSettings s;
  s.name = "locking.tdb";
  s.kind = DatabaseKind::Replicated;
  s.pnn = Pnn{2};
  s.data_dir = dir / "locking.tdb.2.lmdb";
  s.gate_path = dir / "gate";
  s.identity = 77;
  s.hash_seed = 88;
  s.epoch = 4;
  s.seqnum = 5;
  s.map_size = 1 << 20;
  return s;
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void put_contents(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

class AnchorFile : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(Anchor::create(path, settings(dir))); }
  TempDir dir{in_memory()};
  std::string path = dir / "locking.tdb.2";
};

TEST_F(AnchorFile, KeepsWhatItWasCreatedWith) {
  const auto anchor = Anchor::open(path);
  ASSERT_TRUE(anchor) << anchor.error().context;
  const AnchorSettings& s = (*anchor)->settings();
  EXPECT_EQ(s.name, "locking.tdb");
  EXPECT_EQ(s.kind, DatabaseKind::Replicated);
  EXPECT_EQ(s.pnn, Pnn{2});
  EXPECT_EQ(s.gate_path, dir / "gate");
  EXPECT_EQ(s.identity, 77u);
  EXPECT_EQ((*anchor)->shared().epoch.load(), 4u);
  EXPECT_EQ((*anchor)->shared().seqnum.load(), 5u);
  EXPECT_TRUE((*anchor)->from_this_boot());
  EXPECT_TRUE(Anchor::is_anchor(path));
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(AnchorFile, CutOffAnywhereIsRefusedWithoutACrash) {
  const std::string whole = contents(path);
  for (std::size_t size = 0; size < whole.size(); size += size < 4200 ? 100 : 50000) {
    put_contents(dir / "cut", whole.substr(0, size));
    ASSERT_FALSE(Anchor::open(dir / "cut")) << size;
  }
}

TEST_F(AnchorFile, AnyChangedByteOfItsHeadIsNoticed) {
  const std::string whole = contents(path);
  for (std::size_t at = 0; at < 200; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    put_contents(dir / "damaged", damaged);
    ASSERT_FALSE(Anchor::open(dir / "damaged")) << at;
  }
}

TEST_F(AnchorFile, OtherFilesAreNotAnchors) {
  put_contents(dir / "text", "hello");
  put_contents(dir / "empty", "");
  EXPECT_EQ(Anchor::open(dir / "text").error().fault, Fault::Refused);
  EXPECT_EQ(Anchor::open(dir / "empty").error().fault, Fault::Refused);
  EXPECT_EQ(Anchor::open(dir / "nothing").error().fault, Fault::NotFound);
  EXPECT_FALSE(Anchor::is_anchor(dir / "nothing"));
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  EXPECT_FALSE(Anchor::is_anchor(dir / "fifo"));
}

TEST_F(AnchorFile, PlainLibtdbRefusesItAndChangesNothing) {
  const std::string before = contents(path);
  const auto daemon = Anchor::open(path);  // somebody has it open, as the daemon always does
  for (const int flags : {O_RDWR, O_RDONLY}) {
    // The flags that DB_OPEN_FLAGS answers among them.
    for (const int tdb_flags : {TDB_DEFAULT, TDB_CLEAR_IF_FIRST, TDB_CLEAR_IF_FIRST | TDB_NOSYNC | TDB_INCOMPATIBLE_HASH,
                                TDB_CLEAR_IF_FIRST | TDB_NOSYNC | TDB_MUTEX_LOCKING | TDB_INCOMPATIBLE_HASH}) {
      // In a process of its own: fcntl locks of one process never conflict.
      ChildProcess child([&] { return tdb_open(path.c_str(), 0, tdb_flags, flags, 0600) == nullptr ? 0 : 1; });
      EXPECT_EQ(child.wait(), 0) << flags << " " << tdb_flags;
      ASSERT_EQ(contents(path), before) << flags << " " << tdb_flags;
    }
  }
}

class Chains : public AnchorFile {
 protected:
  void SetUp() override {
    AnchorFile::SetUp();
    anchor = std::move(*Anchor::open(path));
    locks = std::make_unique<ChainLocks>(*anchor, LockRole::Client);
  }
  std::unique_ptr<Anchor> anchor;
  std::unique_ptr<ChainLocks> locks;
};

// What another process finds when it tries the chain: 0 free, 1 busy.
int tried_elsewhere(const std::string& path, std::uint32_t chain) {
  ChildProcess child([&] {
    const auto anchor = Anchor::open(path);
    ChainLocks other(**anchor, LockRole::Client);
    return other.try_lock(chain) ? 0 : 1;
  });
  return child.wait();
}

TEST_F(Chains, HeldByOneProcessIsBusyForOthers) {
  ASSERT_TRUE(locks->lock(5));
  ASSERT_TRUE(locks->lock(5));
  EXPECT_EQ(tried_elsewhere(path, 5), 1);
  EXPECT_EQ(tried_elsewhere(path, 6), 0);
  ASSERT_TRUE(locks->unlock(5));
  EXPECT_EQ(tried_elsewhere(path, 5), 1);
  ASSERT_TRUE(locks->unlock(5));
  EXPECT_EQ(tried_elsewhere(path, 5), 0);
  EXPECT_EQ(locks->unlock(5).error().fault, Fault::Refused);
}

TEST_F(Chains, KilledHolderLetsGo) {
  Signpost locked;
  ChildProcess child([&] {
    const auto mine = Anchor::open(path);
    ChainLocks other(**mine, LockRole::Client);
    for (std::uint32_t chain = 0; chain < 50; ++chain) (void)other.lock(chain);
    locked.post();
    ::pause();
    return 0;
  });
  locked.wait();
  EXPECT_FALSE(locks->try_lock(7));
  child.kill_and_wait();
  for (std::uint32_t chain = 0; chain < 50; ++chain) ASSERT_TRUE(locks->lock(chain)) << chain;
}

TEST_F(Chains, WaiterGetsTheChainWhenItIsFreed) {
  Signpost locked, release;
  ChildProcess child([&] {
    const auto mine = Anchor::open(path);
    ChainLocks other(**mine, LockRole::Client);
    (void)other.lock(9);
    locked.post();
    release.wait();
    return other.unlock(9) ? 0 : 1;
  });
  locked.wait();
  int asked = 0;
  const auto stopped = locks->lock(9, [&] { return ++asked == 2; });
  EXPECT_EQ(stopped.error().fault, Fault::Busy);
  release.post();
  EXPECT_TRUE(locks->lock(9));
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Chains, ForkedChildHoldsNothingAndFreesNothing) {
  ASSERT_TRUE(locks->lock(3));
  ChildProcess child([&] {
    if (locks->holds(3)) return 1;
    if (locks->unlock(3)) return 2;
    if (locks->try_lock(3)) return 3;
    if (!locks->lock(4)) return 4;
    locks->release_everything();
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(locks->holds(3));
  EXPECT_EQ(tried_elsewhere(path, 3), 1);
  EXPECT_TRUE(locks->unlock(3));
}

TEST_F(Chains, AllAtOnceExcludeSingleOnes) {
  ASSERT_TRUE(locks->lock(1));
  EXPECT_EQ(locks->lock_all().error().fault, Fault::Refused);
  ASSERT_TRUE(locks->unlock(1));
  ASSERT_TRUE(locks->lock_all());
  ASSERT_TRUE(locks->lock_all());
  ASSERT_TRUE(locks->lock(1));
  ASSERT_TRUE(locks->unlock(1));
  EXPECT_EQ(tried_elsewhere(path, 1), 1);
  ASSERT_TRUE(locks->unlock_all());
  EXPECT_EQ(tried_elsewhere(path, 1), 1);
  ASSERT_TRUE(locks->unlock_all());
  EXPECT_EQ(tried_elsewhere(path, 1), 0);
}

TEST_F(Chains, KilledHolderOfAllChainsLetsGo) {
  Signpost locked;
  ChildProcess child([&] {
    const auto mine = Anchor::open(path);
    ChainLocks other(**mine, LockRole::Client);
    (void)other.lock_all();
    locked.post();
    ::pause();
    return 0;
  });
  locked.wait();
  EXPECT_FALSE(locks->try_lock(7));
  EXPECT_FALSE(locks->try_lock_all());
  child.kill_and_wait();
  EXPECT_TRUE(locks->lock(7));
  EXPECT_TRUE(locks->unlock(7));
  EXPECT_TRUE(locks->lock_all());
}

TEST_F(Chains, GatheringGoesOnWhereItStoppedAndKeepsNewcomersOut) {
  Signpost locked, release;
  ChildProcess child([&] {
    const auto mine = Anchor::open(path);
    ChainLocks other(**mine, LockRole::Client);
    (void)other.lock(2000);
    locked.post();
    release.wait();
    return other.unlock(2000) ? 0 : 1;
  });
  locked.wait();
  ChainLocks daemon(*anchor, LockRole::Daemon);
  EXPECT_FALSE(daemon.gather_all());
  EXPECT_EQ(tried_elsewhere(path, 1), 1);
  EXPECT_EQ(tried_elsewhere(path, 3000), 1);
  release.post();
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(daemon.gather_all());
  daemon.release_gathered();
  EXPECT_EQ(tried_elsewhere(path, 1), 0);
}

TEST_F(Chains, RetiredAnchorGivesNoLocks) {
  anchor->retire();
  EXPECT_EQ(locks->lock(1).error().fault, Fault::Refused);
  EXPECT_EQ(locks->lock_all().error().fault, Fault::Refused);
}

class Gate : public testing::Test {
 protected:
  static constexpr std::uint64_t kSecond = 1'000'000'000;
  TempDir dir{in_memory()};
  std::string path = dir / "gate";
};

TEST_F(Gate, IsOpenUntilItsDeadlineOnly) {
  auto keeper = std::move(*GateKeeper::open(path));
  const auto view = std::move(*GateView::open(path));
  EXPECT_FALSE(view->is_open());
  keeper->set_open_until(gate_now() + 1000 * kSecond, 42);
  EXPECT_TRUE(view->is_open());
  EXPECT_EQ(view->generation(), 42u);
  keeper->set_open_until(gate_now() - 1, 42);
  EXPECT_FALSE(view->is_open());
  keeper->set_open_until(gate_now() + 1000 * kSecond, 43);
  keeper->close();
  EXPECT_FALSE(view->is_open());
}

TEST_F(Gate, TellsClosedFromGone) {
  EXPECT_EQ(GateView::open(path).error().fault, Fault::NotFound);
  auto keeper = std::move(*GateKeeper::open(path));
  const auto view = std::move(*GateView::open(path));
  EXPECT_TRUE(view->daemon_alive());
  EXPECT_EQ(view->daemon_pid(), ::getpid());
  EXPECT_EQ(GateKeeper::open(path).error().fault, Fault::Busy);
  keeper->set_open_until(gate_now() + 1000 * kSecond, 1);
  keeper.reset();
  EXPECT_FALSE(view->daemon_alive());
  EXPECT_FALSE(view->is_open());
  keeper = std::move(*GateKeeper::open(path));  // the next life, same mapping
  EXPECT_TRUE(view->daemon_alive());
  keeper->set_open_until(gate_now() + 1000 * kSecond, 2);
  EXPECT_TRUE(view->is_open());
}

TEST_F(Gate, KilledDaemonIsGone) {
  Signpost up;
  ChildProcess daemon([&] {
    auto keeper = GateKeeper::open(path);
    up.post();
    ::pause();
    return 0;
  });
  up.wait();
  const auto view = std::move(*GateView::open(path));
  EXPECT_TRUE(view->daemon_alive());
  daemon.kill_and_wait();
  EXPECT_FALSE(view->daemon_alive());
}

TEST_F(Gate, WaiterIsWokenOrStopped) {
  auto keeper = std::move(*GateKeeper::open(path));
  const auto view = std::move(*GateView::open(path));
  EXPECT_FALSE(view->wait_open(std::chrono::milliseconds(1)));
  EXPECT_FALSE(view->wait_open(std::chrono::hours(1), [] { return true; }));
  std::thread opener([&] { keeper->set_open_until(gate_now() + 1000 * kSecond, 1); });
  EXPECT_TRUE(view->wait_open(std::chrono::hours(1)));
  opener.join();
}

}  // namespace
}  // namespace tdbmesh
