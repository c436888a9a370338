#include "transport/heartbeat_thread.h"

#include <poll.h>

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/mesh_network.h"

namespace tdbmesh {
namespace {

constexpr Generation kView{1, 1};

// Real threads on real loopback sockets; the times are generous, so a slow machine fails nothing.
class Heartbeats : public testing::Test {
 protected:
  HeartbeatOptions options(int node, Incarnation incarnation) {
    HeartbeatOptions options;
    options.self = Pnn{static_cast<std::uint32_t>(node)};
    options.incarnation = incarnation;
    options.address = MeshNetwork::address(node);
    options.port = MeshNetwork::kPort + 1;
    options.peers = network_.addresses();
    options.key = network_.key();
    options.timing = Timing::patient();
    options.write_gate = [this, node](Instant until, Generation generation) {
      gates_[static_cast<std::size_t>(node)] = until.time_since_epoch().count();
      terms_[static_cast<std::size_t>(node)] = generation.term;
    };
    return options;
  }
  std::unique_ptr<HeartbeatThread> start(HeartbeatOptions with) {
    auto thread = HeartbeatThread::start(std::move(with));
    EXPECT_TRUE(thread) << thread.error().context;
    return std::move(*thread);
  }
  std::unique_ptr<HeartbeatThread> start(int node, Incarnation incarnation) { return start(options(node, incarnation)); }

  // Waits on the thread's own wake-ups, as the event loop does; the poll's limit only guards the condition.
  static bool until(HeartbeatThread& thread, const std::function<bool(const HeartbeatTable&)>& condition) {
    const auto end = std::chrono::steady_clock::now() + MeshNetwork::kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (const auto table = thread.snapshot(boot_time_now()); table && condition(*table)) return true;
      pollfd fd{thread.wake_fd(), POLLIN, 0};
      ::poll(&fd, 1, 50);
      thread.take_wake();
    }
    return false;
  }
  static bool alive(const HeartbeatTable& table, Pnn peer) {
    const PeerHeartbeats* seen = table.peer(peer);
    return seen != nullptr && seen->alive(boot_time_now(), Timing::patient());
  }
  // Both are members of a view; a majority is both of them.
  static void join(HeartbeatThread& thread, Incarnation zero, Incarnation one) {
    thread.with_core([&](HeartbeatCore& core) {
      SupportTable support;
      support.serial = 1;
      support.entries[Pnn{0}] = {zero, kView};
      support.entries[Pnn{1}] = {one, kView};
      core.set_support(support);
      core.set_voters({{Pnn{0}, Pnn{1}}, 2, Instant::min()});
      Announcement said;
      said.installed = said.accepted = said.persisted_installed = kView;
      core.set_announcement(said);
    });
    thread.permit_gate(kView);
  }
  [[nodiscard]] bool gate_is_open(int node) const {
    return boot_time_now().time_since_epoch().count() < gates_[static_cast<std::size_t>(node)].load();
  }

  MeshNetwork network_{2};
  std::array<std::atomic<std::int64_t>, 2> gates_{};
  std::array<std::atomic<std::uint64_t>, 2> terms_{};
};

TEST_F(Heartbeats, TellWhoIsAlive) {
  const auto zero = start(0, 3);
  const auto one = start(1, 8);
  EXPECT_TRUE(until(*zero, [](const auto& table) { return alive(table, Pnn{1}) && table.peer(Pnn{1})->hears_me; }));
  EXPECT_TRUE(until(*one, [](const auto& table) { return alive(table, Pnn{0}); }));
  EXPECT_EQ(zero->snapshot(boot_time_now())->peer(Pnn{1})->incarnation, 8u);
}

TEST_F(Heartbeats, AreMissedWhenAPeerStopsAndHeardWhenItComesBack) {
  const auto zero = start(0, 1);
  auto one = start(1, 1);
  ASSERT_TRUE(until(*zero, [](const auto& table) { return alive(table, Pnn{1}); }));
  one.reset();
  ASSERT_TRUE(until(*zero, [](const auto& table) { return !alive(table, Pnn{1}); }));
  one = start(1, 2);
  EXPECT_TRUE(until(*zero, [](const auto& table) {
    return alive(table, Pnn{1}) && table.peer(Pnn{1})->incarnation == 2;
  }));
}

TEST_F(Heartbeats, OpenTheGateWithSupportAndCloseItAtOnceOnDemand) {
  const auto zero = start(0, 1);
  const auto one = start(1, 1);
  join(*zero, 1, 1);
  join(*one, 1, 1);
  ASSERT_TRUE(until(*zero, [&](const auto&) { return gate_is_open(0); }));
  EXPECT_EQ(terms_[0].load(), kView.term);
  zero->close_gate();
  EXPECT_FALSE(gate_is_open(0));
}

TEST_F(Heartbeats, LetTheGateLapseWhenTheSupporterIsGone) {
  const auto zero = start(0, 1);
  auto one = start(1, 1);
  join(*zero, 1, 1);
  join(*one, 1, 1);
  ASSERT_TRUE(until(*zero, [&](const auto&) { return gate_is_open(0); }));
  one.reset();
  EXPECT_TRUE(until(*zero, [&](const auto&) { return !gate_is_open(0); }));
}

TEST_F(Heartbeats, SayWhenTheEventLoopStands) {
  const auto zero = start(0, 1);
  std::atomic<std::uint64_t> turns{1};
  std::atomic<bool> loop_runs{true};
  HeartbeatOptions watched = options(1, 1);
  watched.timing.loop_limit = milliseconds(300);
  watched.loop_turns = [&] { return loop_runs ? ++turns : turns.load(); };
  const auto one = start(std::move(watched));
  ASSERT_TRUE(until(*zero, [](const auto& table) { return alive(table, Pnn{1}); }));
  loop_runs = false;
  EXPECT_TRUE(until(*zero, [](const auto& table) { return table.peer(Pnn{1})->stalled; }));
  loop_runs = true;
  EXPECT_TRUE(until(*zero, [](const auto& table) { return !table.peer(Pnn{1})->stalled; }));
}

TEST_F(Heartbeats, ReachAPeerAddedLater) {
  HeartbeatOptions alone = options(0, 1);
  alone.peers.pop_back();
  const auto zero = start(std::move(alone));
  const auto one = start(1, 1);
  zero->set_peers(network_.addresses(), boot_time_now());
  EXPECT_TRUE(until(*zero, [](const auto& table) { return alive(table, Pnn{1}); }));
}

TEST_F(Heartbeats, WithAnotherKeyAreRefusedAndReported) {
  const auto zero = start(0, 1);
  HeartbeatOptions stranger = options(1, 1);
  stranger.key = generate_cluster_key().value();
  const auto one = start(std::move(stranger));
  std::vector<std::string> reports;
  // The address of a caller that was gone at once cannot be had; it calls again.
  EXPECT_TRUE(until(*zero, [&](const auto&) {
    for (std::string& line : zero->take_reports()) reports.push_back(std::move(line));
    return std::ranges::any_of(reports, [](const std::string& line) {
      return line.find(MeshNetwork::address(1) + ": does not hold our cluster key") != std::string::npos;
    });
  }));
  EXPECT_FALSE(alive(*zero->snapshot(boot_time_now()), Pnn{1}));
}

}  // namespace
}  // namespace tdbmesh
