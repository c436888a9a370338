// The texts are recordings of CTDB 4.17.12 on three nodes.

#include "tools/ctl/format_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tools/ctl/node_words.h"

namespace tdbmesh::ctl {
namespace {

std::vector<NodeLine> three_nodes(NodeFlags last = 0) {
  return {{.pnn = Pnn{0}, .address = "10.79.0.1", .flags = 0, .partially_online = false, .this_node = true},
          {.pnn = Pnn{1}, .address = "10.79.0.2", .flags = 0, .partially_online = false, .this_node = false},
          {.pnn = Pnn{2}, .address = "10.79.0.3", .flags = last, .partially_online = false, .this_node = false}};
}

ClusterStatus healthy() {
  ClusterStatus status;
  status.nodes = three_nodes();
  status.vnnmap = {.generation = 681457304, .map = {Pnn{0}, Pnn{1}, Pnn{2}}};
  status.leader = Pnn{0};
  return status;
}

TEST(FormatStatus, PrintsAHealthyClusterAsCtdbDoes) {
  EXPECT_EQ(format_status(healthy()),
            "Number of nodes:3\n"
            "pnn:0 10.79.0.1        OK (THIS NODE)\n"
            "pnn:1 10.79.0.2        OK\n"
            "pnn:2 10.79.0.3        OK\n"
            "Generation:681457304\n"
            "Size:3\n"
            "hash:0 lmaster:0\n"
            "hash:1 lmaster:1\n"
            "hash:2 lmaster:2\n"
            "Recovery mode:NORMAL (0)\n"
            "Leader:0\n");
}

TEST(FormatStatus, ShowsAStoppedNodeWithAnInvalidGeneration) {
  ClusterStatus status = healthy();
  status.nodes[0].flags = kFlagStopped;
  status.vnnmap.generation = kInvalidClientGeneration;
  status.recovering = true;
  status.leader.reset();
  const std::string text = format_status(status);
  EXPECT_THAT(text, testing::HasSubstr("pnn:0 10.79.0.1        STOPPED|INACTIVE (THIS NODE)\n"));
  EXPECT_THAT(text, testing::HasSubstr("Generation:INVALID\n"));
  EXPECT_THAT(text, testing::HasSubstr("Recovery mode:RECOVERY (1)\nLeader:UNKNOWN\n"));
}

TEST(FormatStatus, LeavesDeletedNodesOutAndCountsThem) {
  const auto nodes = three_nodes(kFlagDeleted | kFlagDisconnected);
  EXPECT_EQ(format_node_count(nodes), "Number of nodes:3 (including 1 deleted nodes)\n");
  EXPECT_EQ(format_nodes(nodes),
            "pnn:0 10.79.0.1        OK (THIS NODE)\n"
            "pnn:1 10.79.0.2        OK\n");
}

TEST(FormatStatus, CallsANodeWithADeadInterfacePartiallyOnline) {
  auto nodes = three_nodes();
  nodes[1].partially_online = true;
  EXPECT_THAT(format_nodes(nodes), testing::HasSubstr("pnn:1 10.79.0.2        PARTIALLYONLINE\n"));
  EXPECT_THAT(format_nodes_machine(nodes, '|'), testing::HasSubstr("|1|10.79.0.2|0|0|0|0|0|0|0|1|N|\n"));
}

TEST(FormatStatus, PrintsTheMachineTableWithAnySeparator) {
  EXPECT_EQ(format_nodes_machine(three_nodes(), ':'),
            ":Node:IP:Disconnected:Unknown:Banned:Disabled:Unhealthy:Stopped:Inactive:PartiallyOnline:ThisNode:\n"
            ":0:10.79.0.1:0:0:0:0:0:0:0:0:Y:\n"
            ":1:10.79.0.2:0:0:0:0:0:0:0:0:N:\n"
            ":2:10.79.0.3:0:0:0:0:0:0:0:0:N:\n");
}

TEST(FormatStatus, MarksADisconnectedNodeInactive) {
  const auto nodes = three_nodes(kFlagDisconnected | kFlagUnhealthy);
  EXPECT_THAT(format_nodes(nodes), testing::HasSubstr("pnn:2 10.79.0.3        DISCONNECTED|UNHEALTHY|INACTIVE\n"));
  EXPECT_THAT(format_nodes_machine(nodes, '|'), testing::HasSubstr("|2|10.79.0.3|1|0|0|0|1|0|1|0|N|\n"));
}

TEST(FormatStatus, GivesTheSameAsJson) {
  const Json json = json_status(healthy());
  EXPECT_EQ(json["nodes"].size(), 3u);
  EXPECT_EQ(json["nodes"][0]["state"], "OK");
  EXPECT_EQ(json["lmasters"], (Json{0, 1, 2}));
  EXPECT_EQ(json["leader"], 0);
}

TEST(FlagsText, KeepsTheOrderOfTheCtdbTool) {
  EXPECT_EQ(flags_text(0), "OK");
  EXPECT_EQ(flags_text(0x7F), "DISCONNECTED|UNKNOWN|DISABLED|BANNED|UNHEALTHY|DELETED|STOPPED|INACTIVE");
  EXPECT_EQ(flags_text(kFlagBanned), "BANNED|INACTIVE");
}

TEST(FormatUptime, PrintsAsCtdbDoes) {
  setenv("TZ", "UTC0", 1);
  tzset();
  const ctdb::Uptime uptime{.current = {1795456319, 0},
                            .daemon_started = {1795456276, 0},
                            .last_recovery_started = {1795456281, 100000},
                            .last_recovery_finished = {1795456281, 182315}};
  EXPECT_EQ(format_uptime(Pnn{0}, uptime),
            "Current time of node 0        :                Mon Nov 23 17:51:59 2026\n"
            "Ctdbd start time              : (000 00:00:43) Mon Nov 23 17:51:16 2026\n"
            "Time of last recovery/failover: (000 00:00:38) Mon Nov 23 17:51:21 2026\n"
            "Duration of last recovery/failover: 0.082315 seconds\n");
}

TEST(DebugLevels, AreKnownByNameAndByNumber) {
  EXPECT_EQ(debug_level_name(3), "NOTICE");
  EXPECT_EQ(debug_level_by_name("info"), 5);
  EXPECT_EQ(debug_level_by_name("3"), 3);
  EXPECT_EQ(debug_level_by_name("foo"), std::nullopt);
}

TEST(Runstates, AreKnownInAnyCase) {
  EXPECT_EQ(runstate_name(5), "RUNNING");
  EXPECT_EQ(runstate_by_name("first_recovery"), 3u);
  EXPECT_EQ(runstate_by_name("bogus"), std::nullopt);
}

TEST(NodesFile, KeepsTheNumbersOfDeletedNodes) {
  const auto nodes = parse_nodes_file("10.0.0.1\n#10.0.0.2\n\n  10.0.0.3 \n");
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[1], std::nullopt);
  EXPECT_EQ(format_nodes_file(nodes, false, '|'), "10.0.0.1\n10.0.0.3\n");
  EXPECT_EQ(format_nodes_file(nodes, true, '|'), "|0|10.0.0.1|\n|2|10.0.0.3|\n");
}

}  // namespace
}  // namespace tdbmesh::ctl
