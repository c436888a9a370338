#pragma once
// What the parts of a node (traverses, controls, messages) ask of the whole. Node implements it; a test may.

#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/time.h"
#include "tools/daemon/relay_messages.h"
#include "transport/client_id.h"

namespace tdbmesh {

class NodeServices {
 public:
  virtual ~NodeServices() = default;
  [[nodiscard]] virtual Pnn self() const = 0;
  [[nodiscard]] virtual Instant now() const = 0;
  // Members of the installed view, this node among them; empty while it is in none.
  [[nodiscard]] virtual std::vector<Pnn> members() const = 0;
  // To another node, or to this one in a later turn. Dropped if the node is not connected.
  virtual void send_relay(Pnn to, const RelayPayload& payload) = 0;
  // To every local registration of `srvid`.
  virtual void deliver(Srvid srvid, BytesView data) = 0;
};

}  // namespace tdbmesh
