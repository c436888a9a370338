#pragma once
// Which node hosts which public address. A pure function of its argument: the same input gives the same answer on
// every node and every machine. 1,000 addresses on 64 nodes take milliseconds.
//
// A node may host an address if it is listed among the address's candidates (configured there, an interface up, the
// node healthy: the caller's business). Whatever the policy:
//  * an address with a candidate is hosted, unless all its candidates refuse takeovers (no_takeover);
//  * it is never given to a node that is no candidate;
//  * with no_failback an address moves only if its present host is no candidate any more;
//  * a node with no_takeover keeps what it has and gets nothing new.
//
// The policies, by CTDB's names and numbers (tunable IPAllocAlgorithm):
//  deterministic (0)     address i of the sorted list belongs to node i mod (number of nodes), whatever was before;
//                        those whose node is no candidate go where fewest are. Moves much, is easy to predict.
//                        no_failback means nothing to it, as in CTDB.
//  non-deterministic (1) what is hosted stays; the rest goes where fewest are; then counts are evened out over all
//                        networks together.
//  lcp2 (2), the default Balanced in each network (addresses of one prefix on one set of interfaces) and, among
//                        equals, over all networks together, with the fewest moves. CTDB measures balance by the
//                        squares of common prefix lengths; we count networks, which is what those squares stand for.
//                        README.md compares the two.
//
// A home (file `home_nodes`) or a pin (`moveip`) comes first in every policy: the address is with that node as
// long as it is a candidate. Pin beats home.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/base/ids.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

enum class Policy : std::uint32_t { Deterministic = 0, NonDeterministic = 1, Lcp2 = 2 };
[[nodiscard]] std::string_view to_string(Policy policy);  // "lcp2", "deterministic", "non-deterministic"
// The value of IPAllocAlgorithm; what is unknown counts as lcp2, as in CTDB.
[[nodiscard]] Policy policy_of_tunable(std::uint32_t value);

struct AllocationNode {
  Pnn pnn{};
  bool no_takeover = false;  // tunable NoIPTakeover of that node
};

struct AllocationAddress {
  Address address;
  std::string network;          // addresses that are alike for balancing; see network_name()
  std::vector<Pnn> candidates;  // nodes of AllocationInput::nodes, ascending
  Pnn current = kNoPnn;         // who hosts it now
  Pnn home = kNoPnn;
  Pnn pin = kNoPnn;
};

struct AllocationInput {
  Policy policy = Policy::Lcp2;
  bool no_failback = false;
  std::vector<AllocationNode> nodes;          // ascending, each once
  std::vector<AllocationAddress> addresses;   // ascending by address, each once
  std::size_t configured_nodes = 0;           // the modulus of `deterministic`; nodes file's length
};

// host[i] of addresses[i]; kNoPnn: nobody may.
[[nodiscard]] std::vector<Pnn> allocate(const AllocationInput& input);

// "10.1.2.0/24 eth0 eth1": prefix and sorted interfaces.
[[nodiscard]] std::string network_name(const PublicAddress& address);

// How uneven an allocation is: for each network the sum over its nodes of the squared number of its addresses there.
// For tests, the comparison tool and logs.
[[nodiscard]] std::uint64_t imbalance(const AllocationInput& input, const std::vector<Pnn>& hosts);
// Addresses hosted elsewhere than now although their present host is a candidate.
[[nodiscard]] std::size_t needless_moves(const AllocationInput& input, const std::vector<Pnn>& hosts);

}  // namespace tdbmesh::ipfailover
