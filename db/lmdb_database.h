#pragma once
// One database, as one process sees it. The same class serves the daemon (through LmdbStore), the libtdb shim and the
// tools. It knows nothing of ltdb headers: a value here is the whole stored value (header + data). Keys 0..64 KiB,
// values 0..64 MiB.
//
// Storage of persistent and replicated databases: an LMDB environment each (lmdb_records.h).
//   persistent            durable transactions, written by pwrite, never through the map
//   replicated            NOSYNC, written through the map; blocks are allocated before they are touched, so a full
//                         file system is StoreFull for that one operation and never SIGBUS
// A full map grows (all processes follow). Every store is one transaction. Reads see a snapshot, take no lock, and cost no
// system call.
// Storage of volatile databases: a heap in shared memory (heap_database.h), at the speed of a hash table.
// With all of them kill -9 at any instant leaves the old or the new record.
//
// Chain locks (chain_locks.h) are separate: nothing here takes one by itself, except that a write to a volatile
// database takes its chain while it lasts if this process does not hold it, and a transaction takes all of them. A write for
// a key whose chain this handle holds fails with Refused, without writing, if the database was emptied (epoch)
// after the lock was taken.
//
// Waiting: a writer waits for the writer of the same database (another process's transaction). Daemon role: at
// most 500 ms, then Busy. Client role: until it is free.
//
// Fork: the child may use the object; its first call reopens LMDB (call reopen() where privileges are still there).
// It holds no locks and is in no transaction; the parent is not affected.
// Threads: Role::Client and Role::Inspector: one thread. Role::Daemon: one thread (the loop), and besides apply(),
// which any one other thread may call.
// Errors: Busy, NotFound, Exists, StoreFull, StoreCorrupt, Refused (retired anchor, epoch, read-only, wrong
// state), Malformed (size limits), Io.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "db/anchor.h"
#include "db/base/bytes.h"
#include "db/base/result.h"
#include "db/chain_locks.h"
#include "db/record_heap.h"
#include "db/store.h"

namespace tdbmesh {

using LmdbItem = RecordHeap::Item;  // position: continue after it with scan(position + 1, ...); see is_current()
struct LmdbBatch {
  std::vector<LmdbItem> items;
  std::uint64_t next = 0;  // where the following batch starts
  bool done = false;       // nothing after this batch
};

using StoreMode = RecordHeap::Mode;

class LmdbDatabase {
 public:
  enum class Role {
    Client,     // the shim
    Daemon,
    Inspector,  // read-only; also on the files of a dead node or of an earlier boot
  };

  // Opens an anchor and its LMDB files. Errors as Anchor::open; Busy: this process has it open already (compare
  // same_file_open()); StoreCorrupt: the LMDB files are missing, damaged or belong to another anchor.
  // `file`: the anchor, if it is open already.
  [[nodiscard]] static Result<std::unique_ptr<LmdbDatabase>> open(const std::string& anchor_path, Role role, AnchorFile file = {});

  // Creates empty LMDB files in settings.data_dir (which must not exist) and then the anchor. Daemon only.
  [[nodiscard]] static Result<void> create(const std::string& anchor_path, AnchorSettings settings);

  // What the LMDB files say of themselves (identity, hash, map size), to make a lost anchor again. Daemon only. Opens an
  // untrusted file, see check().
  [[nodiscard]] static Result<AnchorSettings> settings_of_files(const std::string& data_dir);

  // Does this process have the database of this anchor open? By device and inode; opens nothing.
  [[nodiscard]] static bool same_file_open(const std::string& anchor_path);

  ~LmdbDatabase();  // cancels a transaction, releases locks
  LmdbDatabase(const LmdbDatabase&) = delete;
  LmdbDatabase& operator=(const LmdbDatabase&) = delete;

  [[nodiscard]] const Anchor& anchor() const;
  [[nodiscard]] int fd() const { return anchor().fd(); }  // tdb_fd: fchmod works, LMDB's files stay 0600
  [[nodiscard]] DatabaseKind kind() const { return anchor().settings().kind; }

  // After fork, in the child: opens LMDB anew now instead of at the first use. In the parent it does nothing.
  [[nodiscard]] Result<void> reopen();

  // --- chain locks; the semantics are ChainLocks'.
  [[nodiscard]] std::uint32_t chain_of(BytesView key) const;
  [[nodiscard]] ChainLocks& locks();
  [[nodiscard]] Result<void> lock(BytesView key, const StopWaiting& stop = {}) { return locks().lock(chain_of(key), stop); }
  [[nodiscard]] Result<void> try_lock(BytesView key) { return locks().try_lock(chain_of(key)); }
  Result<void> unlock(BytesView key) { return locks().unlock(chain_of(key)); }

  // --- reading. Inside this handle's transaction its own writes are seen, else the last committed state.
  // parse() calls use(BytesView) with the value in place (no copy), valid during the call only; unaligned. `use` may
  // read from this database but should not write large values to it, and must not wait. False = no such key.
  template <class F>
  [[nodiscard]] Result<bool> parse(BytesView key, F&& use) {
    using Fn = std::remove_reference_t<F>;
    return visit(key, [](void* f, BytesView value) { (*static_cast<Fn*>(f))(value); },
                 const_cast<void*>(static_cast<const void*>(&use)));
  }
  [[nodiscard]] Result<std::optional<Bytes>> fetch(BytesView key);
  // The same into a buffer of the caller, who may keep it for the next time. False = no such key.
  [[nodiscard]] Result<bool> fetch_into(BytesView key, Bytes& value);
  [[nodiscard]] Result<bool> exists(BytesView key);

  // --- writing: each call is whole or nothing, and visible when it returns, unless within begin()/commit().
  // The value is the concatenation of `parts`. Insert: Exists if there is one; Modify: NotFound if there is none.
  // Storing what is there already writes nothing. Each success raises the seqnum, if that is enabled.
  [[nodiscard]] Result<void> store(BytesView key, std::span<const BytesView> parts, StoreMode mode = StoreMode::Replace);
  [[nodiscard]] Result<void> store(BytesView key, BytesView value, StoreMode mode = StoreMode::Replace) {
    return store(key, std::span<const BytesView>(&value, 1), mode);
  }
  [[nodiscard]] Result<bool> erase(BytesView key);  // false = there was none
  // Removes all records (tdb_wipe_all). Does not raise the epoch; the caller holds all chains.
  [[nodiscard]] Result<void> wipe();

  // --- all records, in an order that does not change (by chain or hash), no lock or snapshot between calls. Ends after
  // `most` records or when the batch holds `most_bytes` (at least one record). A record that stays is seen exactly once.
  [[nodiscard]] Result<LmdbBatch> scan(std::uint64_t from, std::size_t most, std::size_t most_bytes = 1u << 20);
  [[nodiscard]] Result<std::optional<Bytes>> first_key();
  [[nodiscard]] Result<std::optional<Bytes>> next_key(BytesView key);  // works if `key` was deleted meanwhile
  [[nodiscard]] Result<std::uint64_t> record_count();

  // --- a transaction of this handle: all or nothing, others see the old state and their writes wait. Do not keep
  // it while waiting for something else. Nesting is the caller's affair. Large transactions may end in StoreFull
  // once; the map has grown when it is tried again.
  [[nodiscard]] Result<void> begin(const StopWaiting& stop = {});
  [[nodiscard]] Result<void> try_begin();  // Busy instead of waiting
  [[nodiscard]] Result<void> commit();     // on an error everything is undone
  void cancel();
  [[nodiscard]] bool in_transaction();

  // --- seqnum: shared by all processes; inside a transaction it is ahead of the others' and falls back on cancel.
  [[nodiscard]] std::uint32_t seqnum();
  void bump_seqnum();
  void enable_seqnum();
  [[nodiscard]] bool seqnum_enabled() const;
  [[nodiscard]] std::uint64_t epoch() const { return anchor().shared().epoch.load(); }
  // Differs if anything was written in between, by anybody. On a volatile database it looks at every chain.
  [[nodiscard]] std::uint64_t generation() const;
  // Has nothing been written that may concern this item since it was scanned? Cheap; false means "read it again".
  [[nodiscard]] bool is_current(const LmdbItem& item) const;
  [[nodiscard]] std::uint64_t map_size() const;

  // --- the daemon's side.
  // Empties the database and raises the epoch in one step. The caller has gathered all chains.
  [[nodiscard]] Result<void> drop_all();
  [[nodiscard]] Result<CopyVersion> version();
  // Applies several changes of this database, in order, in one durable transaction: all of them or none.
  [[nodiscard]] Result<void> apply(std::span<const DurableChange* const> changes);
  // One part of a change that comes in parts (DurableChange::Part): First and More go to the file `incoming` in the
  // data directory, Last applies all of them and removes it.
  [[nodiscard]] Result<void> apply_part(const DurableChange& change);
  // Frees reader slots of dead processes, so that their snapshots do not keep pages; cheap, call it now and then.
  void clear_dead_readers();
  // Reads everything: hashes, lengths, counts. StoreCorrupt with the first finding. May crash on a damaged file: run it
  // in a child process if the file is not trusted (LmdbStore does).
  [[nodiscard]] Result<void> check();

 private:
  struct State;
  explicit LmdbDatabase(std::unique_ptr<State> state);
  [[nodiscard]] Result<bool> visit(BytesView key, void (*use)(void*, BytesView), void* argument);
  std::unique_ptr<State> state_;
};

}  // namespace tdbmesh
