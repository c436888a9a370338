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

struct NodeCluster::Fault {
  const char* kind;
  unsigned weight;
  void (NodeCluster::*strike)(SimNode& node);
};

const std::vector<NodeCluster::Fault>& NodeCluster::fault_table() {
  static const std::vector<Fault> table{
      {"power off", 4, &NodeCluster::fault_power_off},
      {"disk lost", 1, &NodeCluster::fault_disk_lost},
      {"daemon killed", 7, &NodeCluster::fault_kill},
      {"daemon paused", 4, &NodeCluster::fault_pause},
      {"daemon paused for long", 2, &NodeCluster::fault_long_pause},
      {"loop stalled", 4, &NodeCluster::fault_stall},
      {"machine frozen", 4, &NodeCluster::fault_freeze},
      {"stopped", 4, &NodeCluster::fault_stop},
      {"banned", 2, &NodeCluster::fault_ban},
      {"recovery asked for", 2, &NodeCluster::fault_recover},
      {"shut down in order", 4, &NodeCluster::fault_shut_down},
      {"cut one way", 4, &NodeCluster::fault_cut_one_way},
      {"cut both ways", 4, &NodeCluster::fault_cut_both_ways},
      {"isolated", 8, &NodeCluster::fault_isolate},
      {"isolated shortly", 4, &NodeCluster::fault_isolate_shortly},
      {"partition", 4, &NodeCluster::fault_partition},
      {"link flapping", 4, &NodeCluster::fault_flap},
      {"loss and delay", 8, &NodeCluster::fault_loss},
      {"connection broken", 4, &NodeCluster::fault_break_connection},
      {"connected twice", 4, &NodeCluster::fault_connect_twice},
      {"disk slow", 4, &NodeCluster::fault_slow_disk},
      {"disk hanging", 2, &NodeCluster::fault_hanging_disk},
      {"store full", 2, &NodeCluster::fault_store_full},
      {"store failing", 2, &NodeCluster::fault_store_failing},
      {"lock service lost", 8, &NodeCluster::fault_lock_cut},
      {"lock helper dead", 4, &NodeCluster::fault_lock_lost},
      {"lock stuck", 4, &NodeCluster::fault_lock_stuck},
      {"taken off the nodes file", 3, &NodeCluster::fault_nodes_file},
      {"all die", 2, &NodeCluster::fault_all_die},
      {"restart one by one", 1, &NodeCluster::fault_rolling_restart},
  };
  return table;
}

std::vector<std::string> NodeCluster::fault_kinds() {
  std::vector<std::string> kinds;
  for (const Fault& fault : fault_table()) kinds.emplace_back(fault.kind);
  return kinds;
}

void NodeCluster::choose_faults() {
  for (const Fault& fault : fault_table()) {
    const std::string kind = fault.kind;
    const auto& only = settings_.only_faults;
    if (!only.empty() && std::find(only.begin(), only.end(), kind) == only.end()) continue;
    if (kind.starts_with("lock") && !settings_.lock) continue;
    if (kind.starts_with("store") && !settings_.store_faults) continue;
    if (kind == "taken off the nodes file" && (!settings_.change_nodes || nodes_.size() < 3)) continue;
    if (kind == "disk lost" && (nodes_.size() < 3 || settings_.lock)) continue;
    chosen_.push_back(&fault);
    weights_ += fault.weight;
  }
}

void NodeCluster::fault() {
  if (!faults_on_ || chosen_.empty()) return;
  Random& random = world_.random();
  world_.after(milliseconds(300) + random.up_to(milliseconds(1400)), [this] { fault(); });
  // One third is aimed at the leader.
  SimNode* target = nodes_[random.below(nodes_.size())].get();
  if (random.chance(3)) {
    if (SimNode* first = leader()) target = first;
  }
  std::uint64_t at = random.below(weights_);
  for (const Fault* fault : chosen_) {
    if (at >= fault->weight) {
      at -= fault->weight;
      continue;
    }
    trace(target->pnn(), fmt::format("FAULT {}", fault->kind));
    ++counts_.faults[fault->kind];
    return (this->*fault->strike)(*target);
  }
}

SimNode* NodeCluster::leader() {
  for (const auto& node : nodes_) {
    if (node->up() && node->node().control().leading()) return node.get();
  }
  return nullptr;
}

// ---- processes ------------------------------------------------------------------------------------------

void NodeCluster::fault_power_off(SimNode& node) { power_off(node, until_restart()); }

// At most one disk, and only while all nodes are members: what is on all of them survives that, more is not promised.
void NodeCluster::fault_disk_lost(SimNode& node) {
  if (disk_lost_ || !newest_ || newest_->members.size() < nodes_.size()) return;
  power_off(node, until_restart());
  node.lose_disk();
  disk_lost_ = node.pnn();
}

void NodeCluster::fault_kill(SimNode& node) { kill_daemon(node, until_restart()); }

void NodeCluster::fault_pause(SimNode& node) {
  node.paused_until = std::max(node.paused_until, world_.now() + for_a_while());
}

void NodeCluster::fault_long_pause(SimNode& node) {
  const Duration lease = settings_.timing.lease;
  node.paused_until = std::max(node.paused_until, world_.now() + lease + world_.random().up_to(4 * lease + seconds(1)));
}

void NodeCluster::fault_stall(SimNode& node) {
  node.stalled_until = std::max(node.stalled_until, world_.now() + for_a_while());
}

void NodeCluster::fault_freeze(SimNode& node) {
  node.frozen_until = std::max(node.frozen_until, world_.now() + for_a_while());
}

void NodeCluster::fault_stop(SimNode& node) {
  set_stopped(node, true);
  later_unless_healed(for_a_while(), [this, &node] { set_stopped(node, false); });
}

void NodeCluster::fault_ban(SimNode& node) {
  const auto how_long = static_cast<std::uint32_t>(1 + world_.random().below(3));
  node.in_turn_soon(Duration(0), [&node, how_long] { node.ban(how_long); });
}

void NodeCluster::fault_recover(SimNode& node) {
  node.in_turn_soon(Duration(0), [&node] { node.recover(); });
}

void NodeCluster::fault_shut_down(SimNode& node) {
  node.in_turn_soon(Duration(0), [&node] { node.node().shut_down(); });
}

void NodeCluster::fault_all_die(SimNode&) {
  for (const auto& node : nodes_) power_off(*node, until_restart());
}

void NodeCluster::fault_rolling_restart(SimNode&) {
  Duration wait{0};
  for (const auto& node : nodes_) {
    later_unless_healed(wait, [this, n = node.get()] { fault_shut_down(*n); });
    wait += milliseconds(200) + world_.random().up_to(milliseconds(1200));
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
      o->node().on_reset(pnn, life);
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

void NodeCluster::cut_for_good(SimNode& from, SimNode& to) {
  lasting_cut_.emplace(from.pnn(), to.pnn());
  trace(from.pnn(), fmt::format("what it sends to node {} is lost from now on", number(to.pnn())));
  LinkQuality& link = world_.link(from.pnn(), to.pnn());
  link.cut = link.for_good = true;
}

void NodeCluster::heal_all_links() {
  lasting_cut_.reset();
  world_.heal_all_links();
}

void NodeCluster::cut_to_another(SimNode& node, bool both) {
  SimNode& other = *nodes_[world_.random().below(nodes_.size())];
  if (&other == &node) return;
  const auto set = [this, a = node.pnn(), b = other.pnn(), both](bool cut) {
    world_.link(a, b).cut = cut;
    if (both) world_.link(b, a).cut = cut;
  };
  set(true);
  later_unless_healed(for_a_while(), [set] { set(false); });
}

void NodeCluster::fault_cut_one_way(SimNode& node) { cut_to_another(node, false); }
void NodeCluster::fault_cut_both_ways(SimNode& node) { cut_to_another(node, true); }

void NodeCluster::fault_isolate(SimNode& node) {
  isolate(node, true);
  later_unless_healed(for_a_while(), [this, &node] { isolate(node, false); });
}

void NodeCluster::fault_isolate_shortly(SimNode& node) {
  isolate(node, true);
  later_unless_healed(milliseconds(20) + world_.random().up_to(milliseconds(500)),
                      [this, &node] { isolate(node, false); });
}

void NodeCluster::fault_partition(SimNode&) {
  const std::uint64_t side = world_.random().next();
  partition(side, true);
  later_unless_healed(for_a_while(), [this, side] { partition(side, false); });
}

// Up and down a dozen times, each time for less than or about the silence that makes a node lost.
void NodeCluster::fault_flap(SimNode& node) {
  SimNode& other = *nodes_[world_.random().below(nodes_.size())];
  if (&other == &node) return;
  Duration at{0};
  for (int i = 0; i < 24; ++i) {
    at += milliseconds(20) + world_.random().up_to(settings_.timing.silence);
    later_unless_healed(at, [this, a = node.pnn(), b = other.pnn(), down = i % 2 == 0] {
      world_.link(a, b).cut = world_.link(b, a).cut = down;
    });
  }
}

void NodeCluster::fault_loss(SimNode& node) {
  set_quality(node, static_cast<std::uint32_t>(world_.random().below(31)), world_.random().up_to(milliseconds(150)));
  later_unless_healed(for_a_while(), [this, &node] { set_quality(node, 0, Duration{0}); });
}

void NodeCluster::fault_break_connection(SimNode& node) {
  SimNode& other = *nodes_[world_.random().below(nodes_.size())];
  if (&other == &node || !node.up() || !other.up()) return;
  network_.break_connection(node.pnn(), other.pnn());
  if (world_.random().chance(2)) network_.break_connection(other.pnn(), node.pnn());
}

void NodeCluster::fault_connect_twice(SimNode& node) {
  SimNode& other = *nodes_[world_.random().below(nodes_.size())];
  if (&other == &node || !node.up() || !other.up()) return;
  network_.connect_twice(node.pnn(), other.pnn());
}

// ---- disks and the lock -----------------------------------------------------------------------------------

void NodeCluster::fault_slow_disk(SimNode& node) {
  node.slow_disk = true;
  later_unless_healed(for_a_while(), [&node] { node.slow_disk = false; });
}

void NodeCluster::fault_hanging_disk(SimNode& node) {
  node.disk_hangs_until = std::max(node.disk_hangs_until, world_.now() + for_a_while());
}

void NodeCluster::fault_store_full(SimNode& node) {
  node.store().memory().faults.full = true;
  later_unless_healed(for_a_while(), [&node] { node.store().memory().faults = {}; });
}

void NodeCluster::fault_store_failing(SimNode& node) {
  node.store().memory().faults.failing = true;
  later_unless_healed(for_a_while(), [&node] { node.store().memory().faults = {}; });
}

void NodeCluster::fault_lock_cut(SimNode& node) {
  lock_.cut(node.pnn(), true);
  lock_.freed_by_death({node.pnn(), node.life()});  // the service gives up on a holder that it does not reach
  later_unless_healed(for_a_while(), [this, &node] { lock_.cut(node.pnn(), false); });
}

void NodeCluster::set_listed(SimNode& node, bool listed) {
  ++file_number_;
  if (listed) {
    unlisted_.reset();
  } else {
    unlisted_ = node.pnn();
    if (node.up()) kill_daemon(node, Duration(0));
  }
  reload_everywhere();
  if (listed) node.start();
}

// The operator repeats the command where it was refused or lost.
void NodeCluster::reload_everywhere() {
  for (const auto& each : nodes_) {
    each->in_turn_soon(world_.random().up_to(milliseconds(100)), [n = each.get()] { n->reload_nodes(); });
  }
  world_.after(milliseconds(500), [this, number = file_number_] {
    if (number == file_number_) reload_everywhere();
  });
}

void NodeCluster::fault_nodes_file(SimNode& node) {
  if (unlisted_ || !newest_ || newest_->members.size() < nodes_.size()) return;
  set_listed(node, false);
  later_unless_healed(seconds(1) + for_a_while(), [this, &node] { set_listed(node, true); });
}

void NodeCluster::fault_lock_lost(SimNode& node) { node.kill_lock_helper(); }

// As on a replicated file system that takes half a minute to give up on a client.
void NodeCluster::fault_lock_stuck(SimNode&) { lock_.stick(seconds(3) + world_.random().up_to(seconds(9))); }

// Not if it has lost its disk, or is being taken back into the nodes file.
bool NodeCluster::votes(const SimNode& node) const {
  const auto in = [&](const std::vector<Pnn>& voters) { return std::count(voters.begin(), voters.end(), node.pnn()) > 0; };
  const auto by = [&](const recovery::ClusterConfig& config) {
    return in(config.voters) && (config.old_voters.empty() || in(config.old_voters));
  };
  if (unlisted_ == node.pnn() || !node.remembers() || (newest_ && !by(newest_->config))) return false;
  return std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& one) {
    return !one->up() || by(one->node().control().cluster());
  });
}

void NodeCluster::heal() {
  // A pause runs out: what waits for its end keeps its order.
  Instant awake = world_.now();
  for (const auto& node : nodes_) awake = std::max({awake, node->paused_until, node->stalled_until, node->frozen_until});
  heal_all_links();
  if (settings_.lasting_cut) {
    const std::uint64_t from = world_.random().below(nodes_.size());
    std::uint64_t to = (from + 1 + world_.random().below(nodes_.size() - 1)) % nodes_.size();
    // Of three, two need each other while the third does not vote.
    if (nodes_.size() == 3 && !votes(*nodes_[3 - from - to])) to = 3 - from - to;
    cut_for_good(*nodes_[from], *nodes_[to]);
  }
  lock_.heal();
  if (unlisted_) set_listed(node(*unlisted_), true);
  for (const auto& node : nodes_) {
    node->slow_disk = false;
    // Not forgotten: what was written meanwhile is late, and that is a reason to be left out.
    node->disk_hangs_until = std::min(node->disk_hangs_until, world_.now());
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
