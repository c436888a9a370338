#pragma once
// Going into the background the way operators of CTDB know it: the command returns when the daemon is up, or
// prints why it is not. One thread only, before any other is started.

#include <string>

#include "db/base/result.h"

namespace tdbmesh {

class Background {
 public:
  // In the child: returns, with a session of its own and stdin from /dev/null. In the parent: never returns;
  // it waits for ready() or failed() of the child and exits with 0, or prints the reason and exits with 1.
  [[nodiscard]] static Result<Background> enter();
  // Runs in the foreground: ready() says nothing, failed() prints.
  [[nodiscard]] static Background foreground() { return Background(-1); }

  void ready();
  void failed(const std::string& why);

 private:
  explicit Background(int report_fd) : report_fd_(report_fd) {}
  int report_fd_;
};

}  // namespace tdbmesh
