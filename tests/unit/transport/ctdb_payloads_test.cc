#include "transport/ctdb_payloads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/base/random.h"
#include "tests/support/captured_packets.h"
#include "transport/ctdb_statistics.h"
#include "transport/ctdb_tunables.h"

namespace tdbmesh::ctdb {
namespace {

Bytes control_data(std::string_view name) {
  return std::get<ReqControl>(decode_packet(captured(name)).value().body).data;
}
Bytes reply_data(std::string_view name) {
  return std::get<ReplyControl>(decode_packet(captured(name)).value().body).data;
}
Bytes message_data(std::string_view name) {
  return std::get<ReqMessage>(decode_packet(captured(name)).value().body).data;
}

// Encodes, decodes, cuts at every offset and appends a byte: only the exact size decodes.
template <class T>
void expect_exact(const T& value, std::size_t size) {
  const Bytes bytes = encode(value);
  EXPECT_EQ(bytes.size(), size);
  const auto back = decode<T>(bytes);
  ASSERT_TRUE(back) << back.error().context;
  EXPECT_EQ(*back, value);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_FALSE(decode<T>(BytesView(bytes).substr(0, cut))) << "cut at " << cut;
  }
  EXPECT_FALSE(decode<T>(bytes + '\0'));
}

template <class T>
void expect_huge_count_refused(std::size_t count_offset) {
  Bytes bytes = encode(T{});
  for (const std::uint32_t count : {1u, 0x08000000u, 0xFFFFFFFFu}) {
    std::memcpy(bytes.data() + count_offset, &count, sizeof(count));
    EXPECT_FALSE(decode<T>(bytes)) << count;
  }
}

// A value in which no two fields are equal, so that swapped ones show.
Statistics numbered_statistics() {
  Bytes bytes;
  for (std::uint32_t i = 0; i < kStatisticsSize / 4; ++i) bytes += encode_u32(0x1000 + i);
  return decode<Statistics>(bytes).value();
}

TEST(CtdbPayloads, CapturedNodeMapHasTwoHealthyNodes) {
  const NodeMap map = decode<NodeMap>(reply_data("node_map_reply")).value();
  EXPECT_EQ(map, (NodeMap{{{Pnn{0}, 0, v4_address(10, 99, 0, 1, 4379)}, {Pnn{1}, 0, v4_address(10, 99, 0, 2, 4379)}}}));
  EXPECT_EQ(to_hex(encode(map)), to_hex(reply_data("node_map_reply")));
}

TEST(CtdbPayloads, CapturedConnectionLosesTheGarbageInItsAddresses) {
  const Connection connection = decode<Connection>(control_data("tcp_client")).value();
  EXPECT_EQ(connection, (Connection{v4_address(10, 99, 1, 2, 33770), v4_address(10, 99, 1, 1, 445)}));
  EXPECT_NE(encode(connection), control_data("tcp_client"));
  EXPECT_EQ(decode<Connection>(encode(connection)).value(), connection);
}

TEST(CtdbPayloads, CapturedPidAndSrvidArePackedInTwelveBytes) {
  const PidSrvid value = decode<PidSrvid>(control_data("check_pid_srvid")).value();
  EXPECT_EQ(value, (PidSrvid{0x4b3, Srvid{0xf61a5eed837570cbu}}));
  EXPECT_EQ(encode(value), control_data("check_pid_srvid"));
}

TEST(CtdbPayloads, CapturedDeletionNamesKeyAndHeader) {
  const KeyData data = decode<KeyData>(control_data("schedule_for_deletion")).value();
  EXPECT_EQ(data, (KeyData{.database = DatabaseId{0x4D2A432B},
                           .rsn = 3,
                           .dmaster = 0,
                           .flags = 0,
                           .key = Bytes("transaction_db_0x3ef19640\0", 26)}));
  EXPECT_EQ(encode(data), control_data("schedule_for_deletion"));
}

TEST(CtdbPayloads, CapturedTraverseStartsAndEnds) {
  const TraverseStart start = decode<TraverseStart>(control_data("traverse_start")).value();
  EXPECT_EQ(start, (TraverseStart{DatabaseId{0x7A19D84D}, 4, Srvid{0xb357cfbf8cd8d87fu}}));
  EXPECT_EQ(encode(start), control_data("traverse_start"));
  const TraverseRecord end = decode<TraverseRecord>(message_data("traverse_end")).value();
  EXPECT_TRUE(end.is_end());
  EXPECT_EQ(encode(TraverseRecord{.reqid = 4, .key = {}, .data = {}}), message_data("traverse_end"));
}

TEST(CtdbPayloads, CapturedTakeoverRunSaysWhereToAnswer) {
  EXPECT_EQ(decode<SrvidMessage>(message_data("takeover_run_message")).value(),
            (SrvidMessage{Pnn{0}, Srvid{0xce01000035ae0001u}}));
}

TEST(CtdbPayloads, EveryStructureDecodesFromExactlyItsOwnSize) {
  const SockAddr v4 = v4_address(192, 168, 7, 9, 445);
  const SockAddr v6 = parse_address("fd00::17", 2049).value();
  expect_exact(v4, 28);
  expect_exact(v6, 28);
  expect_exact(NodeMap{{{Pnn{0}, 0, v4}, {Pnn{1}, kFlagBanned, v6}}}, 76);
  expect_exact(VnnMap{77, {Pnn{0}, Pnn{2}, Pnn{1}}}, 20);
  expect_exact(Uptime{{1, 2}, {3, 4}, {5, 6}, {7, 8}}, 64);
  expect_exact(BanState{Pnn{3}, 60}, 8);
  expect_exact(NodeFlagChange{Pnn{3}, 4, 5}, 12);
  expect_exact(DatabaseMap{{{DatabaseId{1}, kDatabasePersistent}, {DatabaseId{2}, 0}}}, 20);
  expect_exact(KeyData{DatabaseId{1}, 2, 3, 4, "key"}, 39);
  expect_exact(TransactionDatabase{DatabaseId{1}, 2}, 8);
  expect_exact(PullDatabase{DatabaseId{1}, kNoPnn, Srvid{3}}, 16);
  expect_exact(VacuumDatabase{DatabaseId{1}, true}, 5);
  expect_exact(TraverseStart{DatabaseId{1}, 2, Srvid{3}}, 16);
  expect_exact(TraverseStartExt{{DatabaseId{1}, 2, Srvid{3}}, true}, 24);
  expect_exact(TraverseRecord{5, "key", "value"}, 24);
  expect_exact(PidSrvid{-1, Srvid{3}}, 12);
  expect_exact(NotifyData{Srvid{1}, "bye"}, 15);
  expect_exact(EchoData{1, "abc"}, 11);
  expect_exact(SrvidMessage{Pnn{1}, Srvid{2}}, 16);
  expect_exact(DisableMessage{Pnn{1}, Srvid{2}, 30}, 24);
  expect_exact(PublicIp{Pnn{1}, v4}, 32);
  expect_exact(PublicIpList{{{Pnn{1}, v4}, {kNoPnn, v6}}}, 68);
  expect_exact(Connection{v4, v6}, 56);
  expect_exact(TickleList{v4, {{v4, v6}, {v6, v4}}}, 144);
  expect_exact(Iface{"eth0", true, 2}, 24);
  expect_exact(IfaceList{{{"eth0", true, 2}, {"a23456789012345b7", false, 0}}}, 52);
  expect_exact(PublicIpInfo{{Pnn{1}, v4}, 1, {{"eth0", true, 2}, {"eth1", false, 0}}}, 88);
  expect_exact(Tunables{}, 248);
}

TEST(CtdbPayloads, TextsWithALengthDecodeFromExactlyTheirSize) {
  // Their NUL may be missing (a text that is cut just before it still decodes if its length says so).
  const AddressInfo info{v4_address(10, 0, 0, 1), 24, "eth0,eth1"};
  EXPECT_EQ(encode(info).size(), 46u);
  EXPECT_EQ(decode<AddressInfo>(encode(info)).value(), info);
  EXPECT_EQ(encode(AddressInfo{v4_address(10, 0, 0, 1), 24, ""}).size(), 36u);
  EXPECT_FALSE(decode<AddressInfo>(encode(info) + '\0'));
  const SetTunable request{15, "MonitorInterval"};
  EXPECT_EQ(encode(request).size(), 24u);
  EXPECT_EQ(decode<SetTunable>(encode(request)).value(), request);
  const Bytes bytes = encode(request);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) EXPECT_FALSE(decode<SetTunable>(BytesView(bytes).substr(0, cut)));
}

TEST(CtdbPayloads, CountsThatTheBytesCannotHoldAreRefused) {
  expect_huge_count_refused<NodeMap>(0);
  expect_huge_count_refused<VnnMap>(4);
  expect_huge_count_refused<DatabaseMap>(0);
  expect_huge_count_refused<PublicIpList>(0);
  expect_huge_count_refused<TickleList>(28);
  expect_huge_count_refused<IfaceList>(0);
  expect_huge_count_refused<PublicIpInfo>(36);
  expect_huge_count_refused<NotifyData>(8);
  expect_huge_count_refused<EchoData>(4);
  expect_huge_count_refused<KeyData>(32);
  expect_huge_count_refused<StatisticsHistory>(0);
}

TEST(CtdbPayloads, TextsLoseTheirNulAndRefuseOneInside) {
  EXPECT_EQ(encode_text("a.tdb"), Bytes("a.tdb\0", 6));
  EXPECT_EQ(decode_text(Bytes("a.tdb\0", 6)).value(), "a.tdb");
  EXPECT_EQ(decode_text("a.tdb").value(), "a.tdb");
  EXPECT_EQ(decode_text("").value(), "");
  EXPECT_FALSE(decode_text(Bytes("a\0b\0", 4)));
}

TEST(CtdbPayloads, DatabaseIdOfSeqnumRequestsHasEightBytes) {
  EXPECT_EQ(encode_padded_database(DatabaseId{7}).size(), 8u);
  EXPECT_EQ(decode_padded_database(encode_padded_database(DatabaseId{7})).value(), DatabaseId{7});
  EXPECT_FALSE(decode_padded_database(encode_u32(7)));
}

TEST(CtdbAddress, MappedAddressesAreTheirIpv4Selves) {
  EXPECT_EQ(parse_address("::ffff:10.1.2.3"), v4_address(10, 1, 2, 3));
  EXPECT_EQ(to_string(parse_address("fd00:0:0::5").value()), "fd00::5");
  EXPECT_EQ(to_string_with_port(v4_address(10, 1, 2, 3, 445)), "10.1.2.3:445");
  EXPECT_EQ(parse_address("10.1.2"), std::nullopt);
  EXPECT_EQ(parse_address(std::string_view("10.1.2.3\0x", 10)), std::nullopt);
}

TEST(CtdbAddress, PortsAreReadBehindTheLastColon) {
  EXPECT_EQ(parse_address_and_port("10.1.2.3:445"), v4_address(10, 1, 2, 3, 445));
  EXPECT_EQ(parse_address_and_port("[fd00::5]:445"), parse_address("fd00::5", 445));
  EXPECT_EQ(parse_address_and_port("fd00::5:445"), parse_address("fd00::5", 445));
  for (const char* wrong : {"10.1.2.3", "10.1.2.3:", "10.1.2.3:x", "10.1.2.3:70000", "host:1"}) {
    EXPECT_EQ(parse_address_and_port(wrong), std::nullopt) << wrong;
  }
  EXPECT_TRUE(same_host(v4_address(10, 1, 2, 3, 445), v4_address(10, 1, 2, 3, 1)));
}

TEST(CtdbAddress, UnknownFamiliesAreMalformedAndNoneIsAllowed) {
  Bytes bytes(28, '\0');
  EXPECT_EQ(decode<SockAddr>(bytes).value(), SockAddr{});
  bytes[0] = 3;
  EXPECT_FALSE(decode<SockAddr>(bytes));
}

TEST(CtdbStatistics, FieldsStandWhereTheToolReadsThem) {
  const Statistics s = numbered_statistics();
  const auto at = [](std::uint32_t offset) { return 0x1000 + offset / 4; };
  EXPECT_EQ(s.num_clients, at(0));
  EXPECT_EQ(s.node.req_tunnel, at(68));
  EXPECT_EQ(s.client.req_call, at(72));
  EXPECT_EQ(s.timeouts.traverse, at(96));
  EXPECT_EQ(s.reclock_ctdbd.count, static_cast<std::int32_t>(at(104)));
  EXPECT_EQ(s.reclock_recd.count, static_cast<std::int32_t>(at(136)));
  EXPECT_EQ(s.locks.calls, at(168));
  EXPECT_EQ(s.locks.latency.count, static_cast<std::int32_t>(at(184)));
  EXPECT_EQ(s.locks.buckets[0], at(216));
  EXPECT_EQ(s.total_calls, at(280));
  EXPECT_EQ(s.memory_used, at(296));
  EXPECT_EQ(s.max_hop_count, at(304));
  EXPECT_EQ(s.hop_count_buckets[15], at(368));
  EXPECT_EQ(s.call_latency.count, static_cast<std::int32_t>(at(376)));
  EXPECT_EQ(s.childwrite_latency.count, static_cast<std::int32_t>(at(408)));
  EXPECT_EQ(s.num_recoveries, at(440));
  EXPECT_EQ(static_cast<std::uint32_t>(s.started.seconds), at(448));
  EXPECT_EQ(static_cast<std::uint32_t>(s.current.seconds), at(464));
  EXPECT_EQ(s.total_ro_delegations, at(480));
  EXPECT_EQ(s.total_ro_revokes, at(484));
  expect_exact(s, kStatisticsSize);
}

TEST(CtdbStatistics, HistoryAndDatabaseStatisticsSurviveTheRoundTrip) {
  expect_exact(StatisticsHistory{{numbered_statistics(), Statistics{}}}, 8 + 2 * kStatisticsSize);
  DatabaseStatistics value;
  value.locks = numbered_statistics().locks;
  value.ro_delegations = 5;
  value.hop_count_buckets[3] = 9;
  value.hot_keys[0] = {17, "hot"};
  value.hot_keys[1] = {16, "warm"};
  expect_exact(value, 464 + 7);
  EXPECT_EQ(encode(value).substr(464), "hotwarm");
  EXPECT_EQ(encode(DatabaseStatistics{}).size(), 464u);
}

TEST(CtdbStatistics, SamplesFallIntoTheirBuckets) {
  EXPECT_EQ(lock_bucket(0), 0u);
  EXPECT_EQ(lock_bucket(0.005), 1u);
  EXPECT_EQ(lock_bucket(1000), 10u);
  EXPECT_EQ(hop_bucket(0), 0u);
  EXPECT_EQ(hop_bucket(1), 1u);
  EXPECT_EQ(hop_bucket(0xFFFFFFFF), 15u);
  Latency latency;
  latency.add(2);
  latency.add(1);
  EXPECT_EQ(latency, (Latency{2, 1, 2, 3}));
}

TEST(CtdbTunables, ListIsTheOneThatTheToolPrints) {
  EXPECT_EQ(tunable_list().size(), 818u);
  EXPECT_THAT(tunable_list(), testing::StartsWith(":SeqnumInterval:ControlTimeout:"));
  EXPECT_THAT(tunable_list(), testing::HasSubstr(":RepackLimit:VacuumFastPathCount:MaxQueueDropMsg:"));
  EXPECT_THAT(tunable_list(), testing::EndsWith(":IPAllocAlgorithm:AllowMixedVersions"));
  EXPECT_EQ(encode(CountedText{tunable_list()}).size(), 823u);
}

TEST(CtdbTunables, NamesFindTheirPlacesAndDefaults) {
  EXPECT_EQ(find_tunable("ipallocalgorithm"), Tunable::IPAllocAlgorithm);
  EXPECT_EQ(find_tunable("NoSuchThing"), std::nullopt);
  EXPECT_EQ(tunable_table()[static_cast<std::size_t>(Tunable::LCP2PublicIPs)].name, "LCP2PublicIPs");
  EXPECT_TRUE(tunable_table()[static_cast<std::size_t>(Tunable::LCP2PublicIPs)].obsolete);
  Tunables tunables;
  EXPECT_EQ(tunables[Tunable::MaxQueueDropMsg], 1000000u);
  tunables[Tunable::AllowMixedVersions] = 9;
  EXPECT_EQ(decode_u32(encode(tunables).substr(244)).value(), 9u);
  EXPECT_EQ(decode_u32(encode(tunables).substr(68, 4)).value(), 100001u);  // DatabaseHashSize
}

}  // namespace
}  // namespace tdbmesh::ctdb
