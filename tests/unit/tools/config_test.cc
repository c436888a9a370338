#include "tools/daemon/config.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ConfigDirectory : public testing::Test {
 protected:
  ConfigDirectory() {
    paths_ = {directory_, directory_ + "/state", directory_ + "/run"};
    write("nodes", "127.0.0.1\n127.0.0.2\n127.0.0.3\n");
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name) << text;
  }
  void write_key() const {
    ASSERT_TRUE(save_cluster_key(directory_ + "/cluster.key", generate_cluster_key().value()));
  }
  // This machine is the second node unless a test says otherwise.
  [[nodiscard]] Result<Config> load(const std::string& here = "127.0.0.2") const {
    return load_config(paths_, [here](const std::string& address) { return address == here; });
  }
  [[nodiscard]] std::string error(const std::string& here = "127.0.0.2") const {
    const auto config = load(here);
    return config ? "no error" : config.error().context;
  }
  [[nodiscard]] std::string error_in(const std::string& file, const std::string& text) const {
    write(file, text);
    const std::string result = error();
    std::filesystem::remove(directory_ + "/" + file);
    return result;
  }

  TempDir temporary_;
  const std::string& directory_ = temporary_.path();
  ConfigPaths paths_;
};

TEST_F(ConfigDirectory, NeedsNothingButTheNodesFile) {
  const auto config = load();
  ASSERT_TRUE(config) << config.error().context;
  EXPECT_EQ(config->self, Pnn{1});
  EXPECT_EQ(config->address, "127.0.0.2");
  EXPECT_EQ(config->port, 4379);
  EXPECT_EQ(config->debug_level, 3);
  EXPECT_EQ(config->quorum, QuorumChoice::Majority);
  EXPECT_EQ(config->volatile_dir, directory_ + "/run/volatile");
  EXPECT_EQ(config->persistent_dir, directory_ + "/state/persistent");
  EXPECT_THAT(config->peers(), ElementsAre(PeerAddress{Pnn{0}, "127.0.0.1"}, PeerAddress{Pnn{1}, "127.0.0.2"},
                                           PeerAddress{Pnn{2}, "127.0.0.3"}));
}

TEST_F(ConfigDirectory, TakesOurOwnOptionsFromTdbmeshConf) {
  write_key();
  write("tdbmesh.conf",
        "[transport]\nport = 5000\nsecurity = curve\n[cluster]\nquorum = none\ntiming = impatient\n"
        "node address = 127.0.0.3\nleader capability = false\n[logging]\nlog level = DEBUG\nlocation = stderr\n");
  const auto config = load("127.0.0.3");
  ASSERT_TRUE(config) << config.error().context;
  EXPECT_EQ(config->port, 5000);
  EXPECT_EQ(config->quorum, QuorumChoice::None);
  EXPECT_EQ(config->timing.silence, Timing::impatient().silence);
  EXPECT_EQ(config->self, Pnn{2});
  EXPECT_FALSE(config->leader_capability);
  EXPECT_EQ(config->debug_level, 10);
  EXPECT_EQ(config->log_location, "stderr");
  EXPECT_TRUE(config->key);
  EXPECT_THAT(config->notices, IsEmpty());
}

TEST_F(ConfigDirectory, AWitnessHostsNoAddresses) {
  write("tdbmesh.conf", "[cluster]\nwitness = true\n");
  EXPECT_TRUE(load()->witness);
  write("public_addresses", "10.0.0.1/24 eth0\n");
  EXPECT_EQ(error(), directory_ + "/tdbmesh.conf: a witness hosts no public addresses: remove " + directory_ +
                         "/public_addresses on this machine");
}

TEST_F(ConfigDirectory, TakesEveryOptionOfCtdbConf) {
  std::filesystem::create_directory(directory_ + "/vol");
  std::filesystem::create_directory(directory_ + "/pers");
  write("debug.sh", "");
  write("ctdb.conf",
        "[logging]\n\tlocation = file:/var/log/x\n\tlog level = INFO\n"
        "[cluster]\n\ttransport = tcp\n\tnode address = 127.0.0.2\n\tcluster lock = /shared/lock\n"
        "\tleader timeout = 7\n\tleader capability = no\n"
        "[database]\n\tvolatile database directory = " + directory_ + "/vol\n"
        "\tpersistent database directory = " + directory_ + "/pers\n"
        "\tstate database directory = " + directory_ + "/pers\n"
        "\tlock debug script = debug.sh\n\ttdb mutexes = false\n"
        "[event]\n\tdebug script = /ignored/debug.sh\n"
        "[failover]\n\tdisabled = true\n"
        "[legacy]\n\trealtime scheduling = false\n\tlmaster capability = false\n\tstart as stopped = true\n"
        "\tstart as disabled = true\n\tscript log level = 3\n");
  const auto config = load();
  ASSERT_TRUE(config) << config.error().context;
  EXPECT_EQ(config->log_location, "file:/var/log/x");
  EXPECT_EQ(config->cluster_lock, "/shared/lock");
  EXPECT_EQ(config->leader_timeout_s, 7u);
  EXPECT_FALSE(config->leader_capability);
  EXPECT_FALSE(config->lmaster_capability);
  EXPECT_EQ(config->volatile_dir, directory_ + "/vol");
  EXPECT_EQ(config->persistent_dir, directory_ + "/pers");
  EXPECT_FALSE(config->tdb_mutexes);
  EXPECT_EQ(config->event_debug_script, directory_ + "/debug.sh");
  EXPECT_TRUE(config->failover_disabled);
  EXPECT_FALSE(config->realtime_scheduling);
  EXPECT_TRUE(config->start_as_stopped);
  EXPECT_TRUE(config->start_as_disabled);
  EXPECT_EQ(config->script_debug_level, 3);
  // One notice for each option that has no effect here, and one for the missing key.
  EXPECT_THAT(config->notices, ElementsAre(HasSubstr("leader timeout"), HasSubstr("lock debug script"),
                                           HasSubstr("cluster.key")));
}

TEST_F(ConfigDirectory, PrefersTdbmeshConfToCtdbConf) {
  write("ctdb.conf", "[logging]\nlog level = DEBUG\n");
  write("tdbmesh.conf", "[logging]\nlog level = ERROR\n");
  EXPECT_EQ(load()->debug_level, 0);
}

TEST_F(ConfigDirectory, RefusesWhatItDoesNotKnowWithFileAndLine) {
  const std::string file = directory_ + "/ctdb.conf";
  const auto wrong = [&](const std::string& text) { return error_in("ctdb.conf", text); };
  EXPECT_EQ(wrong("\n[bogus]\n"), file + ":2: unknown section [bogus]");
  EXPECT_EQ(wrong("[cluster]\nfoo = 1\n"), file + ":2: unknown option [cluster] -> \"foo\"");
  EXPECT_EQ(wrong("a = b\n"), file + ":1: option \"a\" stands before any [section]");
  EXPECT_EQ(wrong("[cluster]\nquorum = none\n"), file + ":2: unknown option [cluster] -> \"quorum\"");
  EXPECT_EQ(wrong("[transport]\n"), file + ":1: unknown section [transport]");
  EXPECT_EQ(wrong("[logging]\nlog level =\n"), file + ":2: empty value for [logging] -> log level");
}

TEST_F(ConfigDirectory, RefusesBadValuesAndSaysWhatWasExpected) {
  const auto wrong = [&](const std::string& text) { return error_in("tdbmesh.conf", text); };
  EXPECT_THAT(wrong("[cluster]\nleader timeout = 0\n"), HasSubstr(":2: invalid value [cluster] -> leader timeout = 0: expected"));
  EXPECT_THAT(wrong("[cluster]\ntransport = ib\n"), HasSubstr("expected tcp"));
  EXPECT_THAT(wrong("[cluster]\nnode address = host\n"), HasSubstr("a numeric IP address"));
  EXPECT_THAT(wrong("[logging]\nlog level = LOUD\n"), HasSubstr("ERROR, WARNING"));
  EXPECT_THAT(wrong("[logging]\nlocation = file:relative\n"), HasSubstr("ABSOLUTE"));
  EXPECT_THAT(wrong("[legacy]\nrealtime scheduling = maybe\n"), HasSubstr("true or false"));
  EXPECT_THAT(wrong("[database]\nvolatile database directory = /no/such\n"), HasSubstr("a directory that exists"));
  EXPECT_THAT(wrong("[event]\ndebug script = none.sh\n"), HasSubstr("the name of a file in"));
  EXPECT_THAT(wrong("[transport]\nport = 65535\n"), HasSubstr("a port from 1"));
  EXPECT_THAT(wrong("[transport]\nsecurity = some\n"), HasSubstr("curve or none"));
  EXPECT_THAT(wrong("[cluster]\nquorum = lock\n"), HasSubstr("needs a 'cluster lock'"));
}

TEST_F(ConfigDirectory, PassesOverALineWithoutValueAsCtdbDoes) {
  write("ctdb.conf", "[cluster]\nleader timeout\n");
  const auto config = load();
  ASSERT_TRUE(config);
  EXPECT_THAT(config->notices, Contains(HasSubstr("ctdb.conf:2: [cluster] -> leader timeout has no '='")));
}

TEST_F(ConfigDirectory, SaysThatNoNodeIsHere) {
  EXPECT_EQ(error("10.9.9.9"), "none of the addresses in " + directory_ + "/nodes is on this machine");
}

TEST_F(ConfigDirectory, AsksWhichNodeIsMeantWhenSeveralAreHere) {
  const auto config = load_config(paths_);
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().context, HasSubstr("127.0.0.1 and 127.0.0.2"));
  EXPECT_THAT(config.error().context, HasSubstr("node address"));
}

TEST_F(ConfigDirectory, RefusesANodeAddressThatIsNoNodeOrNotHere) {
  EXPECT_THAT(error_in("tdbmesh.conf", "[cluster]\nnode address = 127.0.0.9\n"), HasSubstr("is not in"));
  EXPECT_THAT(error_in("tdbmesh.conf", "[cluster]\nnode address = 127.0.0.1\n"), HasSubstr("is not on this machine"));
}

TEST_F(ConfigDirectory, WithoutNodesFileSaysWhatToDo) {
  std::filesystem::remove(directory_ + "/nodes");
  EXPECT_THAT(error(), HasSubstr("write the address of each node into it"));
}

TEST_F(ConfigDirectory, OffLoopbackDemandsAKeyOrALeave) {
  write("nodes", "10.0.0.1\n10.0.0.2\n");
  EXPECT_THAT(error("10.0.0.2"), HasSubstr("tdbmesh keygen"));
  write("tdbmesh.conf", "[transport]\nsecurity = none\n");
  const auto open = load("10.0.0.2");
  ASSERT_TRUE(open) << open.error().context;
  EXPECT_FALSE(open->key);
  EXPECT_THAT(open->notices, Contains(HasSubstr("neither encrypted")));
  std::filesystem::remove(directory_ + "/tdbmesh.conf");
  write_key();
  EXPECT_TRUE(load("10.0.0.2")->key);
}

TEST_F(ConfigDirectory, NeverUsesAKeyThatOthersMayRead) {
  write_key();
  ASSERT_EQ(chmod((directory_ + "/cluster.key").c_str(), 0644), 0);
  EXPECT_THAT(error(), HasSubstr("chmod 600"));
}

TEST_F(ConfigDirectory, DemandsTheKeyWhereCurveIsWritten) {
  EXPECT_THAT(error_in("tdbmesh.conf", "[transport]\nsecurity = curve\n"), HasSubstr("tdbmesh keygen"));
}

TEST_F(ConfigDirectory, ReadsTunablesAndPublicAddresses) {
  write("ctdb.tunables", "# comment\nMonitorInterval=20\nNoIPFailback = 0x1\n");
  write("public_addresses", "192.0.2.5/24 eth0,eth1\n");
  const auto config = load();
  ASSERT_TRUE(config) << config.error().context;
  EXPECT_EQ(config->tunables[ctdb::Tunable::MonitorInterval], 20u);
  EXPECT_EQ(config->tunables[ctdb::Tunable::NoIPFailback], 1u);
  ASSERT_EQ(config->public_addresses.size(), 1u);
  EXPECT_THAT(config->public_addresses[0].interfaces, ElementsAre("eth0", "eth1"));
}

TEST_F(ConfigDirectory, RefusesANodesAddressAsPublicAddress) {
  EXPECT_THAT(error_in("public_addresses", "127.0.0.3/8 lo\n"), HasSubstr("127.0.0.3 is the address of a node"));
}

TEST(Nodes, KeepTheirNumbersWhenOneIsCommentedOut) {
  const auto nodes = parse_nodes("10.0.0.1\n#10.0.0.2\n# gone\n  10.0.0.4  \n\n", "nodes");
  ASSERT_TRUE(nodes);
  ASSERT_EQ(nodes->size(), 4u);
  EXPECT_TRUE((*nodes)[1].deleted);
  EXPECT_EQ(ctdb::to_string((*nodes)[1].address), "10.0.0.2");
  EXPECT_TRUE((*nodes)[2].deleted);
  EXPECT_FALSE((*nodes)[3].deleted);
  EXPECT_EQ(ctdb::to_string((*nodes)[3].address), "10.0.0.4");
}

TEST(Nodes, AreRefusedWithTheLine) {
  const auto wrong = [](std::string_view text) { return parse_nodes(text, "nodes").error().context; };
  EXPECT_EQ(wrong("10.0.0.1\nhost\n"), "nodes:2: 'host' is not a numeric IP address");
  EXPECT_EQ(wrong("10.0.0.1\n\n10.0.0.1\n"), "nodes:3: 10.0.0.1 is also in line 1");
  EXPECT_THAT(wrong("#10.0.0.1\n"), HasSubstr("no node in it"));
}

TEST(PublicAddresses, AreRefusedWithTheLine) {
  const auto wrong = [](std::string_view text) { return parse_public_addresses(text, "p").error().context; };
  EXPECT_EQ(wrong("192.0.2.1 eth0\n"), "p:1: '192.0.2.1' is not ADDRESS/BITS");
  EXPECT_EQ(wrong("# c\n192.0.2.1/33 eth0\n"), "p:2: '/33' is not a prefix length from 1 to 32");
  EXPECT_THAT(wrong("192.0.2.1/24\n"), HasSubstr("p:1: no interface"));
  EXPECT_THAT(wrong("192.0.2.1/24 eth0, eth1\n"), HasSubstr("separated by commas alone"));
  EXPECT_THAT(wrong("192.0.2.1/24 a-name-longer-than-15\n"), HasSubstr("not an interface name"));
  EXPECT_THAT(wrong("192.0.2.1/24 e\n192.0.2.1/25 e\n"), HasSubstr("p:2: 192.0.2.1 is also in line 1"));
  EXPECT_TRUE(parse_public_addresses("fd00::1/64 eth0\n", "p"));
}

TEST(TunablesFile, IsRefusedWithTheLine) {
  std::vector<std::string> notices;
  const auto wrong = [&](std::string_view text) { return parse_tunables(text, "t", notices).error().context; };
  EXPECT_EQ(wrong("Bogus=1\n"), "t:1: unknown tunable 'Bogus'");
  EXPECT_EQ(wrong("\nMonitorInterval=x\n"), "t:2: 'x' is not a number for MonitorInterval");
  EXPECT_EQ(wrong("MonitorInterval\n"), "t:1: expected NAME=VALUE");
}

TEST(DebugLevel, HasCtdbsNamesAndNumbers) {
  EXPECT_EQ(parse_debug_level("ERROR"), 0);
  EXPECT_EQ(parse_debug_level("warning"), 1);
  EXPECT_EQ(parse_debug_level("NOTICE"), 3);
  EXPECT_EQ(parse_debug_level("INFO"), 5);
  EXPECT_EQ(parse_debug_level("10"), 10);
  EXPECT_FALSE(parse_debug_level("11"));
  EXPECT_FALSE(parse_debug_level(""));
}

}  // namespace
}  // namespace tdbmesh
