#pragma once
// The links between simulated nodes, with the contract of transport/link.h as the mesh keeps it: in order
// per direction, never twice, numbered per session. Loss of packets is a delay, because TCP repeats them; what is
// really lost is the tail of a connection that broke. The receiver is told of a gap when the next message comes, or
// a second later. While a peer is not reachable messages wait or are lost, as the draw says; a sender that calls
// forget() begins a new session.

#include <deque>
#include <functional>
#include <map>

#include "tests/sim/world.h"
#include "transport/link.h"

namespace tdbmesh::sim {

class SimNetwork {
 public:
  struct Message {
    Incarnation from_life = 0;
    std::uint64_t session = 0;
    std::uint64_t sequence = 0;
    bool counts_only = false;
    MessageKind kind{};
    Bytes body;
  };
  // Called when something arrives at a running process. A gap comes before the message that showed it.
  using Deliver = std::function<void(Pnn to, Pnn from, const Message& message)>;
  using Gap = std::function<void(Pnn to, Pnn from)>;

  SimNetwork(World& world, Deliver deliver, Gap gap)
      : world_(world), deliver_(std::move(deliver)), gap_(std::move(gap)) {}

  void process_started(Pnn pnn, Incarnation life, std::size_t nodes);
  void process_died(Pnn pnn, std::size_t nodes);
  void send(Pnn from, Pnn to, MessageKind kind, Bytes body);
  // The sender takes the peer for lost: what waits for it is worth nothing.
  void forget(Pnn from, Pnn to);
  // The connection breaks and is made again: some of what is under way is lost, and what is sent meanwhile.
  void break_connection(Pnn from, Pnn to);
  // The sender connects once more before the old connection is gone: what that one still carries arrives late,
  // behind the first messages of the new one.
  void connect_twice(Pnn from, Pnn to);
  // When a message between the two was last lost, held up or repeated by TCP, in either direction.
  [[nodiscard]] Instant troubled(Pnn a, Pnn b);
  // The sender has heard of this life of the peer.
  void note_life(Pnn from, Pnn to, Incarnation life);
  [[nodiscard]] Incarnation known_life(Pnn from, Pnn to) { return direction(from, to).to_life; }

  // Planted bugs.
  bool swallow_gaps = false;
  std::function<void(MessageKind, Bytes&)> tamper;

 private:
  struct Direction {
    std::uint64_t session = 0;
    std::uint64_t sent = 0;
    Incarnation to_life = 0;         // as far as the sender knows
    std::deque<Message> in_flight;
    std::deque<Message> held;        // the peer is not reachable
    bool hold_while_cut = true;
    bool was_cut = false;
    bool retry_scheduled = false;
    bool watched = false;            // its link is cut for good
    Instant broken_until{};
    Instant newest_arrival{};
    Instant troubled = Instant::min();
    // At the receiver.
    Incarnation from_life = 0;
    std::uint64_t got_session = 0;
    std::uint64_t got = 0;
    std::uint64_t told = 0;
  };
  struct Process {
    bool up = false;
    Incarnation life = 0;
  };
  [[nodiscard]] bool reachable(Pnn from, Pnn to);
  void queue(Pnn from, Pnn to, Message message);
  void fly(Pnn from, Pnn to, Message message);
  void arrive(Pnn from, Pnn to);
  void receive(Pnn from, Pnn to, const Message& message);
  void retry(Pnn from, Pnn to);
  void watch_counts(Pnn from, Pnn to);
  Direction& direction(Pnn from, Pnn to) { return directions_[{from, to}]; }

  World& world_;
  Deliver deliver_;
  Gap gap_;
  std::map<std::pair<Pnn, Pnn>, Direction> directions_;
  std::map<Pnn, Process> processes_;
  std::uint64_t last_session_ = 0;
};

}  // namespace tdbmesh::sim
