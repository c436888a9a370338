#include "db/lmdb_records.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "db/key_hash.h"
#include "db/store.h"

namespace tdbmesh {
namespace {

using Description = LmdbRecords::Description;

constexpr std::uint64_t kDescriptionAt = 1;

MDB_val as_val(const std::uint64_t& position) {
  return {sizeof(position), const_cast<void*>(static_cast<const void*>(&position))};
}

std::uint64_t position_of(const MDB_val& key) {
  std::uint64_t position = 0;
  if (key.mv_size == sizeof(position)) std::memcpy(&position, key.mv_data, sizeof(position));
  return position;
}

std::optional<Description> description_in(const MDB_val& data) {
  Description description;
  if (data.mv_size != sizeof(description)) return std::nullopt;
  std::memcpy(&description, data.mv_data, sizeof(description));
  if (std::memcmp(description.magic, Description{}.magic, sizeof(description.magic)) != 0) return std::nullopt;
  return description;
}

struct StoredView {
  BytesView key;
  BytesView value;
};
std::optional<StoredView> split(const MDB_val& data) {
  const BytesView bytes(static_cast<const char*>(data.mv_data), data.mv_size);
  ByteReader in(bytes);
  const std::size_t key_size = in.get<std::uint32_t>();
  const BytesView key = in.get_bytes(key_size);
  if (!in.ok()) return std::nullopt;
  return StoredView{key, in.rest()};
}

class Cursor {
 public:
  Cursor(MDB_txn* txn, MDB_dbi dbi) { rc_ = mdb_cursor_open(txn, dbi, &cursor_); }
  ~Cursor() {
    if (cursor_ != nullptr) mdb_cursor_close(cursor_);
  }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  // Goes to the first entry at or after `from`. MDB_NOTFOUND at the end.
  int seek(std::uint64_t from) {
    if (rc_ != 0) return rc_;
    wanted_ = from;
    key_ = as_val(wanted_);
    return mdb_cursor_get(cursor_, &key_, &data_, MDB_SET_RANGE);
  }
  int next() { return mdb_cursor_get(cursor_, &key_, &data_, MDB_NEXT); }
  [[nodiscard]] std::uint64_t position() const { return position_of(key_); }
  [[nodiscard]] const MDB_val& data() const { return data_; }

 private:
  MDB_cursor* cursor_ = nullptr;
  std::uint64_t wanted_ = 0;
  MDB_val key_{};
  MDB_val data_{};
  int rc_ = 0;
};

}  // namespace

Result<AnchorSettings> LmdbRecords::settings_of_files(const std::string& data_dir) {
  struct stat st {};
  if (::stat((data_dir + "/data.mdb").c_str(), &st) == 0 && st.st_size == 0) {
    return failure(Fault::StoreCorrupt, data_dir + "/data.mdb is empty");
  }
  MDB_env* env = nullptr;
  MDB_txn* txn = nullptr;
  MDB_dbi dbi = 0;
  MDB_val data{};
  MDB_val at = as_val(kDescriptionAt);
  AnchorSettings settings;
  int rc = mdb_env_create(&env);
  if (rc == 0) rc = mdb_env_open(env, data_dir.c_str(), MDB_RDONLY | MDB_NOTLS, 0600);
  if (rc == 0) rc = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn);
  if (rc == 0) rc = mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &dbi);
  if (rc == 0) rc = mdb_get(txn, dbi, &at, &data);
  if (rc == 0) {
    if (const auto description = description_in(data)) {
      MDB_envinfo info{};
      mdb_env_info(env, &info);
      settings.map_size = info.me_mapsize;
      settings.data_dir = data_dir;
      settings.identity = description->identity;
      settings.hash_seed = description->hash_seed;
      settings.hash_mask = description->hash_mask;
    } else {
      rc = data.mv_size == sizeof(Description) ? MDB_INVALID : MDB_CORRUPTED;
    }
  }
  if (txn != nullptr) mdb_txn_abort(txn);
  if (env != nullptr) mdb_env_close(env);
  if (rc != 0) return lmdb_failure(rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc, "cannot read " + data_dir);
  return settings;
}

std::uint64_t LmdbRecords::first_position_of(BytesView key) const {
  return first_position(key_hash(key, anchor_.settings().hash_seed) & anchor_.settings().hash_mask);
}

Result<Description> LmdbRecords::describe(MDB_txn* txn) const {
  MDB_val at = as_val(kDescriptionAt);
  MDB_val data{};
  const int rc = mdb_get(txn, env_.dbi(), &at, &data);
  if (rc == 0) {
    if (const auto description = description_in(data)) return *description;
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + where());
  return failure(Fault::StoreCorrupt, where() + ": the data files are not a database of tdbmesh");
}

Result<void> LmdbRecords::put_description(MDB_txn* txn, const Description& description) const {
  if (auto room = env_.reserve(sizeof(description), 1); !room) return room;
  MDB_val at = as_val(kDescriptionAt);
  MDB_val data{sizeof(description), const_cast<Description*>(&description)};
  if (const int rc = mdb_put(txn, env_.dbi(), &at, &data, 0); rc != 0) return lmdb_failure(rc, "cannot write to " + where());
  return {};
}

Result<LmdbRecords::Place> LmdbRecords::locate(MDB_txn* txn, BytesView key) const {
  const std::uint64_t first = first_position_of(key);
  MDB_val at = as_val(first);
  MDB_val data{};
  // Nearly always the first slot has it; the cursor is for the rest.
  if (mdb_get(txn, env_.dbi(), &at, &data) == 0) {
    const auto entry = split(data);
    if (entry && entry->key == key) return Place{first, true, entry->value};
  }
  Cursor cursor(txn, env_.dbi());
  std::uint64_t vacant = first;
  int rc = cursor.seek(first);
  for (; rc == 0 && cursor.position() < first + kSlotsPerHash; rc = cursor.next()) {
    const auto entry = split(cursor.data());
    if (!entry) return failure(Fault::StoreCorrupt, where() + ": a record is damaged");
    if (entry->key == key) return Place{cursor.position(), true, entry->value};
    if (cursor.position() == vacant) ++vacant;
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot search " + where());
  return Place{vacant, false, {}};
}

Result<void> LmdbRecords::put(MDB_txn* txn, BytesView key, ValueParts parts, RecordHeap::Mode mode) const {
  auto place = locate(txn, key);
  if (!place) return tl::unexpected(place.error());
  if (mode == RecordHeap::Mode::Insert && place->found) return failure(Fault::Exists, where() + ": there is such a record");
  if (mode == RecordHeap::Mode::Modify && !place->found) return failure(Fault::NotFound, where() + ": no such record");
  if (place->found && same_value(place->value, parts)) return {};
  if (place->position >= first_position_of(key) + kSlotsPerHash) {
    return failure(Fault::StoreFull, where() + ": too many keys with one hash");
  }
  const std::size_t stored = sizeof(std::uint32_t) + key.size() + total_size(parts);
  if (auto room = env_.reserve(stored + 64, 1); !room) return room;
  MDB_val at = as_val(place->position);
  MDB_val data{stored, nullptr};
  if (const int rc = mdb_put(txn, env_.dbi(), &at, &data, MDB_RESERVE); rc != 0) {
    return lmdb_failure(rc, "cannot store into " + where());
  }
  const auto key_size = static_cast<std::uint32_t>(key.size());
  const BytesView front[] = {{reinterpret_cast<const char*>(&key_size), sizeof(key_size)}, key};
  char* const to = static_cast<char*>(data.mv_data);
  copy_parts(front, to);
  copy_parts(parts, to + total_size(front));
  return {};
}

Result<bool> LmdbRecords::erase(MDB_txn* txn, BytesView key) const {
  const auto place = locate(txn, key);
  if (!place) return tl::unexpected(place.error());
  if (!place->found) return false;
  if (auto room = env_.reserve(place->value.size() / 256, 1); !room) return tl::unexpected(room.error());
  MDB_val at = as_val(place->position);
  if (const int rc = mdb_del(txn, env_.dbi(), &at, nullptr); rc != 0) return lmdb_failure(rc, "cannot delete from " + where());
  return true;
}

Result<void> LmdbRecords::empty(MDB_txn* txn) const {
  auto description = describe(txn);
  if (!description) return tl::unexpected(description.error());
  // Each freed page is named in the list of free pages.
  MDB_stat stat{};
  mdb_stat(txn, env_.dbi(), &stat);
  const std::uint64_t pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
  if (auto room = env_.reserve(pages * 16, 1); !room) return room;
  if (const int rc = mdb_drop(txn, env_.dbi(), 0); rc != 0) return lmdb_failure(rc, "cannot empty " + where());
  return put_description(txn, *description);
}

Result<std::vector<RecordHeap::Item>> LmdbRecords::scan(MDB_txn* txn, std::uint64_t from, std::size_t most,
                                                        std::size_t most_bytes, std::uint64_t stamp, bool& done) const {
  std::vector<RecordHeap::Item> items;
  Cursor cursor(txn, env_.dbi());
  std::size_t bytes = 0;
  int rc = cursor.seek(std::max(from, kSlotsPerHash));
  for (; rc == 0 && items.size() < most && (items.empty() || bytes < most_bytes); rc = cursor.next()) {
    const auto entry = split(cursor.data());
    if (!entry) return failure(Fault::StoreCorrupt, where() + ": a record is damaged");
    items.push_back({cursor.position(), Bytes(entry->key), Bytes(entry->value), stamp});
    bytes += entry->key.size() + entry->value.size();
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + where());
  done = rc == MDB_NOTFOUND;
  return items;
}

Result<std::optional<Bytes>> LmdbRecords::next_key(MDB_txn* txn, std::optional<BytesView> after) const {
  std::uint64_t from = kSlotsPerHash;
  if (after) {
    const auto place = locate(txn, *after);
    if (!place) return tl::unexpected(place.error());
    from = place->found ? place->position + 1 : first_position_of(*after);
  }
  Cursor cursor(txn, env_.dbi());
  const int rc = cursor.seek(from);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  const auto entry = rc == 0 ? split(cursor.data()) : std::nullopt;
  if (!entry) return lmdb_failure(rc == 0 ? MDB_CORRUPTED : rc, "cannot read " + where());
  return Bytes(entry->key);
}

Result<std::uint64_t> LmdbRecords::count(MDB_txn* txn) const {
  MDB_stat stat{};
  if (const int rc = mdb_stat(txn, env_.dbi(), &stat); rc != 0) return lmdb_failure(rc, "cannot read " + where());
  return stat.ms_entries > 0 ? stat.ms_entries - 1 : 0;
}

Result<void> LmdbRecords::check(MDB_txn* txn) const {
  const auto bad = [this](std::uint64_t position, const char* what) {
    return failure(Fault::StoreCorrupt, fmt::format("{}: record at {:#x}: {}", where(), position, what));
  };
  if (const auto description = describe(txn); !description) return tl::unexpected(description.error());
  Cursor cursor(txn, env_.dbi());
  std::uint64_t entries = 0;
  std::uint64_t last = 0;
  int rc = cursor.seek(0);
  for (; rc == 0; rc = cursor.next()) {
    ++entries;
    const std::uint64_t position = cursor.position();
    if (entries > 1 && position <= last) return bad(position, "out of order");
    last = position;
    if (position == kDescriptionAt) continue;
    const auto entry = split(cursor.data());
    if (!entry || entry->key.size() > kMaxKeySize) return bad(position, "lengths are wrong");
    const std::uint64_t first = first_position_of(entry->key);
    if (position < first || position >= first + kSlotsPerHash) return bad(position, "the key does not belong there");
  }
  if (rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + where());
  MDB_stat stat{};
  mdb_stat(txn, env_.dbi(), &stat);
  if (stat.ms_entries != entries) return bad(last, "the number of records is wrong");
  return {};
}

}  // namespace tdbmesh
