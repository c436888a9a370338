#pragma once
// The local copy of one database, used as Samba uses it: read, chain-locked, and (volatile data only) written
// in place, through the same LMDB environment that the daemon and the libtdb shim use. Opened by the path that
// GETDBPATH answers. Volatile data is only touched while the node's gate is open.
//
// Faults: Refused = not a database of tdbmesh (CTDB's own TDB files are not opened here); Busy = the gate
// stays closed, or a lock is held, for the whole time limit. One thread.

#include <memory>
#include <optional>
#include <string>

#include "db/base/time.h"
#include "db/gate.h"
#include "db/lmdb_database.h"
#include "db/record.h"

namespace tdbmesh {

class LocalCopy {
 public:
  [[nodiscard]] static Result<std::unique_ptr<LocalCopy>> open(const std::string& path);

  [[nodiscard]] Result<> lock(BytesView key, Duration timeout);
  void unlock(BytesView key);
  // Absent, or too short to be a record: nullopt. Waits at most `patience` for a closed gate; under a chain lock give
  // none, because the daemon may need the chain to open it again.
  [[nodiscard]] Result<std::optional<StoredRecord>> fetch(BytesView key, Duration patience = std::chrono::seconds(10));
  // Under the chain lock, with the header that was read. Refused, without writing, if the gate is closed or the
  // database was emptied since the lock was taken.
  [[nodiscard]] Result<> store(BytesView key, const RecordHeader& header, BytesView value);

  [[nodiscard]] LmdbDatabase& lmdb() { return *lmdb_; }
  [[nodiscard]] bool gated() const { return gate_ != nullptr; }

 private:
  LocalCopy(std::unique_ptr<LmdbDatabase> lmdb, std::unique_ptr<GateView> gate)
      : lmdb_(std::move(lmdb)), gate_(std::move(gate)) {}
  [[nodiscard]] Result<> wait_for_gate(Duration timeout) const;
  std::unique_ptr<LmdbDatabase> lmdb_;
  std::unique_ptr<GateView> gate_;  // null for persistent data
};

}  // namespace tdbmesh
