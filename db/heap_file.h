#pragma once
// The file behind a volatile database: memory that every process of the database maps, carved into blocks of fixed
// size classes. What a process may be killed in the middle of is never more than a block in nobody's hands (lost
// until the daemon starts again); nothing is ever torn, freed twice or waited for.
//
//   page 0 ..        HeapHead: identity, counters, lists of free blocks by processor and class
//   then             RedoSlots: what stores are about to write over a record
//   then             one HeapChain (64 bytes) per chain of the lock table
//   then             blocks, each 32-byte aligned, in the order they were carved
//
// Blocks are *type-stable*: once carved, a block keeps its class for ever and is only reused for the same, so that a
// reader without a lock that follows an outdated reference still reads a block of that class, never past its end, and
// sees by its stamp that it was reused. Free lists are lock-free stacks with a tag against ABA.
//
// Growing: fallocate in steps under the anchor's resize mutex before anything is touched, so a full file system is
// StoreFull for one operation and never SIGBUS. The whole span is mapped from the beginning: nobody ever remaps.
//
// Threads: all of it may be used from any thread and process. Fork: the mapping is shared, nothing to do.

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "db/anchor.h"
#include "db/base/result.h"
#include "db/chain_locks.h"

namespace tdbmesh {

using BlockRef = std::uint64_t;  // offset / kBlockUnit; 0 = none

inline constexpr std::uint64_t kBlockUnit = 32;
inline constexpr std::uint64_t kRefBits = 36;
inline constexpr std::uint64_t kRefMask = (std::uint64_t{1} << kRefBits) - 1;

struct Block {
  // Version << 8 | class; the version is odd while the contents are being written. If a linked block is odd, its value is the
  // one in the redo slot that its chain names.
  std::atomic<std::uint64_t> stamp;
  std::atomic<std::uint64_t> next;  // in a free list; outlives reuse, stale ones do no harm
  std::uint64_t position;           // of a record: see record_heap.h
  std::uint32_t key_size;
  std::uint32_t value_size;
  [[nodiscard]] char* bytes() { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
};
static_assert(sizeof(Block) == 32);
inline constexpr std::uint64_t kStampWriting = 0x100;

// What one chain of the database holds: a line of its own, written only under the chain's lock, and only when a block comes
// or goes. (What every store writes stands in the chain's entry of the lock table, which its lock has written already.)
struct alignas(64) HeapChain {
  std::atomic<std::uint64_t> table;      // tag, size and BlockRef of its table of records; 0 = none yet
  std::atomic<std::uint64_t> contents;   // which contents of the database it belongs to; others are void
  std::atomic<BlockRef> incoming;        // block that is about to be linked
  std::atomic<BlockRef> outgoing;        // block that is about to be unlinked
  std::atomic<BlockRef> moving;          // table that is not in use yet or any more
  std::atomic<std::uint32_t> live;       // records
  std::atomic<std::uint32_t> used;       // words of the table that are not empty
  std::uint64_t reserved[2];
};
static_assert(sizeof(HeapChain) == 64);

// The new value of a record while it is written over the old one. A processor's stores use the same slot again and again,
// so it stays in that processor's cache.
inline constexpr std::uint64_t kRedoBytes = 2048 - 24;
struct alignas(64) RedoSlot {
  std::atomic<std::uint64_t> owner;  // number of the store << 22 | (chain + 1) << 1 | filled; without a chain it is free
  BlockRef block;
  std::uint64_t value_size;
  char bytes[kRedoBytes];
};
static_assert(sizeof(RedoSlot) == 2048);
inline constexpr unsigned kRedoSlots = 32;
inline constexpr std::uint64_t kRedoFilled = 1;
inline constexpr std::uint64_t kRedoNumber = 1 << 22;            // the lowest bit of the number
inline constexpr std::uint64_t kRedoOwnerMask = kRedoNumber - 1;  // chain and `filled`

// A number of the processor this runs on; a good guess, it may change at any time.
[[nodiscard]] inline unsigned this_processor() { return static_cast<unsigned>(::sched_getcpu()); }

// Classes of record blocks: 0 .. kRecordClasses - 1, at most 31 bytes or an eighth larger than asked for. Tables have their own.
inline constexpr unsigned kRecordClasses = 160;
inline constexpr unsigned kFirstTableClass = 192;  // a table of 8 words; each further class twice as many
inline constexpr unsigned kTableClasses = 24;
inline constexpr unsigned kClasses = 256;

[[nodiscard]] unsigned record_class(std::uint64_t bytes);  // bytes with the Block in front
[[nodiscard]] std::uint64_t class_size(unsigned block_class);
[[nodiscard]] inline unsigned class_of_stamp(std::uint64_t stamp) { return static_cast<unsigned>(stamp & 0xff); }

class HeapFile {
 public:
  // Creates the directory and the empty file.
  [[nodiscard]] static Result<void> create(const std::string& data_dir, const AnchorSettings& settings);
  // StoreCorrupt: missing, cut off, or of another anchor. `anchor` outlives the result.
  [[nodiscard]] static Result<std::unique_ptr<HeapFile>> open(const Anchor& anchor, bool read_only);
  [[nodiscard]] static std::string path_in(const std::string& data_dir) { return data_dir + "/heap"; }

  ~HeapFile();
  HeapFile(const HeapFile&) = delete;
  HeapFile& operator=(const HeapFile&) = delete;

  [[nodiscard]] Block& at(BlockRef ref) const { return *reinterpret_cast<Block*>(base_ + ref * kBlockUnit); }
  [[nodiscard]] HeapChain& chain(std::uint32_t index) const { return chains_[index]; }
  [[nodiscard]] std::uint32_t index_of(const HeapChain& chain) const { return static_cast<std::uint32_t>(&chain - chains_); }
  [[nodiscard]] ChainEntry& entry(std::uint32_t index) const { return anchor_.chain(index); }
  [[nodiscard]] RedoSlot& redo(unsigned index) const { return redo_[index]; }
  [[nodiscard]] bool read_only() const { return read_only_; }

  // A block of that class with unknown contents. StoreFull; Busy: somebody was stopped while the file grew, and `stop`
  // ended the wait.
  [[nodiscard]] Result<BlockRef> allocate(unsigned block_class, const StopWaiting& stop);
  void release(BlockRef ref);
  // Shows each free block to `good`, with nobody writing; an empty text if it likes all of them and the lists are sound.
  [[nodiscard]] std::string check_free(const std::function<bool(BlockRef)>& good) const;

  // Which contents are valid (rises when the database is emptied), and the commit that is under way (0 = none).
  [[nodiscard]] std::atomic<std::uint64_t>& contents() const { return anchor_.shared().heap_contents; }
  [[nodiscard]] std::atomic<BlockRef>& commit_under_way() const { return anchor_.shared().heap_commit; }
  [[nodiscard]] std::uint64_t size() const;  // bytes that have blocks on the file system
  [[nodiscard]] std::uint64_t top() const;   // bytes that were carved
  [[nodiscard]] std::uint64_t first_block() const { return first_block_; }

 private:
  struct Head;
  explicit HeapFile(const Anchor& anchor) : anchor_(anchor) {}
  [[nodiscard]] Result<void> make_room(std::uint64_t end, const StopWaiting& stop);
  [[nodiscard]] Result<BlockRef> carve(unsigned block_class, const StopWaiting& stop);

  const Anchor& anchor_;
  bool read_only_ = false;
  int fd_ = -1;
  char* base_ = nullptr;
  Head* head_ = nullptr;
  RedoSlot* redo_ = nullptr;
  HeapChain* chains_ = nullptr;
  std::uint64_t first_block_ = 0;
};

}  // namespace tdbmesh
