// What the shim does beyond imitating libtdb: it leaves every other TDB alone, obeys the gate, refuses what
// makes no sense; and what programs without it meet on our paths.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/contract/shim_support.h"

namespace tdbmesh::shim_test {
namespace {

constexpr int kAWhile = 300;  // milliseconds in which something that must not happen has its chance

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // a library with sanitizers cannot be loaded into a program without
#else
constexpr bool kSanitized = false;
#endif

// A runner whose standard input is a conversation.
class Session : public Program {
 public:
  explicit Session(const std::string& path, Shim shim = Shim::With) : Program({TDBMESH_SHIM_RUNNER, path}, shim) {}
  // The answer without the echo of the command.
  std::string operator()(const std::string& command) { return strip(ask(command)); }
  std::string answer() { return strip(line()); }

 private:
  static std::string strip(const std::string& line) {
    const auto arrow = line.find(" -> ");
    return arrow == std::string::npos ? line : line.substr(arrow + 4);
  }
};

const char* const kOpen = "open h $DB clear|nosync|hash|disallow rdwr";

std::string sorted_lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& line : lines) out += line + "\n";
  return out;
}

std::string script(const std::string& name, const std::string& flags) {
  std::string text = read_whole(std::string(TDBMESH_SHIM_SCRIPTS) + "/" + name + ".txt");
  text = replace_all(text, "$FLAGS", flags + "|disallow");
  return replace_all(replace_all(text, "$BASE", flags), "$SEED", "7");
}

// --- other TDBs -------------------------------------------------------------------------------------------

TEST(ShimPassesOn, PlainDatabasesGiveTheSameAnswersAndTheSameFiles) {
  for (const std::string name : {"records", "transactions", "processes", "fork", "readonly", "random_plain"}) {
    std::string outputs[2], files[2];
    for (const Shim shim : {Shim::Without, Shim::With}) {
      const TemporaryDirectory directory;
      const std::string path = directory.path() + "/plain.tdb";
      const Ran ran = run({TDBMESH_SHIM_RUNNER, path}, shim, script(name, "default"));
      EXPECT_EQ(ran.status, 0);
      outputs[shim == Shim::With] = ran.output;
      files[shim == Shim::With] = read_whole(path);
    }
    EXPECT_GT(outputs[0].size(), 100u);
    EXPECT_EQ(outputs[0], outputs[1]) << name;
    EXPECT_TRUE(files[0] == files[1]) << name;
  }
}

TEST(ShimPassesOn, DatabasesInMemoryEvenUnderOurPath) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  EXPECT_EQ(session("open h $DB internal rdwr|creat"), "ok");
  EXPECT_EQ(session("store h key memory"), "0");
  EXPECT_EQ(session("summary h"), "some");
  EXPECT_EQ(daemon->ask("get test.tdb key"), "none");
}

TEST(ShimPassesOn, ToolsOnPlainDatabases) {
  if (kSanitized) GTEST_SKIP() << "needs a shim without sanitizers";
  std::string results[2];
  for (const Shim shim : {Shim::Without, Shim::With}) {
    const TemporaryDirectory directory;
    const std::string path = directory.path() + "/plain.tdb";
    const Ran made = run({"tdbtool"}, shim, "create " + path + "\ninsert one first\ninsert two second\ndelete one\nquit\n");
    const Ran dumped = run({"tdbdump", path}, shim);
    const Ran backed = run({"tdbbackup", path}, shim);
    const Ran checked = run({"tdbbackup", "-v", path}, shim);
    EXPECT_EQ(made.status | dumped.status | backed.status | checked.status, 0);
    EXPECT_NE(dumped.output.find("second"), std::string::npos);
    results[shim == Shim::With] = made.output + dumped.output + backed.output + checked.output + read_whole(path) +
                                  read_whole(path + ".bak");
    results[shim == Shim::With] = replace_all(results[shim == Shim::With], directory.path(), "DIR");
  }
  EXPECT_EQ(results[0], results[1]);
}

// --- our databases with other programs --------------------------------------------------------------------

TEST(ShimOpens, TdbdumpReadsOurDatabaseLikeATdbWithTheSameRecords) {
  if (kSanitized) GTEST_SKIP() << "needs a shim without sanitizers";
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"ours.tdb:persistent"});
  const std::string plain = directory.path() + "/plain.tdb";
  const std::string records = "open h $DB default rdwr|creat\nstore h one first\nstore h two%00 %ff%00\nstore h #600 long\n";
  EXPECT_EQ(run({TDBMESH_SHIM_RUNNER, plain}, Shim::Without, records).status, 0);
  EXPECT_EQ(run({TDBMESH_SHIM_RUNNER, daemon.path()}, Shim::With, records).status, 0);
  const Ran expected = run({"tdbdump", plain}, Shim::Without);
  const Ran dumped = run({"tdbdump", daemon.path()}, Shim::With);
  EXPECT_EQ(dumped.status, 0) << dumped.errors;
  EXPECT_NE(dumped.output.find("first"), std::string::npos);
  EXPECT_EQ(sorted_lines(dumped.output), sorted_lines(expected.output));
  // By a path relative to where the program is, too.
  const Ran relative = run({"/bin/sh", "-c", "cd " + directory.path() + "/persistent && tdbdump ./ours.tdb.0"}, Shim::With);
  EXPECT_EQ(relative.output, dumped.output) << relative.errors;
}

TEST(ProgramsWithoutTheShim, FailLoudlyOnOurPathsAndChangeNothing) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"a.tdb:volatile", "b.tdb:persistent"});
  ASSERT_EQ(daemon->ask("put a.tdb key value"), "done");
  ASSERT_EQ(daemon->ask("put b.tdb key value"), "done");
  const std::string before = snapshot(directory.path());
  for (const std::size_t index : {0u, 1u}) {
    const std::string path = daemon.path(index);
    Session session(path, Shim::Without);
    EXPECT_EQ(session(kOpen), "NULL Input/output error");
    EXPECT_EQ(session("open h $DB default rdonly"), "NULL Input/output error");
    EXPECT_EQ(session("open h $DB default rdwr|creat"), "NULL Input/output error");
    EXPECT_NE(session("open h $DB clear|nosync|hash|mutex rdwr|creat").find("NULL"), std::string::npos);
    const Ran dumped = run({"tdbdump", path}, Shim::Without);
    EXPECT_NE(dumped.status, 0);
    EXPECT_NE((dumped.output + dumped.errors).find("Failed to open"), std::string::npos);
    const Ran tool = run({"tdbtool", path, "store", "key", "other"}, Shim::Without);
    EXPECT_NE(tool.output + tool.errors, "");
    EXPECT_NE(run({"tdbbackup", "-v", path}, Shim::Without).status, 0);
  }
  EXPECT_EQ(snapshot(directory.path()), before);
  EXPECT_EQ(daemon->ask("get a.tdb key"), "value");
  EXPECT_EQ(daemon->ask("get b.tdb key"), "value");
}

TEST(ShimRefuses, CallsThatMakeNoSenseOnOurDatabases) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:persistent"});
  Session session(daemon.path());
  ASSERT_EQ(session("open h $DB default rdwr"), "ok");
  for (const std::string call : {"repack", "rescue", "printfreelist", "freelistsize", "validate", "summary"}) {
    EXPECT_EQ(session(call + " h"), "-1 error 9 (Invalid parameter)") << call;
  }
  EXPECT_EQ(session("dumpall h"), "error 9");
  EXPECT_EQ(session("store h key value"), "0");
  EXPECT_EQ(session("fetch h key"), "\"value\"");
}

TEST(ShimOpens, TheFileDescriptorTakesChmodAndTheDataFilesStayPrivate) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile", "other.tdb:persistent"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  EXPECT_EQ(session("chmod h 600"), "0 600");
  EXPECT_EQ(session("chmod h 644"), "0 644");
  int seen = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory.path())) {
    if (entry.path().extension() != ".mdb" && entry.path().filename() != "heap") continue;
    struct stat st {};
    ASSERT_EQ(stat(entry.path().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 077, 0u) << entry.path();
    ++seen;
  }
  EXPECT_EQ(seen, 3);
}

TEST(ShimOpens, ALiveDatabaseIsNeverWipedByTheFirstClient) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  ASSERT_EQ(daemon->ask("put test.tdb key value"), "done");
  Session session(daemon.path());
  EXPECT_EQ(session("open h $DB clear|nosync|hash|mutex|disallow rdwr|creat"), "ok");
  EXPECT_EQ(session("open g $DB clear|nosync|hash|mutex|disallow rdwr|creat"), "NULL Device or resource busy");
  EXPECT_EQ(session("exists h key"), "1");
  EXPECT_EQ(session("close h"), "0");
  EXPECT_EQ(session("open h $DB clear|nosync|hash|mutex|disallow rdwr|trunc"), "NULL Invalid argument");
  EXPECT_EQ(daemon->ask("get test.tdb key"), "value");
}

// --- the gate ---------------------------------------------------------------------------------------------

TEST(ShimAtTheGate, VolatileOperationsWaitUntilItOpens) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("store h key value"), "0");
  for (const std::string call : {"lock h other", "fetch h key", "parse h key", "exists h key", "store h new x",
                                 "delete h new", "count h", "keys h", "unlock h other", "lockall h"}) {
    if (call == "unlock h other") {  // never waits
      EXPECT_EQ(session(call), "0");
      continue;
    }
    ASSERT_EQ(daemon->ask("close"), "done");
    session.send(call);
    EXPECT_TRUE(session.silent(kAWhile)) << call;
    ASSERT_EQ(daemon->ask("open"), "done");
    const std::string answer = session.answer();
    EXPECT_EQ(answer.find("error"), std::string::npos) << call << ": " << answer;
    if (call == "keys h") {
      EXPECT_EQ(session.answer(), "    \"key\"");  // it lists them in lines of their own
    }
  }
  EXPECT_EQ(session("unlockall h"), "0");
  ASSERT_EQ(daemon->ask("close"), "done");
  EXPECT_EQ(session("trylock h key"), "-1 error 3 (Locking error)");
}

TEST(ShimAtTheGate, NobodyKeepsAChainLockedWhileWaiting) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(daemon->ask("close"), "done");
  session.send("lock h key");
  EXPECT_TRUE(session.silent(kAWhile));
  EXPECT_EQ(daemon->ask("put test.tdb key daemon"), "done");  // takes the chain
  EXPECT_EQ(daemon->ask("open"), "done");
  EXPECT_EQ(session.answer(), "0");
}

TEST(ShimAtTheGate, AReadUnderALockWaitsAndSeesWhatIsThereAfterwards) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("store h key mine"), "0");
  for (const std::string there : {"theirs", "none"}) {
    ASSERT_EQ(session("lock h key"), "0");
    ASSERT_EQ(daemon->ask("close"), "done");
    session.send("parse h key");
    ASSERT_TRUE(session.silent(kAWhile));
    EXPECT_EQ(daemon->ask(there == "none" ? "drop test.tdb" : "put test.tdb key " + there), "done");
    EXPECT_EQ(daemon->ask("open"), "done");
    const std::string answer = session.answer();
    EXPECT_EQ(answer.find("mine"), std::string::npos) << answer;
    EXPECT_NE(answer.find(there == "none" ? "-1 error 8 (Record does not exist)" : there), std::string::npos) << answer;
    EXPECT_EQ(session("unlock h key"), "0");
  }
}

TEST(ShimAtTheGate, AStoreUnderALockGoesOnAfterAPauseInWhichNothingChanged) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("lock h key"), "0");
  ASSERT_EQ(daemon->ask("close"), "done");
  session.send("store h key value");
  EXPECT_TRUE(session.silent(kAWhile));
  EXPECT_EQ(daemon->ask("put test.tdb unrelated x"), "done");
  EXPECT_EQ(daemon->ask("open"), "done");
  EXPECT_EQ(session.answer(), "0");
  Session other(daemon.path());
  ASSERT_EQ(other(kOpen), "ok");
  EXPECT_EQ(other("trylock h key"), "-1 error 3 (Locking error)");  // the lock is its owner's again
  EXPECT_EQ(session("unlock h key"), "0");
  EXPECT_EQ(other("fetch h key"), "\"value\"");
}

TEST(ShimAtTheGate, AStoreUnderALockFailsIfTheRecordChangedDuringThePause) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("lock h key"), "0");
  ASSERT_EQ(daemon->ask("close"), "done");
  session.send("store h key mine");
  EXPECT_TRUE(session.silent(kAWhile));
  EXPECT_EQ(daemon->ask("put test.tdb key theirs"), "done");
  EXPECT_EQ(daemon->ask("open"), "done");
  EXPECT_EQ(session.answer(), "-1 error 2 (IO Error)");
  EXPECT_EQ(daemon->ask("get test.tdb key"), "theirs");
  EXPECT_EQ(session("unlock h key"), "0");
  EXPECT_EQ(session("store h key later"), "0");
}

TEST(ShimAtTheGate, AStoreFromBeforeTheDatabaseWasEmptiedIsNotWritten) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile", "other.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("open o " + daemon.path(1) + " clear|nosync|hash|disallow rdwr"), "ok");
  ASSERT_EQ(session("lock o first"), "0");
  ASSERT_EQ(session("lock h second"), "0");
  ASSERT_EQ(daemon->ask("close"), "done");
  session.send("store h second value");
  EXPECT_TRUE(session.silent(kAWhile));
  // Neither chain is in the daemon's way, also not that of the other database.
  EXPECT_EQ(daemon->ask("drop other.tdb"), "done");
  EXPECT_EQ(daemon->ask("drop test.tdb"), "done");
  EXPECT_EQ(daemon->ask("open"), "done");
  EXPECT_EQ(session.answer(), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("store o first value"), "-1 error 2 (IO Error)");
  EXPECT_EQ(daemon->ask("get test.tdb second"), "none");
  EXPECT_EQ(daemon->ask("get other.tdb first"), "none");
  EXPECT_EQ(session("unlock h second"), "0");
  EXPECT_EQ(session("unlock o first"), "0");
  EXPECT_EQ(session("store h second value"), "0");
}

TEST(ShimAtTheGate, PersistentDatabasesAreReadableBehindAClosedOneAndNotWritable) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:persistent"});
  Session session(daemon.path());
  ASSERT_EQ(session("open h $DB default rdwr"), "ok");
  ASSERT_EQ(session("store h key value"), "0");
  ASSERT_EQ(daemon->ask("close"), "done");
  EXPECT_EQ(session("fetch h key"), "\"value\"");
  EXPECT_EQ(session("parse h key"), "7 \"key\"=\"value\"");
  EXPECT_EQ(session("count h"), "1");
  EXPECT_EQ(session("lock h key"), "0");
  EXPECT_EQ(session("unlock h key"), "0");
  session.send("store h key other");
  EXPECT_TRUE(session.silent(kAWhile));
  EXPECT_EQ(daemon->ask("open"), "done");
  EXPECT_EQ(session.answer(), "0");
}

TEST(ShimAtTheGate, WithoutADaemonEverythingFailsInsteadOfHanging) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile", "kept.tdb:persistent"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("open p " + daemon.path(1) + " default rdwr"), "ok");
  ASSERT_EQ(session("store h key value"), "0");
  ASSERT_EQ(session("store p key value"), "0");
  ASSERT_EQ(session("lock h locked"), "0");
  ASSERT_EQ(daemon->ask("open 200"), "done");  // as a lease: it ends by itself
  Session waiting(daemon.path());
  daemon->kill_now();
  ASSERT_EQ(waiting(kOpen), "ok");
  EXPECT_EQ(session("parse h missing").find("hang"), std::string::npos);
  // Once the lease is over, whatever the answers were until then.
  while (session("fetch h key") == "\"value\"") usleep(10'000);
  EXPECT_EQ(session("fetch h key"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("lock h key"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("store h locked value"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("unlock h locked"), "0");
  EXPECT_EQ(session("count h"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("store p key other"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("fetch p key"), "\"value\"");
  EXPECT_EQ(waiting("lockall h"), "-1 error 2 (IO Error)");
}

// Listens where a daemon that has its gate in `directory` listens, as long as it lives.
class Listener {
 public:
  explicit Listener(const std::string& directory) : path_(directory + "/ctdbd.socket") {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd_, 5), 0);
  }
  ~Listener() { stop(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  void stop() { ::close(std::exchange(fd_, -1)); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

TEST(ShimAtTheGate, AClientOfTheDaemonEndsWithItInsteadOfTellingOfErrors) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Listener listener(directory.path());
  Session client(daemon.path());
  Session other(daemon.path());
  ASSERT_EQ(client(kOpen), "ok");
  ASSERT_EQ(other(kOpen), "ok");
  ASSERT_EQ(client("connect " + listener.path()), "0");
  ASSERT_EQ(client("store h key value"), "0");
  ASSERT_EQ(daemon->ask("open 200"), "done");
  daemon->kill_now();
  listener.stop();
  std::string answer;
  while ((answer = client("fetch h key")) == "\"value\"") usleep(10'000);
  EXPECT_EQ(answer, "") << "it has not said anything wrong";
  const int status = client.status();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  EXPECT_EQ(other("fetch h key"), "-1 error 2 (IO Error)");
}

TEST(ShimAtTheGate, IsFoundByAProgramThatGaveUpItsRightsAfterOpening) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to give up its rights";
  const TemporaryDirectory directory;  // 0700: nobody else may enter
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session session(daemon.path());
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("seteuid 65534"), "0");  // smbd, once it works for a user
  EXPECT_EQ(session("lock h key"), "0");
  EXPECT_EQ(session("store h key value"), "0");
  EXPECT_EQ(session("fetch h key"), "\"value\"");
  EXPECT_EQ(session("unlock h key"), "0");
}

TEST(ShimAtTheGate, HandlesOfAnEarlierLifeOfTheDaemonAreRefused) {
  const TemporaryDirectory directory;
  auto daemon = std::make_unique<Daemon>(directory.path(), std::vector<std::string>{"test.tdb:volatile"});
  const std::string path = daemon->path();
  Session session(path);
  ASSERT_EQ(session(kOpen), "ok");
  ASSERT_EQ(session("store h key value"), "0");
  (*daemon)->kill_now();
  daemon = std::make_unique<Daemon>(directory.path(), std::vector<std::string>{"test.tdb:volatile"});
  EXPECT_EQ(session("store h key value"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("lock h key"), "-1 error 2 (IO Error)");
  EXPECT_EQ(session("fetch h key"), "-1 error 2 (IO Error)");
  EXPECT_EQ((*daemon)->ask("get test.tdb key"), "none");
  EXPECT_EQ(session("close h"), "0");
  EXPECT_EQ(session(kOpen), "ok");
  EXPECT_EQ(session("store h key value"), "0");
}

// --- killed clients ---------------------------------------------------------------------------------------

TEST(ShimClients, KilledAtAnyMomentLeaveNoLockAndNoHalfRecord) {
  const TemporaryDirectory directory;
  Daemon daemon(directory.path(), {"test.tdb:volatile"});
  Session survivor(daemon.path());
  ASSERT_EQ(survivor(kOpen), "ok");
  for (int round = 0; round < 40; ++round) {
    Session victim(daemon.path());
    ASSERT_EQ(victim(kOpen), "ok");
    victim.send("random " + std::to_string(round) + " 1000000 " + (round % 2 == 0 ? "plain" : "transactions"));
    usleep(static_cast<useconds_t>(1000 + round * 731));
    victim.kill_now();
    ASSERT_EQ(survivor("lockall h"), "0");
    ASSERT_EQ(survivor("unlockall h"), "0");
    ASSERT_EQ(survivor("store h key1 #" + std::to_string(round)), "0");
    ASSERT_EQ(survivor("check h").substr(0, 9), "0 records");
  }
}

}  // namespace
}  // namespace tdbmesh::shim_test
