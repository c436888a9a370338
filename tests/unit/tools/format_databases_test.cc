// The texts are recordings of CTDB 4.17.12.

#include "tools/ctl/format_databases.h"

#include <gtest/gtest.h>

namespace tdbmesh::ctl {
namespace {

DatabaseLine persistent() {
  return {DatabaseId{0x3880c3f1}, "pers.tdb", "/var/lib/ctdb/persistent/pers.tdb.0", ctdb::kDatabasePersistent, ""};
}
DatabaseLine readonly() {
  return {DatabaseId{0x900f773e}, "vol.tdb", "/var/lib/ctdb/volatile/vol.tdb.0", ctdb::kDatabaseReadonly, ""};
}

TEST(FormatDatabases, PrintsTheMapAsCtdbDoes) {
  EXPECT_EQ(format_database_map({readonly(), persistent()}),
            "Number of databases:2\n"
            "dbid:0x900f773e name:vol.tdb path:/var/lib/ctdb/volatile/vol.tdb.0 READONLY\n"
            "dbid:0x3880c3f1 name:pers.tdb path:/var/lib/ctdb/persistent/pers.tdb.0 PERSISTENT\n");
  EXPECT_EQ(format_database_map_machine({readonly(), persistent()}, '|'),
            "|ID|Name|Path|Persistent|Sticky|Unhealthy|Readonly|Replicated|\n"
            "|0x900F773E|vol.tdb|/var/lib/ctdb/volatile/vol.tdb.0|0|0|0|1|0|\n"
            "|0x3880C3F1|pers.tdb|/var/lib/ctdb/persistent/pers.tdb.0|1|0|0|0|0|\n");
}

TEST(FormatDatabases, PrintsTheStatusAsCtdbDoes) {
  EXPECT_EQ(format_database_status(persistent()),
            "dbid: 0x3880c3f1\n"
            "name: pers.tdb\n"
            "path: /var/lib/ctdb/persistent/pers.tdb.0\n"
            "PERSISTENT: yes\n"
            "REPLICATED: no\n"
            "STICKY: no\n"
            "READONLY: no\n"
            "HEALTH: OK\n");
}

TEST(FormatDatabases, MarksAnUnhealthyDatabase) {
  DatabaseLine line = persistent();
  line.health = "damaged";
  EXPECT_NE(format_database_map({line}).find(" PERSISTENT UNHEALTHY\n"), std::string::npos);
  EXPECT_NE(format_database_status(line).find("HEALTH: damaged\n"), std::string::npos);
}

TEST(FormatRecord, EscapesAsCatdbDoes) {
  EXPECT_EQ(format_record("a\"b\\c", {.rsn = 1, .dmaster = Pnn{0}, .flags = 0}, "x y\"z"),
            "key(5) = \"a\\22b\\5Cc\"\n"
            "dmaster: 0\n"
            "rsn: 1\n"
            "flags: 0x00000000\n"
            "data(5) = \"x y\\22z\"\n"
            "\n");
  EXPECT_EQ(format_record("key2", {.rsn = 1, .dmaster = Pnn{0}, .flags = 0}, Bytes("\x01\xff\x00", 3)),
            "key(4) = \"key2\"\n"
            "dmaster: 0\n"
            "rsn: 1\n"
            "flags: 0x00000000\n"
            "data(3) = \"\\01\\FF\\00\"\n"
            "\n");
}

TEST(FormatRecord, NamesTheFlags) {
  EXPECT_EQ(record_flags_text(kRecordMigratedWithData | kRecordReadOnlyCopy),
            "0x02010000 MIGRATED_WITH_DATA RO_HAVE_READONLY");
}

std::vector<AddressLine> two_addresses() {
  return {{.ip = {.pnn = kNoPnn, .address = ctdb::v4_address(10, 79, 1, 101)},
           .active = {},
           .available = {"eth1"},
           .configured = {"eth1"}},
          {.ip = {.pnn = Pnn{0}, .address = ctdb::v4_address(10, 79, 1, 103)},
           .active = {"eth1"},
           .available = {"eth1"},
           .configured = {"eth1", "eth2"}}};
}

TEST(FormatAddresses, PrintsAsCtdbDoes) {
  EXPECT_EQ(format_addresses(two_addresses(), Pnn{0}, false),
            "Public IPs on node 0\n"
            "10.79.1.101 -1\n"
            "10.79.1.103 0\n");
  EXPECT_EQ(format_addresses(two_addresses(), std::nullopt, true),
            "Public IPs on ALL nodes\n"
            "10.79.1.101 node[-1] active[] available[eth1] configured[eth1]\n"
            "10.79.1.103 node[0] active[eth1] available[eth1] configured[eth1,eth2]\n");
  EXPECT_EQ(format_addresses_machine(two_addresses(), '|', false),
            "|Public IP|Node|\n"
            "|10.79.1.101|-1|\n"
            "|10.79.1.103|0|\n");
  EXPECT_EQ(format_addresses_machine(two_addresses(), '|', true),
            "|Public IP|Node|ActiveInterfaces|AvailableInterfaces|ConfiguredInterfaces|\n"
            "|10.79.1.101|-1||eth1|eth1|\n"
            "|10.79.1.103|0|eth1|eth1|eth1,eth2|\n");
}

TEST(FormatAddresses, PrintsOneAddressInDetail) {
  const ctdb::PublicIpInfo info{.ip = {.pnn = Pnn{2}, .address = ctdb::v4_address(10, 79, 1, 101)},
                                .active = ctdb::kNoActiveIface,
                                .ifaces = {{"eth1", true, 1}}};
  EXPECT_EQ(format_address_info(Pnn{0}, info),
            "Public IP[10.79.1.101] info on node 0\n"
            "IP:10.79.1.101\n"
            "CurrentNode:2\n"
            "NumInterfaces:1\n"
            "Interface[1]: Name:eth1 Link:up References:1\n");
}

TEST(FormatIfaces, PrintsAsCtdbDoes) {
  const ctdb::IfaceList one{.ifaces = {{"eth1", true, 1}}};
  EXPECT_EQ(format_ifaces(Pnn{0}, one), "Interfaces on node 0\nname:eth1 link:up references:1\n");
  EXPECT_EQ(format_ifaces_machine(one, '|'), "|Name|LinkStatus|References|\n|eth1|1|1|\n");
  EXPECT_EQ(format_ifaces(Pnn{1}, {}), "No interfaces configured on node 1\n");
}

TEST(TransactionLines, HaveTwoQuotedWords) {
  EXPECT_EQ(parse_transaction_line(R"("k1" "v1")"), (TransactionLine{"k1", "v1"}));
  EXPECT_EQ(parse_transaction_line(R"("sp ace" "")"), (TransactionLine{"sp ace", ""}));
  EXPECT_EQ(parse_transaction_line(R"("k\"4" "v\\5")"), (TransactionLine{"k\"4", "v\\5"}));
}

TEST(TransactionLines, RefuseEverythingElse) {
  for (const char* line : {"", "k1 v", R"("k1" v)", R"("k1 "v")", R"("" "v")", R"("k" "v" "w")", R"("k")"}) {
    EXPECT_EQ(parse_transaction_line(line), std::nullopt) << line;
  }
}

}  // namespace
}  // namespace tdbmesh::ctl
