#include "tools/ctl/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tdbmesh::ctl {
namespace {

std::variant<Options, StopHere> parse(std::vector<std::string> words, const std::string& program = "/usr/bin/tdbmesh") {
  return parse_options(program, std::move(words), "");
}
Options parsed(std::vector<std::string> words, const std::string& program = "/usr/bin/tdbmesh") {
  return std::get<Options>(parse(std::move(words), program));
}
StopHere stopped(std::vector<std::string> words, const std::string& program = "/usr/bin/tdbmesh") {
  return std::get<StopHere>(parse(std::move(words), program));
}

TEST(Options, MayStandBeforeAndBehindTheVerb) {
  const Options before = parsed({"-X", "-n", "1", "status"});
  const Options behind = parsed({"status", "-X", "-n", "1"});
  for (const Options& o : {before, behind}) {
    EXPECT_TRUE(o.machine);
    EXPECT_EQ(o.node, 1u);
    EXPECT_EQ(o.words, std::vector<std::string>{"status"});
  }
}

TEST(Options, KeepTheSeparatorWhateverTheOrder) {
  EXPECT_EQ(parsed({"-X", "-x", ":", "status"}).separator, ':');
  EXPECT_EQ(parsed({"-x", ":", "-X", "status"}).separator, ':');
  EXPECT_FALSE(parsed({"-x", ":", "status"}).machine);
}

TEST(Options, TakeAllNodesUnderOurNameOnly) {
  EXPECT_TRUE(parsed({"-n", "all", "ping"}).all_nodes);
  const StopHere stop = stopped({"-n", "all", "status"}, "/usr/bin/ctdb");
  EXPECT_EQ(stop.status, 1);
  EXPECT_EQ(stop.text, "Invalid option all: invalid numeric value");
}

TEST(Options, RefuseWhatTheyDoNotKnow) {
  EXPECT_EQ(stopped({"--bogus", "status"}).text, "Invalid option --bogus: unknown option");
  EXPECT_EQ(stopped({"-n", "x", "status"}).text, "Invalid option x: invalid numeric value");
  EXPECT_EQ(stopped({"-t", "x", "status"}).status, 1);
}

TEST(Options, LeaveWordsBehindADoubleDashAlone) {
  EXPECT_EQ(parsed({"pstore", "db", "key", "--", "-v"}).words, (std::vector<std::string>{"pstore", "db", "key", "-v"}));
}

TEST(Options, WithoutAVerbShowTheUsageAndFail) {
  const StopHere stop = stopped({});
  EXPECT_EQ(stop.status, 1);
  EXPECT_THAT(stop.text, testing::HasSubstr("getdbmap"));
  EXPECT_EQ(stopped({"--help"}).status, 0);
}

TEST(Options, TakeTheRuntimeLimitFromTheEnvironment) {
  const auto o = parse_options("ctdb", {"status"}, "7");
  EXPECT_EQ(std::get<Options>(o).max_runtime, 7);
  EXPECT_TRUE(std::get<Options>(o).as_ctdb());
}

}  // namespace
}  // namespace tdbmesh::ctl
