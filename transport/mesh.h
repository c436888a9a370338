#pragma once
// The mesh of nodes: the Link of a real cluster.
//
// Every node listens at its own address (zmtp_receiver.h) and has one connection for sending per peer, from its own
// address, so that the address says who is calling (zmtp_sender.h). What is on the wire is ZeroMQ's protocol, PUSH to
// PULL. With a cluster key all connections are CURVE: both ends prove that they hold the key, and only addresses of
// configured peers are let in; what is not is refused, counted and reported once a minute per address. Who sent a
// message is what the authenticated connection says; an envelope that claims another sender is dropped and counted.
//
// Order is kept per peer; nothing is sent twice. What is lost shows as LinkListener::on_gap at the receiver (numbers in
// the envelope; after each reconnect and each drop the sender tells its count) and, when a queue was full, at the sender
// too. Lost connections are made again, and what was queued is kept.
//
// All of it belongs to the event loop and its thread: a message costs one system call here, and what it shares of one
// epoll_wait and one recv there. Calls of the listener and of `report` come from the event loop, never inside a call of
// the mesh's own.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "transport/arrivals.h"
#include "transport/cluster_key.h"
#include "transport/event_loop.h"
#include "transport/heartbeat_core.h"
#include "transport/link.h"
#include "transport/peer_address.h"

namespace tdbmesh {

inline constexpr std::uint16_t kNodePort = 4379;

struct MeshOptions {
  Pnn self{0};
  Incarnation incarnation = 0;
  std::string address;  // own, numeric
  std::uint16_t port = kNodePort;
  std::vector<PeerAddress> peers;  // an entry for `self` is skipped
  std::optional<ClusterKey> key;   // none: no encryption, the address alone identifies a peer
  // Bounds per peer on what waits to be sent: beyond either, messages are dropped (and show as gap).
  int most_queued_messages = 20'000;
  std::size_t most_queued_bytes = std::size_t{512} << 20;
  // One line for the log: connections refused, envelopes dropped. Rate-limited. May be empty.
  std::function<void(const std::string& line)> report;
};

struct MeshStatistics {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t dropped_full = 0;       // own queue for a peer was full
  std::uint64_t dropped_unknown = 0;    // sent to a pnn that is no peer
  std::uint64_t dropped_stale = 0;      // received of an older session or incarnation, or out of order
  std::uint64_t dropped_forged = 0;     // sender in the envelope is not the authenticated one
  std::uint64_t dropped_malformed = 0;  // does not decode
  std::uint64_t gaps = 0;
  std::uint64_t rejected = 0;  // connections refused
};

class Mesh final : public Link {
 public:
  // Binds and starts connecting. Fails with Busy, NotFound or Io when the address cannot be bound. Loop and listener must
  // outlive the mesh.
  static Result<std::unique_ptr<Mesh>> open(EventLoop& loop, MeshOptions options, LinkListener& listener);
  ~Mesh() override;  // drops what is still queued
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  void send(Pnn to, MessageKind kind, Bytes body) override;
  // The mesh calls it itself for what arrives on it.
  void note_incarnation(Pnn peer, Incarnation incarnation) override;

  // Discards what is queued for the peer and begins a new connection: for a peer that was taken out of the
  // view. If it is alive after all, it sees a gap.
  void reset_peer(Pnn peer);
  // The new list of all nodes: connects to those added, drops those removed, reconnects changed addresses.
  void set_peers(const std::vector<PeerAddress>& peers);

  // For heartbeats (HeartbeatCore::set_link_count, PeerHeartbeats::link), which notice a lost tail even when
  // the mesh connection itself hangs: what was sent to a peer, and what the peer says it sent to us. When
  // that stays ahead of what arrived for `kCountsPatience`, there is a gap.
  [[nodiscard]] LinkCount sent_count(Pnn to) const;
  [[nodiscard]] LinkCount received_count(Pnn from) const;
  void check_counts(Pnn peer, Incarnation incarnation, LinkCount said, Instant now);
  static constexpr Duration kCountsPatience = Arrivals::kPatience;

  [[nodiscard]] const MeshStatistics& statistics() const;

 private:
  class Impl;
  explicit Mesh(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tdbmesh
