#pragma once
// The node's own copy of one database, as the daemon sees it: chain locks, records, copy version. Two
// implementations, one contract suite (tests/contract): MemoryDatabase for the simulator, LmdbDatabase for
// the real node, whose records Samba reads and writes at the same time through the libtdb shim.
//
// Thread: everything here is called from the event loop only and never blocks: a chain lock is only ever
// tried, and durable commits go through a CommitWorker (commit_worker.h) that reports back as an event.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/record.h"

namespace tdbmesh {

enum class DatabaseKind : std::uint8_t {
  Volatile,    // records migrate; emptied at daemon start
  Replicated,  // full copy everywhere, transactions; emptied at daemon start
  Persistent,  // full copy everywhere, transactions, durable
};

// Version of a persistent or replicated copy: of its last commit, kept in the same transaction as the data.
struct CopyVersion {
  Generation generation;
  std::uint64_t seqnum = 0;
  friend constexpr auto operator<=>(const CopyVersion&, const CopyVersion&) = default;
};

struct KeyedRecord {
  Bytes key;
  StoredRecord record;
  friend bool operator==(const KeyedRecord&, const KeyedRecord&) = default;
};

// Where a scan goes on. Opaque to callers; a default one starts at the beginning.
struct ScanPosition {
  std::uint64_t at = 0;
};
struct ScanBatch {
  std::vector<KeyedRecord> records;
  ScanPosition next;
  bool done = false;
};

class Database {
 public:
  virtual ~Database() = default;

  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual DatabaseId id() const = 0;
  [[nodiscard]] virtual DatabaseKind kind() const = 0;
  // What GETDBPATH answers: the anchor file (any unique text in memory).
  [[nodiscard]] virtual const std::string& path() const = 0;

  // --- chain locks. Shared with Samba's processes; counted per owner: the daemon takes one once.
  // False if somebody else has it. Taking a chain that the daemon already holds (two keys on one chain)
  // succeeds and is counted.
  virtual bool try_lock(BytesView key) = 0;
  virtual void unlock(BytesView key) = 0;
  // How often clients have taken this chain, ever: tells that a granted record was used (pin).
  [[nodiscard]] virtual std::uint64_t client_locks(BytesView key) const = 0;

  // --- single records. Writing a volatile record needs its chain lock.
  [[nodiscard]] virtual Result<std::optional<StoredRecord>> fetch(BytesView key) const = 0;
  virtual Result<void> store(BytesView key, const RecordHeader& header, BytesView value) = 0;
  virtual Result<void> erase(BytesView key) = 0;  // absent is fine

  // --- all records, a batch at a time, without a lock between batches. A record that stays put during the
  // scan appears exactly once; one that comes, goes or changes meanwhile may appear in any of its states.
  [[nodiscard]] virtual Result<ScanBatch> scan(ScanPosition from, std::size_t most) const = 0;
  [[nodiscard]] virtual std::uint64_t record_count() const = 0;

  // Empties the database under all its chain locks and raises the epoch, so that no client operation begun
  // before can write into the new life. Busy (nothing done, some chains may be held): call again later.
  virtual Result<void> drop_all() = 0;

  // --- persistent and replicated copies.
  [[nodiscard]] virtual CopyVersion version() const = 0;

  // --- change detection of Samba (dbwrap get_seqnum).
  virtual void enable_seqnum() = 0;
  [[nodiscard]] virtual bool seqnum_enabled() const = 0;
  [[nodiscard]] virtual std::uint32_t seqnum() const = 0;
  virtual void bump_seqnum() = 0;
};

// One durable change of a persistent or replicated copy; all of it or nothing. A large one comes in parts, in order
// and each after the report of the one before: First and More are only set aside (nothing is visible, nothing
// survives a crash), Last makes everything set aside and itself one change. First forgets what was set aside before.
struct DurableChange {
  enum class Part : std::uint8_t { All, First, More, Last };
  DatabaseId database{};
  CopyVersion version;                 // the copy's version afterwards
  bool replace_all = false;            // first remove every record (a copy fetched from another node)
  std::vector<RecordEntry> entries;    // stored in order; an empty value is stored as header only
  Part part = Part::All;
};

// Takes durable changes and reports each one when it is on disk: never before, in the order given for one
// database. The report arrives as an event at whoever owns the worker (see Node); the change is visible to
// readers at the latest then.
class CommitWorker {
 public:
  virtual ~CommitWorker() = default;
  virtual void submit(std::uint64_t ticket, DurableChange change) = 0;
};

// Opens and creates this node's databases.
class DatabaseStore {
 public:
  virtual ~DatabaseStore() = default;
  // Volatile and replicated ones start empty with each daemon; persistent ones are opened as they are.
  // The result lives as long as the store, until removed.
  virtual Result<Database*> open(const std::string& name, DatabaseKind kind) = 0;
  // Detach: the files of a volatile database are deleted.
  virtual Result<void> remove(DatabaseId id) = 0;
  // Why the contents of this persistent database could not be used when it was opened: what was there is set aside and an
  // empty copy is in its place. Empty: all is well.
  [[nodiscard]] virtual std::string damage(DatabaseId) const { return {}; }
  // Names and kinds of the persistent databases that are on disk; the node attaches them at start.
  [[nodiscard]] virtual Result<std::vector<std::pair<std::string, DatabaseKind>>> existing() const = 0;
};

}  // namespace tdbmesh
