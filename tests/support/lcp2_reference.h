#pragma once
// CTDB's LCP2 policy after its published description, for comparison only: two addresses on one node attract the square
// of the length of their common prefix; an address without a host goes where it adds least; then, one at a time, the
// address that lessens the largest node's sum most moves away, while that lowers the larger of the two sums.

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>

#include "ipfailover/allocation.h"

namespace tdbmesh::ipfailover {

class Lcp2Reference {
 public:
  explicit Lcp2Reference(const AllocationInput& input) : in_(input), host_(input.addresses.size(), kNoPnn) {}

  std::vector<Pnn> run() {
    for (std::size_t i = 0; i < host_.size(); ++i) {
      if (may(i, in_.addresses[i].current)) host_[i] = in_.addresses[i].current;
    }
    while (place_one()) {
    }
    std::set<Pnn> settled;
    while (!in_.no_failback && move_one(settled)) {
    }
    return host_;
  }

 private:
  [[nodiscard]] bool may(std::size_t i, Pnn node) const {
    const auto& c = in_.addresses[i].candidates;
    return std::binary_search(c.begin(), c.end(), node);
  }
  [[nodiscard]] std::uint64_t attraction(std::size_t i, std::size_t j) const {
    const Address& a = in_.addresses[i].address;
    const Address& b = in_.addresses[j].address;
    if (a.family != b.family) return 0;
    const std::size_t bytes = a.family == Address::Family::V4 ? 4 : 16;
    std::uint64_t common = 0;
    for (std::size_t k = 0; k < bytes; ++k) {
      const auto differ = static_cast<std::uint8_t>(a.bytes[k] ^ b.bytes[k]);
      common += static_cast<std::uint64_t>(std::countl_zero(differ));
      if (differ != 0) break;
    }
    return common * common;
  }
  [[nodiscard]] std::uint64_t pull(std::size_t i, Pnn node) const {  // of a node's other addresses on i
    std::uint64_t sum = 0;
    for (std::size_t j = 0; j < host_.size(); ++j) {
      if (j != i && host_[j] == node) sum += attraction(i, j);
    }
    return sum;
  }
  [[nodiscard]] std::uint64_t sum_of(Pnn node) const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < host_.size(); ++i) {
      if (host_[i] == node) sum += pull(i, node);
    }
    return sum;
  }
  bool place_one() {
    std::optional<std::tuple<std::uint64_t, std::size_t, Pnn>> best;
    for (std::size_t i = 0; i < host_.size(); ++i) {
      if (host_[i] != kNoPnn) continue;
      for (const Pnn node : in_.addresses[i].candidates) {
        const auto now = std::tuple(pull(i, node), i, node);
        if (!best || now < *best) best = now;
      }
    }
    if (!best) return false;
    host_[std::get<1>(*best)] = std::get<2>(*best);
    return true;
  }
  bool move_one(std::set<Pnn>& settled) {
    std::optional<std::pair<std::uint64_t, Pnn>> fullest;
    for (const AllocationNode& n : in_.nodes) {
      if (settled.contains(n.pnn)) continue;
      const std::uint64_t sum = sum_of(n.pnn);
      if (!fullest || sum > fullest->first) fullest = std::pair(sum, n.pnn);
    }
    if (!fullest || fullest->first == 0) return false;
    const auto [sum, from] = *fullest;
    std::optional<std::tuple<std::uint64_t, std::size_t, Pnn>> best;  // the larger of the two sums after the move
    for (std::size_t i = 0; i < host_.size(); ++i) {
      if (host_[i] != from) continue;
      const std::uint64_t source = sum - 2 * pull(i, from);
      for (const Pnn to : in_.addresses[i].candidates) {
        if (to == from) continue;
        const std::uint64_t target = sum_of(to) + 2 * pull(i, to);
        if (target >= sum) continue;
        const auto now = std::tuple(std::max(source, target), i, to);
        if (!best || now < *best) best = now;
      }
    }
    if (!best) {
      settled.insert(from);
      return true;
    }
    host_[std::get<1>(*best)] = std::get<2>(*best);
    settled.clear();
    return true;
  }

  const AllocationInput& in_;
  std::vector<Pnn> host_;
};

}  // namespace tdbmesh::ipfailover
