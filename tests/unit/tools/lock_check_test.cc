#include "tools/ctl/lock_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/temp_dir.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kMounts =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "40 22 0:40 / /gluster/lock rw - fuse.glusterfs server1:/lock rw,user_id=0\n"
    "41 22 0:41 / /my\\040data rw shared:3 master:1 - lustre mgs@tcp:/scratch rw,localflock\n"
    "42 22 0:42 / /gluster/lockers rw - xfs /dev/sdb rw\n";

TEST(MountOf, LongestMountPointAboveThePath) {
  EXPECT_EQ(mount_of(kMounts, "/gluster/lock")->type, "fuse.glusterfs");
  EXPECT_EQ(mount_of(kMounts, "/gluster/lock/sub")->point, "/gluster/lock");
  EXPECT_EQ(mount_of(kMounts, "/gluster/lockers")->type, "xfs");
  EXPECT_EQ(mount_of(kMounts, "/gluster/loc")->type, "ext4");
  EXPECT_EQ(mount_of(kMounts, "/my data/x")->type, "lustre");
  EXPECT_FALSE(mount_of("nonsense\n1 2 3\n", "/x"));
}

TEST(MountWarning, WhatIsKnownBeforehand) {
  EXPECT_THAT(mount_warning({"/", "ext4", "rw"}), HasSubstr("local file system"));
  EXPECT_THAT(mount_warning(*mount_of(kMounts, "/my data")), HasSubstr("localflock"));
  EXPECT_THAT(mount_warning({"/s", "lustre", "rw,lazystatfs"}), HasSubstr("-o flock"));
  EXPECT_THAT(mount_warning({"/s", "lustre", "rw,flock"}), IsEmpty());
  EXPECT_THAT(mount_warning({"/n", "nfs", "rw,nolock,vers=3"}), HasSubstr("nolock"));
  EXPECT_THAT(mount_warning({"/o", "ocfs2", "rw,heartbeat=local"}), HasSubstr("userspace cluster stack"));
  EXPECT_THAT(mount_warning({"/g", "fuse.glusterfs", "rw"}), IsEmpty());
}

TEST(LockError, SaysWhatToDo) {
  EXPECT_THAT(explain_lock_error(ENOSYS, "lustre"), HasSubstr("-o flock"));
  EXPECT_THAT(explain_lock_error(ENOTCONN, "fuse.glusterfs"), HasSubstr("mount it anew"));
}

TEST(LockSignCodec, RoundTripAndRubbish) {
  const auto back = decode_lock_sign(encode({"server1", 42, 7, 9, true, seconds(3)}));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->host, "server1");
  EXPECT_EQ(back->beats, 9u);
  EXPECT_TRUE(back->released);
  EXPECT_EQ(back->written, seconds(3));
  EXPECT_TRUE(decode_lock_sign("tdbmesh-lock-check s 1 1 1 holds\n")) << "of an earlier release";
  EXPECT_TRUE(back->same_holder({"server1", 42, 7, 1, false}));
  EXPECT_FALSE(back->same_holder({"server1", 42, 8, 9, true}));
  EXPECT_FALSE(decode_lock_sign(std::string(kLockSignBytes, '\0')));
  EXPECT_FALSE(decode_lock_sign("tdbmesh-lock-check server1 x\n"));
  EXPECT_FALSE(decode_lock_sign("tdbmesh-lock-check s 1 1 1 maybe\n"));
  EXPECT_EQ(encode({std::string(500, 'h'), 1, 1, 1, false, {}}).size(), kLockSignBytes);
}

class LockCheckTest : public testing::Test {
 protected:
  Instant at(std::int64_t ms) { return Instant(milliseconds(1000000 + ms)); }
  // One look: the sign beside the lock, then what the try gave.
  std::string refused(std::int64_t ms, std::uint64_t beats, bool released = false) {
    std::string said = check.on_sign(other(beats, released), at(ms));
    return said + check.on_refused(milliseconds(1), at(ms));
  }
  std::string granted(std::int64_t ms, const std::optional<LockSign>& sign) {
    std::string said = check.on_sign(sign, at(ms));
    return said + check.on_granted(at(ms));
  }
  LockSign other(std::uint64_t beats, bool released = false) { return {"server1", 5, 1, beats, released, {}}; }
  // Written at `ms`, by the clock of a machine that has been up for much less long.
  LockSign written(std::int64_t ms, std::uint64_t beats) {
    LockSign sign = other(beats);
    sign.written = milliseconds(5000 + ms);
    return sign;
  }
  LockSign self{"server2", 9, 2, 0, false, {}};
  LockCheck check{self, at(0)};
};

TEST_F(LockCheckTest, FirstOneHolds) {
  EXPECT_THAT(granted(10, std::nullopt), IsEmpty());
  EXPECT_FALSE(check.holding());
  EXPECT_THAT(check.on_sign(std::nullopt, at(110)), HasSubstr("run the same command on another node"));
  EXPECT_TRUE(check.holding());
  EXPECT_THAT(check.on_sign(self, at(210)), IsEmpty());
  EXPECT_THAT(check.on_end(at(300)), HasSubstr("released"));
  EXPECT_EQ(check.findings().verdict, LockVerdict::Holds);
}

TEST_F(LockCheckTest, RefusedThenFreeAfterTheHoldersDeath) {
  EXPECT_THAT(refused(100, 4), HasSubstr("server1"));
  EXPECT_THAT(refused(200, 5), IsEmpty());
  EXPECT_THAT(check.on_tick(at(2300)), HasSubstr("not answered for 2.1 s"));
  EXPECT_THAT(check.on_tick(at(2800)), IsEmpty());
  refused(3000, 5);
  granted(3200, other(5));
  EXPECT_THAT(check.on_sign(other(5), at(3300)), IsEmpty()) << "a living holder may not have written yet";
  EXPECT_THAT(check.on_sign(other(5), at(4800)), HasSubstr("GOOD"));
  EXPECT_EQ(check.findings().verdict, LockVerdict::Excludes);
  EXPECT_EQ(check.findings().free_after, milliseconds(3000));
  EXPECT_EQ(check.findings().longest_silence, milliseconds(2800));
}

TEST_F(LockCheckTest, ASignThatAnEarlierRunLeftBehindIsCorrected) {
  check.on_sign(LockSign{"server3", 7, 1, 80, false, {}}, at(100));
  EXPECT_THAT(check.on_refused(milliseconds(1), at(100)), HasSubstr("server3"));
  EXPECT_THAT(check.on_sign(other(1), at(200)), HasSubstr("server1 (process 5) holds it"));
  EXPECT_THAT(check.on_sign(other(2), at(300)), IsEmpty());
}

// The file system is silent from the holder's death on, as GlusterFS is; what the holder wrote just before is read with the
// first answer, and the lock is granted at once.
TEST_F(LockCheckTest, WhatIsReadLateWasWrittenBefore) {
  check.on_sign(written(95, 4), at(100));
  check.on_refused(milliseconds(1), at(100));
  check.on_sign(written(198, 5), at(200));
  check.on_refused(milliseconds(1), at(200));
  granted(30300, written(298, 6));
  EXPECT_THAT(check.on_sign(written(298, 6), at(31900)), HasSubstr("GOOD: granted 30.0 s"));
  EXPECT_EQ(check.findings().free_after, milliseconds(30000));
}

// ... and the try itself was what hung: the sign in front of it is older than the last one.
TEST_F(LockCheckTest, SignsFromBeforeTheGrantAreNoLifeAfterIt) {
  check.on_sign(written(98, 4), at(100));
  check.on_refused(milliseconds(1), at(100));
  check.on_sign(written(198, 5), at(200));
  check.on_granted(at(3200));
  EXPECT_THAT(check.on_sign(written(398, 7), at(3300)), IsEmpty());
  EXPECT_THAT(check.on_sign(written(398, 7), at(4800)), HasSubstr("GOOD"));
  EXPECT_EQ(check.findings().free_after, milliseconds(2800));

  LockCheck worthless(self, at(0));
  worthless.on_sign(written(98, 4), at(100));
  worthless.on_refused(milliseconds(1), at(100));
  worthless.on_granted(at(3200));
  EXPECT_THAT(worthless.on_sign(written(3298, 9), at(3300)), HasSubstr("NOT FIT"));
}

TEST_F(LockCheckTest, ReleasedInOrderNeedsNoSecondLook) {
  refused(100, 4);
  granted(200, other(5, true));
  EXPECT_THAT(check.on_sign(other(5, true), at(300)), HasSubstr("let go in order"));
  EXPECT_EQ(check.findings().free_after, milliseconds(0));
}

TEST_F(LockCheckTest, GrantedBesideALivingHolderIsWorthless) {
  granted(100, other(7));
  EXPECT_THAT(check.on_sign(other(8), at(300)), HasSubstr("NOT FIT"));
  EXPECT_EQ(check.findings().verdict, LockVerdict::Worthless);
}

TEST_F(LockCheckTest, ALockThatSlipsAwayWhileRefusedIsWorthlessToo) {
  refused(100, 7);
  granted(300, other(8));
  EXPECT_THAT(check.on_sign(other(9), at(500)), HasSubstr("NOT FIT"));
}

TEST_F(LockCheckTest, WhatADeadHolderLeftBehindDoesNotStopTheNext) {
  granted(100, other(7));
  EXPECT_THAT(check.on_sign(other(7), at(1000)), IsEmpty());
  EXPECT_THAT(check.on_sign(other(7), at(1700)), HasSubstr("holds the lock"));
  EXPECT_THAT(check.on_sign(other(7), at(1800)), IsEmpty()) << "our own sign is not written yet";
}

TEST_F(LockCheckTest, SomebodyElseHasTheLockThatWeHold) {
  granted(100, std::nullopt);
  check.on_sign(std::nullopt, at(200));
  EXPECT_THAT(check.on_sign(other(1), at(300)), HasSubstr("NOT FIT"));
  EXPECT_EQ(check.findings().verdict, LockVerdict::Lost);
}

TEST_F(LockCheckTest, ANodeThatWasCutOffLosesItRightly) {
  granted(100, std::nullopt);
  check.on_sign(std::nullopt, at(200));
  EXPECT_THAT(check.on_sign(other(1), at(9200)), HasSubstr("as it should be"));
  EXPECT_EQ(check.findings().verdict, LockVerdict::Lost);
}

TEST_F(LockCheckTest, EndsThatAreNoResult) {
  LockCheck silent(self, at(0));
  EXPECT_THAT(silent.on_end(at(5000)), HasSubstr("not answered for 5.0 s"));
  EXPECT_EQ(silent.findings().verdict, LockVerdict::Failed);
  refused(100, 1);
  EXPECT_THAT(check.on_end(at(900)), HasSubstr("still held"));
  EXPECT_FALSE(is_good(check.findings().verdict));
}

// The verb itself, in two processes on a plain folder.
struct VerbProcess {
  pid_t pid = -1;
  int out = -1;

  explicit VerbProcess(const std::string& path) {
    int pipe_ends[2];
    if (::pipe(pipe_ends) != 0) return;
    pid = ::fork();
    if (pid == 0) {
      Options options;
      options.max_runtime = 60;
      options.words = {"lock", "check", path};
      const auto write_out = [&](std::string_view text) {
        (void)!::write(pipe_ends[1], text.data(), text.size());
      };
      Console console(false, write_out, write_out);
      ::_exit(run_command(options, console, write_out));
    }
    ::close(pipe_ends[1]);
    out = pipe_ends[0];
  }
  ~VerbProcess() {
    if (pid > 0) ::kill(pid, SIGKILL);
    end();
    ::close(out);
  }
  int end() {
    int status = -1;
    if (pid > 0) ::waitpid(pid, &status, 0);
    pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Until it has said `text`; what it said is in `said`.
  bool says(const std::string& text) {
    pollfd in{out, POLLIN, 0};
    while (said.find(text) == std::string::npos && ::poll(&in, 1, 60000) == 1) {
      char part[512];
      const ssize_t got = ::read(out, part, sizeof part);
      if (got <= 0) break;
      said.append(part, static_cast<std::size_t>(got));
    }
    return said.find(text) != std::string::npos;
  }
  std::string said;
};

class LockVerb : public testing::Test {
 protected:
  TempDir temporary;
  const std::string& folder = temporary.path();
};

TEST_F(LockVerb, OneHoldsTheOtherWaitsUntilItLetsGo) {
  VerbProcess holder(folder);
  ASSERT_TRUE(holder.says("holds the lock")) << holder.said;
  VerbProcess waiter(folder);
  ASSERT_TRUE(waiter.says("refused")) << waiter.said;
  ::kill(holder.pid, SIGTERM);
  ASSERT_TRUE(waiter.says("GOOD")) << waiter.said;
  EXPECT_TRUE(holder.says("released"));
  EXPECT_EQ(holder.end(), 0);
  EXPECT_EQ(waiter.end(), 0);
}

TEST_F(LockVerb, AKilledHolderIsFoundOut) {
  std::ofstream(folder + "/cluster.lock") << "the cluster's own";
  VerbProcess holder(folder + "/cluster.lock");
  ASSERT_TRUE(holder.says("holds the lock")) << holder.said;
  VerbProcess waiter(folder + "/cluster.lock");
  ASSERT_TRUE(waiter.says("on this node)")) << "it has read the holder's name\n" << waiter.said;
  ::kill(holder.pid, SIGKILL);
  ASSERT_TRUE(waiter.says("last sign of life")) << waiter.said;
  EXPECT_EQ(waiter.end(), 0);
  std::ifstream untouched(folder + "/cluster.lock");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(untouched), {}), "the cluster's own");
}

TEST_F(LockVerb, AFolderThatIsNotThere) {
  VerbProcess missing(folder + "/missing/cluster.lock");
  EXPECT_TRUE(missing.says("name the file")) << missing.said;
  EXPECT_EQ(missing.end(), 1);
}

}  // namespace
}  // namespace tdbmesh::ctl
