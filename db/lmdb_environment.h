#pragma once
// One LMDB environment of one process: opening, mapping, growing, and the transactions that lmdb_database.cc fills.
// Everything that LMDB asks of its callers is kept here: never two environments on one file in a process, never
// a resize with a transaction open, blocks before WRITEMAP touches them, no inherited transaction after fork,
// close-on-exec on its descriptors.
//
// All writers of a database, in all processes, go through the anchor's writer mutex first, so that waiting can
// be bounded. All mapping happens under its resize mutex and with its map size: a process that mapped with a
// smaller size would cut the file under the others.

#include <lmdb.h>

#include <chrono>
#include <memory>
#include <shared_mutex>
#include <string>

#include "db/anchor.h"
#include "db/base/result.h"
#include "db/chain_locks.h"

namespace tdbmesh {

inline constexpr std::uint64_t kDefaultMapSize = std::uint64_t{4} << 30;
inline constexpr std::uint64_t kLargestMapSize = std::uint64_t{1} << 40;
inline constexpr unsigned kMaxReaders = 4096;

[[nodiscard]] tl::unexpected<Error> lmdb_failure(int rc, const std::string& context);

class LmdbEnvironment {
 public:
  // `shared_between_threads`: one thread reads and writes, another one writes.
  LmdbEnvironment(const Anchor& anchor, bool read_only, bool shared_between_threads);
  ~LmdbEnvironment();
  LmdbEnvironment(const LmdbEnvironment&) = delete;
  LmdbEnvironment& operator=(const LmdbEnvironment&) = delete;

  // Creates the directory with empty files; they are opened, and the map is `map_size` long.
  [[nodiscard]] static Result<void> create_files(const std::string& data_dir);
  [[nodiscard]] Result<void> open();
  [[nodiscard]] bool is_open() const { return env_ != nullptr; }
  // In a forked child: lets go of the inherited environment without touching what belongs to the parent.
  void abandon_after_fork();

  // --- reading. Nested calls share one snapshot. Every begin_read that succeeds needs an end_read.
  [[nodiscard]] Result<MDB_txn*> begin_read();
  void end_read();
  [[nodiscard]] bool reading() const { return read_depth_ > 0; }

  // --- writing. Takes the writer mutex (Busy if `stop` ends the wait). Before each change, reserve() makes room for
  // it in the file: StoreFull then, before anything is touched. One transaction at a time per thread.
  [[nodiscard]] Result<MDB_txn*> begin_write(const StopWaiting& stop, bool wait = true);
  [[nodiscard]] Result<void> reserve(std::uint64_t bytes, std::uint64_t changes);
  [[nodiscard]] Result<void> commit(MDB_txn* txn);  // ends the transaction whatever it returns
  void abort(MDB_txn* txn);

  // Makes the map larger: to what others have made it, or at least double and with room for `bytes`. No transaction
  // of this process may be open except on the thread-shared side (waits for it).
  [[nodiscard]] Result<void> grow(std::uint64_t bytes);
  // Used and total bytes of the map.
  struct Usage {
    std::uint64_t used;
    std::uint64_t size;
  };
  [[nodiscard]] Usage usage() const;
  void clear_dead_readers();
  [[nodiscard]] MDB_dbi dbi() const { return dbi_; }

 private:
  class SharedUse;
  [[nodiscard]] Result<void> open_mapped();
  [[nodiscard]] Result<void> map_again(std::uint64_t size);
  [[nodiscard]] Result<void> adopt_size();
  [[nodiscard]] Result<void> allocate(std::uint64_t end);
  void enter() {
    if (threads_) use_.lock_shared();
  }
  void leave() {
    if (threads_) use_.unlock_shared();
  }
  void close();

  const Anchor& anchor_;
  const bool read_only_;
  const bool threads_;
  const bool through_map_;
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  unsigned page_size_ = 4096;
  MDB_txn* read_txn_ = nullptr;  // kept and reset between uses: one reader slot per process
  unsigned read_depth_ = 0;
  // Of the write transaction: only its thread, which holds the writer mutex, touches these.
  std::uint64_t first_free_page_ = 0;
  std::uint64_t pages_promised_ = 0;
  std::shared_mutex use_;  // shared: a transaction is open; exclusive: the map moves
};

}  // namespace tdbmesh
