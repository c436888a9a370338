#pragma once
// Carries out what ClusterLock decides: runs the helper that holds the lock and passes the register to and fro.
// Everything happens in the event loop's thread; nothing blocks, because each touch of the cluster file system
// is done by the helper process.
//
// The lock is named as in ctdb.conf:  FILE          our own helper takes an fcntl lock on byte 0 of FILE (so a
//                                                   CTDB that uses the same file contends with us) and keeps
//                                                   the register behind it
//                                     !COMMAND ...  any helper of CTDB's protocol: one status byte on stdout ('0'
//                                                   held, '1' contended, '2' timeout, '3' error), stays while
//                                                   it holds, SIGTERM releases, ends with its parent. The register
//                                                   is `register_file` then, served by a process of our own;
//                                                   without one a lone take-over is only as safe as that lock
//
// The lock is lost at once when its helper ends, is stopped (SIGSTOP: it watches over nothing then), says anything
// but '0' after its first '0', or when the process of the register ends.
//
// Protocol of our own helper after '0': on its stdin u32 length and that many bytes (the own slot; length 0 reads
// only), on its stdout u32 count and, for each slot, u32 pnn, u32 length, bytes. Native order; both ends are ours.

#include <functional>
#include <memory>
#include <string>

#include "db/base/result.h"
#include "recovery/cluster_lock.h"
#include "transport/event_loop.h"

namespace tdbmesh::recovery {

struct ClusterLockSettings {
  Pnn self{};
  Timing timing;
  std::string lock;         // FILE or !COMMAND
  std::string helper_path;  // of tdbmesh-lock-helper: for FILE, and for the register
  std::string register_file;  // beside a !COMMAND; empty: none
};

class ClusterLockKeeper {
 public:
  // `on_status` is called in the loop's thread after each change of the status, never from within want() or
  // release().
  [[nodiscard]] static std::unique_ptr<ClusterLockKeeper> create(EventLoop& loop, ClusterLockSettings settings,
                                                                 std::function<void(const LockStatus&)> on_status);
  // Ends the helper, which releases the lock.
  virtual ~ClusterLockKeeper() = default;
  virtual void want(const LockRecord& record) = 0;
  virtual void release() = 0;
};

}  // namespace tdbmesh::recovery
