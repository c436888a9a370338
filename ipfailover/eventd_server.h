#pragma once
// The event daemon's socket, <runtime>/eventd.socket, mode 0600: answers `ctdb event` and `ctdb scriptstatus` from
// a ScriptRunner. In the event loop's thread. A client that sends anything but a request, or reads no answers, is
// disconnected.

#include <memory>
#include <string>

#include "ipfailover/script_runner.h"
#include "transport/event_loop.h"

namespace tdbmesh {

class EventdServer {
 public:
  static constexpr std::size_t kMostClients = 64;
  static constexpr std::size_t kMostUnread = 4 * 1024 * 1024;

  // A socket file that is there already is replaced: the caller has made sure that it is the only daemon here.
  [[nodiscard]] static Result<std::unique_ptr<EventdServer>> create(EventLoop& loop, std::string path,
                                                                    ScriptRunner& runner);
  virtual ~EventdServer() = default;  // closes all connections, removes the socket file
};

}  // namespace tdbmesh
