// The texts are recordings of CTDB 4.17.12.

#include "tools/ctl/format_statistics.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tdbmesh::ctl {
namespace {

ctdb::Statistics recorded() {
  setenv("TZ", "UTC0", 1);
  tzset();
  ctdb::Statistics s;
  s.current = {1795456321, 0};
  s.started = {1795456276, 0};
  s.num_clients = 2;
  s.num_recoveries = 1;
  s.client_packets_sent = 2564;
  s.client_packets_recv = 2569;
  s.node_packets_sent = 4895;
  s.node_packets_recv = 515;
  s.keepalive_packets_sent = 16;
  s.keepalive_packets_recv = 16;
  s.node.req_message = 49;
  s.node.req_control = 2221;
  s.node.reply_control = 2510;
  s.client.req_message = 59;
  s.client.req_control = 2510;
  s.memory_used = 84390;
  s.reclock_ctdbd = {.count = 1, .min = 0.020789, .max = 0.020789, .total = 0.020789};
  s.reclock_recd = {.count = 1, .min = 0.015853, .max = 0.015853, .total = 0.015853};
  return s;
}

TEST(FormatStatistics, PrintsAsCtdbDoes) {
  EXPECT_EQ(format_statistics(recorded()),
            "CTDB version 1\n"
            "Current time of statistics  :                Mon Nov 23 17:52:01 2026\n"
            "Statistics collected since  : (000 00:00:45) Mon Nov 23 17:51:16 2026\n"
            " num_clients                        2\n"
            " frozen                             0\n"
            " recovering                         0\n"
            " num_recoveries                     1\n"
            " client_packets_sent             2564\n"
            " client_packets_recv             2569\n"
            " node_packets_sent               4895\n"
            " node_packets_recv                515\n"
            " keepalive_packets_sent            16\n"
            " keepalive_packets_recv            16\n"
            " node\n"
            "     req_call                       0\n"
            "     reply_call                     0\n"
            "     req_dmaster                    0\n"
            "     reply_dmaster                  0\n"
            "     reply_error                    0\n"
            "     req_message                   49\n"
            "     req_control                 2221\n"
            "     reply_control               2510\n"
            "     req_tunnel                     0\n"
            " client\n"
            "     req_call                       0\n"
            "     req_message                   59\n"
            "     req_control                 2510\n"
            "     req_tunnel                     0\n"
            " timeouts\n"
            "     call                           0\n"
            "     control                        0\n"
            "     traverse                       0\n"
            " locks\n"
            "     num_calls                      0\n"
            "     num_current                    0\n"
            "     num_pending                    0\n"
            "     num_failed                     0\n"
            " total_calls                        0\n"
            " pending_calls                      0\n"
            " childwrite_calls                   0\n"
            " pending_childwrite_calls             0\n"
            " memory_used                    84390\n"
            " max_hop_count                      0\n"
            " total_ro_delegations               0\n"
            " total_ro_revokes                   0\n"
            " hop_count_buckets: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            " lock_buckets: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            " locks_latency      MIN/AVG/MAX     0.000000/0.000000/0.000000 sec out of 0\n"
            " reclock_ctdbd      MIN/AVG/MAX     0.020789/0.020789/0.020789 sec out of 1\n"
            " reclock_recd       MIN/AVG/MAX     0.015853/0.015853/0.015853 sec out of 1\n"
            " call_latency       MIN/AVG/MAX     0.000000/0.000000/0.000000 sec out of 0\n"
            " childwrite_latency MIN/AVG/MAX     0.000000/0.000000/0.000000 sec out of 0\n");
}

TEST(FormatStatistics, PrintsTheMachineFormAsCtdbDoes) {
  ctdb::Statistics s = recorded();
  s.client_packets_sent = 2567;
  s.client_packets_recv = 2572;
  s.node_packets_sent = 4901;
  s.node.req_control = 2224;
  s.node.reply_control = 2513;
  s.client.req_control = 2513;
  EXPECT_EQ(format_statistics_header('|'),
            "CTDB version|Current time of statistics|Statistics collected since|num_clients|frozen|reco"
            "vering|num_recoveries|client_packets_sent|client_packets_recv|node_packets_sent|node_packe"
            "ts_recv|keepalive_packets_sent|keepalive_packets_recv|node.req_call|node.reply_call|node.r"
            "eq_dmaster|node.reply_dmaster|node.reply_error|node.req_message|node.req_control|node.repl"
            "y_control|node.req_tunnel|client.req_call|client.req_message|client.req_control|client.req"
            "_tunnel|timeouts.call|timeouts.control|timeouts.traverse|locks.num_calls|locks.num_current"
            "|locks.num_pending|locks.num_failed|total_calls|pending_calls|childwrite_calls|pending_chi"
            "ldwrite_calls|memory_used|max_hop_count|total_ro_delegations|total_ro_revokes|num_reclock_"
            "ctdbd_latency|min_reclock_ctdbd_latency|avg_reclock_ctdbd_latency|max_reclock_ctdbd_latenc"
            "y|num_reclock_recd_latency|min_reclock_recd_latency|avg_reclock_recd_latency|max_reclock_r"
            "ecd_latency|num_call_latency|min_call_latency|avg_call_latency|max_call_latency|num_lockwa"
            "it_latency|min_lockwait_latency|avg_lockwait_latency|max_lockwait_latency|num_childwrite_l"
            "atency|min_childwrite_latency|avg_childwrite_latency|max_childwrite_latency|"
            "\n");
  EXPECT_EQ(format_statistics_machine(s, '|'),
            "1|1795456321|1795456276|2|0|0|1|2567|2572|4901|515|16|16|0|0|0|0|0|49|2224|2513|0|0|59|251"
            "3|0|0|0|0|0|0|0|0|0|0|0|0|84390|0|0|0|1|0.020789|0.020789|0.020789|1|0.015853|0.015853|0.0"
            "15853|0|0.000000|0.000000|0.000000|0|0.000000|0.000000|0.000000|0|0.000000|0.000000|0.0000"
            "00|"
            "\n");
}

TEST(FormatStatistics, PrintsTheAverageOfALatency) {
  ctdb::Statistics s;
  s.call_latency = {.count = 4, .min = 0.1, .max = 0.9, .total = 2.0};
  EXPECT_NE(format_statistics(s).find(" call_latency       MIN/AVG/MAX     0.100000/0.500000/0.900000 sec out of 4\n"),
            std::string::npos);
}

TEST(FormatStatistics, PrintsADatabaseAsCtdbDoes) {
  ctdb::DatabaseStatistics s;
  s.locks.calls = 1;
  s.locks.buckets[2] = 1;
  s.locks.latency = {.count = 1, .min = 0.013474, .max = 0.013474, .total = 0.013474};
  s.hot_keys[0] = {1, "vk1"};
  s.hot_keys[1] = {1, Bytes("\0\xff", 2)};
  s.hot_keys[2] = {1, "nokey"};
  EXPECT_EQ(format_database_statistics("vol.tdb", s),
            "DB Statistics vol.tdb\n"
            " db_ro_delegations                  0\n"
            " db_ro_revokes                      0\n"
            " locks\n"
            "     num_calls                      1\n"
            "     num_current                    0\n"
            "     num_pending                    0\n"
            "     num_failed                     0\n"
            " hop_count_buckets: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            " lock_buckets: 0 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            " locks_latency      MIN/AVG/MAX     0.013474/0.013474/0.013474 sec out of 1\n"
            " vacuum_latency     MIN/AVG/MAX     0.000000/0.000000/0.000000 sec out of 0\n"
            " Num Hot Keys:     10\n"
            "     Count:1 Key:766b31\n"
            "     Count:1 Key:00ff\n"
            "     Count:1 Key:6e6f6b6579\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n"
            "     Count:0 Key:\n");
}

TEST(FormatStatistics, GroupsCountersInJson) {
  const Json json = json_statistics(recorded());
  EXPECT_EQ(json["node"]["req_control"], 2221);
  EXPECT_EQ(json["reclock_ctdbd_latency"]["count"], 1);
}

}  // namespace
}  // namespace tdbmesh::ctl
