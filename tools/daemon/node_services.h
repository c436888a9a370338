#pragma once
// What the parts of a node (traverses, controls, attachments) ask of the whole. Node implements it.

#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/time.h"
#include "db/commit_types.h"
#include "db/ownership_types.h"
#include "ipfailover/event_requests.h"
#include "recovery/control_plane.h"
#include "tools/daemon/relay_messages.h"
#include "tools/daemon/remote_controls.h"
#include "transport/client_id.h"

namespace tdbmesh {

class NodeServices {
 public:
  virtual ~NodeServices() = default;
  [[nodiscard]] virtual Pnn self() const = 0;
  [[nodiscard]] virtual Instant now() const = 0;  // of this turn
  // Members of the installed view, this node among them; empty while it is in none.
  [[nodiscard]] virtual std::vector<Pnn> members() const = 0;
  // Configured nodes that are connected, this one included.
  [[nodiscard]] virtual std::vector<Pnn> connected() const = 0;

  // To another node, or to this one in a later turn. Dropped if the node is not connected.
  virtual void send_relay(Pnn to, const RelayPayload& payload) = 0;
  // To every registration of `srvid` on this node, the daemon's own included.
  virtual void deliver(Srvid srvid, BytesView data) = 0;
  // To `srvid` on another node or this one.
  virtual void send_message(Pnn to, Srvid srvid, BytesView data) = 0;
  // Ends a control. With status != 0 data must be empty.
  virtual void reply(const ReplyTo& to, std::int32_t status, Bytes data = {}, std::string error = {}) = 0;

  // Runs an event's scripts; `done` is called in a later turn (ipfailover/event_requests.h).
  virtual void run_event(EventRequest request, EventDone done) = 0;

  // `reloadnodes`: takes up the nodes file as it is now. Empty, or why not.
  [[nodiscard]] virtual std::string reload_nodes() = 0;
  // Remembers a decision for `tdbmesh why`; `subject` by DecisionLog::node() or ip().
  virtual void note(const std::string& subject, std::string text) = 0;

  // The cluster must go on without this node (recovery::ControlPlane::report_member).
  virtual void leave_out(Pnn pnn, const std::string& reason) = 0;

  // Carry out what a core asked for.
  virtual void run(RecordActions actions) = 0;
  virtual void run(CommitActions actions) = 0;
  virtual void run(recovery::Actions actions) = 0;

  // Leaving in order: the flags are set (and the leader leaves this node out) when what only this node has was
  // handed over, or its time is up. stay() ends that and clears them.
  virtual void leave(NodeFlags flags) = 0;
  virtual void stay(NodeFlags flags) = 0;
  virtual void shut_down() = 0;
};

}  // namespace tdbmesh
