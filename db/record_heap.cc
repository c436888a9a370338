#include "db/record_heap.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "db/base/check.h"
#include "db/value_parts.h"

namespace tdbmesh {

namespace {

// A word of a table: 28 bits of the hash, then the block. 0: never used; 1: its record was removed.
constexpr std::uint64_t kRemoved = 1;
constexpr std::uint32_t kSmallestTable = 8;

// The word that names a chain's table: a tag that changes with each switch, 5 bits of its size (so that a look-up need
// not touch the table's head), then its block.
constexpr unsigned kSizeBits = 5;
std::uint32_t table_size(std::uint64_t table_word) {
  return kSmallestTable << ((table_word >> kRefBits) & ((1u << kSizeBits) - 1));
}
std::uint64_t next_table_word(std::uint64_t before, unsigned table_class, BlockRef ref) {
  const std::uint64_t tag = (before >> (kRefBits + kSizeBits)) + 1;
  return tag << (kRefBits + kSizeBits) | std::uint64_t{table_class - kFirstTableClass} << kRefBits | ref;
}

std::uint64_t tag_of(const HeapSpot& spot) { return (spot.hash >> 52) << 16 | ((spot.hash >> 24) & 0xffff); }
std::uint64_t word_of(const HeapSpot& spot, BlockRef ref) { return tag_of(spot) << kRefBits | ref; }

// The order of a kill is the order of the stores: release keeps the compiler and the processor to it.
template <class T>
void set(std::atomic<T>& word, T value) {
  word.store(value, std::memory_order_release);
}

// So many redo slots are tried; if all are taken the store uses another block.
constexpr unsigned kRedoTries = 2;
// A record keeps its block until it would fit into one of less than half the size.
constexpr std::uint64_t kLargestWaste = 2;

std::uint64_t redo_owner(std::uint32_t chain) { return (std::uint64_t{chain} + 1) << 1; }

// One look at a record that nobody promises to leave alone.
class Glance {
 public:
  Glance(const HeapFile& file, std::uint32_t chain, BlockRef ref)
      : block_(file.at(ref)), stamp_(block_.stamp.load(std::memory_order_acquire)) {
    key_size_ = block_.key_size;
    value_size_ = block_.value_size;
    value_ = block_.bytes() + key_size_;
    // Torn sizes must not lead out of the block.
    const unsigned block_class = class_of_stamp(stamp_);
    if (block_class >= kRecordClasses) return;
    const std::uint64_t size = class_size(block_class);
    if ((stamp_ & kStampWriting) != 0) {
      sound_ = sizeof(Block) + std::uint64_t{key_size_} <= size && find_redo(file, chain, ref);
    } else {
      sound_ = sizeof(Block) + std::uint64_t{key_size_} + value_size_ <= size;
    }
  }
  [[nodiscard]] bool sound() const { return sound_; }
  [[nodiscard]] BytesView key() const { return {block_.bytes(), key_size_}; }
  [[nodiscard]] BytesView value() const { return {value_, value_size_}; }
  [[nodiscard]] std::uint64_t position() const { return block_.position; }
  // Was everything seen since the beginning of one piece?
  [[nodiscard]] bool still_good() const {
    std::atomic_thread_fence(std::memory_order_acquire);
    // Of a record that is being written over, key and position stay as long as its store lasts.
    if (redo_ != nullptr) return sound_ && redo_->owner.load(std::memory_order_relaxed) == owner_;
    return sound_ && block_.stamp.load(std::memory_order_relaxed) == stamp_;
  }

 private:
  // False: no such store is under way (any more).
  bool find_redo(const HeapFile& file, std::uint32_t chain, BlockRef ref) {
    const std::uint64_t slot = file.entry(chain).redo.load(std::memory_order_acquire);
    if (slot == 0 || slot > kRedoSlots) return false;
    redo_ = &file.redo(static_cast<unsigned>(slot - 1));
    owner_ = redo_->owner.load(std::memory_order_acquire);
    const std::uint64_t size = redo_->value_size;
    if ((owner_ & kRedoOwnerMask) != (redo_owner(chain) | kRedoFilled) || redo_->block != ref || size > kRedoBytes) return false;
    value_ = redo_->bytes;
    value_size_ = static_cast<std::uint32_t>(size);
    return true;
  }

  const Block& block_;
  std::uint64_t stamp_;
  const char* value_;
  std::uint32_t key_size_;
  std::uint32_t value_size_;
  const RedoSlot* redo_ = nullptr;
  std::uint64_t owner_ = 0;
  bool sound_ = false;
};

}  // namespace

struct RecordHeap::Table {
  Block head;
  std::atomic<std::uint64_t> words[1];  // as many as its class says
  [[nodiscard]] std::uint32_t size() const {
    return kSmallestTable << (class_of_stamp(head.stamp.load(std::memory_order_relaxed)) - kFirstTableClass);
  }
};

struct RecordHeap::Found {
  std::atomic<std::uint64_t>* word = nullptr;   // of the record
  std::atomic<std::uint64_t>* vacant = nullptr;  // where it would go
  BlockRef ref = 0;
};

// One change of a commit.
struct RecordHeap::Step {
  std::uint64_t position;
  std::uint64_t hash;
  BlockRef block;  // 0: remove
};

RecordHeap::Table& RecordHeap::table_at(BlockRef ref) const { return reinterpret_cast<Table&>(file_.at(ref)); }

RecordHeap::Table* RecordHeap::table_of(const HeapChain& chain) const {
  const BlockRef ref = chain.table.load(std::memory_order_acquire) & kRefMask;
  return ref == 0 ? nullptr : &table_at(ref);
}

void RecordHeap::prefetch(const HeapSpot& spot) const {
  const HeapChain& chain = file_.chain(spot.chain);
  const std::uint64_t table_word = chain.table.load(std::memory_order_relaxed);
  if ((table_word & kRefMask) == 0) return;
  __builtin_prefetch(&table_at(table_word & kRefMask).words[spot.hash & (table_size(table_word) - 1)]);
}

// --- reading without a lock ---------------------------------------------------------------------------------

bool RecordHeap::read(const HeapSpot& spot, BytesView key, Bytes& into) const {
  const HeapChain& chain = file_.chain(spot.chain);
  const std::uint64_t tag = tag_of(spot);
  for (;;) {
    const std::uint64_t table_word = chain.table.load(std::memory_order_acquire);
    if ((table_word & kRefMask) == 0 || is_void(chain)) return false;
    Table& table = table_at(table_word & kRefMask);
    const std::uint32_t mask = table_size(table_word) - 1;
    bool again = false;
    std::uint32_t i = static_cast<std::uint32_t>(spot.hash) & mask;
    for (std::uint32_t probes = 0; probes <= mask; ++probes, i = (i + 1) & mask) {
      const std::uint64_t word = table.words[i].load(std::memory_order_acquire);
      if (word == 0) break;
      if (word == kRemoved || word >> kRefBits != tag) continue;
      const Glance glance(file_, spot.chain, word & kRefMask);
      // Still linked after the stamp was read: what follows is this record as long as the stamp stays.
      again = !glance.sound() || table.words[i].load(std::memory_order_acquire) != word;
      if (again) break;
      if (!same_key(glance.key(), key)) {
        again = !glance.still_good();
        if (again) break;
        continue;
      }
      into.assign(glance.value());
      if (glance.still_good()) return true;
      again = true;
      break;
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!again && chain.table.load(std::memory_order_relaxed) == table_word) return false;
  }
}

void RecordHeap::scan_chain(std::uint32_t index, std::uint64_t from, std::vector<Item>& out,
                            const std::function<bool(const Item&)>& enough) const {
  const HeapChain& chain = file_.chain(index);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> order;  // position, word
  // The position of the record that a word names; nullopt: none.
  const auto position_at = [&](Table& table, std::uint64_t table_word, std::uint32_t i) -> std::optional<std::uint64_t> {
    for (;;) {
      // A table that was replaced may be somebody else's by now, and its words may name anything.
      if (chain.table.load(std::memory_order_acquire) != table_word) return std::nullopt;
      const std::uint64_t word = table.words[i].load(std::memory_order_acquire);
      if (word <= kRemoved) return std::nullopt;
      const Glance glance(file_, index, word & kRefMask);
      if (!glance.sound() || table.words[i].load(std::memory_order_acquire) != word) continue;
      const std::uint64_t position = glance.position();
      if (glance.still_good()) return position;
    }
  };
  for (;;) {
    const std::uint64_t table_word = chain.table.load(std::memory_order_acquire);
    if ((table_word & kRefMask) == 0 || is_void(chain)) return;
    Table& table = table_at(table_word & kRefMask);
    const std::uint32_t size = table_size(table_word);
    const std::uint64_t writes = writes_of(index);
    order.clear();
    for (std::uint32_t i = 0; i < size; ++i) {
      const auto position = position_at(table, table_word, i);
      if (position && *position >= from) order.emplace_back(*position, i);
    }
    std::sort(order.begin(), order.end());
    bool moved = false;
    for (const auto& [position, i] : order) {
      Item item;
      bool there = false;
      for (;;) {
        const std::uint64_t word = table.words[i].load(std::memory_order_acquire);
        if (word <= kRemoved || chain.table.load(std::memory_order_acquire) != table_word) break;
        const Glance glance(file_, index, word & kRefMask);
        if (!glance.sound() || table.words[i].load(std::memory_order_acquire) != word) continue;
        item.position = glance.position();
        item.key.assign(glance.key());
        item.value.assign(glance.value());
        if (!glance.still_good()) continue;
        there = item.position == position;
        break;
      }
      std::atomic_thread_fence(std::memory_order_acquire);
      moved = chain.table.load(std::memory_order_relaxed) != table_word || is_void(chain);
      if (moved) break;
      from = position + 1;
      if (!there) continue;
      item.stamp = writes;
      out.push_back(std::move(item));
      if (enough(out.back())) return;
    }
    if (!moved && chain.table.load(std::memory_order_acquire) == table_word) return;
  }
}

std::uint64_t RecordHeap::live(std::uint32_t index) const {
  const HeapChain& chain = file_.chain(index);
  return is_void(chain) ? 0 : chain.live.load(std::memory_order_relaxed);
}

// --- with the chain locked ----------------------------------------------------------------------------------

RecordHeap::Found RecordHeap::find(const HeapChain& chain, const HeapSpot& spot, BytesView key) const {
  Found found;
  const std::uint64_t table_word = chain.table.load(std::memory_order_relaxed);
  if ((table_word & kRefMask) == 0) return found;
  Table* table = &table_at(table_word & kRefMask);
  const std::uint32_t mask = table_size(table_word) - 1;
  const std::uint64_t tag = tag_of(spot);
  std::uint32_t i = static_cast<std::uint32_t>(spot.hash) & mask;
  for (std::uint32_t probes = 0; probes <= mask; ++probes, i = (i + 1) & mask) {
    std::atomic<std::uint64_t>& word = table->words[i];
    const std::uint64_t value = word.load(std::memory_order_relaxed);
    if (value == 0 || value == kRemoved) {
      if (found.vacant == nullptr) found.vacant = &word;
      if (value == 0) break;
      continue;
    }
    if (value >> kRefBits != tag) continue;
    const Block& block = file_.at(value & kRefMask);
    if (same_key({block.bytes(), block.key_size}, key)) {
      found.word = &word;
      found.ref = value & kRefMask;
      break;
    }
  }
  return found;
}

std::optional<BytesView> RecordHeap::look(const HeapSpot& spot, BytesView key) {
  HeapChain& chain = file_.chain(spot.chain);
  prepare(chain);
  const Found found = find(chain, spot, key);
  if (found.word == nullptr) return std::nullopt;
  const Block& block = file_.at(found.ref);
  return BytesView(block.bytes() + block.key_size, block.value_size);
}

std::optional<std::uint64_t> RecordHeap::position_of(const HeapSpot& spot, BytesView key) const {
  std::vector<Item> items;
  std::optional<std::uint64_t> position;
  const std::uint64_t last = first_position(spot) | 0xff;
  scan_chain(spot.chain, first_position(spot), items, [&](const Item& item) {
    if (item.position <= last && item.key == key) position = item.position;
    return position || item.position >= last;
  });
  return position;
}

Result<std::uint64_t> RecordHeap::vacant_position(const HeapSpot& spot, std::bitset<256> taken) const {
  const HeapChain& chain = file_.chain(spot.chain);
  const Table* table = is_void(chain) ? nullptr : table_of(chain);
  const std::uint32_t mask = table == nullptr ? 0 : table->size() - 1;
  std::uint32_t i = static_cast<std::uint32_t>(spot.hash) & mask;
  for (std::uint32_t probes = 0; table != nullptr && probes <= mask; ++probes, i = (i + 1) & mask) {
    const std::uint64_t word = table->words[i].load(std::memory_order_relaxed);
    if (word == 0) break;
    if (word == kRemoved) continue;
    // The part of the tag that stands in the position, too, tells nearly all apart without a look at the block.
    if (((word >> kRefBits) & 0xfff) != (tag_of(spot) & 0xfff)) continue;
    const std::uint64_t position = file_.at(word & kRefMask).position;
    if ((position & ~std::uint64_t{0xff}) == first_position(spot)) taken[position & 0xff] = true;
  }
  for (std::size_t n = 0; n < taken.size(); ++n) {
    if (!taken[n]) return first_position(spot) | n;
  }
  return failure(Fault::StoreFull, "too many keys with one hash");
}

void RecordHeap::count_write(HeapChain& chain) {
  std::atomic<std::uint64_t>& writes = file_.entry(file_.index_of(chain)).writes;
  set(writes, writes.load(std::memory_order_relaxed) + 1);
}

// What a killed writer left half done is put away, and the counts are taken anew.
void RecordHeap::recover(HeapChain& chain) {
  Table* table = table_of(chain);
  const auto linked = [&](BlockRef ref) {
    for (std::uint32_t i = 0; table != nullptr && i < table->size(); ++i) {
      const std::uint64_t word = table->words[i].load(std::memory_order_relaxed);
      if (word > kRemoved && (word & kRefMask) == ref) return true;
    }
    return false;
  };
  for (std::atomic<BlockRef>* hand : {&chain.incoming, &chain.outgoing}) {
    const BlockRef ref = hand->load();
    if (ref == 0) continue;
    const bool free = !linked(ref);
    set(*hand, BlockRef{0});  // first, as in retire()
    if (free) {
      // Killed while writing it: even again, as every block that is linked later must be.
      Block& block = file_.at(ref);
      const std::uint64_t stamp = block.stamp.load();
      if ((stamp & kStampWriting) != 0) block.stamp.store(stamp + kStampWriting);
      file_.release(ref);
    }
  }
  if (const BlockRef ref = chain.moving.load(); ref != 0) {
    const bool free = ref != (chain.table.load() & kRefMask);
    set(chain.moving, BlockRef{0});
    if (free) file_.release(ref);
  }
  std::uint32_t live = 0;
  std::uint32_t used = 0;
  for (std::uint32_t i = 0; table != nullptr && i < table->size(); ++i) {
    const std::uint64_t word = table->words[i].load(std::memory_order_relaxed);
    used += word != 0 ? 1 : 0;
    live += word > kRemoved ? 1 : 0;
  }
  set(chain.live, live);
  set(chain.used, used);
}

// Frees the records of earlier contents. Readers see the chain as void until its last line.
void RecordHeap::sweep(HeapChain& chain) {
  const std::uint64_t contents = file_.contents().load();
  Table* table = table_of(chain);
  for (std::uint32_t i = 0; table != nullptr && i < table->size(); ++i) {
    const std::uint64_t word = table->words[i].load(std::memory_order_relaxed);
    if (word == 0) continue;
    set(table->words[i], std::uint64_t{0});
    if (word != kRemoved) file_.release(word & kRefMask);
  }
  set(chain.live, 0u);
  set(chain.used, 0u);
  count_write(chain);
  set(chain.contents, contents);
}

// A slot for the store of this chain; null: those that were tried are taken, by stores under way or by dead ones whose chain
// nobody has written since.
RedoSlot* RecordHeap::claim_redo(std::uint32_t chain) {
  ChainEntry& entry = file_.entry(chain);
  const unsigned first = this_processor();
  for (unsigned n = 0; n < kRedoTries; ++n) {
    const unsigned at = (first + n) % kRedoSlots;
    RedoSlot& slot = file_.redo(at);
    std::uint64_t seen = slot.owner.load(std::memory_order_relaxed);
    if ((seen & kRedoOwnerMask) != 0) continue;
    // The chain names the slot before it has it: no slot ever belongs to a chain that does not know.
    set(entry.redo, std::uint64_t{at} + 1);
    if (slot.owner.compare_exchange_strong(seen, seen + kRedoNumber + redo_owner(chain))) return &slot;
  }
  set(entry.redo, std::uint64_t{0});
  return nullptr;
}

// The slot is filled. May have been begun before, by a process that is dead.
void RecordHeap::write_over(RedoSlot& slot) {
  Block& block = file_.at(slot.block);
  const std::uint64_t odd = block.stamp.load(std::memory_order_relaxed) | kStampWriting;
  block.stamp.store(odd, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
  block.value_size = static_cast<std::uint32_t>(slot.value_size);
  if (slot.value_size > 0) std::memcpy(block.bytes() + block.key_size, slot.bytes, slot.value_size);
  block.stamp.store(odd + kStampWriting, std::memory_order_release);
}

void RecordHeap::finish_redo(std::uint32_t chain) {
  ChainEntry& entry = file_.entry(chain);
  const std::uint64_t named = entry.redo.load(std::memory_order_relaxed);
  if (named > 0 && named <= kRedoSlots) {
    RedoSlot& slot = file_.redo(static_cast<unsigned>(named - 1));
    const std::uint64_t owner = slot.owner.load(std::memory_order_acquire);
    if ((owner & kRedoOwnerMask & ~kRedoFilled) == redo_owner(chain)) {
      const bool filled = (owner & kRedoFilled) != 0;
      if (filled && (file_.at(slot.block).stamp.load(std::memory_order_relaxed) & kStampWriting) != 0) write_over(slot);
      count_write(file_.chain(chain));
      set(slot.owner, owner & ~kRedoOwnerMask);
    }
  }
  set(entry.redo, std::uint64_t{0});
}

// False: nothing was done, there is no slot.
bool RecordHeap::store_over(std::uint32_t chain, BlockRef ref, std::span<const BytesView> parts, std::size_t size) {
  RedoSlot* slot = claim_redo(chain);
  if (slot == nullptr) return false;
  // Counted before and after, so that nobody can miss it, wherever the writer is killed.
  count_write(file_.chain(chain));
  slot->block = ref;
  slot->value_size = size;
  copy_parts(parts, slot->bytes);
  const std::uint64_t owner = slot->owner.load(std::memory_order_relaxed);
  set(slot->owner, owner | kRedoFilled);
  write_over(*slot);
  count_write(file_.chain(chain));
  set(slot->owner, owner & ~kRedoOwnerMask);
  set(file_.entry(chain).redo, std::uint64_t{0});
  return true;
}

void RecordHeap::prepare(HeapChain& chain) {
  const std::uint32_t index = file_.index_of(chain);
  if (file_.entry(index).redo.load(std::memory_order_relaxed) != 0) finish_redo(index);
  if ((chain.incoming.load(std::memory_order_relaxed) | chain.outgoing.load(std::memory_order_relaxed) |
       chain.moving.load(std::memory_order_relaxed)) != 0) {
    recover(chain);
  }
  if (is_void(chain)) sweep(chain);
}

// Room for so many more records, in a table that is never more than three quarters full.
Result<void> RecordHeap::make_table_room(HeapChain& chain, std::uint32_t records, const StopWaiting& stop) {
  Table* old = table_of(chain);
  const std::uint64_t old_size = old == nullptr ? 0 : table_size(chain.table.load(std::memory_order_relaxed));
  if ((chain.used.load(std::memory_order_relaxed) + records) * std::uint64_t{4} <= old_size * 3) return {};
  const std::uint64_t wanted = (chain.live.load(std::memory_order_relaxed) + std::uint64_t{records}) * 2;
  const std::uint64_t size = std::bit_ceil(std::max<std::uint64_t>(wanted, kSmallestTable));
  const auto table_class = kFirstTableClass + static_cast<unsigned>(std::countr_zero(size / kSmallestTable));
  if (table_class >= kFirstTableClass + kTableClasses) return failure(Fault::StoreFull, "too many records on one chain");
  const auto ref = file_.allocate(table_class, stop);
  if (!ref) return tl::unexpected(ref.error());
  set(chain.moving, *ref);
  Table& table = table_at(*ref);
  table.head.stamp.store(table_class, std::memory_order_relaxed);
  const std::uint32_t mask = static_cast<std::uint32_t>(size) - 1;
  for (std::uint32_t i = 0; i <= mask; ++i) table.words[i].store(0, std::memory_order_relaxed);
  std::uint32_t moved = 0;
  for (std::uint32_t i = 0; old != nullptr && i < old_size; ++i) {
    const std::uint64_t word = old->words[i].load(std::memory_order_relaxed);
    if (word <= kRemoved) continue;
    // The low bits of the hash stand in the position.
    std::uint32_t to = static_cast<std::uint32_t>(file_.at(word & kRefMask).position >> 8) & mask;
    while (table.words[to].load(std::memory_order_relaxed) != 0) to = (to + 1) & mask;
    table.words[to].store(word, std::memory_order_relaxed);
    ++moved;
  }
  const std::uint64_t before = chain.table.load(std::memory_order_relaxed);
  set(chain.table, next_table_word(before, table_class, *ref));
  set(chain.used, moved);
  set(chain.moving, BlockRef{0});
  if ((before & kRefMask) != 0) file_.release(before & kRefMask);
  return {};
}

Result<BlockRef> RecordHeap::take_block(HeapChain& chain, unsigned block_class, const StopWaiting& stop) {
  auto ref = file_.allocate(block_class, stop);
  if (ref) set(chain.incoming, *ref);
  return ref;
}

void RecordHeap::fill(BlockRef ref, std::uint64_t position, BytesView key, std::span<const BytesView> parts) {
  Block& block = file_.at(ref);
  const std::uint64_t stamp = block.stamp.load(std::memory_order_relaxed);
  block.stamp.store(stamp + kStampWriting, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  block.position = position;
  block.key_size = static_cast<std::uint32_t>(key.size());
  block.value_size = static_cast<std::uint32_t>(total_size(parts));
  if (!key.empty()) std::memcpy(block.bytes(), key.data(), key.size());
  copy_parts(parts, block.bytes() + key.size());
  block.stamp.store(stamp + 2 * kStampWriting, std::memory_order_release);
}

// `old` is unlinked; `outgoing` names it. Ends the change.
void RecordHeap::retire(HeapChain& chain, BlockRef old) {
  count_write(chain);
  set(chain.incoming, BlockRef{0});
  if (old == 0) return;
  set(chain.outgoing, BlockRef{0});  // first: a block that is lost is better than one that is freed twice
  file_.release(old);
}

// `incoming` names `ref` already.
void RecordHeap::link(HeapChain& chain, const HeapSpot& spot, const Found& found, BlockRef ref) {
  if (found.word != nullptr) {
    set(chain.outgoing, found.ref);
    set(*found.word, word_of(spot, ref));
    return retire(chain, found.ref);
  }
  const bool fresh = found.vacant->load(std::memory_order_relaxed) == 0;
  set(*found.vacant, word_of(spot, ref));
  set(chain.live, chain.live.load(std::memory_order_relaxed) + 1);
  if (fresh) set(chain.used, chain.used.load(std::memory_order_relaxed) + 1);
  retire(chain, 0);
}

void RecordHeap::unlink(HeapChain& chain, const Found& found) {
  Table& table = *table_of(chain);
  const std::uint32_t mask = table.size() - 1;
  set(chain.outgoing, found.ref);
  // At the end of a run of words nothing has to be marked, and marks before it can go.
  auto i = static_cast<std::uint32_t>(found.word - table.words);
  if (table.words[(i + 1) & mask].load(std::memory_order_relaxed) != 0) {
    set(*found.word, kRemoved);
  } else {
    std::uint32_t cleared = 0;
    do {
      set(table.words[i], std::uint64_t{0});
      ++cleared;
      i = (i - 1) & mask;
    } while (table.words[i].load(std::memory_order_relaxed) == kRemoved);
    set(chain.used, chain.used.load(std::memory_order_relaxed) - cleared);
  }
  set(chain.live, chain.live.load(std::memory_order_relaxed) - 1);
  retire(chain, found.ref);
}

Result<RecordHeap::Stored> RecordHeap::store(const HeapSpot& spot, BytesView key, std::span<const BytesView> parts, Mode mode,
                                             const StopWaiting& stop) {
  HeapChain& chain = file_.chain(spot.chain);
  prepare(chain);
  Found found = find(chain, spot, key);
  if (mode == Mode::Insert && found.word != nullptr) return Stored::Exists;
  if (mode == Mode::Modify && found.word == nullptr) return Stored::Missing;
  const std::size_t size = total_size(parts);
  std::uint64_t position = 0;
  if (found.word != nullptr) {
    const Block& block = file_.at(found.ref);
    if (same_value({block.bytes() + block.key_size, block.value_size}, parts)) return Stored::Unchanged;
    const std::uint64_t has = class_size(class_of_stamp(block.stamp.load(std::memory_order_relaxed)));
    const std::uint64_t needs = sizeof(Block) + key.size() + size;
    if (needs <= has && size <= kRedoBytes && class_size(record_class(needs)) * kLargestWaste >= has &&
        store_over(spot.chain, found.ref, parts, size)) {
      return Stored::Written;
    }
    position = block.position;
  } else {
    if (auto room = make_table_room(chain, 1, stop); !room) return tl::unexpected(room.error());
    found = find(chain, spot, key);
    const auto vacant = vacant_position(spot, {});
    if (!vacant) return tl::unexpected(vacant.error());
    position = *vacant;
  }
  const auto ref = take_block(chain, record_class(sizeof(Block) + key.size() + size), stop);
  if (!ref) return tl::unexpected(ref.error());
  fill(*ref, position, key, parts);
  link(chain, spot, found, *ref);
  return Stored::Written;
}

bool RecordHeap::erase(const HeapSpot& spot, BytesView key) {
  HeapChain& chain = file_.chain(spot.chain);
  prepare(chain);
  const Found found = find(chain, spot, key);
  if (found.word == nullptr) return false;
  unlink(chain, found);
  return true;
}

// --- commits ------------------------------------------------------------------------------------------------

// A block of steps holds in front which contents they belong to.
Result<void> RecordHeap::commit(bool empty_first, std::span<const Change> changes, const StopWaiting& stop) {
  // Everything that can fail comes first; what was taken is given back then.
  std::vector<Step> steps;
  steps.reserve(changes.size());
  const auto give_up = [&](const Error& error) -> Result<void> {
    for (const Step& step : steps) {
      if (step.block != 0) file_.release(step.block);
    }
    return tl::unexpected(error);
  };
  std::unordered_map<std::uint32_t, std::uint32_t> arriving;
  for (const Change& change : changes) {
    BlockRef ref = 0;
    if (change.value) {
      const auto got = file_.allocate(record_class(sizeof(Block) + change.key.size() + change.value->size()), stop);
      if (!got) return give_up(got.error());
      ref = *got;
      const BytesView value = *change.value;
      fill(ref, change.position, change.key, std::span(&value, 1));
      ++arriving[change.spot.chain];
    }
    steps.push_back({change.position, change.spot.hash, ref});
  }
  for (const auto& [chain, records] : arriving) {
    prepare(file_.chain(chain));
    if (auto room = make_table_room(file_.chain(chain), records, stop); !room) return give_up(room.error());
  }
  const std::uint64_t contents = file_.contents().load() + (empty_first ? 1 : 0);
  const std::size_t bytes = sizeof(contents) + steps.size() * sizeof(Step);
  if (sizeof(Block) + bytes > class_size(kRecordClasses - 1)) return give_up({Fault::StoreFull, "the transaction has too many records"});
  const auto list = file_.allocate(record_class(sizeof(Block) + bytes), stop);
  if (!list) return give_up(list.error());
  const BytesView parts[] = {{reinterpret_cast<const char*>(&contents), sizeof(contents)},
                             {reinterpret_cast<const char*>(steps.data()), steps.size() * sizeof(Step)}};
  fill(*list, 0, {}, parts);
  set(file_.commit_under_way(), *list);
  take_steps(*list);
  set(file_.commit_under_way(), BlockRef{0});
  file_.release(*list);
  return {};
}

void RecordHeap::finish_commit() {
  const BlockRef list = file_.commit_under_way().load();
  if (list == 0) return;
  take_steps(list);
  set(file_.commit_under_way(), BlockRef{0});
  file_.release(list);
}

// May have been begun before, by a process that is dead.
void RecordHeap::take_steps(BlockRef list) {
  const char* at = file_.at(list).bytes();
  std::uint64_t contents = 0;
  std::memcpy(&contents, at, sizeof(contents));
  at += sizeof(contents);
  if (file_.contents().load() < contents) file_.contents().store(contents);
  const std::size_t count = (file_.at(list).value_size - sizeof(contents)) / sizeof(Step);
  for (std::size_t n = 0; n < count; ++n, at += sizeof(Step)) {
    Step step{};
    std::memcpy(&step, at, sizeof(step));
    HeapChain& chain = file_.chain(chain_of_position(step.position));
    prepare(chain);
    Table* table = table_of(chain);
    if (table == nullptr) continue;  // nothing to remove; whoever links has made a table
    const std::uint32_t mask = table->size() - 1;
    Found found;
    std::uint32_t i = static_cast<std::uint32_t>(step.position >> 8) & mask;
    for (std::uint32_t probes = 0; probes <= mask; ++probes, i = (i + 1) & mask) {
      const std::uint64_t word = table->words[i].load(std::memory_order_relaxed);
      if (word <= kRemoved) {
        if (found.vacant == nullptr) found.vacant = &table->words[i];
        if (word == 0) break;
      } else if (file_.at(word & kRefMask).position == step.position) {
        found.word = &table->words[i];
        found.ref = word & kRefMask;
        break;
      }
    }
    if (step.block == 0) {
      if (found.word != nullptr) unlink(chain, found);
      continue;
    }
    if (found.ref == step.block) continue;
    link(chain, HeapSpot{chain_of_position(step.position), step.hash}, found, step.block);
  }
}

std::string RecordHeap::check(const std::function<HeapSpot(BytesView key)>& spot_of) const {
  const auto bad = [](std::uint32_t chain, std::uint64_t word, const char* what) {
    return fmt::format("chain {}, word {:#x}: {}", chain, word, what);
  };
  const auto in_file = [this](BlockRef ref) { return ref * kBlockUnit >= file_.first_block() && ref * kBlockUnit + sizeof(Block) <= file_.top(); };
  std::unordered_set<BlockRef> seen;
  for (std::uint32_t n = 0; n < chain_count_; ++n) {
    const HeapChain& chain = file_.chain(n);
    const BlockRef table_ref = chain.table.load() & kRefMask;
    if (is_void(chain) || table_ref == 0) continue;
    if (!in_file(table_ref) || !seen.insert(table_ref).second) return bad(n, table_ref, "its table is not in the file, or another's");
    const unsigned table_class = class_of_stamp(file_.at(table_ref).stamp.load());
    if (table_class < kFirstTableClass || table_class >= kFirstTableClass + kTableClasses) return bad(n, table_ref, "its table is none");
    const Table& table = table_at(table_ref);
    if (table.size() != table_size(chain.table.load())) return bad(n, table_ref, "its table has another size");
    if (table_ref * kBlockUnit + class_size(table_class) > file_.top()) return bad(n, table_ref, "its table is cut off");
    std::uint32_t live = 0;
    std::uint32_t used = 0;
    std::unordered_set<std::uint64_t> positions;
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      const std::uint64_t word = table.words[i].load();
      used += word != 0 ? 1 : 0;
      if (word <= kRemoved) continue;
      ++live;
      const BlockRef ref = word & kRefMask;
      if (!in_file(ref) || !seen.insert(ref).second) return bad(n, word, "the block is not in the file, or named twice");
      const Block& block = file_.at(ref);
      const Glance glance(file_, n, ref);
      if (!glance.sound() || ref * kBlockUnit + class_size(class_of_stamp(block.stamp.load())) > file_.top()) return bad(n, word, "lengths are wrong");
      const HeapSpot spot = spot_of(glance.key());
      if (spot.chain != n || word >> kRefBits != tag_of(spot) || (block.position & ~std::uint64_t{0xff}) != first_position(spot)) {
        return bad(n, word, "the key does not belong there");
      }
      if (!positions.insert(block.position).second) return bad(n, word, "two records on one position");
      const Found found = find(chain, spot, glance.key());
      if (found.word != &table.words[i]) return bad(n, word, "its key leads elsewhere");
    }
    const bool half_done = (chain.incoming.load() | chain.outgoing.load() | chain.moving.load()) != 0;
    if (!half_done && (live != chain.live.load() || used != chain.used.load())) return bad(n, live, "the number of records is wrong");
  }
  for (unsigned n = 0; n < kRedoSlots; ++n) {
    const std::uint64_t chain = (file_.redo(n).owner.load() & kRedoOwnerMask) >> 1;
    if (chain > chain_count_ || (chain > 0 && file_.entry(static_cast<std::uint32_t>(chain - 1)).redo.load() != n + 1)) {
      return fmt::format("redo slot {}: its chain does not know", n);
    }
  }
  // Nothing that is free may be in use, and no block may be free twice.
  return file_.check_free([&seen](BlockRef ref) { return seen.insert(ref).second; });
}

}  // namespace tdbmesh
