#pragma once
// Controls that wait for another node's answer. A control ends exactly once: with the answer, because the
// node disconnected, or at its deadline. Pure.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/time.h"
#include "transport/client_id.h"

namespace tdbmesh {

// Who hears the answer of a control: a client of this node, or another daemon.
struct ReplyTo {
  ClientId client{};      // 0: another daemon asked
  std::uint32_t reqid = 0;  // of the client
  Pnn node = kNoPnn;        // the daemon that asked
  std::uint64_t id = 0;     // its id; 0: nobody wants an answer
  bool wanted = true;
};

class RemoteControls {
 public:
  struct Pending {
    std::uint64_t id = 0;
    Pnn to{};
    ReplyTo reply;
    Instant deadline;
  };
  // A new id for a control to `to`.
  std::uint64_t add(Pnn to, const ReplyTo& reply, Instant deadline);
  // The answer from `from`; nothing if it is late, unknown or from somebody else.
  std::optional<Pending> answered(std::uint64_t id, Pnn from);
  // All that wait for `node`.
  std::vector<Pending> lost(Pnn node);
  std::vector<Pending> expired(Instant now);
  void client_gone(ClientId client);
  [[nodiscard]] Instant next_deadline() const;
  [[nodiscard]] std::size_t size() const { return pending_.size(); }

 private:
  std::map<std::uint64_t, Pending> pending_;
  std::uint64_t last_id_ = 0;
};

}  // namespace tdbmesh
