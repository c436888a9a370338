// The mesh over IPv6, in a network namespace of its own: skips without root.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/mesh_network.h"
#include "tests/support/private_network.h"

namespace tdbmesh {
namespace {

TEST(MeshOverIpv6, LetsPeersInByTheirAddressesHoweverTheyAreWritten) {
  if (const std::string why = enter_private_network(); !why.empty()) GTEST_SKIP() << why;
  for (const char* address : {"fd00::1", "fd00::2", "fd00::3"}) {
    ASSERT_TRUE(shell(std::string("ip -6 address add ") + address + "/128 dev lo nodad"));
  }
  const auto loop = EventLoop::create().value();
  const ClusterKey key = generate_cluster_key().value();
  std::array<Recorder, 3> heard;
  std::vector<std::string> refused;
  const auto open = [&](std::uint32_t self, const char* address) {
    MeshOptions options;
    options.self = Pnn{self};
    options.incarnation = 1;
    options.address = address;
    options.port = MeshNetwork::kPort;
    options.peers = {{Pnn{0}, "fd00::1"}, {Pnn{1}, "FD00:0:0:0::2"}};
    options.key = key;
    if (self == 0) options.report = [&](const std::string& line) { refused.push_back(line); };
    return Mesh::open(*loop, std::move(options), heard.at(self)).value();
  };
  const auto zero = open(0, "fd00::1");
  const auto one = open(1, "fd00::2");
  const auto stranger = open(2, "fd00::3");
  zero->send(Pnn{1}, MessageKind::Control, "there");
  one->send(Pnn{0}, MessageKind::Control, "back");
  stranger->send(Pnn{0}, MessageKind::Control, "let me in");
  const auto end = boot_time_now() + MeshNetwork::kPatience;
  while (boot_time_now() < end && (heard[0].bodies().empty() || heard[1].bodies().empty() || refused.empty())) {
    loop->run_once(milliseconds(10));
  }
  EXPECT_EQ(heard[0].bodies(), std::vector<Bytes>{"back"});
  EXPECT_EQ(heard[1].bodies(), std::vector<Bytes>{"there"});
  EXPECT_THAT(refused, testing::Contains("refused a connection from fd00::3: no node has this address"));
}

}  // namespace
}  // namespace tdbmesh
