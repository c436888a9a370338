#pragma once
// A volatile database as one process sees it: RecordHeap behind the rules of LmdbDatabase (lmdb_database.h), which
// holds one of these where the kind is volatile and passes every call on. What is said there of locks, epoch, waiting,
// transactions and errors holds here; these are the differences:
//   - A write takes its chain for as long as it lasts, unless this process holds it.
//   - Reads copy into a buffer that is kept.
//   - A transaction holds all chains; its writes are kept in this process until the commit.
//   - There is no map to grow and nothing to reopen after a fork.

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "db/anchor.h"
#include "db/chain_locks.h"
#include "db/heap_file.h"
#include "db/record_heap.h"

namespace tdbmesh {

class HeapDatabase {
 public:
  // All of them outlive the result. `loop`: must not wait (the daemon).
  [[nodiscard]] static Result<std::unique_ptr<HeapDatabase>> open(const Anchor& anchor, ChainLocks& locks, bool loop, bool read_only);

  [[nodiscard]] std::uint32_t chain_of(BytesView key) const { return spot_of(key).chain; }
  [[nodiscard]] Result<bool> visit(BytesView key, void (*use)(void*, BytesView), void* argument);
  [[nodiscard]] Result<bool> read(BytesView key, Bytes& into);
  // Written and Unchanged are successes.
  [[nodiscard]] Result<void> store(BytesView key, std::span<const BytesView> parts, RecordHeap::Mode mode);
  [[nodiscard]] Result<bool> erase(BytesView key);
  [[nodiscard]] Result<void> wipe();

  [[nodiscard]] Result<std::vector<RecordHeap::Item>> scan(std::uint64_t from, std::size_t most, std::size_t most_bytes, bool& done);
  [[nodiscard]] Result<std::optional<Bytes>> next_key(std::optional<BytesView> after);
  [[nodiscard]] Result<std::uint64_t> record_count();
  [[nodiscard]] bool is_current(std::uint64_t position, std::uint64_t stamp) const {
    return heap_.writes_of(RecordHeap::chain_of_position(position)) == stamp;
  }
  [[nodiscard]] std::uint64_t generation() const;  // looks at every chain
  [[nodiscard]] std::uint64_t size() const { return file_->size(); }

  [[nodiscard]] Result<void> begin(const StopWaiting& stop);
  [[nodiscard]] Result<void> commit();
  void cancel();
  [[nodiscard]] bool in_transaction() const { return transaction_.has_value(); }
  [[nodiscard]] bool changed() const { return transaction_ && (transaction_->emptied || !transaction_->changes.empty()); }
  void forget_after_fork() { transaction_.reset(); }  // it is the parent's

  // Empties and raises the epoch. Kill-safe, and atomic for clients in flight.
  [[nodiscard]] Result<void> drop_all();
  [[nodiscard]] Result<void> check();

 private:
  struct Change {
    HeapSpot spot;
    Bytes key;
    std::optional<Bytes> value;
  };
  struct Transaction {
    bool emptied = false;
    std::map<std::uint64_t, Change> changes;  // by position
    bool took_all = false;
  };
  class Holding;
  HeapDatabase(const Anchor& anchor, ChainLocks& locks, bool loop, std::unique_ptr<HeapFile> file)
      : anchor_(anchor), locks_(locks), loop_(loop), file_(std::move(file)), heap_(*file_, anchor.chain_count()) {}
  [[nodiscard]] HeapSpot spot_of(BytesView key) const;
  // The outcome nearly always is a good one: told without a call, and put into words elsewhere.
  [[nodiscard]] Result<void> usable() const {
    if (anchor_.retired() && !file_->read_only()) return replaced();
    return {};
  }
  [[nodiscard]] Result<void> allowed(std::uint32_t chain) const {
    if (!file_->read_only() && !anchor_.retired()) {
      if (loop_) return {};
      const auto taken = locks_.epoch_when_taken(chain);
      if (!taken || *taken == anchor_.shared().epoch.load()) return {};
    }
    return refusal();
  }
  [[nodiscard]] Result<void> replaced() const;
  [[nodiscard]] Result<void> refusal() const;
  // Waits for the commit that another process has under way, and finishes it if that process is dead.
  [[nodiscard]] Result<void> await_commit() {
    if (!heap_.commit_under_way()) return {};
    return settle_commit();
  }
  [[nodiscard]] Result<void> settle_commit();
  [[nodiscard]] StopWaiting patience() const;
  [[nodiscard]] Result<Change*> change_of(const HeapSpot& spot, BytesView key, bool make);
  [[nodiscard]] Result<std::optional<Bytes>> committed(const HeapSpot& spot, BytesView key);

  const Anchor& anchor_;
  ChainLocks& locks_;
  const bool loop_;
  std::unique_ptr<HeapFile> file_;
  RecordHeap heap_;
  Bytes buffer_;  // for visit(); taken while a visit lasts
  // A lock, a read, a store and an unlock of one key hash it once.
  mutable Bytes hashed_key_;
  mutable std::optional<HeapSpot> hashed_spot_;
  std::optional<Transaction> transaction_;
};

}  // namespace tdbmesh
