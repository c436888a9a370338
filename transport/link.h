#pragma once
// Between nodes: ordered messages that are never repeated. What is lost (a broken connection, a full queue)
// is reported as a gap, never resent: the protocols above repair by a new view. The mesh
// (mesh.h) and the simulator's network are the two implementations of this contract.

#include <cstdint>

#include "db/base/bytes.h"
#include "db/base/ids.h"

namespace tdbmesh {

// Whose message it is. transport never looks inside a body.
enum class MessageKind : std::uint16_t {
  Control = 1,  // recovery/: votes, views, joins
  Record = 2,   // db/ownership: volatile records
  Commit = 3,   // db/commits: persistent commits, copies fetched from each other
  Relay = 4,    // tools/daemon: clients' messages and controls to other nodes, traverse, attach
  Address = 5,  // ipfailover/: public addresses
};

class Link {
 public:
  virtual ~Link() = default;
  // Queues `body` for `to`. Order per receiver is kept. Never blocks; when the bounded queue of a peer is
  // full the message is dropped and both ends get a gap. Sending to oneself is a caller's bug.
  virtual void send(Pnn to, MessageKind kind, Bytes body) = 0;
  // The peer runs in this incarnation: its heartbeat says so, or a view. If that is news, what is still queued for the
  // earlier one is discarded, and nobody is told; what is sent from now on is meant for this one. So call it before
  // anything is sent to the new incarnation.
  virtual void note_incarnation(Pnn peer, Incarnation incarnation) = 0;
};

// What arrives. Called from the event loop's thread.
class LinkListener {
 public:
  virtual ~LinkListener() = default;
  // `incarnation` is the sender's, from the authenticated connection's greeting.
  virtual void on_message(Pnn from, Incarnation incarnation, MessageKind kind, BytesView body) = 0;
  // Messages from `peer` are missing or may be (sequence gap, counts that differ after a reconnect).
  virtual void on_gap(Pnn peer) = 0;
  // The peer's host refused or reset the connection: its daemon, which ran in no later incarnation than this one, is
  // gone. A hint, cancelled by a heartbeat of the same incarnation.
  virtual void on_reset(Pnn peer, Incarnation incarnation) = 0;
};

}  // namespace tdbmesh
