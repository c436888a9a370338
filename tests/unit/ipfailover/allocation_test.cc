#include "ipfailover/allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "db/base/random.h"

namespace tdbmesh::ipfailover {
namespace {

Address address(std::uint32_t net, std::uint32_t host) {
  return ctdb::v4_address(10, static_cast<std::uint8_t>(net), static_cast<std::uint8_t>(host >> 8),
                          static_cast<std::uint8_t>(host));
}

AllocationInput cluster(std::uint32_t nodes, std::uint32_t networks, std::uint32_t each) {
  AllocationInput in;
  std::vector<Pnn> all;
  for (std::uint32_t n = 0; n < nodes; ++n) {
    in.nodes.push_back({Pnn{n}});
    all.push_back(Pnn{n});
  }
  in.configured_nodes = nodes;
  for (std::uint32_t net = 0; net < networks; ++net) {
    for (std::uint32_t i = 0; i < each; ++i) in.addresses.push_back({address(net, i + 1), std::to_string(net), all});
  }
  return in;
}

void settle(AllocationInput& in, const std::vector<Pnn>& hosts) {
  for (std::size_t i = 0; i < hosts.size(); ++i) in.addresses[i].current = hosts[i];
}

void lose(AllocationInput& in, Pnn gone) {
  std::erase_if(in.nodes, [&](const AllocationNode& n) { return n.pnn == gone; });
  for (AllocationAddress& a : in.addresses) {
    std::erase(a.candidates, gone);
    if (a.current == gone) a.current = kNoPnn;
  }
}

std::size_t count(const std::vector<Pnn>& hosts, Pnn of) {
  return static_cast<std::size_t>(std::count(hosts.begin(), hosts.end(), of));
}

AllocationInput random_input(Random& random, std::uint32_t most_nodes, std::uint32_t most_addresses) {
  const auto nodes = static_cast<std::uint32_t>(1 + random.below(most_nodes));
  AllocationInput in = cluster(nodes, 0, 0);
  in.configured_nodes = nodes + random.below(2);
  in.policy = policy_of_tunable(static_cast<std::uint32_t>(random.below(3)));
  in.no_failback = random.chance(4);
  for (AllocationNode& n : in.nodes) n.no_takeover = random.chance(8);
  const std::uint64_t addresses = random.below(most_addresses + 1);
  for (std::uint32_t i = 0; i < addresses; ++i) {
    AllocationAddress a;
    a.network = std::to_string(random.below(3));
    a.address = address(0, i + 1);
    for (const AllocationNode& n : in.nodes) {
      if (!random.chance(3)) a.candidates.push_back(n.pnn);
    }
    const auto some = [&] { return random.chance(2) ? kNoPnn : Pnn{static_cast<std::uint32_t>(random.below(nodes + 1))}; };
    a.current = some();
    if (random.chance(5)) a.home = some();
    if (random.chance(9)) a.pin = some();
    in.addresses.push_back(std::move(a));
  }
  return in;
}

// The smallest imbalance that any assignment has, by trying all of them.
std::uint64_t least_imbalance(const AllocationInput& in) {
  std::vector<Pnn> hosts(in.addresses.size(), kNoPnn);
  std::uint64_t best = ~std::uint64_t{0};
  const std::function<void(std::size_t)> choose = [&](std::size_t i) {
    if (i == hosts.size()) {
      best = std::min(best, imbalance(in, hosts));
      return;
    }
    if (in.addresses[i].candidates.empty()) return choose(i + 1);
    for (const Pnn p : in.addresses[i].candidates) {
      hosts[i] = p;
      choose(i + 1);
    }
    hosts[i] = kNoPnn;
  };
  choose(0);
  return best;
}

TEST(Allocation, ThePromisesHoldForEveryPolicyOnRandomClusters) {
  Random random(11);
  for (int round = 0; round < 4000; ++round) {
    const AllocationInput in = random_input(random, 6, 20);
    const std::vector<Pnn> hosts = allocate(in);
    ASSERT_EQ(hosts.size(), in.addresses.size());
    ASSERT_EQ(hosts, allocate(in)) << "the same input, another answer";
    for (std::size_t i = 0; i < hosts.size(); ++i) {
      const AllocationAddress& a = in.addresses[i];
      const auto is_candidate = [&](Pnn p) { return std::find(a.candidates.begin(), a.candidates.end(), p) != a.candidates.end(); };
      const auto may = [&](Pnn p) {
        if (!is_candidate(p)) return false;
        const auto n = std::find_if(in.nodes.begin(), in.nodes.end(), [&](const auto& x) { return x.pnn == p; });
        return !n->no_takeover || a.current == p;
      };
      const bool somebody_may = std::any_of(a.candidates.begin(), a.candidates.end(), may);
      ASSERT_EQ(hosts[i] != kNoPnn, somebody_may);
      ASSERT_TRUE(hosts[i] == kNoPnn || may(hosts[i]));
      if (may(a.pin)) {
        ASSERT_EQ(hosts[i], a.pin);
      } else if (in.no_failback && in.policy != Policy::Deterministic && may(a.current)) {
        ASSERT_EQ(hosts[i], a.current);
      } else if (may(a.home)) {
        ASSERT_EQ(hosts[i], a.home);
      }
    }
  }
}

TEST(Allocation, NoAssignmentAtAllIsMoreBalancedThanLcp2s) {
  Random random(12);
  for (int round = 0; round < 600; ++round) {
    AllocationInput in = random_input(random, 4, 6);
    in.policy = Policy::Lcp2;
    in.no_failback = false;
    for (AllocationNode& n : in.nodes) n.no_takeover = false;
    for (AllocationAddress& a : in.addresses) a.home = a.pin = kNoPnn;
    ASSERT_EQ(imbalance(in, allocate(in)), least_imbalance(in)) << "round " << round;
  }
}

TEST(Allocation, WhatIsBalancedStaysAsItIs) {
  Random random(13);
  for (int round = 0; round < 1000; ++round) {
    AllocationInput in = random_input(random, 6, 24);
    if (in.policy == Policy::Deterministic) continue;
    settle(in, allocate(in));
    ASSERT_EQ(allocate(in), allocate(in));
    const std::vector<Pnn> again = allocate(in);
    for (std::size_t i = 0; i < again.size(); ++i) ASSERT_EQ(again[i], in.addresses[i].current) << "round " << round;
  }
}

TEST(Allocation, ALostNodesAddressesMoveAndNoOthers) {
  AllocationInput in = cluster(4, 3, 8);
  settle(in, allocate(in));
  lose(in, Pnn{2});
  const std::vector<Pnn> hosts = allocate(in);
  EXPECT_EQ(needless_moves(in, hosts), 0u);
  for (std::uint32_t n = 0; n < 4; ++n) EXPECT_EQ(count(hosts, Pnn{n}), n == 2 ? 0u : 8u);
}

TEST(Allocation, AReturningNodeGetsItsShareWithFewestMoves) {
  AllocationInput in = cluster(4, 1, 12);
  AllocationInput without = in;
  lose(without, Pnn{1});
  settle(in, allocate(without));
  const std::vector<Pnn> hosts = allocate(in);
  EXPECT_EQ(count(hosts, Pnn{1}), 3u);
  EXPECT_EQ(needless_moves(in, hosts), 3u);
}

TEST(Allocation, OddAddressesOfManyNetworksAreSpread) {
  const AllocationInput in = cluster(4, 8, 1);
  const std::vector<Pnn> hosts = allocate(in);
  for (std::uint32_t n = 0; n < 4; ++n) EXPECT_EQ(count(hosts, Pnn{n}), 2u);
}

TEST(Allocation, DeterministicFollowsTheList) {
  AllocationInput in = cluster(3, 1, 6);
  in.policy = Policy::Deterministic;
  settle(in, std::vector<Pnn>(6, Pnn{0}));
  EXPECT_EQ(allocate(in), (std::vector<Pnn>{Pnn{0}, Pnn{1}, Pnn{2}, Pnn{0}, Pnn{1}, Pnn{2}}));
  lose(in, Pnn{1});
  const std::vector<Pnn> hosts = allocate(in);
  EXPECT_EQ(hosts[0], Pnn{0});
  EXPECT_EQ(hosts[2], Pnn{2});
  EXPECT_EQ(count(hosts, Pnn{0}), 3u);
}

TEST(Allocation, NonDeterministicCountsAddressesOfAllNetworksTogether) {
  AllocationInput in = cluster(2, 2, 2);
  in.policy = Policy::NonDeterministic;
  settle(in, {Pnn{0}, Pnn{0}, Pnn{1}, Pnn{1}});  // even by count, not by network
  EXPECT_EQ(needless_moves(in, allocate(in)), 0u);
  in.policy = Policy::Lcp2;
  EXPECT_EQ(needless_moves(in, allocate(in)), 2u);
}

TEST(Allocation, NetworksAreToldApartByPrefixAndInterfaces) {
  const PublicAddress a{address(1, 1), 24, {"eth0", "eth1"}};
  EXPECT_EQ(network_name(a), "10.1.0.0/24 eth0 eth1");
  EXPECT_EQ(network_name({address(1, 7), 24, {"eth1", "eth0"}}), network_name(a));
  EXPECT_NE(network_name({address(1, 7), 24, {"eth0"}}), network_name(a));
  EXPECT_NE(network_name({address(1, 7), 25, {"eth0", "eth1"}}), network_name(a));
  EXPECT_EQ(network_name({*ctdb::parse_address("fd00:1:2:3::9"), 62, {"e"}}), "fd00:1:2::/62 e");
  EXPECT_EQ(network_name({address(1, 7), 0, {"e"}}), "0.0.0.0/0 e");
}

}  // namespace
}  // namespace tdbmesh::ipfailover
