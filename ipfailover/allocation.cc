#include "ipfailover/allocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

namespace tdbmesh::ipfailover {
namespace {

constexpr std::size_t kNobody = std::numeric_limits<std::size_t>::max();

// Works on indices: nodes by their place in input.nodes, addresses by theirs. Addresses of one network with equal
// candidates form a class; all members of a class are interchangeable, which is what keeps the search small.
class Allocator {
 public:
  explicit Allocator(const AllocationInput& input) : in_(input), nodes_(input.nodes.size()) {
    for (std::size_t i = 0; i < nodes_; ++i) node_index_[in_.nodes[i].pnn] = i;
    total_.assign(nodes_, 0);
    host_.assign(in_.addresses.size(), kNobody);
    pinned_.assign(in_.addresses.size(), false);
    std::map<std::string, std::size_t> networks;
    std::map<std::pair<std::size_t, std::vector<Pnn>>, std::size_t> classes;
    for (const AllocationAddress& a : in_.addresses) {
      const bool apart = in_.policy == Policy::Lcp2;
      const auto net = networks.try_emplace(apart ? a.network : std::string(), networks.size()).first->second;
      const auto [cls, added] = classes.try_emplace({net, a.candidates}, classes.size());
      if (added) {
        Class c;
        c.network = net;
        c.may.assign(nodes_, false);
        for (const Pnn p : a.candidates) {
          if (const auto at = node_index_.find(p); at != node_index_.end()) c.may[at->second] = true;
        }
        c.movable.resize(nodes_);
        classes_.push_back(std::move(c));
      }
      class_of_.push_back(cls->second);
    }
    load_.assign(networks.size(), std::vector<std::size_t>(nodes_, 0));
    classes_in_.resize(networks.size());
    for (std::size_t c = 0; c < classes_.size(); ++c) classes_in_[classes_[c].network].push_back(c);
  }

  std::vector<Pnn> run() {
    keep_what_is_settled();
    place_the_rest();
    if (in_.policy != Policy::Deterministic && !in_.no_failback) {
      for (std::size_t net = 0; net < load_.size(); ++net) even_out(net);
      even_out_totals();
    }
    std::vector<Pnn> answer;
    for (const std::size_t h : host_) answer.push_back(h == kNobody ? kNoPnn : in_.nodes[h].pnn);
    return answer;
  }

 private:
  struct Class {
    std::size_t network = 0;
    std::vector<bool> may;
    std::vector<std::vector<std::size_t>> movable;  // per node: addresses there that are not pinned
  };

  // May this node have the address, as a new one or because it has it already?
  [[nodiscard]] bool may_host(std::size_t address, std::size_t node) const {
    if (!classes_[class_of_[address]].may[node]) return false;
    return !in_.nodes[node].no_takeover || in_.addresses[address].current == in_.nodes[node].pnn;
  }
  [[nodiscard]] std::size_t index(Pnn pnn) const {
    const auto at = node_index_.find(pnn);
    return at == node_index_.end() ? kNobody : at->second;
  }
  void put(std::size_t address, std::size_t node, bool pinned) {
    Class& c = classes_[class_of_[address]];
    host_[address] = node;
    pinned_[address] = pinned;
    ++load_[c.network][node];
    ++total_[node];
    if (!pinned) c.movable[node].push_back(address);
  }
  void move(std::size_t cls, std::size_t from, std::size_t to) {
    Class& c = classes_[cls];
    const std::size_t address = pick(c.movable[from], to);
    host_[address] = to;
    --load_[c.network][from];
    ++load_[c.network][to];
    --total_[from];
    ++total_[to];
    c.movable[to].push_back(address);
  }
  // Of the addresses that could go: one that was at `to` before, else one that is new here anyway, else the last.
  std::size_t pick(std::vector<std::size_t>& from, std::size_t to) const {
    const auto rank = [&](std::size_t a) {
      const std::size_t was = index(in_.addresses[a].current);
      return std::tuple(was == to ? 0 : was == host_[a] ? 2 : 1, std::numeric_limits<std::size_t>::max() - a);
    };
    const auto best = std::min_element(from.begin(), from.end(), [&](auto a, auto b) { return rank(a) < rank(b); });
    const std::size_t address = *best;
    from.erase(best);
    return address;
  }

  void keep_what_is_settled() {
    for (std::size_t i = 0; i < host_.size(); ++i) {
      const AllocationAddress& a = in_.addresses[i];
      const std::size_t current = index(a.current);
      const bool stays = current != kNobody && may_host(i, current);
      const std::size_t pin = index(a.pin);
      const std::size_t home = index(a.home);
      if (pin != kNobody && may_host(i, pin)) {
        put(i, pin, true);
      } else if (in_.policy == Policy::Deterministic && home == kNobody) {
        const std::size_t own =
            in_.configured_nodes == 0 ? kNobody : index(Pnn{static_cast<std::uint32_t>(i % in_.configured_nodes)});
        if (own != kNobody && may_host(i, own)) put(i, own, true);
      } else if (home != kNobody && may_host(i, home) && !(in_.no_failback && in_.policy != Policy::Deterministic && stays)) {
        put(i, home, true);
      } else if (stays) {
        put(i, current, false);
      }
    }
  }

  // To the candidate with fewest of its network, then fewest at all, then the lowest pnn.
  void place_the_rest() {
    for (std::size_t i = 0; i < host_.size(); ++i) {
      if (host_[i] != kNobody) continue;
      const std::size_t net = classes_[class_of_[i]].network;
      std::size_t best = kNobody;
      for (std::size_t n = 0; n < nodes_; ++n) {
        if (!may_host(i, n)) continue;
        if (best == kNobody || std::tuple(load_[net][n], total_[n]) < std::tuple(load_[net][best], total_[best])) best = n;
      }
      if (best != kNobody) put(i, best, false);
    }
  }

  [[nodiscard]] bool may_receive(const Class& c, std::size_t node) const {
    return c.may[node] && !in_.nodes[node].no_takeover;
  }

  // From the fullest node along the shortest chain of moves to a node with at least two fewer; until there is none.
  // No such chain left means that the sum of squares is as small as it can be.
  void even_out(std::size_t net) {
    std::vector<std::size_t>& load = load_[net];
    std::vector<bool> exhausted(nodes_, false);
    while (true) {
      std::size_t from = kNobody;
      for (std::size_t n = 0; n < nodes_; ++n) {
        if (!exhausted[n] && load[n] >= 2 && (from == kNobody || load[n] > load[from])) from = n;
      }
      if (from == kNobody) return;
      if (!relieve(net, from)) {
        exhausted[from] = true;
      } else {
        exhausted.assign(nodes_, false);
      }
    }
  }

  bool relieve(std::size_t net, std::size_t from) {
    const std::vector<std::size_t>& load = load_[net];
    std::vector<std::size_t> came_from(nodes_, kNobody);
    std::vector<std::size_t> by_class(nodes_, kNobody);
    std::vector<std::size_t> layer{from};
    came_from[from] = from;
    while (!layer.empty()) {
      std::vector<std::size_t> next;
      for (const std::size_t at : layer) {
        for (const std::size_t c : classes_in_[net]) {
          if (classes_[c].movable[at].empty()) continue;
          for (std::size_t to = 0; to < nodes_; ++to) {
            if (came_from[to] != kNobody || !may_receive(classes_[c], to)) continue;
            came_from[to] = at;
            by_class[to] = c;
            next.push_back(to);
          }
        }
      }
      std::size_t best = kNobody;
      for (const std::size_t n : next) {
        if (load[n] + 2 > load[from]) continue;
        if (best == kNobody || std::tuple(load[n], total_[n], n) < std::tuple(load[best], total_[best], best)) best = n;
      }
      if (best != kNobody) {
        // The last link first: each link's class was there before anything moved, and still is.
        for (std::size_t n = best; n != from; n = came_from[n]) move(by_class[n], came_from[n], n);
        return true;
      }
      layer = std::move(next);
    }
    return false;
  }

  // Moves that leave a network's balance as it is and even out the nodes' sums, so that the odd ones of many networks
  // do not all stand on the first node.
  void even_out_totals() {
    bool moved = true;
    while (moved) {
      moved = false;
      std::vector<std::size_t> order(nodes_);
      for (std::size_t n = 0; n < nodes_; ++n) order[n] = n;
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return total_[a] > total_[b]; });
      for (std::size_t f = 0; f < order.size() && !moved; ++f) {
        for (std::size_t t = order.size(); t-- > f + 1 && !moved;) {
          const std::size_t from = order[f];
          const std::size_t to = order[t];
          if (total_[from] < total_[to] + 2) break;
          for (std::size_t c = 0; c < classes_.size() && !moved; ++c) {
            const std::size_t net = classes_[c].network;
            if (classes_[c].movable[from].empty() || !may_receive(classes_[c], to)) continue;
            if (load_[net][from] != load_[net][to] + 1) continue;
            move(c, from, to);
            moved = true;
          }
        }
      }
    }
  }

  const AllocationInput& in_;
  std::size_t nodes_;
  std::map<Pnn, std::size_t> node_index_;
  std::vector<Class> classes_;
  std::vector<std::size_t> class_of_;
  std::vector<std::vector<std::size_t>> classes_in_;
  std::vector<std::size_t> host_;
  std::vector<bool> pinned_;
  std::vector<std::vector<std::size_t>> load_;  // [network][node]
  std::vector<std::size_t> total_;
};

}  // namespace

std::string_view to_string(Policy policy) {
  switch (policy) {
    case Policy::Deterministic: return "deterministic";
    case Policy::NonDeterministic: return "non-deterministic";
    case Policy::Lcp2: return "lcp2";
  }
  return "lcp2";
}

Policy policy_of_tunable(std::uint32_t value) { return value <= 1 ? static_cast<Policy>(value) : Policy::Lcp2; }

std::vector<Pnn> allocate(const AllocationInput& input) { return Allocator(input).run(); }

std::string network_name(const PublicAddress& address) {
  Address network = address.address;
  const std::size_t bytes = network.family == Address::Family::V4 ? 4 : 16;
  for (std::size_t i = 0; i < bytes; ++i) {
    const int kept = std::clamp(static_cast<int>(address.prefix) - static_cast<int>(i * 8), 0, 8);
    network.bytes[i] = static_cast<std::uint8_t>(network.bytes[i] & (0xFF00u >> kept));
  }
  std::vector<std::string> interfaces = address.interfaces;
  std::sort(interfaces.begin(), interfaces.end());
  return fmt::format("{}/{} {}", ctdb::to_string(network), address.prefix, fmt::join(interfaces, " "));
}

std::uint64_t imbalance(const AllocationInput& input, const std::vector<Pnn>& hosts) {
  std::map<std::pair<std::string, Pnn>, std::uint64_t> counts;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    if (hosts[i] != kNoPnn) ++counts[{input.addresses[i].network, hosts[i]}];
  }
  std::uint64_t sum = 0;
  for (const auto& [where, count] : counts) sum += count * count;
  return sum;
}

std::size_t needless_moves(const AllocationInput& input, const std::vector<Pnn>& hosts) {
  std::size_t moves = 0;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const AllocationAddress& a = input.addresses[i];
    const bool could_stay = std::find(a.candidates.begin(), a.candidates.end(), a.current) != a.candidates.end();
    if (could_stay && hosts[i] != a.current) ++moves;
  }
  return moves;
}

}  // namespace tdbmesh::ipfailover
