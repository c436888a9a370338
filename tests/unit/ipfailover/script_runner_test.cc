// With real children: each script here is a few lines of sh in a folder of the test's own.

#include "ipfailover/script_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Runner : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(dir / "events/legacy");
    std::filesystem::create_directories(dir / "shipped");
    auto made = EventLoop::create();
    ASSERT_TRUE(made);
    loop = std::move(*made);
    ScriptRunner::Settings settings;
    settings.folders = {dir.path(), {dir / "shipped"}};
    settings.environment = {"PATH=/usr/bin:/bin", "COLOUR=green", "HERE=" + dir.path()};
    settings.log = [this](const std::string& line) { log.push_back(line); };
    settings.complain = [this](const std::string& text) { complaints += text; };
    runner = std::make_unique<ScriptRunner>(*loop, settings);
  }
  void script(const std::string& name, const std::string& text, bool executable = true,
              const std::string& folder = "events/legacy") {
    const std::string path = dir / (folder + "/" + name + ".script");
    std::ofstream(path) << text;
    ::chmod(path.c_str(), executable ? 0755 : 0644);
  }
  EventResult run(const std::string& event, std::vector<std::string> arguments = {}, Duration limit = seconds(60),
                  bool all = false) {
    std::optional<EventResult> result;
    runner->run("legacy", event, std::move(arguments), limit, all,
                [&](const EventResult& r, std::int32_t) { result = r; });
    while (!result) loop->run_once();
    return *result;
  }
  std::vector<std::string> ran(const std::string& event) {
    std::vector<std::string> names;
    for (const ScriptResult& each : runner->last("legacy", event)->scripts) {
      names.push_back(each.name + " " + std::to_string(each.result));
    }
    return names;
  }
  TempDir dir;
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<ScriptRunner> runner;
  std::vector<std::string> log;
  std::string complaints;
};

TEST_F(Runner, ScriptsRunInTheirOrderUntilOneFails) {
  script("40.after", "#!/bin/sh\nexit 0\n");
  script("10.first", "#!/bin/sh\necho $1 $2 $COLOUR\n");
  script("20.off", "#!/bin/sh\nexit 1\n", false);
  script("30.bad", "#!/bin/sh\necho one\necho two >&2\nexit 3\n");
  script("30.bad.script~", "#!/bin/sh\nexit 9\n");
  const EventResult result = run("monitor", {"word"});
  EXPECT_EQ(result.outcome, EventResult::Outcome::Failed);
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.script, "30.bad");
  EXPECT_EQ(result.output, "one\ntwo");
  EXPECT_THAT(ran("monitor"), ElementsAre("10.first 0", "20.off -8", "30.bad 3"));
  EXPECT_EQ(runner->last("legacy", "monitor")->summary, 3);
  EXPECT_THAT(log, testing::Contains("10.first: monitor word green"));
}

TEST_F(Runner, AllRunWhenAllAreAskedFor) {
  script("10.bad", "#!/bin/sh\nexit 3\n");
  script("20.good", "#!/bin/sh\nexit 0\n");
  EXPECT_EQ(run("other", {}, seconds(60), true).status, 3);
  EXPECT_THAT(ran("other"), ElementsAre("10.bad 3", "20.good 0"));
}

TEST_F(Runner, WithoutScriptsEveryEventSucceeds) {
  EXPECT_TRUE(run("startup").ok());
  EXPECT_TRUE(runner->last("legacy", "startup")->scripts.empty());
}

TEST_F(Runner, HowAScriptEndsIsItsResult) {
  script("10.odd",
         "#!/bin/sh\ncase $1 in missing) nosuchcommand ;; denied) exit 126 ;; killed) kill -9 $$ ;; errno) exit 75 ;; esac\n");
  EXPECT_EQ(run("missing").status, -ENOENT);
  EXPECT_EQ(run("denied").status, -EACCES);
  EXPECT_EQ(run("killed").status, -EINTR);
  EXPECT_EQ(run("errno").status, -(75 - 64));
}

TEST_F(Runner, AFileThatIsNoProgramIsPassedOver) {
  script("10.text", "hello\n");
  script("20.good", "#!/bin/sh\nexit 0\n");
  EXPECT_TRUE(run("monitor").ok());
  EXPECT_THAT(ran("monitor"), ElementsAre("10.text -8", "20.good 0"));
}

TEST_F(Runner, AHangingScriptIsKilledWithAllItStartedAndSaysWhatItWasDoing) {
  script("10.slow", "#!/bin/sh\nsleep 1000 & echo $! > $HERE/child\n(setsid sleep 1001 & echo $! > $HERE/far; wait)\n");
  const EventResult result = run("takeip", {}, milliseconds(500));
  EXPECT_EQ(result.outcome, EventResult::Outcome::TimedOut);
  EXPECT_THAT(complaints, HasSubstr("sleep 1000"));
  EXPECT_THAT(complaints, HasSubstr("sleep 1001"));
  EXPECT_THAT(ran("takeip"), ElementsAre("10.slow -110"));
  for (const char* name : {"child", "far"}) {
    pid_t pid = 0;
    std::ifstream(dir / name) >> pid;
    ASSERT_GT(pid, 0) << name;
    // Gone, or a zombie that its new parent has not collected yet; the kernel may take a moment.
    const auto lives = [&] {
      std::string line;
      std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
      return std::getline(stat, line) && line.find(") Z ") == std::string::npos;
    };
    while (lives()) loop->run_once();
  }
}

TEST_F(Runner, AServiceThatAScriptLeavesBehindIsNotWaitedFor) {
  script("10.start", "#!/bin/sh\nsleep 1000 &\necho $! > $HERE/service\n");
  EXPECT_TRUE(run("startup").ok());
  pid_t pid = 0;
  std::ifstream(dir / "service") >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_EQ(::kill(pid, SIGKILL), 0) << "it lives";
}

TEST_F(Runner, OutputIsBounded) {
  script("10.loud", "#!/bin/sh\nyes | head -c 1000000\nexit 1\n");
  EXPECT_LE(run("monitor").output.size(), ScriptRunner::kMostOutput);
}

TEST_F(Runner, MonitorGivesWayToOtherEvents) {
  script("10.both", "#!/bin/sh\n[ $1 = monitor ] && sleep 1000\nexit 0\n");
  std::vector<std::string> ends;
  const auto note = [&](const std::string& name) {
    return [&ends, name](const EventResult& r, std::int32_t) {
      ends.push_back(name + (r.outcome == EventResult::Outcome::Cancelled ? " cancelled" : r.ok() ? " good" : " bad"));
    };
  };
  runner->run("legacy", "monitor", {}, seconds(60), false, note("monitor 1"));
  loop->run_once();
  loop->run_once();
  runner->run("legacy", "releaseip", {"eth0", "10.0.0.1", "24"}, seconds(60), false, note("releaseip"));
  runner->run("legacy", "monitor", {}, seconds(60), false, note("monitor 2"));
  while (ends.size() < 3) loop->run_once();
  EXPECT_THAT(ends, testing::UnorderedElementsAre("monitor 1 cancelled", "releaseip good", "monitor 2 cancelled"));
}

TEST_F(Runner, TheDaemonsOwnWorkIsNotDoneTwice) {
  script("10.interface", "#!/bin/sh\nexit 1\n");
  EXPECT_TRUE(run("takeip", {"eth0", "10.0.0.1", "24"}).ok());
  EXPECT_EQ(run("monitor").status, 1);
}

TEST_F(Runner, ShippedScriptsAreEnabledByALinkAndOwnOnesByTheirMode) {
  script("50.samba", "#!/bin/sh\nexit 0\n", true, "shipped");
  script("20.own", "#!/bin/sh\nexit 0\n", false);
  const EventFolders& folders = runner->folders();
  EXPECT_TRUE(set_script_enabled(folders, "legacy", "50.samba", true));
  EXPECT_TRUE(set_script_enabled(folders, "legacy", "20.own", true));
  EXPECT_FALSE(set_script_enabled(folders, "legacy", "60.no", true));
  EXPECT_FALSE(set_script_enabled(folders, "legacy", "../../evil", true));
  EXPECT_TRUE(set_script_enabled(folders, "legacy", "60.no", false)) << "it is not enabled, as wanted";
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "events/legacy/50.samba.script"));
  EXPECT_TRUE(run("monitor").ok());
  EXPECT_THAT(ran("monitor"), ElementsAre("20.own 0", "50.samba 0"));
  EXPECT_TRUE(set_script_enabled(folders, "legacy", "50.samba", false));
  EXPECT_TRUE(set_script_enabled(folders, "legacy", "20.own", false));
  EXPECT_FALSE(std::filesystem::exists(dir / "events/legacy/50.samba.script"));
  EXPECT_TRUE(run("monitor").ok());
  EXPECT_THAT(ran("monitor"), ElementsAre("20.own -8"));
  const auto listing = list_for_operator(folders, "legacy");
  ASSERT_TRUE(listing);
  ASSERT_EQ(listing->shipped.size(), 1U);
  EXPECT_FALSE(listing->shipped[0].enabled);
}

TEST_F(Runner, AScriptInOurFolderCountsUnlessCtdbsHasOneOfThatName) {
  script("10.ours", "#!/bin/sh\nexit 0\n", true, "events");
  script("20.both", "#!/bin/sh\nexit 5\n", true, "events");
  script("20.both", "#!/bin/sh\nexit 0\n");
  EXPECT_TRUE(run("monitor").ok());
  EXPECT_THAT(ran("monitor"), ElementsAre("10.ours 0", "20.both 0"));
}

}  // namespace
}  // namespace tdbmesh
