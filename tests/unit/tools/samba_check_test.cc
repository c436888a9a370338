#include "tools/ctl/samba_check.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tdbmesh::ctl {
namespace {

using Level = Finding::Level;
using Shim = SambaProcess::Shim;

SambaFacts good() {
  SambaFacts facts;
  facts.daemon_answers = true;
  facts.daemon_socket = facts.samba_socket = "/run/tdbmesh/ctdbd.socket";
  facts.samba_socket_there = true;
  facts.smbd_version = "4.17.12-Debian";
  facts.global = {{"clustering", "Yes"}, {"ctdbd socket", "/run/tdbmesh/ctdbd.socket"}, {"passdb backend", "tdbsam"},
                  {"idmap config *:backend", "tdb2"}, {"idmap config *:range", "1000000-1999999"}};
  facts.processes = {{10, "smbd", Shim::Loaded}, {11, "winbindd", Shim::Loaded}};
  return facts;
}

// Subjects of all findings that are not good; each of them has to say what to do.
std::vector<std::string> wrong(const SambaFacts& facts) {
  std::vector<std::string> subjects;
  for (const Finding& finding : check_samba(facts)) {
    EXPECT_EQ(finding.remedy.empty(), finding.level == Level::Good) << finding.text;
    if (finding.level != Level::Good) subjects.push_back(finding.subject);
  }
  return subjects;
}
using Subjects = std::vector<std::string>;

TEST(SambaCheck, FindsNothingWrongWhereAllIsRight) { EXPECT_EQ(wrong(good()), Subjects{}); }

TEST(SambaCheck, FindsAProcessWithoutTheShimAndOneWithAnOldOne) {
  SambaFacts facts = good();
  facts.processes[0].shim = Shim::Absent;
  EXPECT_EQ(wrong(facts), Subjects{"shim"});
  facts.processes[1].shim = Shim::Replaced;
  EXPECT_EQ(wrong(facts), (Subjects{"shim", "shim"}));
}

TEST(SambaCheck, NamesAllProcessesOfOneKindInOneFinding) {
  SambaFacts facts = good();
  facts.processes.push_back({12, "rpcd_lsad", Shim::Absent});
  facts.processes.push_back({13, "rpcd_lsad", Shim::Absent});
  EXPECT_EQ(wrong(facts), Subjects{"shim"});
}

TEST(SambaCheck, FindsASmbConfThatIsNotForAClusterOrForAnotherDaemon) {
  SambaFacts facts = good();
  facts.global["clustering"] = "No";
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  facts = good();
  facts.samba_socket = "/run/ctdb/ctdbd.socket";
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  facts.samba_socket_there = false;
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  facts = good();
  facts.shared_folders["private dir"] = "NFS";
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  facts = good();
  facts.configuration_error = "no such file";
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
}

TEST(SambaCheck, SaysThatTheRegistryAloneTakesSambaOutOfTheCluster) {
  SambaFacts facts = good();
  facts.global["clustering"] = "No";
  facts.global["config backend"] = "registry";
  const auto findings = check_samba(facts);
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const Finding& f) {
    return f.level == Level::Error && f.remedy.find("include = registry") != std::string::npos;
  }));
}

TEST(SambaCheck, SaysWhySmbConfCannotBeReadWhereTheClusterIsNotFound) {
  SambaFacts facts = good();
  facts.configuration_error = "Error loading services.";
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  facts.samba_socket_there = false;
  facts.samba_socket = "/run/nowhere";
  facts.global["ctdbd socket"] = "/run/nowhere";
  const auto findings = check_samba(facts);
  EXPECT_EQ(wrong(facts), Subjects{"smb.conf"});
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const Finding& f) {
    return f.text.find("no socket at /run/nowhere") != std::string::npos;
  }));
}

TEST(SambaCheck, FindsNodesThatHaveNamesOfTheirOwn) {
  SambaFacts facts = good();
  facts.global["netbios name"] = "LAB";
  facts.global["workgroup"] = "OFFICE";
  facts.host_name = "node1";
  facts.sid_owners = {"LAB", "OFFICE"};
  EXPECT_EQ(wrong(facts), Subjects{});
  facts.sid_owners = {"LAB", "NODE1", "OFFICE"};
  EXPECT_EQ(wrong(facts), Subjects{"name"}) << "a node calls itself NODE1, or did";
  facts.sid_owners = {"LAB"};
  facts.host_name = "lab";
  EXPECT_EQ(wrong(facts), Subjects{"name"});
  facts.global["netbios name"] = "A-LONG-NAME-OF-";
  facts.host_name = "a-long-name-of-a-host";
  facts.sid_owners.clear();
  EXPECT_EQ(wrong(facts), Subjects{"name"}) << "cut to what NetBIOS takes";
}

TEST(SambaCheck, ReadsTheOwnersOfSidsFromTheKeysOfSecrets) {
  const std::string keys = "SECRETS/SID/LAB\nSECRETS/MACHINE_PASSWORD/X\nSECRETS/SID/A B\n";
  EXPECT_EQ(secrets_of("SID", keys), (std::vector<std::string>{"A B", "LAB"}));
  EXPECT_EQ(secrets_of("MACHINE_PASSWORD", keys), (std::vector<std::string>{"X"}));
}

TEST(SambaCheck, PassesOnWhatTestparmComplainsOfAndThatTheShimIsNotInstalled) {
  SambaFacts facts = good();
  facts.configuration_complaints = {"Unknown parameter encountered: \"clusterign\""};
  facts.shim_found = false;
  EXPECT_EQ(wrong(facts), (Subjects{"smb.conf", "shim"}));
}

TEST(SambaCheck, FindsIdsAndAccountsThatEachNodeHasForItself) {
  SambaFacts facts = good();
  facts.global["idmap config *:backend"] = "tdb";
  EXPECT_EQ(wrong(facts), Subjects{"idmap"});
  facts.global["idmap config *:backend"] = "autorid";
  facts.global.erase("idmap config *:range");
  EXPECT_EQ(wrong(facts), Subjects{"idmap"});
  facts = good();
  for (const char* unfit : {"smbpasswd", "tdbsamm"}) {
    facts.global["passdb backend"] = unfit;
    EXPECT_EQ(wrong(facts), Subjects{"passdb"}) << unfit;
  }
  facts.global["passdb backend"] = "ldapsam:ldap://directory";
  EXPECT_EQ(wrong(facts), Subjects{});
}

TEST(SambaCheck, FindsAMemberThatHasNotJoinedOrCannotStayOne) {
  SambaFacts facts = good();
  facts.global["security"] = "ADS";
  facts.global["workgroup"] = "OFFICE";
  EXPECT_EQ(wrong(facts), Subjects{"domain"});
  facts.joined = {"ELSEWHERE"};
  EXPECT_EQ(wrong(facts), Subjects{"domain"});
  facts.joined = {"OFFICE"};
  EXPECT_EQ(wrong(facts), Subjects{});
  facts.global["kerberos method"] = "secrets and keytab";
  EXPECT_EQ(wrong(facts), Subjects{"domain"});
  facts.global["kerberos method"] = "secrets only";
  facts.processes.pop_back();
  EXPECT_EQ(wrong(facts), Subjects{"processes"}) << "smbd asks winbindd about users of the domain";
}

TEST(SambaCheck, FindsADaemonThatIsDownAndAVersionThatNobodyTried) {
  SambaFacts facts = good();
  facts.daemon_answers = false;
  EXPECT_EQ(wrong(facts), Subjects{"daemon"});
  facts = good();
  facts.smbd_version = "4.21.0";
  EXPECT_EQ(wrong(facts), Subjects{"version"});
  facts.smbd_version.clear();
  EXPECT_EQ(wrong(facts), Subjects{"version"});
  facts = good();
  facts.processes.clear();
  EXPECT_EQ(wrong(facts), Subjects{"processes"});
}

TEST(SambaCheck, ReadsTheGlobalSectionHoweverNamesAreSpaced) {
  const auto values = parse_global("# x\n[global]\n\tClustering = Yes\n\tidmap config * : backend = tdb2\n"
                                   "\tidmap  config *:range = 1-2\n[share]\n\tclustering = No\n");
  EXPECT_EQ(values.at("clustering"), "Yes");
  EXPECT_EQ(values.at("idmap config *:backend"), "tdb2");
  EXPECT_EQ(values.at("idmap config *:range"), "1-2");
  EXPECT_EQ(values.size(), 3u);
}

TEST(SambaCheck, SeesTheShimInAProcessesMaps) {
  const std::string other = "7f00-7f01 r-xp 00000000 08:01 12  /usr/lib/libtdb.so.1\n";
  const std::string shim = "7f02-7f03 r-xp 00000000 08:01 13  /usr/lib/libtdbmesh-tdb.so";
  EXPECT_EQ(shim_in_maps(other), Shim::Absent);
  EXPECT_EQ(shim_in_maps(other + shim + "\n"), Shim::Loaded);
  EXPECT_EQ(shim_in_maps(other + shim + " (deleted)\n"), Shim::Replaced);
}

}  // namespace
}  // namespace tdbmesh::ctl
