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
#include <string>
#include <thread>

#include "transport/access_list.h"

namespace tdbmesh {

// What a ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL value means, for people.
[[nodiscard]] std::string handshake_failure(std::uint32_t code);

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
