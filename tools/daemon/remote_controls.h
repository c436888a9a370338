#pragma once
// Controls that wait for another node's answer. A control ends exactly once: with the answer, because the node
// disconnected or messages from or to it were lost, or at its deadline. Pure.
//
// One kind outlives a disconnect: "is this process alive". Who is told no removes that process's locks. A node that is
// only silent may still serve its clients until its lease has lapsed, so the question waits until a view leaves the node
// out, or is asked again when the node is back.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/time.h"
#include "tools/daemon/relay_messages.h"
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
    std::optional<RelayControl> until_left_out;  // the question, for a node that is back
  };
  // Ids are told from those of earlier lives of this daemon: what another node still answers to one of them is late.
  explicit RemoteControls(Incarnation life) : last_id_(life << 32) {}

  // A new id for a control to `to`.
  std::uint64_t add(Pnn to, const ReplyTo& reply, Instant deadline);
  // The answer from `from`; nothing if it is late, unknown or from somebody else.
  std::optional<Pending> answered(std::uint64_t id, Pnn from);
  // The same for a question that a disconnect does not answer; its id is set.
  void add_until_left_out(Pnn to, const ReplyTo& reply, Instant deadline, RelayControl& question);
  // All that wait for `node`, but for those that wait until it is left out.
  std::vector<Pending> lost(Pnn node);
  // All that wait for nodes that are not among `members`.
  std::vector<Pending> left_out(const std::vector<Pnn>& members);
  // What must be asked again of a node that is back.
  [[nodiscard]] std::vector<RelayControl> to_ask_again(Pnn node) const;
  std::vector<Pending> expired(Instant now);
  void client_gone(ClientId client);
  [[nodiscard]] Instant next_deadline() const;
  [[nodiscard]] std::size_t size() const { return pending_.size(); }

 private:
  std::map<std::uint64_t, Pending> pending_;
  std::uint64_t last_id_;
};

}  // namespace tdbmesh
