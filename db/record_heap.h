#pragma once
// The records of a volatile database in a HeapFile. Each chain of the lock table has a hash table of its own, which
// grows with it; a word of a table names the block that holds one record (key and value).
//
// Writing (the caller holds the chain): a writer may be killed or stopped at any instruction, and readers find the old or
// the new record, whole. There are two ways.
//   Over the old value, if the new one fits into its block: it is written into a redo slot first, which the chain's entry
//   names. The block's stamp turns odd; that decides it, for from now on the value is the one in the slot. Then it is
//   copied into the block and the stamp turns even. If the writer is dead, the chain's next writer copies again.
//   Else into a free block, and one word of the table is switched to it. What the chain's `incoming`, `outgoing` and
//   `moving` name tells its next writer what to put away.
//
// Reading takes no lock and waits for nobody: find the block, copy it (or the slot, while the stamp is odd), look whether
// stamp (or slot) are what they were. Words never move within a table, and a table is replaced by switching one word that
// carries a tag.
//
// Emptying is one increment: a chain whose `contents` is not the database's is void, and its next writer sweeps it.
//
// A commit (of a transaction over several records) writes its blocks first, then names them in a block of steps,
// then publishes that block. From there on it is decided: whoever finds it, reader or writer, finishes it or waits.
// The committer must hold all chains; nobody writes before the commit is finished.

#include <bitset>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/result.h"
#include "db/heap_file.h"

namespace tdbmesh {

// Keys are short: a call of memcmp costs more than the comparison.
[[nodiscard]] inline bool same_key(BytesView a, BytesView b) {
  if (a.size() != b.size()) return false;
  std::size_t left = a.size();
  const char* x = a.data();
  const char* y = b.data();
  for (; left >= 8; left -= 8, x += 8, y += 8) {
    std::uint64_t p = 0;
    std::uint64_t q = 0;
    std::memcpy(&p, x, 8);
    std::memcpy(&q, y, 8);
    if (p != q) return false;
  }
  for (; left > 0; --left) {
    if (*x++ != *y++) return false;
  }
  return true;
}

// Where a key belongs.
struct HeapSpot {
  std::uint32_t chain = 0;
  std::uint64_t hash = 0;
};

class RecordHeap {
 public:
  enum class Mode { Replace, Insert, Modify };
  enum class Stored { Written, Unchanged, Exists, Missing };

  RecordHeap(HeapFile& file, std::uint32_t chain_count) : file_(file), chain_count_(chain_count) {}

  // Begins to bring into the cache what a look-up and a store of that key will touch; a hint.
  void prefetch(const HeapSpot& spot) const;

  // --- without a lock.
  // Copies the value into `into`; false: no such record.
  [[nodiscard]] bool read(const HeapSpot& spot, BytesView key, Bytes& into) const;
  struct Item {
    std::uint64_t position = 0;
    Bytes key;
    Bytes value;
    std::uint64_t stamp = 0;  // what writes_of() said before it was copied
  };
  // Appends records of one chain, in order of position, from `from` on; ends when `enough` says so after one.
  void scan_chain(std::uint32_t chain, std::uint64_t from, std::vector<Item>& out, const std::function<bool(const Item&)>& enough) const;
  [[nodiscard]] std::uint64_t live(std::uint32_t chain) const;
  [[nodiscard]] std::uint64_t writes_of(std::uint32_t chain) const { return file_.entry(chain).writes.load(); }

  // --- with the chain locked.
  // The value where it lies; it stays until the record is written, removed, or the chain let go.
  [[nodiscard]] std::optional<BytesView> look(const HeapSpot& spot, BytesView key);
  // StoreFull, Busy: nothing was changed.
  [[nodiscard]] Result<Stored> store(const HeapSpot& spot, BytesView key, std::span<const BytesView> parts, Mode mode, const StopWaiting& stop);
  [[nodiscard]] bool erase(const HeapSpot& spot, BytesView key);

  // --- with all chains locked.
  void empty() { file_.contents().fetch_add(1); }

  // Positions: chain, 36 bits of the hash, a number that tells keys with one hash apart. They do not change while the
  // record is there.
  [[nodiscard]] static std::uint64_t first_position(const HeapSpot& spot) {
    return std::uint64_t{spot.chain} << 44 | (spot.hash & ((std::uint64_t{1} << 36) - 1)) << 8;
  }
  [[nodiscard]] static std::uint32_t chain_of_position(std::uint64_t position) { return static_cast<std::uint32_t>(position >> 44); }
  // Of the record with that key, if there is one.
  [[nodiscard]] std::optional<std::uint64_t> position_of(const HeapSpot& spot, BytesView key) const;
  // Where a new record with that hash will stand, with the chain locked; `taken` are promised to others already.
  [[nodiscard]] Result<std::uint64_t> vacant_position(const HeapSpot& spot, std::bitset<256> taken) const;

  // --- commits; all chains locked.
  struct Change {
    std::uint64_t position = 0;
    HeapSpot spot;
    BytesView key;
    std::optional<BytesView> value;  // nullopt: remove
  };
  [[nodiscard]] Result<void> commit(bool empty_first, std::span<const Change> changes, const StopWaiting& stop);
  [[nodiscard]] bool commit_under_way() const { return file_.commit_under_way().load(std::memory_order_acquire) != 0; }
  // Finishes the commit of a dead process. The caller holds the anchor's writer mutex.
  void finish_commit();

  // Every word, block and count of every chain, with nobody writing. An empty text: all is sound.
  [[nodiscard]] std::string check(const std::function<HeapSpot(BytesView key)>& spot_of) const;

 private:
  struct Table;
  struct Found;
  struct Step;
  [[nodiscard]] Table* table_of(const HeapChain& chain) const;
  [[nodiscard]] Table& table_at(BlockRef ref) const;
  [[nodiscard]] bool is_void(const HeapChain& chain) const {
    return chain.contents.load(std::memory_order_acquire) != file_.contents().load(std::memory_order_acquire);
  }
  [[nodiscard]] Found find(const HeapChain& chain, const HeapSpot& spot, BytesView key) const;
  void prepare(HeapChain& chain);
  void recover(HeapChain& chain);
  void count_write(HeapChain& chain);
  [[nodiscard]] RedoSlot* claim_redo(std::uint32_t chain);
  void write_over(RedoSlot& slot);
  void finish_redo(std::uint32_t chain);
  [[nodiscard]] bool store_over(std::uint32_t chain, BlockRef ref, std::span<const BytesView> parts, std::size_t size);
  void sweep(HeapChain& chain);
  [[nodiscard]] Result<void> make_table_room(HeapChain& chain, std::uint32_t records, const StopWaiting& stop);
  [[nodiscard]] Result<BlockRef> take_block(HeapChain& chain, unsigned block_class, const StopWaiting& stop);
  void fill(BlockRef ref, std::uint64_t position, BytesView key, std::span<const BytesView> parts);
  void link(HeapChain& chain, const HeapSpot& spot, const Found& found, BlockRef ref);
  void unlink(HeapChain& chain, const Found& found);
  void retire(HeapChain& chain, BlockRef old);
  void take_steps(BlockRef steps);

  HeapFile& file_;
  const std::uint32_t chain_count_;
};

}  // namespace tdbmesh
