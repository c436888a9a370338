#pragma once
// The guard at the door of a ZeroMQ context: answers ZAP requests (who may connect, and as whom) and listens
// to the monitor of the receiving socket, to report what never got as far as a ZAP request: a wrong cluster
// key, another protocol, random bytes.
//
// Let in is who calls from the address of a configured peer and, if there is a key, proves to hold it. The
// pnn of that address becomes the connection's User-Id, which zmq_msg_gets() gives for every message.
//
// Runs a thread of its own, so that connections are judged while the event loop is busy. All members may be
// called from any thread. `on_rejected` is called on the guard's thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "db/base/ids.h"
#include "db/base/time.h"
#include "transport/peer_address.h"

namespace tdbmesh {

// One text per address: "10.0.0.1" however it was written. nullopt if it is no numeric IPv4 or IPv6 address.
[[nodiscard]] std::optional<std::string> canonical_address(const std::string& address);

// What a ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL value means, for people.
[[nodiscard]] std::string handshake_failure(std::uint32_t code);

// Addresses let in. Shared between the owner and the guard's thread.
class AccessList {
 public:
  void set(const std::vector<PeerAddress>& peers, Pnn self);
  [[nodiscard]] std::optional<Pnn> find(const std::string& address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Pnn> peers_;
};

struct Rejection {
  std::string address;  // "unknown" if it was gone before it could be asked
  std::string reason;
  bool outgoing = false;  // the other side refused us
};

// Lets one report per address and minute through, and bounds what it remembers. Not thread safe.
class RejectionFilter {
 public:
  // The line to log, or nullopt. Counts what it swallows and says so in the next line.
  std::optional<std::string> line(const Rejection& rejection, Instant now);

 private:
  struct Seen {
    Instant logged{};
    std::uint64_t swallowed = 0;
  };
  std::map<std::string, Seen> seen_;
};

class ZmqGuard {
 public:
  // `context` and the sockets watched must outlive the guard's thread: see stop(). `public_key` (Z85) empty:
  // no CURVE, the address alone decides.
  ZmqGuard(void* context, const AccessList& access, const std::string& public_key,
           std::function<void(Rejection)> on_rejected);
  ~ZmqGuard();
  ZmqGuard(const ZmqGuard&) = delete;
  ZmqGuard& operator=(const ZmqGuard&) = delete;

  // Binds the ZAP endpoint and watches the monitor of `receiver`, a socket of `context` that is not bound to
  // a network address yet. False if ZeroMQ refused.
  bool start(void* receiver);
  // Call after zmq_ctx_shutdown(context): waits until the thread has closed its sockets.
  void stop();

 private:
  struct Door;
  void run();

  void* context_;
  const AccessList& access_;
  std::string key_;  // 32 bytes, or empty
  std::function<void(Rejection)> on_rejected_;
  std::unique_ptr<Door> door_;
  std::thread thread_;
};

}  // namespace tdbmesh
