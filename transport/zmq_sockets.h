#pragma once
// What the mesh and the heartbeat thread share in opening their ZeroMQ sockets: the same security, the same
// way to name endpoints. Thin; the callers own the sockets.

#include <cstdint>
#include <optional>
#include <string>

#include "db/base/result.h"
#include "transport/cluster_key.h"

namespace tdbmesh {

// The door of a node: ZMQ_PULL, CURVE server or plain, asks the guard (which must run already).
// `most_waiting` messages per peer are taken from the network before they are read; `most_bytes` per message.
void* open_receiver(void* context, const std::optional<ClusterKey>& key, const std::string& address,
                    int most_waiting, std::size_t most_bytes);
// Binds it. Errors say what to do.
[[nodiscard]] Result<> bind_receiver(void* socket, const std::string& address, std::uint16_t port);

struct SenderOptions {
  int most_queued = 1000;
  bool only_when_connected = false;  // drop instead of queueing while there is no connection
};
// ZMQ_PUSH to a peer, with the own address as source. Not connected yet. nullptr if ZeroMQ refuses.
void* open_sender(void* context, const std::optional<ClusterKey>& key, const std::string& address,
                  const SenderOptions& options);
bool connect_sender(void* socket, const std::string& own, const std::string& peer, std::uint16_t port);

// Metadata of a received message ("User-Id", "Peer-Address"), empty if it has none.
[[nodiscard]] std::string message_property(void* zmq_message, const char* name);

}  // namespace tdbmesh
