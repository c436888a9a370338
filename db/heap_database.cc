#include "db/heap_database.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "db/base/check.h"
#include "db/key_hash.h"

namespace tdbmesh {

namespace {
constexpr std::chrono::milliseconds kLoopWait{500};
constexpr std::size_t kLargestKept = 1 << 20;    // a buffer beyond this is not worth keeping
constexpr std::size_t kKeysToRemember = 256;  // bytes
}

// The chain of a write, held while it lasts.
class HeapDatabase::Holding {
 public:
  Holding(HeapDatabase& db, std::uint32_t chain) : locks_(db.locks_), chain_(chain) {
    if (locks_.holds(chain)) return;
    result_ = locks_.lock(chain, db.patience());
    taken_ = result_.has_value();
  }
  ~Holding() {
    if (taken_) (void)locks_.unlock(chain_);
  }
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;
  [[nodiscard]] const Result<void>& result() const { return result_; }

 private:
  ChainLocks& locks_;
  std::uint32_t chain_;
  bool taken_ = false;
  Result<void> result_;
};

Result<std::unique_ptr<HeapDatabase>> HeapDatabase::open(const Anchor& anchor, ChainLocks& locks, bool loop, bool read_only) {
  auto file = HeapFile::open(anchor, read_only);
  if (!file) return tl::unexpected(file.error());
  return std::unique_ptr<HeapDatabase>(new HeapDatabase(anchor, locks, loop, std::move(*file)));
}

HeapSpot HeapDatabase::spot_of(BytesView key) const {
  if (hashed_spot_ && same_key(hashed_key_, key)) return *hashed_spot_;
  const std::uint64_t hash = key_fold(key, anchor_.settings().hash_seed);
  const HeapSpot spot{chain_of_hash(hash, anchor_.chain_count()), hash & anchor_.settings().hash_mask};
  if (key.size() <= kKeysToRemember) {
    hashed_key_.assign(key);
    hashed_spot_ = spot;
  }
  // A key that is heard of for the first time will be locked, read and stored: let memory begin to bring what that takes.
  __builtin_prefetch(&anchor_.chain(spot.chain), 1);
  heap_.prefetch(spot);
  return spot;
}

StopWaiting HeapDatabase::patience() const {
  if (!loop_) return {};
  return [until = std::chrono::steady_clock::now() + kLoopWait] { return std::chrono::steady_clock::now() >= until; };
}

Result<void> HeapDatabase::replaced() const { return failure(Fault::Refused, anchor_.path() + " was replaced: open it again"); }

Result<void> HeapDatabase::refusal() const {
  if (file_->read_only()) return failure(Fault::Refused, anchor_.path() + " was opened for reading only");
  if (anchor_.retired()) return replaced();
  return failure(Fault::Refused, anchor_.path() + ": emptied while the record was locked");
}

Result<void> HeapDatabase::settle_commit() {
  while (heap_.commit_under_way()) {
    if (file_->read_only()) return {};
    pthread_mutex_t& writer = anchor_.shared().writer_mutex;
    if (!lock_shared_mutex(writer, patience())) return failure(Fault::Busy, anchor_.path() + ": another process is writing");
    heap_.finish_commit();
    unlock_shared_mutex(writer);
  }
  return {};
}

// --- single records -----------------------------------------------------------------------------------------

Result<bool> HeapDatabase::visit(BytesView key, void (*use)(void*, BytesView), void* argument) {
  if (const HeapSpot spot = spot_of(key); !transaction_ && !file_->read_only() && locks_.holds(spot.chain) && !heap_.commit_under_way()) {
    if (auto may = usable(); !may) return tl::unexpected(may.error());
    const auto value = heap_.look(spot, key);
    if (value) use(argument, *value);
    return value.has_value();
  }
  Bytes buffer = std::move(buffer_);  // a nested visit finds none and makes its own
  auto found = read(key, buffer);
  if (found && *found) use(argument, buffer);
  if (buffer.capacity() <= kLargestKept) buffer_ = std::move(buffer);
  return found;
}

Result<bool> HeapDatabase::read(BytesView key, Bytes& into) {
  if (auto may = usable(); !may) return tl::unexpected(may.error());
  const HeapSpot spot = spot_of(key);
  if (transaction_) {
    const auto change = change_of(spot, key, false);
    if (!change) return tl::unexpected(change.error());
    if (*change != nullptr) {
      if (!(*change)->value) return false;
      into = *(*change)->value;
      return true;
    }
    return !transaction_->emptied && heap_.read(spot, key, into);
  }
  for (;;) {
    const bool found = heap_.read(spot, key, into);
    if (!heap_.commit_under_way() || file_->read_only()) return found;
    if (auto settled = await_commit(); !settled) return tl::unexpected(settled.error());
  }
}

Result<std::optional<Bytes>> HeapDatabase::committed(const HeapSpot& spot, BytesView key) {
  Bytes value;
  if (transaction_->emptied || !heap_.read(spot, key, value)) return std::nullopt;
  return value;
}

Result<void> HeapDatabase::store(BytesView key, std::span<const BytesView> parts, RecordHeap::Mode mode) {
  const HeapSpot spot = spot_of(key);
  if (transaction_) {
    if (auto may = allowed(spot.chain); !may) return may;
    auto change = change_of(spot, key, false);
    if (!change) return tl::unexpected(change.error());
    std::optional<Bytes> now;
    if (*change != nullptr) {
      now = (*change)->value;
    } else if (auto there = committed(spot, key)) {
      now = std::move(*there);
    }
    if (mode == RecordHeap::Mode::Insert && now) return failure(Fault::Exists, anchor_.path() + ": there is such a record");
    if (mode == RecordHeap::Mode::Modify && !now) return failure(Fault::NotFound, anchor_.path() + ": no such record");
    Bytes value;
    for (const BytesView part : parts) value.append(part);
    if (now == value) return {};
    change = change_of(spot, key, true);
    if (!change) return tl::unexpected(change.error());
    (*change)->value = std::move(value);
    return {};
  }
  const Holding holding(*this, spot.chain);
  if (!holding.result()) return holding.result();
  if (auto settled = await_commit(); !settled) return settled;
  if (auto may = allowed(spot.chain); !may) return may;
  const auto stored = heap_.store(spot, key, parts, mode, patience());
  if (!stored) return failure(stored.error().fault, anchor_.path() + ": " + stored.error().context);
  if (*stored == RecordHeap::Stored::Exists) return failure(Fault::Exists, anchor_.path() + ": there is such a record");
  if (*stored == RecordHeap::Stored::Missing) return failure(Fault::NotFound, anchor_.path() + ": no such record");
  return {};
}

Result<bool> HeapDatabase::erase(BytesView key) {
  const HeapSpot spot = spot_of(key);
  if (transaction_) {
    if (auto may = allowed(spot.chain); !may) return tl::unexpected(may.error());
    auto change = change_of(spot, key, false);
    if (!change) return tl::unexpected(change.error());
    if (*change != nullptr) return std::exchange((*change)->value, std::nullopt).has_value();
    const auto there = committed(spot, key);
    if (!there) return tl::unexpected(there.error());
    if (!*there) return false;
    change = change_of(spot, key, true);
    if (!change) return tl::unexpected(change.error());
    (*change)->value.reset();
    return true;
  }
  const Holding holding(*this, spot.chain);
  if (!holding.result()) return tl::unexpected(holding.result().error());
  if (auto settled = await_commit(); !settled) return tl::unexpected(settled.error());
  if (auto may = allowed(spot.chain); !may) return tl::unexpected(may.error());
  return heap_.erase(spot, key);
}

Result<void> HeapDatabase::wipe() {
  if (file_->read_only()) return failure(Fault::Refused, anchor_.path() + " was opened for reading only");
  if (auto may = usable(); !may) return may;
  if (transaction_) {
    transaction_->emptied = true;
    transaction_->changes.clear();
    return {};
  }
  if (auto settled = await_commit(); !settled) return settled;
  heap_.empty();
  return {};
}

// --- all records --------------------------------------------------------------------------------------------

Result<std::vector<RecordHeap::Item>> HeapDatabase::scan(std::uint64_t from, std::size_t most, std::size_t most_bytes, bool& done) {
  if (auto may = usable(); !may) return tl::unexpected(may.error());
  if (!transaction_) {
    if (auto settled = await_commit(); !settled) return tl::unexpected(settled.error());
  }
  std::vector<RecordHeap::Item> items;
  std::size_t bytes = 0;
  const auto is_full = [&](std::size_t count) { return count >= most || (count > 0 && bytes >= most_bytes); };
  done = false;
  for (std::uint32_t chain = RecordHeap::chain_of_position(from); chain < anchor_.chain_count(); ++chain) {
    const std::uint64_t begin = std::max(from, std::uint64_t{chain} << 44);
    if (!transaction_) {
      heap_.scan_chain(chain, begin, items, [&](const RecordHeap::Item& item) {
        bytes += item.key.size() + item.value.size();
        return is_full(items.size());
      });
    } else {
      // Of this chain what the transaction left, and what it brought.
      std::vector<RecordHeap::Item> here;
      if (!transaction_->emptied) heap_.scan_chain(chain, begin, here, [](const auto&) { return false; });
      const auto& changes = transaction_->changes;
      std::erase_if(here, [&](const auto& item) { return changes.contains(item.position); });
      for (auto at = changes.lower_bound(begin); at != changes.end() && RecordHeap::chain_of_position(at->first) == chain; ++at) {
        if (at->second.value) here.push_back({at->first, at->second.key, *at->second.value, 0});
      }
      std::sort(here.begin(), here.end(), [](const auto& a, const auto& b) { return a.position < b.position; });
      for (auto& item : here) {
        if (is_full(items.size())) return items;
        bytes += item.key.size() + item.value.size();
        items.push_back(std::move(item));
      }
    }
    if (is_full(items.size())) return items;
  }
  done = true;
  return items;
}

Result<std::optional<Bytes>> HeapDatabase::next_key(std::optional<BytesView> after) {
  std::uint64_t from = 0;
  if (after) {
    const HeapSpot spot = spot_of(*after);
    from = RecordHeap::first_position(spot);
    std::optional<std::uint64_t> position;
    if (transaction_) {
      for (const auto& [at, change] : transaction_->changes) {
        if (change.key == *after && change.value) position = at;
      }
    }
    if (!position) position = heap_.position_of(spot, *after);
    if (position) from = *position + 1;
  }
  bool done = false;
  auto items = scan(from, 1, 1, done);
  if (!items) return tl::unexpected(items.error());
  if (items->empty()) return std::nullopt;
  return std::move(items->front().key);
}

Result<std::uint64_t> HeapDatabase::record_count() {
  if (auto may = usable(); !may) return tl::unexpected(may.error());
  if (!transaction_) {
    if (auto settled = await_commit(); !settled) return tl::unexpected(settled.error());
  }
  std::uint64_t count = 0;
  const bool empty = transaction_ && transaction_->emptied;
  for (std::uint32_t chain = 0; chain < anchor_.chain_count() && !empty; ++chain) count += heap_.live(chain);
  if (!transaction_) return count;
  for (const auto& [position, change] : transaction_->changes) {
    Bytes ignored;
    const bool before = !empty && heap_.read(change.spot, change.key, ignored);
    count += (change.value ? 1 : 0);
    count -= (before ? 1 : 0);
  }
  return count;
}

std::uint64_t HeapDatabase::generation() const {
  std::uint64_t sum = file_->contents().load();
  for (std::uint32_t chain = 0; chain < anchor_.chain_count(); ++chain) sum += heap_.writes_of(chain);
  return sum;
}

// --- transactions -------------------------------------------------------------------------------------------

// What the transaction says of a key; null: nothing. `make`: it is about to say something.
Result<HeapDatabase::Change*> HeapDatabase::change_of(const HeapSpot& spot, BytesView key, bool make) {
  auto& changes = transaction_->changes;
  std::bitset<256> taken;
  const std::uint64_t first = RecordHeap::first_position(spot);
  for (auto at = changes.lower_bound(first); at != changes.end() && at->first <= (first | 0xff); ++at) {
    if (at->second.key == key) return &at->second;
    taken[at->first & 0xff] = true;
  }
  if (!make) return nullptr;
  std::optional<std::uint64_t> position;
  if (!transaction_->emptied) position = heap_.position_of(spot, key);
  if (!position) {
    auto vacant = heap_.vacant_position(spot, taken);
    if (!vacant) return failure(vacant.error().fault, anchor_.path() + ": " + vacant.error().context);
    position = *vacant;
  }
  return &changes.emplace(*position, Change{spot, Bytes(key), std::nullopt}).first->second;
}

Result<void> HeapDatabase::begin(const StopWaiting& stop) {
  if (file_->read_only()) return failure(Fault::Refused, anchor_.path() + " was opened for reading only");
  if (auto may = usable(); !may) return may;
  if (transaction_) return failure(Fault::Refused, anchor_.path() + ": a transaction is open already");
  Transaction fresh;
  if (!locks_.holds_all()) {
    if (auto taken = locks_.lock_all(stop); !taken) return taken;
    fresh.took_all = true;
  }
  transaction_ = std::move(fresh);
  if (auto settled = await_commit(); !settled) {
    cancel();
    return settled;
  }
  return {};
}

Result<void> HeapDatabase::commit() {
  TDBMESH_CHECK(transaction_);
  std::vector<RecordHeap::Change> changes;
  changes.reserve(transaction_->changes.size());
  for (const auto& [position, change] : transaction_->changes) {
    changes.push_back({position, change.spot, change.key, change.value ? std::optional<BytesView>(*change.value) : std::nullopt});
  }
  Result<void> done;
  if (changed()) {
    // The mutex tells those who find the commit under way whether somebody is at it.
    pthread_mutex_t& writer = anchor_.shared().writer_mutex;
    if (!lock_shared_mutex(writer, patience())) {
      done = failure(Fault::Busy, anchor_.path() + ": another process is writing");
    } else {
      done = heap_.commit(transaction_->emptied, changes, patience());
      unlock_shared_mutex(writer);
    }
  }
  cancel();
  return done;
}

void HeapDatabase::cancel() {
  if (!transaction_) return;
  const bool took_all = transaction_->took_all;
  transaction_.reset();
  if (took_all) (void)locks_.unlock_all();
}

// --- the daemon's side --------------------------------------------------------------------------------------

Result<void> HeapDatabase::drop_all() {
  if (auto settled = await_commit(); !settled) return settled;
  // The epoch first: from here on nobody writes under a lock that was taken before. A write that was let through a
  // moment ago goes into contents that are void with the next line.
  anchor_.shared().epoch.fetch_add(1);
  heap_.empty();
  return {};
}

Result<void> HeapDatabase::check() {
  if (auto may = usable(); !may) return may;
  if (!transaction_) {
    if (auto settled = await_commit(); !settled) return settled;
  }
  if (const std::string bad = heap_.check([this](BytesView key) { return spot_of(key); }); !bad.empty()) {
    return failure(Fault::StoreCorrupt, anchor_.path() + ": " + bad);
  }
  return {};
}

}  // namespace tdbmesh
