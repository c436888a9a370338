// The state file and the cluster lock's helper, with real files and processes in a directory of their own.

#include <gtest/gtest.h>

#include <condition_variable>
#include <fstream>
#include <mutex>

#include "recovery/cluster_lock_keeper.h"
#include "recovery/state_file.h"
#include "tests/support/temp_dir.h"

namespace tdbmesh::recovery {
namespace {

class Directory : public testing::Test {
 protected:
  TempDir directory;
  std::string path = directory.path();
};
using StateFileOnDisk = Directory;
using ClusterLockFile = Directory;

TEST_F(StateFileOnDisk, RemembersTheNewestRecordAcrossOpening) {
  {
    auto file = StateFile::open(path + "/state");
    ASSERT_TRUE(file.has_value());
    EXPECT_FALSE((*file)->load()->has_value());
    for (const char* text : {"one", "two", "three"}) ASSERT_TRUE((*file)->write_now(text).has_value());
  }
  auto file = StateFile::open(path + "/state");
  EXPECT_EQ((*file)->load()->value(), "three");
}

TEST_F(StateFileOnDisk, SaysWhatIsDurable) {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t durable = 0;
  {
    auto file = StateFile::open(path + "/state");
    (*file)->start(
        [&](std::uint64_t ticket) {
          const std::lock_guard lock(mutex);
          durable = ticket;
          changed.notify_all();
        },
        [](const Error&) { FAIL(); });
    for (std::uint64_t ticket = 1; ticket <= 20; ++ticket) (*file)->write(std::to_string(ticket), ticket);
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return durable == 20; });
  }
  EXPECT_EQ((*StateFile::open(path + "/state"))->load()->value(), "20");
}

TEST_F(StateFileOnDisk, BelongsToOneDaemon) {
  auto first = StateFile::open(path + "/state");
  auto second = StateFile::open(path + "/state");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().fault, Fault::Busy);
}

TEST_F(StateFileOnDisk, DamageOfBothSlotsIsNotTakenForAFreshNode) {
  {
    auto file = StateFile::open(path + "/state");
    ASSERT_TRUE((*file)->write_now("one").has_value());
    ASSERT_TRUE((*file)->write_now("two").has_value());
  }
  std::ofstream(path + "/state", std::ios::in | std::ios::binary) << std::string(32768, 'x');
  const auto loaded = (*StateFile::open(path + "/state"))->load();
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().fault, Fault::StoreCorrupt);
}

struct Holder {
  Holder(EventLoop& loop, std::uint32_t pnn, const std::string& lock)
      : keeper(ClusterLockKeeper::create(loop, {Pnn{pnn}, Timing{}, lock, TDBMESH_LOCK_HELPER, {}},
                                         [this](const LockStatus& s) { status = s; })) {}
  LockStatus status;
  std::unique_ptr<ClusterLockKeeper> keeper;
};

// Turns the loop until `done`; the test's own time limit is ctest's.
template <class Done>
void until(EventLoop& loop, Done&& done) {
  while (!done()) loop.run_once();
}

TEST_F(ClusterLockFile, IsHeldByOneAndRemembersForTheNext) {
  auto loop = std::move(*EventLoop::create());
  Holder first(*loop, 0, path + "/lock");
  Holder second(*loop, 1, path + "/lock");
  View view;
  view.generation = {3, 1};
  first.keeper->want({3, view, true});
  until(*loop, [&] { return first.status.held; });
  second.keeper->want({4, std::nullopt, false});
  until(*loop, [&] { return second.status.text == "another node holds it"; });
  EXPECT_FALSE(second.status.held);
  first.keeper.reset();  // as if its daemon had ended
  until(*loop, [&] { return second.status.held; });
  EXPECT_EQ(second.status.newest->generation, view.generation);
  EXPECT_GT(second.status.wait_until, Instant::min());
}

TEST_F(ClusterLockFile, AForeignHelperKeepsTheProtocolOfCtdb) {
  auto loop = std::move(*EventLoop::create());
  Holder held(*loop, 0, "!sh -c 'printf 0; exec cat'");
  held.keeper->want({3, std::nullopt, false});
  until(*loop, [&] { return held.status.held; });
  Holder contended(*loop, 1, "!printf 1");
  contended.keeper->want({3, std::nullopt, false});
  until(*loop, [&] { return !contended.status.text.empty(); });
  EXPECT_EQ(contended.status.text, "another node holds it");
}

TEST_F(ClusterLockFile, LettingGoEndsTheHelperAndTheVote) {
  auto loop = std::move(*EventLoop::create());
  Holder holder(*loop, 0, "!sh -c 'printf 0; read line'");
  bool was_held = false;
  holder.keeper->want({3, std::nullopt, false});
  until(*loop, [&] { return holder.status.held; });
  was_held = holder.status.held;
  holder.keeper->release();
  until(*loop, [&] { return !holder.status.held; });
  EXPECT_TRUE(was_held);
}

}  // namespace
}  // namespace tdbmesh::recovery
