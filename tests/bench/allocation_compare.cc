// Imbalance, moves and time of the default allocation and of a model of CTDB's LCP2 (tests/support/lcp2_reference.h)
// on the same clusters: at the start, after a node is lost, after it is back. Prints one line each.

#include <fmt/format.h>

#include <chrono>

#include "tests/support/lcp2_reference.h"

using namespace tdbmesh;
using namespace tdbmesh::ipfailover;

namespace {

AllocationInput cluster(std::uint32_t nodes, std::uint32_t networks, std::uint32_t each, bool subsets) {
  AllocationInput in;
  in.configured_nodes = nodes;
  for (std::uint32_t n = 0; n < nodes; ++n) in.nodes.push_back({Pnn{n}});
  for (std::uint32_t net = 0; net < networks; ++net) {
    for (std::uint32_t i = 0; i < each; ++i) {
      AllocationAddress a;
      a.address = ctdb::v4_address(10, static_cast<std::uint8_t>(net), static_cast<std::uint8_t>(i >> 8),
                                   static_cast<std::uint8_t>(i));
      a.network = std::to_string(net);
      for (std::uint32_t n = 0; n < nodes; ++n) {
        if (!subsets || (n + net) % 2 == 0 || nodes < 4) a.candidates.push_back(Pnn{n});
      }
      in.addresses.push_back(std::move(a));
    }
  }
  return in;
}

void settle(AllocationInput& in, const std::vector<Pnn>& hosts) {
  for (std::size_t i = 0; i < hosts.size(); ++i) in.addresses[i].current = hosts[i];
}

AllocationInput without(AllocationInput in, Pnn gone) {
  std::erase_if(in.nodes, [&](const AllocationNode& n) { return n.pnn == gone; });
  for (AllocationAddress& a : in.addresses) {
    std::erase(a.candidates, gone);
    if (a.current == gone) a.current = kNoPnn;
  }
  return in;
}

template <class Policy>
void run(const char* name, AllocationInput in, Policy policy) {
  const auto timed = [&](const AllocationInput& now, const char* when) {
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<Pnn> hosts = policy(now);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    fmt::print("  {:<5} {:<12} imbalance {:>6}  moves beyond need {:>4}  {:>9.3f} ms\n", name, when, imbalance(now, hosts),
               needless_moves(now, hosts), took.count());
    return hosts;
  };
  settle(in, timed(in, "start"));
  AllocationInput less = without(in, Pnn{1});
  settle(less, timed(less, "node lost"));
  for (std::size_t i = 0; i < in.addresses.size(); ++i) in.addresses[i].current = less.addresses[i].current;
  (void)timed(in, "node back");
}

}  // namespace

int main() {
  struct Shape {
    std::uint32_t nodes, networks, each;
    bool subsets, reference;
  };
  for (const Shape s : {Shape{3, 1, 6, false, true}, Shape{4, 3, 10, false, true}, Shape{5, 4, 7, true, true},
                        Shape{8, 4, 24, true, true}, Shape{64, 4, 250, false, false}, Shape{64, 4, 250, true, false}}) {
    fmt::print("{} nodes, {} networks of {} addresses{}\n", s.nodes, s.networks, s.each,
               s.subsets ? ", each network on every other node" : "");
    const AllocationInput in = cluster(s.nodes, s.networks, s.each, s.subsets);
    run("ours", in, [](const AllocationInput& i) { return allocate(i); });
    if (s.reference) run("lcp2", in, [](const AllocationInput& i) { return Lcp2Reference(i).run(); });
  }
}
