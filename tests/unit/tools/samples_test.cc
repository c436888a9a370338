// The sample configuration is what the daemon accepts, also when an operator takes the comment sign away.

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "tools/daemon/config.h"

namespace tdbmesh {
namespace {

std::string sample(const std::string& name) {
  std::ifstream file(std::string(TDBMESH_SOURCE_DIR) + "/tools/config/" + name);
  std::stringstream content;
  content << file.rdbuf();
  EXPECT_FALSE(content.str().empty()) << name;
  return content.str();
}

TEST(Samples, ConfigurationIsAcceptedAsItIs) {
  Config config;
  const auto parsed = parse_options(sample("tdbmesh.conf"), "tdbmesh.conf", true, config);
  ASSERT_TRUE(parsed) << parsed.error().context;
  EXPECT_TRUE(config.notices.empty());
}

TEST(Samples, EveryCommentedOptionIsAcceptedToo) {
  std::string text;
  std::istringstream lines(sample("tdbmesh.conf"));
  int options = 0;
  for (std::string line; std::getline(lines, line);) {
    // Directories must exist, so they cannot be tried here.
    if (std::regex_match(line, std::regex("\t# [a-z ]+ = .*")) && line.find("directory") == std::string::npos) {
      line.erase(0, 3);
      ++options;
    }
    text += line + "\n";
  }
  Config config;
  const auto parsed = parse_options(text, "tdbmesh.conf", true, config);
  ASSERT_TRUE(parsed) << parsed.error().context;
  EXPECT_TRUE(config.notices.empty());
  EXPECT_GE(options, 10);
}

TEST(Samples, NodesHasOneLineForEachNode) {
  const auto nodes = parse_nodes(sample("nodes.example"), "nodes");
  ASSERT_TRUE(nodes) << nodes.error().context;
  EXPECT_EQ(nodes->size(), 3u);
}

TEST(Samples, PublicAddressesAreAccepted) {
  const auto addresses = parse_public_addresses(sample("public_addresses.example"), "public_addresses");
  ASSERT_TRUE(addresses) << addresses.error().context;
  EXPECT_EQ(addresses->size(), 3u);
}

}  // namespace
}  // namespace tdbmesh
