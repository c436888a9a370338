#include "tests/sim/control_cluster.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>

#include "db/base/match.h"
#include "recovery/reconfiguration.h"

namespace tdbmesh::sim {

using recovery::Actions;
using recovery::ControlPlane;
using recovery::CopyReport;
using recovery::PersistedState;

namespace {
constexpr int kDataChannel = 0;
constexpr int kHeartbeatChannel = 1;
const DatabaseId kDatabase{0x1234};
}  // namespace

struct ControlCluster::Copy {
  CopyVersion version;
  std::set<std::uint64_t> commits;
};

struct ControlCluster::Node {
  Pnn pnn{};
  MachineClock clock;
  // One life of the daemon.
  std::uint64_t life = 0;
  bool process = false;
  Instant paused_until{};
  Instant stalled_until{};
  std::unique_ptr<ControlPlane> plane;
  std::unique_ptr<HeartbeatCore> heart;
  std::unique_ptr<recovery::ClusterLock> lock;
  std::uint64_t helper = 0;    // number of the helper process of the lock
  Incarnation incarnation = 0;
  std::uint64_t turns = 0;
  Instant loop_due = kNever;   // true time of the next scheduled turn
  Instant heart_due = kNever;
  std::optional<std::pair<Bytes, std::uint64_t>> to_write;
  bool writing = false;
  std::set<Generation> settling;
  std::optional<Generation> asked_copies;
  bool commit_busy = false;
  struct InFlight {
    Generation generation;
    std::uint64_t seqnum = 0;
    std::uint64_t id = 0;
    std::set<Pnn> missing;
  };
  std::optional<InFlight> in_flight;
  // Survives the daemon.
  Instant gate_until = Instant::min();  // the shared-memory word
  Member gate_member;                   // as whom it was opened
  // Survives the machine.
  Bytes disk;
  Copy copy;
  bool slow_disk = false;
  [[nodiscard]] Instant local(const World& world) const { return clock.local(world.now()); }
};

ControlCluster::ControlCluster(std::uint64_t seed, ClusterOptions options) : world_(seed), options_(options) {
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    auto node = std::make_unique<Node>();
    node->pnn = Pnn{static_cast<std::uint32_t>(i)};
    const auto ppm = static_cast<std::int64_t>(world_.random().below(20001)) - 10000;
    node->clock = MachineClock(ppm, seconds(static_cast<std::int64_t>(world_.random().below(1000))));
    nodes_.push_back(std::move(node));
  }
  const std::size_t first = options_.reconfigure ? std::min<std::size_t>(3, nodes_.size()) : nodes_.size();
  for (std::size_t i = 0; i < first; ++i) files_.nodes.push_back(nodes_[i]->pnn);
  files_.voters = files_.nodes;
  files_.quorum = options_.quorum;
  if (world_.random().chance(2)) lock_freed_after_ = seconds(3);
  for (auto& node : nodes_) {
    Node* n = node.get();
    world_.after(world_.random().up_to(milliseconds(200)), [this, n] { start(*n); });
  }
}

ControlCluster::~ControlCluster() = default;

void ControlCluster::fail(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = fmt::format("at {:.6f} s: {}",
                           std::chrono::duration<double>(world_.now().time_since_epoch()).count() - 1000, what);
}

void ControlCluster::trace(const Node& node, const std::string& what) {
  if (!options_.trace) return;
  std::fprintf(stderr, "%11.6f %u.%llu %s\n",
               std::chrono::duration<double>(world_.now().time_since_epoch()).count() - 1000, number(node.pnn),
               static_cast<unsigned long long>(node.incarnation), what.c_str());
}

// ---- lives ----------------------------------------------------------------------------------------------

void ControlCluster::in_life(Node& node, Instant when, bool loop, std::function<void()> what) {
  const std::uint64_t life = node.life;
  Node* n = &node;
  world_.at(when, [this, n, life, loop, what = std::move(what)]() mutable {
    if (n->life != life || !n->process) return;
    const Instant able = std::max(n->paused_until, loop ? n->stalled_until : Instant{});
    if (able > world_.now()) {
      in_life(*n, able, loop, std::move(what));
      return;
    }
    what();
  });
}

void ControlCluster::start(Node& node) {
  if (node.process) return;
  // A machine is set up when it is in the nodes file for the first time.
  if (node.disk.empty() && !in_files(node.pnn)) return;
  ++node.life;
  node.process = true;
  node.paused_until = node.stalled_until = Instant{};
  PersistedState state;
  if (!node.disk.empty()) {
    auto loaded = recovery::decode_state(node.disk);
    if (!loaded) return fail("the state on disk does not decode");
    state = std::move(*loaded);
  }
  ++state.incarnation;
  node.incarnation = state.incarnation;
  node.disk = recovery::encode(state);
  node.gate_until = Instant::min();
  node.loop_due = node.heart_due = kNever;
  node.to_write.reset();
  node.writing = node.commit_busy = false;
  node.asked_copies.reset();
  node.in_flight.reset();
  recovery::ControlPlaneConfig config;
  config.self = node.pnn;
  config.cluster = files_;
  config.timing = options_.timing;
  config.flap_guard = false;
  config.seed = world_.random().next();
  std::vector<Pnn> peers;
  for (const auto& other : nodes_) {
    if (other->pnn != node.pnn) peers.push_back(other->pnn);
  }
  const Instant now = node.local(world_);
  node.heart = std::make_unique<HeartbeatCore>(node.pnn, node.incarnation, peers, options_.timing, now);
  node.heart->set_test_hooks(options_.heartbeat_hooks);
  node.lock = std::make_unique<recovery::ClusterLock>(node.pnn, options_.timing, recovery::LockHelper{});
  node.plane = std::make_unique<ControlPlane>(config, std::move(state));
  node.plane->set_test_hooks(options_.plane_hooks);
  trace(node, "start");
  Actions actions;
  node.plane->start(now, actions);
  carry_out(node, actions);
  schedule_loop(node);
  schedule_heartbeat(node, now);
  in_life(node, world_.now() + milliseconds(20), true, [this, n = &node] { commit_client(*n); });
}

void ControlCluster::stop_process(Node& node) {
  if (!node.process) return;
  trace(node, "dies");
  node.process = false;
  lock_freed_by_death(node);
  ++node.life;
  // The write under way may or may not have reached the disk; what waited behind it has not.
  if (node.writing && node.to_write && world_.random().chance(2)) node.disk = node.to_write->first;
}

void ControlCluster::kill_daemon(Pnn pnn, Duration restart_after) {
  Node& n = node(pnn);
  if (!n.process) return;
  stop_process(n);
  const Incarnation life = n.incarnation;
  const bool supervisor = world_.random().chance(2);
  if (supervisor) n.gate_until = Instant::min();
  for (auto& other : nodes_) {
    if (other->pnn == pnn) continue;
    Node* o = other.get();
    (void)world_.send(pnn, o->pnn, kDataChannel, [this, o, pnn, life, supervisor] {
      if (!o->process) return;
      in_life(*o, world_.now(), true, [this, o, pnn, life, supervisor] {
        turn(*o, [&](Actions& out) {
          o->plane->on_link_reset(pnn, life, o->local(world_), out);
          if (supervisor) o->plane->on_fenced(pnn, life, o->local(world_), out);
        });
      });
    });
  }
  world_.after(restart_after, [this, &n] { start(n); });
}

void ControlCluster::power_off(Pnn pnn, Duration restart_after) {
  Node& n = node(pnn);
  if (!n.process) return;
  stop_process(n);
  n.gate_until = Instant::min();
  world_.after(restart_after, [this, &n] { start(n); });
}

void ControlCluster::isolate(Pnn pnn, bool cut) {
  for (const auto& other : nodes_) {
    if (other->pnn == pnn) continue;
    world_.link(pnn, other->pnn).cut = cut;
    world_.link(other->pnn, pnn).cut = cut;
  }
}

// ---- one turn of the loop -------------------------------------------------------------------------------

void ControlCluster::turn(Node& node, const std::function<void(Actions&)>& event) {
  const Instant now = node.local(world_);
  node.heart->note_loop_progress(++node.turns, now);
  Actions actions;
  node.plane->on_tick(node.heart->snapshot(now), now, actions);
  carry_out(node, actions);
  if (event && node.process) {
    actions.clear();
    event(actions);
    carry_out(node, actions);
  }
  recovery::LockActions lock_actions;
  node.lock->on_tick(now, lock_actions);
  carry_out_lock(node, lock_actions);
  note_gate(node);
  schedule_loop(node);
}

// ---- the cluster lock -----------------------------------------------------------------------------------

void ControlCluster::lock_freed_by_death(Node& node) {
  const std::pair holder(node.pnn, node.life);
  world_.after(lock_freed_after_, [this, holder] {
    if (lock_holder_ == holder) lock_holder_.reset();
  });
}

void ControlCluster::lock_event(Node& node,
                                const std::function<void(recovery::ClusterLock&, Instant, recovery::LockActions&)>& event) {
  recovery::LockActions actions;
  event(*node.lock, node.local(world_), actions);
  carry_out_lock(node, actions);
  turn(node, [&](Actions& out) { node.plane->on_lock(node.lock->status(), node.local(world_), out); });
}

void ControlCluster::carry_out_lock(Node& node, const recovery::LockActions& actions) {
  Node* n = &node;
  const auto soon = [&] { return world_.now() + milliseconds(1) + world_.random().up_to(milliseconds(10)); };
  for (const recovery::LockAction& action : actions) {
    if (std::holds_alternative<recovery::StartHelper>(action)) {
      in_life(node, soon(), true, [this, n, helper = ++node.helper] {
        if (helper != n->helper) return;
        const std::pair self(n->pnn, n->life);
        const bool got = !lock_cut_.contains(n->pnn) && (!lock_holder_ || lock_holder_ == self);
        if (got) lock_holder_ = self;
        lock_event(*n, [got](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) {
          lock.on_helper(got ? '0' : '1', now, out);
        });
      });
    } else if (std::holds_alternative<recovery::StopHelper>(action)) {
      ++node.helper;
      if (lock_holder_ == std::pair(n->pnn, n->life)) lock_holder_.reset();
    } else {
      const auto* write = std::get_if<recovery::WriteRegister>(&action);
      const std::optional<Bytes> slot = write != nullptr ? std::optional(write->own_slot) : std::nullopt;
      const auto attempt = [this, n, slot, helper = node.helper](const auto& again) -> void {
        if (lock_cut_.contains(n->pnn)) {  // the file system hangs
          in_life(*n, world_.now() + milliseconds(50), false, [again] { again(again); });
          return;
        }
        if (slot) lock_register_[n->pnn] = *slot;
        in_life(*n, world_.now(), true, [this, n, helper, slots = lock_register_] {
          if (helper != n->helper) return;
          lock_event(*n, [&slots](recovery::ClusterLock& lock, Instant now, recovery::LockActions& out) {
            lock.on_register(slots, now, out);
          });
        });
      };
      in_life(node, soon(), false, [attempt] { attempt(attempt); });
    }
  }
}

void ControlCluster::schedule_loop(Node& node) {
  const Instant wake = std::min(node.plane->next_wake(), node.lock->next_wake());
  const Instant due = std::max(node.clock.when(wake), world_.now() + Duration(1));
  if (due >= node.loop_due) return;
  node.loop_due = due;
  in_life(node, due, true, [this, n = &node, due] {
    if (n->loop_due != due) return;  // an earlier one was scheduled since, and has scheduled the next
    n->loop_due = kNever;
    turn(*n, nullptr);
  });
}

void ControlCluster::schedule_heartbeat(Node& node, Instant local) {
  const Instant due = std::max(node.clock.when(local), world_.now());
  in_life(node, due + world_.random().up_to(Duration(300)), false, [this, n = &node] {
    std::vector<OutgoingHeartbeat> out;
    const Instant next = n->heart->tick(n->local(world_), out);
    note_gate(*n);
    for (auto& message : out) {
      Node* to = &this->node(message.to);
      (void)world_.send(n->pnn, message.to, kHeartbeatChannel,
                        [this, to, from = n->pnn, bytes = std::move(message.bytes)]() mutable {
                          heartbeat_bytes(*to, from, std::move(bytes));
                        });
    }
    schedule_heartbeat(*n, next);
  });
}

void ControlCluster::heartbeat_bytes(Node& to, Pnn from, Bytes bytes) {
  if (!to.process) return;
  in_life(to, world_.now(), false, [this, n = &to, from, bytes = std::move(bytes)] {
    std::vector<OutgoingHeartbeat> out;
    const bool news = n->heart->on_bytes(from, bytes, n->local(world_), out);
    note_gate(*n);
    for (auto& message : out) {
      Node* to_node = &this->node(message.to);
      (void)world_.send(n->pnn, message.to, kHeartbeatChannel,
                        [this, to_node, sender = n->pnn, answer = std::move(message.bytes)]() mutable {
                          heartbeat_bytes(*to_node, sender, std::move(answer));
                        });
    }
    if (news) {
      in_life(*n, world_.now() + world_.random().up_to(milliseconds(1)), true, [this, n] { turn(*n, nullptr); });
    }
  });
}

void ControlCluster::note_gate(Node& node) {
  const Instant until = node.heart->gate_until();
  node.gate_until = until;
  const View* view = node.plane->installed_view();
  const Member* me = view != nullptr ? view->member(node.pnn) : nullptr;
  if (me != nullptr) node.gate_member = *me;
}

void ControlCluster::carry_out(Node& node, const Actions& actions) {
  for (const recovery::Action& action : actions) {
    if (options_.trace && !std::holds_alternative<recovery::Announce>(action)) trace(node, describe(action));
    std::visit(
        Match{
            [&](const recovery::SendControl& a) {
              Node* to = &this->node(a.to);
              (void)world_.send(node.pnn, a.to, kDataChannel,
                                [this, to, from = node.pnn, life = node.incarnation, bytes = a.bytes] {
                                  if (!to->process) return;
                                  in_life(*to, world_.now() + Duration(50), true, [this, to, from, life, bytes] {
                                    turn(*to, [&](Actions& out) {
                                      to->plane->on_message(from, life, bytes, to->local(world_), out);
                                    });
                                  });
                                });
            },
            [&](const recovery::Persist& a) {
              // While one write is under way the newest of those that wait is kept.
              if (node.writing) {
                node.to_write = {a.state, a.ticket};
              } else {
                node.to_write = {a.state, a.ticket};
                write_next(node);
              }
            },
            [&](const recovery::SetSupport& a) { node.heart->set_support(a.table); },
            [&](const recovery::SetVoters& a) { node.heart->set_voters(a.rule); },
            [&](const recovery::Announce& a) { node.heart->set_announcement(a.said); },
            [&](const recovery::CloseGate&) {
              node.heart->close_gate();
              node.gate_until = Instant::min();
            },
            [&](const recovery::PermitGate&) { node.heart->permit_gate(); },
            [&](const recovery::DropAddresses&) {},
            [&](const recovery::DropVolatile& a) {
              in_life(node, world_.now() + world_.random().up_to(milliseconds(20)), true,
                      [this, n = &node, ticket = a.ticket] {
                        turn(*n, [&](Actions& out) { n->plane->on_volatile_dropped(ticket, n->local(world_), out); });
                      });
            },
            [&](const recovery::PrepareView& a) {
              const auto [known, fresh] = contents_.emplace(a.view.generation, a.view);
              if (!fresh && known->second != a.view) fail("I2: two views under generation " + to_string(a.view.generation));
            },
            [&](const recovery::AskCopies& a) {
              node.asked_copies = a.generation;
              if (!node.commit_busy) answer_copies(node, a.generation);
            },
            [&](const recovery::SettleCopy& a) { settle(node, a.what); },
            [&](const recovery::CatchUp& a) { catch_up(node, a.source); },
            [&](const recovery::InstallView& a) {
              const auto [known, fresh] = contents_.emplace(a.view.generation, a.view);
              if (!fresh && known->second != a.view) fail("I2: two views under generation " + to_string(a.view.generation));
              if (!newest_installed_ || a.view.generation > newest_installed_->generation) {
                newest_installed_ = a.view;
                ++counts_.views;
              }
              if (!newest_installed_ || a.view.generation == newest_installed_->generation) check_commits(node);
            },
            [&](const recovery::BecameLeader& a) {
              ++counts_.leaders;
              const std::pair who(node.pnn, node.incarnation);
              const auto [known, fresh] = leaders_.emplace(a.term, who);
              if (!fresh) fail(fmt::format("I2: term {} has a second leader, node {}", a.term, number(node.pnn)));
            },
            [&](const recovery::LostLeader&) {}, [&](const recovery::ViewInstalledByAll&) {},
            [&](const recovery::LeaderChanged&) {},
            [&](const recovery::LockTry& a) {
              recovery::LockActions out;
              node.lock->want(a.record, node.local(world_), out);
              carry_out_lock(node, out);
            },
            [&](const recovery::LockRelease&) {
              recovery::LockActions out;
              node.lock->release(node.local(world_), out);
              carry_out_lock(node, out);
            },
            [&](const recovery::LogLine&) {},
            [&](const recovery::ShutdownReady&) {}},
        action);
  }
}

// ---- disk, copies, commits ------------------------------------------------------------------------------

void ControlCluster::write_next(Node& node) {
  node.writing = true;
  const auto item = *node.to_write;
  const Duration took = node.slow_disk ? milliseconds(10) + world_.random().up_to(milliseconds(70))
                                       : Duration(200) + world_.random().up_to(milliseconds(5));
  in_life(node, world_.now() + took, false, [this, n = &node, item] {
    n->disk = item.first;
    n->writing = false;
    if (n->to_write && n->to_write->second > item.second) {
      write_next(*n);
    } else {
      n->to_write.reset();
    }
    in_life(*n, world_.now(), true, [this, n, ticket = item.second] {
      turn(*n, [&](Actions& out) { n->plane->on_persisted(ticket, n->local(world_), out); });
    });
  });
}

void ControlCluster::answer_copies(Node& node, Generation generation) {
  node.asked_copies.reset();
  in_life(node, world_.now() + world_.random().up_to(Duration(500)), true, [this, n = &node, generation] {
    turn(*n, [&](Actions& out) {
      n->plane->on_copies(generation, {CopyReport{kDatabase, "test.tdb", DatabaseKind::Persistent, n->copy.version}},
                          {}, n->local(world_), out);
    });
  });
}

void ControlCluster::settle(Node& node, const recovery::Settle& what) {
  in_life(node, world_.now() + milliseconds(1) + world_.random().up_to(milliseconds(20)), true,
          [this, n = &node, what] {
            Node& source = this->node(what.source);
            const bool here = source.process && source.paused_until <= world_.now() &&
                              !world_.link(n->pnn, source.pnn).cut && !world_.link(source.pnn, n->pnn).cut;
            const bool ok = here && source.copy.version == what.version;
            if (ok) n->copy = source.copy;
            turn(*n, [&](Actions& out) {
              n->plane->on_settled(what.generation, what.db, ok, ok ? "" : "the source does not answer",
                                   n->local(world_), out);
            });
          });
}

// Takes the source's copy while commits go on there, if it is a member and has the better one.
void ControlCluster::catch_up(Node& node, Pnn from) {
  in_life(node, world_.now() + milliseconds(1) + world_.random().up_to(milliseconds(20)), true,
          [this, n = &node, from] {
            Node& source = this->node(from);
            const bool here = source.process && source.paused_until <= world_.now() &&
                              !world_.link(n->pnn, source.pnn).cut && !world_.link(source.pnn, n->pnn).cut;
            if (here && source.plane->installed_view() != nullptr && n->plane->installed_view() == nullptr &&
                !n->commit_busy && !n->asked_copies) {
              const auto effective = [](const Node& of) {
                return std::pair(std::max(of.copy.version.generation, of.plane->state().installed), of.copy.version.seqnum);
              };
              if (effective(source) > effective(*n)) n->copy = source.copy;
            }
            turn(*n, [&](Actions& out) { n->plane->on_caught_up(from, n->local(world_), out); });
          });
}

void ControlCluster::commit_client(Node& node) {
  in_life(node, world_.now() + milliseconds(5) + world_.random().up_to(milliseconds(30)), true,
          [this, n = &node] { commit_client(*n); });
  const View* view = node.plane->installed_view();
  if (view == nullptr || node.plane->in_recovery() || view->vnnmap[0].lmaster != node.pnn) return;
  if (node.local(world_) >= node.gate_until) return;
  if (node.in_flight && node.in_flight->generation == view->generation) return;
  Node::InFlight f;
  f.generation = view->generation;
  f.seqnum = node.copy.version.seqnum + 1;
  f.id = next_commit_++;
  for (const Member& m : view->members) f.missing.insert(m.pnn);
  node.in_flight = f;
  for (const Member& m : view->members) {
    if (m.pnn == node.pnn) {
      commit_write(node, node.pnn, f.generation, f.seqnum, f.id);
      continue;
    }
    Node* to = &this->node(m.pnn);
    const bool sent = world_.send(node.pnn, m.pnn, kDataChannel, [this, to, from = node.pnn, f] {
      if (!to->process) return;
      in_life(*to, world_.now() + Duration(50), true,
              [this, to, from, f] { commit_write(*to, from, f.generation, f.seqnum, f.id); });
    });
    if (sent) continue;
    in_life(node, world_.now() + milliseconds(200), true, [this, n = &node, lost = m.pnn] {
      turn(*n, [&](Actions& out) { n->plane->on_link_gap(lost, n->local(world_), out); });
    });
  }
}

void ControlCluster::commit_write(Node& node, Pnn from, Generation generation, std::uint64_t seqnum, std::uint64_t id) {
  const View* view = node.plane->installed_view();
  if (view == nullptr || view->generation != generation || node.plane->in_recovery()) return;
  if (node.commit_busy || seqnum != node.copy.version.seqnum + 1) return;
  node.commit_busy = true;
  const Duration took = Duration(200) + world_.random().up_to(node.slow_disk ? milliseconds(50) : milliseconds(5));
  in_life(node, world_.now() + took, false, [this, n = &node, from, generation, seqnum, id] {
    n->copy.version = {generation, seqnum};
    n->copy.commits.insert(id);
    in_life(*n, world_.now(), true, [this, n, from, generation, seqnum] {
      n->commit_busy = false;
      if (n->asked_copies) answer_copies(*n, *n->asked_copies);
      commit_durable(*n, from, generation, seqnum);
    });
  });
}

// Reports a durable write to the sequencer, but never before the generation it belongs to is durable as installed.
void ControlCluster::commit_durable(Node& node, Pnn sequencer, Generation generation, std::uint64_t seqnum) {
  if (!node.plane->installed_durable()) {
    in_life(node, world_.now() + milliseconds(1), true,
            [this, n = &node, sequencer, generation, seqnum] { commit_durable(*n, sequencer, generation, seqnum); });
    return;
  }
  Node* to = &this->node(sequencer);
  const auto arrive = [this, to, member = node.pnn, generation, seqnum] {
    if (!to->process) return;
    in_life(*to, world_.now(), true, [this, to, member, generation, seqnum] {
      auto& f = to->in_flight;
      if (!f || f->generation != generation || f->seqnum != seqnum) return;
      f->missing.erase(member);
      if (!f->missing.empty()) return;
      acknowledged_.insert(f->id);
      ++counts_.commits;
      f.reset();
    });
  };
  if (to == &node) {
    arrive();
  } else if (!world_.send(node.pnn, sequencer, kDataChannel, arrive)) {
    in_life(node, world_.now() + milliseconds(200), true, [this, n = &node, sequencer] {
      turn(*n, [&](Actions& out) { n->plane->on_link_gap(sequencer, n->local(world_), out); });
    });
  }
}

// ---- checkers -------------------------------------------------------------------------------------------

void ControlCluster::check_commits(const Node& node) {
  for (const std::uint64_t id : acknowledged_) {
    if (node.copy.commits.contains(id)) continue;
    fail(fmt::format("I3: acknowledged commit {} is not on node {} when it installs {}", id, number(node.pnn),
                     to_string(node.plane->installed_view()->generation)));
    return;
  }
}

void ControlCluster::check() {
  if (!newest_installed_) return;
  for (const auto& node : nodes_) {
    if (node->gate_until <= node->local(world_)) continue;
    const Member* member = newest_installed_->member(node->pnn);
    if (member == nullptr) {
      fail(fmt::format("I6: the gate of node {} is open outside view {}", number(node->pnn),
                       to_string(newest_installed_->generation)));
    } else if (*member != node->gate_member) {
      fail(fmt::format("I6: the gate of node {} is open under join {} but view {} has it with join {}",
                       number(node->pnn), to_string(node->gate_member.join), to_string(newest_installed_->generation),
                       to_string(member->join)));
    }
  }
}

std::string ControlCluster::why_not_well() const {
  std::string why;
  const View* first = nullptr;
  int leaders = 0;
  for (const auto& node : nodes_) {
    if (!in_files(node->pnn)) continue;
    const auto say = [&](const std::string& what) { why += fmt::format("node {}: {}\n", number(node->pnn), what); };
    if (!node->process) {
      say("down");
      continue;
    }
    leaders += node->plane->leading() ? 1 : 0;
    const View* view = node->plane->installed_view();
    if (view == nullptr || node->plane->in_recovery()) {
      say("in recovery");
      for (const std::string& reason : node->plane->status_reasons(node->local(world_))) say("  " + reason);
      continue;
    }
    if (!recovery::agrees(node->plane->cluster(), files_)) say("the nodes file is not taken up");
    if (view->members.size() != files_.nodes.size()) say(fmt::format("{} members", view->members.size()));
    if (first == nullptr) first = view;
    if (view->generation != first->generation) say("in another view");
    if (node->gate_until <= node->local(world_)) say("gate closed");
  }
  if (leaders != 1) why += fmt::format("{} leaders\n", leaders);
  return why;
}

bool ControlCluster::well() const { return why_not_well().empty(); }

// ---- the nodes file --------------------------------------------------------------------------------------

bool ControlCluster::in_files(Pnn pnn) const {
  return std::binary_search(files_.nodes.begin(), files_.nodes.end(), pnn);
}

// One or two machines come or go. Machines that never voted stay a minority, as `reloadnodes` asks for.
void ControlCluster::change_files() {
  if (!faults_on_) return;
  world_.after(milliseconds(500) + world_.random().up_to(seconds(6)), [this] { change_files(); });
  recovery::ClusterConfig next = files_;
  for (std::uint64_t i = 0; i <= world_.random().below(2); ++i) {
    const Pnn which = nodes_[world_.random().below(nodes_.size())]->pnn;
    const auto at = std::lower_bound(next.nodes.begin(), next.nodes.end(), which);
    if (at != next.nodes.end() && *at == which) {
      next.nodes.erase(at);
    } else {
      next.nodes.insert(at, which);
    }
  }
  next.voters = next.nodes;
  if (next.nodes.size() < 2 || next.nodes == files_.nodes || !newest_installed_) return;
  if (!recovery::objection(newest_installed_->config, next).empty()) return;
  next.digest = files_.digest + 1;
  files_ = std::move(next);
  ++counts_.files;
  std::string list;
  for (const Pnn pnn : files_.nodes) list += fmt::format(" {}", number(pnn));
  trace(*nodes_.front(), "FILES" + list);
  for (auto& each : nodes_) {
    if (each->process) {
      read_files(*each);
    } else if (in_files(each->pnn) && each->disk.empty()) {
      world_.after(world_.random().up_to(milliseconds(500)), [this, n = each.get()] { start(*n); });
    }
  }
}

void ControlCluster::read_files(Node& node) {
  if (node.plane->files().digest == files_.digest) return;
  in_life(node, world_.now() + world_.random().up_to(milliseconds(100)), true, [this, n = &node] {
    turn(*n, [&](Actions& out) {
      const std::string why = n->plane->set_files(files_, n->local(world_), out);
      if (!why.empty()) trace(*n, "does not take the files: " + why);
    });
  });
}

// ---- faults ---------------------------------------------------------------------------------------------

void ControlCluster::fault() {
  if (!faults_on_) return;
  world_.after(milliseconds(300) + world_.random().up_to(milliseconds(1400)), [this] { fault(); });
  ++counts_.faults;
  Random& random = world_.random();
  // One third is aimed at the leader.
  Pnn target{static_cast<std::uint32_t>(random.below(nodes_.size()))};
  if (random.chance(3)) {
    for (const auto& node : nodes_) {
      if (node->process && node->plane->leading()) target = node->pnn;
    }
  }
  const Pnn other{static_cast<std::uint32_t>(random.below(nodes_.size()))};
  const auto for_a_while = [&] { return milliseconds(50) + random.up_to(milliseconds(2950)); };
  const auto restart = [&] { return milliseconds(10) + random.up_to(milliseconds(random.chance(3) ? 6000 : 300)); };
  Node& n = node(target);
  const auto later = [this](Duration delay, std::function<void()> what) {
    world_.after(delay, [this, what = std::move(what)] {
      if (faults_on_) what();  // everything is healed when they end
    });
  };
  switch (random.below(options_.quorum == recovery::QuorumMode::LockVote ? 15 : 13)) {
    case 0:
      trace(n, "FAULT power off");
      power_off(target, restart());
      break;
    case 1:
      trace(n, "FAULT kill");
      kill_daemon(target, restart());
      break;
    case 2:
      trace(n, "FAULT pause");
      n.paused_until = world_.now() + for_a_while();
      break;
    case 3:
      trace(n, "FAULT loop stalls");
      n.stalled_until = world_.now() + for_a_while();
      break;
    case 4:
    case 5: {
      if (other == target) break;
      trace(n, fmt::format("FAULT cut to {}", number(other)));
      const bool both = random.chance(2);
      world_.link(target, other).cut = true;
      if (both) world_.link(other, target).cut = true;
      later(for_a_while(), [this, target, other] {
        world_.link(target, other).cut = world_.link(other, target).cut = false;
      });
      break;
    }
    case 6:
    case 7:
      trace(n, "FAULT isolated");
      isolate(target, true);
      later(for_a_while(), [this, target] { isolate(target, false); });
      break;
    case 8: {
      trace(n, "FAULT partition");
      const std::uint64_t side = random.next();
      const auto set = [this, side](bool cut) {
        for (const auto& a : nodes_) {
          for (const auto& b : nodes_) {
            if (a == b || ((side >> number(a->pnn)) & 1u) == ((side >> number(b->pnn)) & 1u)) continue;
            world_.link(a->pnn, b->pnn).cut = cut;
          }
        }
      };
      set(true);
      later(for_a_while(), [set] { set(false); });
      break;
    }
    case 9: {
      trace(n, "FAULT loss and delay");
      const auto loss = static_cast<std::uint32_t>(random.below(31));
      const Duration delay = random.up_to(milliseconds(150));
      const auto set = [this, target](std::uint32_t percent, Duration most) {
        for (const auto& b : nodes_) {
          for (LinkQuality* q : {&world_.link(target, b->pnn), &world_.link(b->pnn, target)}) {
            q->loss_percent = percent;
            q->delay_most = std::max(most, q->delay_least + Duration(300));
          }
        }
      };
      set(loss, delay);
      later(for_a_while(), [set] { set(0, Duration{0}); });
      break;
    }
    case 10:
      trace(n, "FAULT slow disk");
      n.slow_disk = true;
      later(for_a_while(), [&n] { n.slow_disk = false; });
      break;
    case 11:
      trace(n, "FAULT stopped");
      if (!n.process) break;
      in_life(n, world_.now(), true, [this, &n] {
        if (!faults_on_) return;  // a paused node would otherwise stop after everything was healed
        turn(n, [&](Actions& out) { n.plane->set_flags(kFlagStopped, n.local(world_), out); });
      });
      later(for_a_while(), [this, &n] {
        if (!n.process) return;
        in_life(n, world_.now(), true,
                [this, &n] { turn(n, [&](Actions& out) { n.plane->set_flags(0, n.local(world_), out); }); });
      });
      break;
    case 13:
    case 14: {
      trace(n, "FAULT no lock service");
      lock_cut_.insert(target);
      lock_freed_by_death(n);  // the service gives up on a holder that it does not reach
      later(for_a_while(), [this, target] { lock_cut_.erase(target); });
      break;
    }
    default:
      if (!random.chance(4)) break;
      trace(n, "FAULT all die");
      for (const auto& each : nodes_) power_off(each->pnn, restart());
      break;
  }
}

bool ControlCluster::run_with_faults(Duration how_long) {
  faults_on_ = true;
  if (options_.reconfigure) world_.after(seconds(2), [this] { change_files(); });
  const Instant end = world_.now() + how_long;
  fault();
  while (violation_.empty() && world_.now() < end) {
    world_.run_until(std::min(end, world_.now() + milliseconds(100)), [this] { check(); });
  }
  faults_on_ = false;
  return violation_.empty();
}

bool ControlCluster::run_until_well(Duration bound) {
  world_.heal_all_links();
  lock_cut_.clear();
  for (auto& each : nodes_) {
    Node* n = each.get();
    n->paused_until = n->stalled_until = Instant{};
    n->slow_disk = false;
    if (!n->process) {
      start(*n);
    } else {
      in_life(*n, world_.now(), true,
              [this, n] { turn(*n, [&](Actions& out) { n->plane->set_flags(0, n->local(world_), out); }); });
    }
  }
  const Instant begin = world_.now();
  while (violation_.empty() && world_.now() < begin + bound) {
    world_.run_until(world_.now() + milliseconds(10), [this] { check(); });
    // The operator repeats the command where it was refused.
    for (auto& each : nodes_) {
      if (each->process && (world_.now() - begin) % milliseconds(500) == Duration{0}) read_files(*each);
    }
    if (well()) {
      time_to_well_ = world_.now() - begin;
      return true;
    }
  }
  if (violation_.empty()) fail("I8: not well after the faults ended:\n" + why_not_well());
  return false;
}

}  // namespace tdbmesh::sim
