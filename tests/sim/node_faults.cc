// Faults of a simulated cluster: what happens to machines, daemons, links and disks.

#include <algorithm>
#include <fmt/format.h>

#include "tests/sim/node_cluster.h"
#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

Duration NodeCluster::for_a_while() { return milliseconds(50) + world_.random().up_to(milliseconds(2950)); }

Duration NodeCluster::until_restart() {
  return milliseconds(10) + world_.random().up_to(milliseconds(world_.random().chance(3) ? 6000 : 300));
}

void NodeCluster::later_unless_healed(Duration delay, std::function<void()> what) {
  world_.after(delay, [this, what = std::move(what)] {
    if (faults_on_) what();  // everything is healed when the faults end
  });
}

void NodeCluster::fault() {
  if (!faults_on_) return;
  Random& random = world_.random();
  world_.after(milliseconds(300) + random.up_to(milliseconds(1400)), [this] { fault(); });
  ++counts_.faults;
  // One third is aimed at the leader.
  SimNode* target = nodes_[random.below(nodes_.size())].get();
  if (random.chance(3)) {
    for (const auto& node : nodes_) {
      if (node->up() && node->node().control().leading()) target = node.get();
    }
  }
  const std::uint64_t which = random.below(20);
  if (which < 9) return fault_in_process(*target);
  if (which < 17) return fault_in_links(*target);
  if (which < 19) return fault_in_store(*target);
  if (!random.chance(3)) return;
  trace(target->pnn(), "FAULT all die");
  for (const auto& node : nodes_) power_off(*node, until_restart());
}

// ---- processes ------------------------------------------------------------------------------------------

void NodeCluster::fault_in_process(SimNode& node) {
  const Instant until = world_.now() + for_a_while();
  switch (world_.random().below(8)) {
    case 0:
      trace(node.pnn(), "FAULT power off");
      return power_off(node, until_restart());
    case 1:
    case 2:
      trace(node.pnn(), "FAULT kill");
      return kill_daemon(node, until_restart());
    case 3:
      trace(node.pnn(), "FAULT daemon paused");
      node.paused_until = std::max(node.paused_until, until);
      return;
    case 4:
      trace(node.pnn(), "FAULT loop stalls");
      node.stalled_until = std::max(node.stalled_until, until);
      return;
    case 5:
      trace(node.pnn(), "FAULT machine frozen");
      node.frozen_until = std::max(node.frozen_until, until);
      return;
    case 6:
      trace(node.pnn(), "FAULT stopped");
      set_stopped(node, true);
      return later_unless_healed(until - world_.now(), [this, &node] { set_stopped(node, false); });
    default:
      trace(node.pnn(), "FAULT shut down in order");
      return node.in_turn_soon(Duration(0), [&node] { node.node().shut_down(); });
  }
}

void NodeCluster::set_stopped(SimNode& node, bool stopped) {
  node.in_turn_soon(Duration(0), [&node, stopped] { node.set_stopped(stopped); });
}

void NodeCluster::kill_daemon(SimNode& node, Duration restart_after) {
  if (!node.up()) return;
  const Incarnation life = node.incarnation();
  node.stop_daemon(false);
  const bool supervisor = world_.random().chance(2);
  if (supervisor) node.fenced_by_supervisor();
  for (const auto& other : nodes_) {
    if (other.get() == &node || world_.link(node.pnn(), other->pnn()).cut) continue;
    other->in_turn_soon(milliseconds(1), [o = other.get(), pnn = node.pnn(), life, supervisor] {
      o->node().on_reset(pnn);
      if (supervisor) o->node().on_fenced(pnn, life);
    });
  }
  world_.after(restart_after, [&node] { node.start(); });
}

// In order: the daemon left because it was told to.
void NodeCluster::node_exited(SimNode& node) {
  world_.after(Duration(1), [this, &node] {
    if (!node.up()) return;
    node.stop_daemon(false);
    node.fenced_by_supervisor();
    world_.after(until_restart(), [&node] { node.start(); });
  });
}

void NodeCluster::power_off(SimNode& node, Duration restart_after) {
  node.stop_daemon(true);
  world_.after(restart_after, [&node] { node.start(); });
}

// ---- links ----------------------------------------------------------------------------------------------

void NodeCluster::isolate(SimNode& node, bool cut) {
  for (const auto& other : nodes_) {
    if (other.get() == &node) continue;
    world_.link(node.pnn(), other->pnn()).cut = cut;
    world_.link(other->pnn(), node.pnn()).cut = cut;
  }
}

void NodeCluster::partition(std::uint64_t side, bool cut) {
  for (const auto& a : nodes_) {
    for (const auto& b : nodes_) {
      if (a == b || ((side >> number(a->pnn())) & 1u) == ((side >> number(b->pnn())) & 1u)) continue;
      world_.link(a->pnn(), b->pnn()).cut = cut;
    }
  }
}

void NodeCluster::set_quality(SimNode& node, std::uint32_t loss_percent, Duration delay_most) {
  for (const auto& other : nodes_) {
    if (other.get() == &node) continue;
    for (LinkQuality* q : {&world_.link(node.pnn(), other->pnn()), &world_.link(other->pnn(), node.pnn())}) {
      q->loss_percent = loss_percent;
      q->delay_most = std::max(delay_most, q->delay_least + Duration(300));
    }
  }
}

void NodeCluster::fault_in_links(SimNode& node) {
  Random& random = world_.random();
  SimNode& other = *nodes_[random.below(nodes_.size())];
  switch (random.below(8)) {
    case 0:
    case 1: {
      if (&other == &node) return;
      const bool both = random.chance(2);
      trace(node.pnn(), fmt::format("FAULT cut to {}{}", number(other.pnn()), both ? ", both ways" : ""));
      const auto set = [this, a = node.pnn(), b = other.pnn(), both](bool cut) {
        world_.link(a, b).cut = cut;
        if (both) world_.link(b, a).cut = cut;
      };
      set(true);
      return later_unless_healed(for_a_while(), [set] { set(false); });
    }
    case 2:
    case 3:
      trace(node.pnn(), "FAULT isolated");
      isolate(node, true);
      return later_unless_healed(for_a_while(), [this, &node] { isolate(node, false); });
    case 4: {
      trace(node.pnn(), "FAULT partition");
      const std::uint64_t side = random.next();
      partition(side, true);
      return later_unless_healed(for_a_while(), [this, side] { partition(side, false); });
    }
    case 5:
    case 6:
      trace(node.pnn(), "FAULT loss and delay");
      set_quality(node, static_cast<std::uint32_t>(random.below(31)), random.up_to(milliseconds(150)));
      return later_unless_healed(for_a_while(), [this, &node] { set_quality(node, 0, Duration{0}); });
    default:
      trace(node.pnn(), "FAULT short isolation");
      isolate(node, true);
      return later_unless_healed(milliseconds(20) + random.up_to(milliseconds(500)), [this, &node] { isolate(node, false); });
  }
}

// ---- disks ----------------------------------------------------------------------------------------------

void NodeCluster::fault_in_store(SimNode& node) {
  Random& random = world_.random();
  if (!settings_.store_faults || !random.chance(3)) {
    trace(node.pnn(), "FAULT slow disk");
    node.slow_disk = true;
    return later_unless_healed(for_a_while(), [&node] { node.slow_disk = false; });
  }
  const bool full = random.chance(2);
  trace(node.pnn(), full ? "FAULT store full" : "FAULT store failing");
  (full ? node.store().memory().faults.full : node.store().memory().faults.failing) = true;
  later_unless_healed(for_a_while(), [&node] { node.store().memory().faults = {}; });
}

void NodeCluster::heal() {
  // A pause runs out: what waits for its end keeps its order.
  Instant awake = world_.now();
  for (const auto& node : nodes_) awake = std::max({awake, node->paused_until, node->stalled_until, node->frozen_until});
  world_.heal_all_links();
  for (const auto& node : nodes_) {
    node->slow_disk = false;
    node->store().memory().faults = {};
    if (node->up()) {
      set_stopped(*node, false);
    } else {
      node->start();
    }
  }
  (void)run_for(awake - world_.now(), nullptr);
}

}  // namespace tdbmesh::sim
