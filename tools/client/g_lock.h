#pragma once
// Cluster-wide locks as Samba takes them: records of g_lock.tdb with the holder inside. A holder that died is
// found out and replaced, as Samba does it, so neither side can be locked out for ever.

#include <vector>

#include "tools/client/g_lock_value.h"
#include "tools/client/locked_record.h"

namespace tdbmesh {

class GLock {
 public:
  // Takes the lock exclusively; waits, at most `timeout`, while somebody who lives holds it. Busy names him.
  [[nodiscard]] static Result<GLock> take(ctdb::Client& client, Bytes key, Duration timeout);
  ~GLock();  // releases it
  GLock(GLock&& other) noexcept;
  GLock& operator=(GLock&&) = delete;
  // Releasing can fail (the daemon is gone); then the next one finds us dead.
  [[nodiscard]] Result<> release();

 private:
  GLock(ctdb::Client& client, std::unique_ptr<OpenDatabase> database, Bytes key, ServerId self)
      : client_(&client), database_(std::move(database)), key_(std::move(key)), self_(self) {}
  ctdb::Client* client_;
  std::unique_ptr<OpenDatabase> database_;  // null: released
  Bytes key_;
  ServerId self_;
};

// Does this process live? Asks its node's daemon, as Samba does; a node that is gone has no processes.
[[nodiscard]] Result<bool> process_exists(ctdb::Client& client, const ServerId& id, bool by_pid_alone = false);

// The same name for this process in every lock: checked by pid, through the daemon it is connected to.
[[nodiscard]] ServerId own_server_id(Pnn own);

}  // namespace tdbmesh
