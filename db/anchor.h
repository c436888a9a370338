#pragma once
// The anchor file of one database: the path that GETDBPATH answers. A small regular file, mapped shared by the
// daemon and by every process that uses the database through the libtdb shim. It says what the database is and
// where its LMDB files are, and carries everything that those processes share outside LMDB: sequence number,
// epoch, map size and the lock table (chain_locks.h works on it).
//
// It begins like a TDB of a version that nobody knows, so a program without the shim refuses it and changes
// nothing, also when it was told to create one. Every opener holds the lock that keeps libtdb from clearing the
// file first.
//
// Lifetime: only the daemon creates anchors (tmp file + rename; a reader sees a whole one or none). A lock table
// is good for one boot of the machine: client opens of an anchor from an earlier boot are refused until the
// daemon has renewed it. An anchor that is replaced is marked *retired* first: whoever still maps the old
// file gets Refused from every operation and has to open the path again.
//
// Threads: the atomics may be used from any thread, the rest is constant after open. Fork: the mapping and the fd
// stay usable in the child.

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/store.h"

namespace tdbmesh {

// TDB's own magic, then ours where TDB has its version: libtdb overwrites a file of unknown magic when it is opened
// with O_CREAT, but refuses one of unknown version whatever the flags.
inline constexpr char kAnchorMagic[48] = "TDB file\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0tdbmesh anchor\n";
inline constexpr std::uint32_t kAnchorFormat = 1;
inline constexpr std::uint32_t kDefaultChainCount = 4096;  // a power of two
inline constexpr std::uint64_t kRetiredEpoch = ~std::uint64_t{0};

// One line of the lock table: exactly one cache line. It has whatever an ordinary store of a volatile record writes
// besides the record, so that it is the only line which travels between processors that use a chain by turns.
struct ChainEntry {
  pthread_mutex_t mutex;                   // robust, process-shared, error-checking
  std::atomic<std::uint64_t> client_uses;  // how often a client (not the daemon) took it, ever
  std::atomic<std::uint64_t> writes;       // how often a record of the chain was written (volatile databases)
  std::atomic<std::uint64_t> redo;         // slot of the store under way + 1 (volatile databases; record_heap.h)
};
static_assert(sizeof(pthread_mutex_t) <= 40 && sizeof(ChainEntry) == 64);

// The part of the file that is shared and changes. Plain libtdb never gets here.
struct AnchorShared {
  std::atomic<std::uint64_t> epoch;        // rises when the database is emptied; kRetiredEpoch: replaced
  std::atomic<std::uint64_t> generation;   // rises with every committed write, by any process
  std::atomic<std::uint64_t> map_size;     // of the LMDB map; grows only, under resize_mutex
  std::atomic<std::uint64_t> preallocated; // bytes of the data file that surely have blocks; under writer_mutex
  std::atomic<std::uint32_t> seqnum;
  std::atomic<std::uint32_t> seqnum_enabled;
  std::atomic<std::uint32_t> all_locked;   // 1 while somebody has (or is getting) all chains
  std::uint32_t reserved;
  pthread_mutex_t all_mutex;               // the owner of all chains
  pthread_mutex_t writer_mutex;            // taken around every LMDB write transaction (see lmdb_database.h)
  pthread_mutex_t resize_mutex;            // taken around mapping and growing the LMDB map
  // Of a volatile database (heap_file.h). Here, where every call looks anyway: one page less to meet in a new process.
  alignas(64) std::atomic<std::uint64_t> heap_contents;
  std::atomic<std::uint64_t> heap_commit;
};

struct AnchorSettings {
  std::string name;                        // "secrets.tdb"
  DatabaseKind kind = DatabaseKind::Volatile;
  Pnn pnn{0};
  std::string data_dir;                    // absolute path of the directory with the LMDB files
  std::string gate_path;                   // absolute
  std::uint64_t identity = 0;              // random; the LMDB files carry the same
  std::uint64_t hash_seed = 0;
  std::uint64_t hash_mask = ~std::uint64_t{0};  // tests weaken the key hash with it, to get collisions
  std::uint64_t epoch = 1;
  std::uint32_t seqnum = 0;
  std::uint64_t map_size = 0;
  std::uint32_t chain_count = kDefaultChainCount;
};

// A file that begins as an anchor does, open for Anchor::open: asking what a path is and opening it takes one open().
class AnchorFile {
 public:
  // nullopt: no anchor, or it cannot be read. Opens regular files only: a fifo would wait, a device might do anything.
  [[nodiscard]] static std::optional<AnchorFile> open(const std::string& path);
  AnchorFile() = default;  // none
  ~AnchorFile();
  AnchorFile(AnchorFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  AnchorFile& operator=(AnchorFile&&) = delete;
  // For reading and writing; -1 if there is none or the file may not be written. The caller closes it.
  [[nodiscard]] int take() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

class Anchor {
 public:
  enum class ForBoot { This, Any };

  // Creates or atomically replaces the file at `path`, mode 0600. An older anchor there is retired by the caller.
  [[nodiscard]] static Result<void> create(const std::string& path, const AnchorSettings& settings);

  // Maps it and validates everything that is constant. Errors: NotFound; Refused: not an anchor (the context says
  // whether it is a TDB), or from another boot with ForBoot::This; StoreCorrupt: ours, but damaged or of another
  // format version.
  // `file`: of the same path, if it is open already.
  [[nodiscard]] static Result<std::unique_ptr<Anchor>> open(const std::string& path, ForBoot boot = ForBoot::This,
                                                            AnchorFile file = {});

  // Reads the first bytes only: is this file an anchor? False also if it cannot be read.
  [[nodiscard]] static bool is_anchor(const std::string& path);
  // Same for a file that is open already; does not move its offset.
  [[nodiscard]] static bool is_anchor(int fd);

  ~Anchor();
  Anchor(const Anchor&) = delete;
  Anchor& operator=(const Anchor&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }            // as opened
  [[nodiscard]] const AnchorSettings& settings() const { return settings_; }  // as created; epoch etc. are in shared()
  [[nodiscard]] DatabaseId id() const { return id_; }
  [[nodiscard]] int fd() const { return fd_; }  // open for the life of the object, close-on-exec
  // Where the LMDB files are now: beside the anchor if they are there (a copied directory), else where created.
  [[nodiscard]] std::string data_dir() const;
  [[nodiscard]] dev_t device() const { return device_; }
  [[nodiscard]] ino_t inode() const { return inode_; }
  [[nodiscard]] bool from_this_boot() const { return from_this_boot_; }

  [[nodiscard]] AnchorShared& shared() const { return *shared_; }
  [[nodiscard]] ChainEntry& chain(std::uint32_t index) const { return chains_[index]; }
  [[nodiscard]] std::uint32_t chain_count() const { return settings_.chain_count; }

  [[nodiscard]] bool retired() const { return shared_->epoch.load() == kRetiredEpoch; }
  void retire() const { shared_->epoch.store(kRetiredEpoch); }

 private:
  Anchor() = default;
  std::string path_;
  AnchorSettings settings_;
  DatabaseId id_{};
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  void* map_ = nullptr;
  std::size_t map_length_ = 0;
  AnchorShared* shared_ = nullptr;
  ChainEntry* chains_ = nullptr;
  bool from_this_boot_ = false;
};

}  // namespace tdbmesh
