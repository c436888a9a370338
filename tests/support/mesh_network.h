#pragma once
// A few mesh nodes on loopback addresses of this process's own, driven by one test thread and one event loop. What each node's
// listener is told is kept in order.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "transport/mesh.h"

namespace tdbmesh {

struct Heard {
  enum What { Message, Gap, Reset } what = Message;
  Pnn from = kNoPnn;
  Incarnation incarnation = 0;
  MessageKind kind{};
  Bytes body;
};

class Recorder : public LinkListener {
 public:
  std::vector<Heard> events;
  void on_message(Pnn from, Incarnation incarnation, MessageKind kind, BytesView body) override {
    events.push_back({Heard::Message, from, incarnation, kind, Bytes(body)});
  }
  void on_gap(Pnn peer) override { events.push_back({Heard::Gap, peer, 0, {}, {}}); }
  void on_reset(Pnn peer, Incarnation incarnation) override {
    events.push_back({Heard::Reset, peer, incarnation, {}, {}});
  }
  [[nodiscard]] std::size_t count(Heard::What what) const {
    return static_cast<std::size_t>(std::ranges::count_if(events, [&](const Heard& e) { return e.what == what; }));
  }
  [[nodiscard]] std::vector<Bytes> bodies() const {
    std::vector<Bytes> all;
    for (const Heard& event : events) {
      if (event.what == Heard::Message) all.push_back(event.body);
    }
    return all;
  }
};

class MeshNetwork {
 public:
  static constexpr int kMostQueued = 50;
  // Long enough for the slowest machine; reached only by a test that fails.
  static constexpr std::chrono::seconds kPatience{60};

  explicit MeshNetwork(int nodes, bool encrypted = true) : nodes_(nodes) {
    if (encrypted) key_ = generate_cluster_key().value();
  }

  static std::string address(int node) {
    const int id = getpid();
    return fmt::format("127.{}.{}.{}", 1 + (id >> 8) % 250, id & 255, node + 1);
  }
  static constexpr std::uint16_t kPort = 24379;

  [[nodiscard]] std::vector<PeerAddress> addresses() const {
    std::vector<PeerAddress> all;
    for (int i = 0; i < nodes_; ++i) all.push_back({Pnn{static_cast<std::uint32_t>(i)}, address(i)});
    return all;
  }
  MeshOptions options(int node, Incarnation incarnation) {
    MeshOptions options;
    options.self = Pnn{static_cast<std::uint32_t>(node)};
    options.incarnation = incarnation;
    options.address = address(node);
    options.port = kPort;
    options.peers = addresses();
    options.key = key_;
    options.most_queued_messages = kMostQueued;
    options.report = [this, node](const std::string& line) { reports_[node].push_back(line); };
    return options;
  }
  void start(int node, Incarnation incarnation) { start(node, options(node, incarnation)); }
  void start(int node, MeshOptions with) {
    auto mesh = Mesh::open(*loop_, std::move(with), recorders_[node]);
    ASSERT_TRUE(mesh) << mesh.error().context;
    meshes_[node] = std::move(*mesh);
  }
  void stop(int node) { meshes_.erase(node); }

  EventLoop& loop() { return *loop_; }
  Mesh& mesh(int node) { return *meshes_.at(node); }
  Link& link(int node) { return mesh(node); }
  Recorder& heard(int node) { return recorders_[node]; }
  std::vector<std::string>& reports(int node) { return reports_[node]; }
  [[nodiscard]] const std::optional<ClusterKey>& key() const { return key_; }

  void turn(int longest_ms = 10) {
    loop_->run_once(milliseconds(longest_ms));
  }
  bool until(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      turn();
    }
    return true;
  }
  // Each node has heard from the other, so the connection stands.
  void greet(int one, int other) {
    const auto before = heard(other).bodies().size();
    link(one).send(Pnn{static_cast<std::uint32_t>(other)}, MessageKind::Control, "hello");
    EXPECT_TRUE(until([&] { return heard(other).bodies().size() > before; }));
  }

 private:
  int nodes_;
  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::optional<ClusterKey> key_;
  std::map<int, Recorder> recorders_;
  std::map<int, std::vector<std::string>> reports_;
  std::map<int, std::unique_ptr<Mesh>> meshes_;
};

}  // namespace tdbmesh
