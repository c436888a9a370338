#pragma once
// The file of persisted_state.h, and the worker thread that writes it, so that the event loop never waits for
// a disk. load() is for the start, before the loop runs. write() may be called from the loop only; the newest
// bytes win if several wait. `on_durable` is called in the worker's thread with the ticket of what is durable
// now (all older tickets are too); post it to the loop. A disk error is reported through `on_failure`, once;
// nothing is durable from then on and the daemon must stop.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "db/base/bytes.h"
#include "db/base/result.h"

namespace tdbmesh::recovery {

class StateFile {
 public:
  // Opens or creates it (mode 0600) with an exclusive lock: Busy if another daemon uses this state directory.
  [[nodiscard]] static Result<std::unique_ptr<StateFile>> open(const std::string& path);
  virtual ~StateFile() = default;
  // The newest whole record; nullopt for a new file. StoreCorrupt if there is something but no slot is whole.
  [[nodiscard]] virtual Result<std::optional<Bytes>> load() = 0;
  // Writes durably before it returns: for the incarnation at start.
  [[nodiscard]] virtual Result<void> write_now(BytesView payload) = 0;
  virtual void start(std::function<void(std::uint64_t ticket)> on_durable,
                     std::function<void(const Error&)> on_failure) = 0;
  virtual void write(Bytes payload, std::uint64_t ticket) = 0;
};

}  // namespace tdbmesh::recovery
