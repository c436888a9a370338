// Walks over all records: a batch is copied, the snapshot given up, then the callback runs for each record, so
// that it may block, write and lock as it likes without pinning pages of LMDB.

#include <cstdlib>
#include <cstring>

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

namespace {

constexpr std::size_t kBatch = 64;

TDB_DATA data_of(Bytes& bytes) { return {reinterpret_cast<unsigned char*>(bytes.data()), bytes.size()}; }

BytesView view(TDB_DATA data) {
  return data.dptr == nullptr ? BytesView{} : BytesView(reinterpret_cast<const char*>(data.dptr), data.dsize);
}

// Counts a walk of a handle while it lasts.
struct Counted {
  explicit Counted(int& c) : count(c) { ++count; }
  ~Counted() { --count; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  int& count;
};

}  // namespace

int Handle::walk(tdb_traverse_func step, void* private_data, std::optional<std::uint32_t> chain) {
  int count = 0;
  std::uint64_t from = 0;
  for (;;) {
    auto batch = db_->scan(from, kBatch);
    if (!batch) return fail(batch.error());
    for (LmdbItem& item : batch->items) {
      if (chain && db_->chain_of(item.key) != *chain) continue;
      // Somebody wrote since the batch was copied, or other nodes may have: look again.
      const bool closed = needs_gate(Access::Read) && transaction_.depth == 0 && !gate_open();
      if (closed && !wait_for_gate()) return -1;
      if (closed || transaction_.depth > 0 || !db_->is_current(item)) {
        auto now = db_->fetch(item.key);
        if (!now) return fail(now.error());
        if (!*now) continue;
        item.value = std::move(**now);
      }
      ++count;
      if (step != nullptr && step(face_, data_of(item.key), data_of(item.value), private_data) != 0) return count;
    }
    if (batch->done) return count;
    from = batch->next;
  }
}

int Handle::traverse(tdb_traverse_func step, void* private_data) {
  if (read_only_ || reading_walks_ > 0) return traverse_read(step, private_data);
  if (all_ == Lock::Read) return fail(TDB_ERR_LOCK);
  const Counted walking(writing_walks_);
  return walk(step, private_data, std::nullopt);
}

int Handle::traverse_read(tdb_traverse_func step, void* private_data) {
  const Counted walking(reading_walks_);
  return walk(step, private_data, std::nullopt);
}

int Handle::traverse_chain(unsigned chain, tdb_traverse_func step, void* private_data) {
  if (chain >= db_->anchor().chain_count()) return fail(TDB_ERR_EINVAL);
  const Counted walking(reading_walks_);
  return walk(step, private_data, chain);
}

int Handle::traverse_key_chain(TDB_DATA key, tdb_traverse_func step, void* private_data) {
  return traverse_chain(db_->chain_of(view(key)), step, private_data);
}

TDB_DATA Handle::firstkey() { return nextkey({nullptr, 0}); }

TDB_DATA Handle::nextkey(TDB_DATA key) {
  if (needs_gate(Access::Read) && transaction_.depth == 0 && !wait_for_gate()) return {nullptr, 0};
  // A null key is the beginning; an empty one has a pointer, as nextkey() itself makes it.
  const auto next = key.dptr == nullptr ? db_->first_key() : db_->next_key(view(key));
  if (!next) {
    fail(next.error());
    return {nullptr, 0};
  }
  if (!*next) {
    fail(TDB_ERR_NOEXIST);
    return {nullptr, 0};
  }
  const Bytes& found = **next;
  auto* out = static_cast<unsigned char*>(std::malloc(found.empty() ? 1 : found.size()));
  if (out == nullptr) {
    fail(TDB_ERR_OOM);
    return {nullptr, 0};
  }
  if (!found.empty()) std::memcpy(out, found.data(), found.size());
  return {out, found.size()};
}

int Handle::check(ParseFunction judge, void* private_data) {
  // libtdb takes the lock on everything for it; that much of it shows.
  if (!all_ && transaction_.depth == 0 && holds_locks()) return fail(TDB_ERR_LOCK);
  if (const auto sound = db_->check(); !sound) return fail(sound.error());
  struct Call {
    ParseFunction judge;
    void* private_data;
    bool refused = false;
  } call{judge, private_data};
  if (judge == nullptr) return 0;
  const Counted walking(reading_walks_);
  const int count = walk(
      [](tdb_context*, TDB_DATA key, TDB_DATA value, void* argument) {
        auto& c = *static_cast<Call*>(argument);
        c.refused = c.judge(key, value, c.private_data) != 0;
        return c.refused ? 1 : 0;
      },
      &call, std::nullopt);
  return count < 0 || call.refused ? -1 : 0;
}

}  // namespace tdbmesh::shim
