#include "db/lmdb_database.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <mutex>
#include <set>

#include "db/base/check.h"
#include "db/heap_database.h"
#include "db/incoming_file.h"
#include "db/key_hash.h"
#include "db/lmdb_environment.h"

namespace tdbmesh {

namespace {

// The database's own entry, at position 1. It is written with the data it belongs to.
struct Description {
  char magic[8] = {'t', 'd', 'b', 'm', 'e', 's', 'h', '1'};
  std::uint64_t identity = 0;
  std::uint64_t hash_seed = 0;
  std::uint64_t hash_mask = 0;
  std::uint64_t version_term = 0;
  std::uint64_t version_serial = 0;
  std::uint64_t version_seqnum = 0;
};
constexpr std::uint64_t kDescriptionAt = 1;

MDB_val as_val(const std::uint64_t& position) {
  return {sizeof(position), const_cast<void*>(static_cast<const void*>(&position))};
}

std::uint64_t position_of(const MDB_val& key) {
  std::uint64_t position = 0;
  if (key.mv_size == sizeof(position)) std::memcpy(&position, key.mv_data, sizeof(position));
  return position;
}

// A stored entry: u32 key size, key, value.
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

// Two environments on one file in a process would drop each other's fcntl locks, so each is entered here.
class OpenFiles {
 public:
  struct Id {
    dev_t device;
    ino_t inode;
    auto operator<=>(const Id&) const = default;
  };
  static OpenFiles& instance() {
    static OpenFiles* files = new OpenFiles;  // never destroyed: handles may outlive static destruction
    return *files;
  }
  static std::optional<Id> id_of(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return std::nullopt;
    return Id{st.st_dev, st.st_ino};
  }
  bool enter(Id id) {
    const std::lock_guard lock(mutex_);
    return open_.insert(id).second;
  }
  void leave(Id id) {
    const std::lock_guard lock(mutex_);
    open_.erase(id);
  }
  bool has(Id id) {
    const std::lock_guard lock(mutex_);
    return open_.contains(id);
  }

 private:
  std::mutex mutex_;
  std::set<Id> open_;
};

constexpr std::uint64_t kTightMap = 512 * 1024;  // less room than this: it may be the map that is full
constexpr std::chrono::milliseconds kLoopWriterWait{500};
constexpr std::chrono::seconds kWorkerWriterWait{10};

StopWaiting give_up_after(std::chrono::milliseconds wait) {
  return [until = std::chrono::steady_clock::now() + wait] { return std::chrono::steady_clock::now() >= until; };
}

}  // namespace

struct LmdbDatabase::State {
  std::unique_ptr<Anchor> anchor;
  Role role;
  std::vector<OpenFiles::Id> entered;
  std::unique_ptr<ChainLocks> locks;
  std::unique_ptr<LmdbEnvironment> env;  // null where there is a heap
  std::unique_ptr<HeapDatabase> heap;    // of a volatile database
  std::uint64_t forks = fork_count();

  // This handle's transaction.
  MDB_txn* txn = nullptr;
  bool changed = false;
  bool full = false;  // the transaction is beyond repair, and the next one needs a larger map
  std::uint32_t seqnum_ahead = 0;

  ~State() {
    if (env && forks != fork_count()) env->abandon_after_fork();
    heap.reset();
    locks.reset();
    env.reset();
    for (const auto id : entered) OpenFiles::instance().leave(id);
  }

  void check_fork() {
    if (forks == fork_count()) return;
    forks = fork_count();
    if (env) env->abandon_after_fork();
    if (heap) heap->forget_after_fork();
    txn = nullptr;  // the parent's
    changed = full = false;
    seqnum_ahead = 0;
  }

  [[nodiscard]] std::string where() const { return anchor->path(); }
  [[nodiscard]] MDB_dbi dbi() const { return env->dbi(); }
  [[nodiscard]] std::uint64_t hash(BytesView key) const {
    return key_hash(key, anchor->settings().hash_seed) & anchor->settings().hash_mask;
  }

  // Reads in the handle's transaction if there is one, else in a snapshot.
  class Reading {
   public:
    explicit Reading(State& state) : state_(state) {
      state_.check_fork();
      if (state_.anchor->retired() && state_.role != Role::Inspector) {
        error_ = {Fault::Refused, state_.where() + " was replaced: open it again"};
      } else if (state_.txn != nullptr) {
        txn_ = state_.txn;
      } else if (auto begun = state_.env->begin_read(); begun) {
        txn_ = *begun;
        snapshot_ = true;
      } else {
        error_ = begun.error();
      }
    }
    ~Reading() {
      if (snapshot_) state_.env->end_read();
    }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    explicit operator bool() const { return txn_ != nullptr; }
    [[nodiscard]] MDB_txn* txn() const { return txn_; }
    [[nodiscard]] tl::unexpected<Error> error() const { return tl::unexpected(error_); }

   private:
    State& state_;
    MDB_txn* txn_ = nullptr;
    bool snapshot_ = false;
    Error error_;
  };

  // Where a key is, or where it would go.
  struct Place {
    std::uint64_t position = 0;
    bool found = false;
    BytesView value;  // valid while the transaction is not written to
  };
  Result<Place> locate(MDB_txn* in, BytesView key) const {
    const std::uint64_t first = first_position(hash(key));
    MDB_val at = as_val(first);
    MDB_val data{};
    // Nearly always the first slot has it; the cursor is for the rest.
    if (mdb_get(in, dbi(), &at, &data) == 0) {
      const auto entry = split(data);
      if (entry && entry->key == key) return Place{first, true, entry->value};
    }
    Cursor cursor(in, dbi());
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

  Result<Description> describe(MDB_txn* in) const {
    MDB_val at = as_val(kDescriptionAt);
    MDB_val data{};
    const int rc = mdb_get(in, dbi(), &at, &data);
    Description description;
    const Description expected;
    if (rc == 0 && data.mv_size == sizeof(description)) {
      std::memcpy(&description, data.mv_data, sizeof(description));
      if (std::memcmp(description.magic, expected.magic, sizeof(expected.magic)) == 0) return description;
    }
    if (rc != 0 && rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + where());
    return failure(Fault::StoreCorrupt, where() + ": the data files are not a database of tdbmesh");
  }
  Result<void> put_description(MDB_txn* in, const Description& description) const {
    MDB_val at = as_val(kDescriptionAt);
    MDB_val data{sizeof(description), const_cast<Description*>(&description)};
    if (const int rc = mdb_put(in, dbi(), &at, &data, 0); rc != 0) return lmdb_failure(rc, "cannot write to " + where());
    return {};
  }
  Result<void> empty(MDB_txn* in) const {
    auto description = describe(in);
    if (!description) return tl::unexpected(description.error());
    // Each freed page is named in the list of free pages.
    MDB_stat stat{};
    mdb_stat(in, dbi(), &stat);
    const std::uint64_t pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    if (auto room = env->reserve(pages * 16, 2); !room) return room;
    if (const int rc = mdb_drop(in, dbi(), 0); rc != 0) return lmdb_failure(rc, "cannot empty " + where());
    return put_description(in, *description);
  }

  static std::size_t total(std::span<const BytesView> parts) {
    std::size_t size = 0;
    for (const BytesView part : parts) size += part.size();
    return size;
  }
  static bool same(BytesView stored, std::span<const BytesView> parts) {
    for (const BytesView part : parts) {
      if (stored.substr(0, part.size()) != part) return false;
      stored.remove_prefix(part.size());
    }
    return stored.empty();
  }

  // The heap of a volatile database, with a fork noticed; else null.
  HeapDatabase* in_heap() {
    check_fork();
    return heap.get();
  }

  // Puts one record into a write transaction.
  Result<void> put(MDB_txn* in, BytesView key, std::span<const BytesView> parts, StoreMode mode) {
    auto place = locate(in, key);
    if (!place) return tl::unexpected(place.error());
    if (mode == StoreMode::Insert && place->found) return failure(Fault::Exists, where() + ": there is such a record");
    if (mode == StoreMode::Modify && !place->found) return failure(Fault::NotFound, where() + ": no such record");
    const std::size_t size = total(parts);
    if (place->found && place->value.size() == size && same(place->value, parts)) return {};
    if (place->position >= first_position(hash(key)) + kSlotsPerHash) {
      return failure(Fault::StoreFull, where() + ": too many keys with one hash");
    }
    const std::size_t stored = sizeof(std::uint32_t) + key.size() + size;
    if (auto room = env->reserve(stored + 64, 1); !room) return room;
    MDB_val at = as_val(place->position);
    MDB_val data{stored, nullptr};
    if (const int rc = mdb_put(in, dbi(), &at, &data, MDB_RESERVE); rc != 0) {
      return lmdb_failure(rc, "cannot store into " + where());
    }
    char* to = static_cast<char*>(data.mv_data);
    const auto append = [&to](const void* from, std::size_t count) {
      if (count > 0) std::memcpy(to, from, count);
      to += count;
    };
    const auto key_size = static_cast<std::uint32_t>(key.size());
    append(&key_size, sizeof(key_size));
    append(key.data(), key.size());
    for (const BytesView part : parts) append(part.data(), part.size());
    return {};
  }

  Result<void> allowed(BytesView key, std::uint32_t chain) {
    if (anchor->retired()) return failure(Fault::Refused, where() + " was replaced: open it again");
    if (role == Role::Daemon) return {};
    const auto taken = locks->epoch_when_taken(chain);
    if (taken && *taken != anchor->shared().epoch.load()) {
      return failure(Fault::Refused, fmt::format("{}: emptied while a key of {} bytes was locked", where(), key.size()));
    }
    return {};
  }

  Result<void> apply_entries(MDB_txn* in, const std::vector<RecordEntry>& entries);
  Result<void> put_version(MDB_txn* in, const CopyVersion& version);

  // Runs `change` in the handle's transaction, or in one of its own that is tried again with a larger map.
  template <class F>
  Result<void> write(std::uint64_t bytes, const StopWaiting& stop, F&& change) {
    check_fork();
    if (txn != nullptr) {
      if (full) return failure(Fault::StoreFull, where() + ": the transaction has failed");
      auto done = change(txn);
      if (done) changed = true;
      if (!done && done.error().fault == Fault::StoreFull) full = true;
      return done;
    }
    for (int attempt = 0;; ++attempt) {
      const auto began = env->begin_write(stop);
      if (!began) return tl::unexpected(began.error());
      auto done = change(*began);
      if (done) {
        done = env->commit(*began);
      } else {
        env->abort(*began);
      }
      if (done || done.error().fault != Fault::StoreFull || attempt == 2 || !env->is_open()) return done;
      // Full is the map or the disk, or a dead reader keeps the pages that are free otherwise.
      env->clear_dead_readers();
      const auto usage = env->usage();
      const bool map_full = usage.used + 2 * bytes + kTightMap >= usage.size || usage.size < anchor->shared().map_size.load();
      if (!map_full && attempt > 0) return done;
      if (map_full && !env->grow(bytes)) return done;
    }
  }
  [[nodiscard]] StopWaiting writer_wait() const {
    return role == Role::Daemon ? give_up_after(kLoopWriterWait) : StopWaiting{};
  }

  void count_write(std::uint32_t by = 1) {
    AnchorShared& shared = anchor->shared();
    if (shared.seqnum_enabled.load() == 0) return;
    if (txn != nullptr || (heap && heap->in_transaction())) {
      seqnum_ahead += by;
    } else {
      shared.seqnum.fetch_add(by);
    }
  }
};

LmdbDatabase::LmdbDatabase(std::unique_ptr<State> state) : state_(std::move(state)) {}

LmdbDatabase::~LmdbDatabase() { cancel(); }

Result<void> LmdbDatabase::create(const std::string& anchor_path, AnchorSettings settings) {
  if (settings.kind == DatabaseKind::Volatile) {
    if (auto made = HeapFile::create(settings.data_dir, settings); !made) return made;
    return Anchor::create(anchor_path, settings);
  }
  if (settings.map_size == 0) settings.map_size = kDefaultMapSize;
  if (auto made = LmdbEnvironment::create_files(settings.data_dir); !made) return made;
  if (auto made = Anchor::create(anchor_path, settings); !made) return made;
  auto anchor = Anchor::open(anchor_path);
  if (!anchor) return tl::unexpected(anchor.error());
  auto id = OpenFiles::id_of(settings.data_dir + "/data.mdb");
  if (!id || !OpenFiles::instance().enter(*id)) return failure(Fault::Busy, settings.data_dir + " is in use");
  State state;
  state.anchor = std::move(*anchor);
  state.role = Role::Daemon;
  state.entered.push_back(*id);
  state.locks = std::make_unique<ChainLocks>(*state.anchor, LockRole::Daemon);
  state.env = std::make_unique<LmdbEnvironment>(*state.anchor, false, false);
  if (auto opened = state.env->open(); !opened) return opened;
  Description description;
  description.identity = settings.identity;
  description.hash_seed = settings.hash_seed;
  description.hash_mask = settings.hash_mask;
  return state.write(sizeof(description), {}, [&](MDB_txn* txn) -> Result<void> {
    if (auto room = state.env->reserve(sizeof(description), 1); !room) return room;
    return state.put_description(txn, description);
  });
}

Result<std::unique_ptr<LmdbDatabase>> LmdbDatabase::open(const std::string& anchor_path, Role role) {
  if (same_file_open(anchor_path)) return failure(Fault::Busy, anchor_path + " is open already in this process");
  auto anchor = Anchor::open(anchor_path, role == Role::Inspector ? Anchor::ForBoot::Any : Anchor::ForBoot::This);
  if (!anchor) return tl::unexpected(anchor.error());
  if ((*anchor)->settings().epoch == kRetiredEpoch) return failure(Fault::Refused, anchor_path + " was replaced: open it again");
  auto state = std::make_unique<State>();
  state->anchor = std::move(*anchor);
  state->role = role;
  state->locks = std::make_unique<ChainLocks>(*state->anchor, role == Role::Daemon ? LockRole::Daemon : LockRole::Client);
  const bool on_heap = state->anchor->settings().kind == DatabaseKind::Volatile;
  const auto enter = [&](OpenFiles::Id id, const std::string& path) -> Result<void> {
    if (!OpenFiles::instance().enter(id)) return failure(Fault::Busy, path + " is open already in this process");
    state->entered.push_back(id);
    return {};
  };
  if (auto entered = enter({state->anchor->device(), state->anchor->inode()}, anchor_path); !entered) return tl::unexpected(entered.error());
  if (!on_heap) {
    // A heap has no fcntl locks that could be lost.
    const std::string path = state->anchor->data_dir() + "/data.mdb";
    const auto id = OpenFiles::id_of(path);
    if (!id) return failure(Fault::StoreCorrupt, fmt::format("{}: {} is missing", anchor_path, path));
    if (auto entered = enter(*id, path); !entered) return tl::unexpected(entered.error());
  }
  if (on_heap) {
    auto heap = HeapDatabase::open(*state->anchor, *state->locks, role == Role::Daemon, role == Role::Inspector);
    if (!heap) return tl::unexpected(heap.error());
    state->heap = std::move(*heap);
    return std::unique_ptr<LmdbDatabase>(new LmdbDatabase(std::move(state)));
  }
  state->env = std::make_unique<LmdbEnvironment>(*state->anchor, role == Role::Inspector, role == Role::Daemon);
  if (auto opened = state->env->open(); !opened) return tl::unexpected(opened.error());
  {
    const State::Reading reading(*state);
    if (!reading) return reading.error();
    const auto description = state->describe(reading.txn());
    if (!description) return tl::unexpected(description.error());
    if (description->identity != state->anchor->settings().identity || description->hash_seed != state->anchor->settings().hash_seed ||
        description->hash_mask != state->anchor->settings().hash_mask) {
      return failure(Fault::StoreCorrupt, anchor_path + " and the data files beside it do not belong together");
    }
  }
  return std::unique_ptr<LmdbDatabase>(new LmdbDatabase(std::move(state)));
}

Result<AnchorSettings> LmdbDatabase::settings_of_files(const std::string& data_dir) {
  const auto id = OpenFiles::id_of(data_dir + "/data.mdb");
  if (!id) return failure(Fault::StoreCorrupt, data_dir + "/data.mdb is missing");
  if (OpenFiles::instance().has(*id)) return failure(Fault::Busy, data_dir + " is open already in this process");
  struct stat st {};
  if (::stat((data_dir + "/data.mdb").c_str(), &st) == 0 && st.st_size == 0) {
    return failure(Fault::StoreCorrupt, data_dir + "/data.mdb is empty");
  }
  MDB_env* env = nullptr;
  MDB_txn* txn = nullptr;
  MDB_dbi dbi = 0;
  MDB_val data{};
  MDB_val at = as_val(kDescriptionAt);
  Description description;
  AnchorSettings settings;
  int rc = mdb_env_create(&env);
  if (rc == 0) rc = mdb_env_open(env, data_dir.c_str(), MDB_RDONLY | MDB_NOTLS, 0600);
  if (rc == 0) rc = mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn);
  if (rc == 0) rc = mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &dbi);
  if (rc == 0) rc = mdb_get(txn, dbi, &at, &data);
  if (rc == 0 && data.mv_size != sizeof(description)) rc = MDB_CORRUPTED;
  if (rc == 0) {
    std::memcpy(&description, data.mv_data, sizeof(description));
    if (std::memcmp(description.magic, Description{}.magic, sizeof(description.magic)) != 0) rc = MDB_INVALID;
    MDB_envinfo info{};
    mdb_env_info(env, &info);
    settings.map_size = info.me_mapsize;
  }
  if (txn != nullptr) mdb_txn_abort(txn);
  if (env != nullptr) mdb_env_close(env);
  if (rc != 0) return lmdb_failure(rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc, "cannot read " + data_dir);
  settings.data_dir = data_dir;
  settings.identity = description.identity;
  settings.hash_seed = description.hash_seed;
  settings.hash_mask = description.hash_mask;
  return settings;
}

bool LmdbDatabase::same_file_open(const std::string& anchor_path) {
  const auto id = OpenFiles::id_of(anchor_path);
  return id && OpenFiles::instance().has(*id);
}

const Anchor& LmdbDatabase::anchor() const { return *state_->anchor; }

Result<void> LmdbDatabase::reopen() {
  if (state_->in_heap() != nullptr || state_->env->is_open()) return {};
  return state_->env->open();
}

std::uint32_t LmdbDatabase::chain_of(BytesView key) const {
  if (state_->heap) return state_->heap->chain_of(key);
  return chain_of_hash(key_hash(key, anchor().settings().hash_seed), anchor().chain_count());
}

ChainLocks& LmdbDatabase::locks() { return *state_->locks; }

Result<bool> LmdbDatabase::visit(BytesView key, void (*use)(void*, BytesView), void* argument) {
  if (HeapDatabase* heap = state_->in_heap()) return heap->visit(key, use, argument);
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  const auto place = state_->locate(reading.txn(), key);
  if (!place) return tl::unexpected(place.error());
  if (!place->found) return false;
  use(argument, place->value);
  return true;
}

Result<std::optional<Bytes>> LmdbDatabase::fetch(BytesView key) {
  std::optional<Bytes> value;
  const auto found = parse(key, [&value](BytesView stored) { value = Bytes(stored); });
  if (!found) return tl::unexpected(found.error());
  return value;
}

Result<bool> LmdbDatabase::fetch_into(BytesView key, Bytes& value) {
  if (HeapDatabase* heap = state_->in_heap()) return heap->read(key, value);
  return parse(key, [&value](BytesView stored) { value.assign(stored); });
}

Result<bool> LmdbDatabase::exists(BytesView key) {
  return parse(key, [](BytesView) {});
}

Result<void> LmdbDatabase::store(BytesView key, std::span<const BytesView> parts, StoreMode mode) {
  const std::size_t size = State::total(parts);
  if (key.size() > kMaxKeySize || size > kMaxValueSize + kRecordHeaderSize) {
    return failure(Fault::Malformed, fmt::format("{}: a key of {} or a value of {} bytes is too long", anchor().path(), key.size(), size));
  }
  if (HeapDatabase* heap = state_->in_heap()) {
    auto stored = heap->store(key, parts, mode);
    if (stored) state_->count_write();
    return stored;
  }
  const std::uint32_t chain = chain_of(key);
  if (!in_transaction() && mode != StoreMode::Insert) {
    // What is there already needs no transaction, and on a durable database no fsync.
    bool unchanged = false;
    const auto found = parse(key, [&](BytesView stored) { unchanged = stored.size() == size && State::same(stored, parts); });
    if (found && *found && unchanged) {
      auto may = state_->allowed(key, chain);
      if (may) state_->count_write();
      return may;
    }
  }
  auto stored = state_->write(size + key.size(), state_->writer_wait(), [&](MDB_txn* txn) -> Result<void> {
    // Inside the transaction, because emptying the database is one, too.
    if (auto may = state_->allowed(key, chain); !may) return may;
    return state_->put(txn, key, parts, mode);
  });
  if (stored) state_->count_write();
  return stored;
}

Result<bool> LmdbDatabase::erase(BytesView key) {
  if (HeapDatabase* heap = state_->in_heap()) {
    auto erased = heap->erase(key);
    if (erased && *erased) state_->count_write();
    return erased;
  }
  const std::uint32_t chain = chain_of(key);
  bool was_there = false;
  if (!in_transaction()) {
    const auto there = exists(key);
    if (there && !*there) return false;
  }
  auto erased = state_->write(0, state_->writer_wait(), [&](MDB_txn* txn) -> Result<void> {
    if (auto may = state_->allowed(key, chain); !may) return may;
    const auto place = state_->locate(txn, key);
    if (!place) return tl::unexpected(place.error());
    was_there = place->found;
    if (!was_there) return {};
    if (auto room = state_->env->reserve(place->value.size() / 256, 1); !room) return room;
    MDB_val at = as_val(place->position);
    if (const int rc = mdb_del(txn, state_->dbi(), &at, nullptr); rc != 0) return lmdb_failure(rc, "cannot delete from " + anchor().path());
    return {};
  });
  if (!erased) return tl::unexpected(erased.error());
  if (was_there) state_->count_write();
  return was_there;
}

Result<void> LmdbDatabase::wipe() {
  HeapDatabase* heap = state_->in_heap();
  auto wiped = heap != nullptr ? heap->wipe() : state_->write(0, state_->writer_wait(), [&](MDB_txn* txn) { return state_->empty(txn); });
  if (wiped) state_->count_write();
  return wiped;
}

Result<LmdbBatch> LmdbDatabase::scan(std::uint64_t from, std::size_t most, std::size_t most_bytes) {
  LmdbBatch batch;
  if (HeapDatabase* heap = state_->in_heap()) {
    auto items = heap->scan(from, most, most_bytes, batch.done);
    if (!items) return tl::unexpected(items.error());
    batch.items = std::move(*items);
    if (!batch.items.empty()) batch.next = batch.items.back().position + 1;
    return batch;
  }
  // Before the snapshot is taken: what is written from now on makes the items outdated.
  const std::uint64_t stamp = generation();
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  Cursor cursor(reading.txn(), state_->dbi());
  std::size_t bytes = 0;
  int rc = cursor.seek(std::max(from, kSlotsPerHash));
  for (; rc == 0 && batch.items.size() < most && (batch.items.empty() || bytes < most_bytes); rc = cursor.next()) {
    const auto entry = split(cursor.data());
    if (!entry) return failure(Fault::StoreCorrupt, anchor().path() + ": a record is damaged");
    batch.items.push_back({cursor.position(), Bytes(entry->key), Bytes(entry->value), stamp});
    bytes += entry->key.size() + entry->value.size();
    batch.next = cursor.position() + 1;
  }
  if (rc != 0 && rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + anchor().path());
  batch.done = rc == MDB_NOTFOUND || batch.next == 0;  // 0: past the very last position
  return batch;
}

Result<std::optional<Bytes>> LmdbDatabase::first_key() {
  if (HeapDatabase* heap = state_->in_heap()) return heap->next_key(std::nullopt);
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  Cursor cursor(reading.txn(), state_->dbi());
  const int rc = cursor.seek(kSlotsPerHash);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  const auto entry = rc == 0 ? split(cursor.data()) : std::nullopt;
  if (!entry) return lmdb_failure(rc == 0 ? MDB_CORRUPTED : rc, "cannot read " + anchor().path());
  return Bytes(entry->key);
}

Result<std::optional<Bytes>> LmdbDatabase::next_key(BytesView key) {
  if (HeapDatabase* heap = state_->in_heap()) return heap->next_key(key);
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  const auto place = state_->locate(reading.txn(), key);
  if (!place) return tl::unexpected(place.error());
  Cursor cursor(reading.txn(), state_->dbi());
  const std::uint64_t from = place->found ? place->position + 1 : first_position(state_->hash(key));
  const int rc = cursor.seek(from);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  const auto entry = rc == 0 ? split(cursor.data()) : std::nullopt;
  if (!entry) return lmdb_failure(rc == 0 ? MDB_CORRUPTED : rc, "cannot read " + anchor().path());
  return Bytes(entry->key);
}

Result<std::uint64_t> LmdbDatabase::record_count() {
  if (HeapDatabase* heap = state_->in_heap()) return heap->record_count();
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  MDB_stat stat{};
  if (const int rc = mdb_stat(reading.txn(), state_->dbi(), &stat); rc != 0) return lmdb_failure(rc, "cannot read " + anchor().path());
  return stat.ms_entries > 0 ? stat.ms_entries - 1 : 0;
}

Result<void> LmdbDatabase::begin(const StopWaiting& stop) {
  State& state = *state_;
  if (HeapDatabase* heap = state.in_heap()) {
    auto begun = heap->begin(stop);
    if (begun) state.seqnum_ahead = 0;
    return begun;
  }
  if (state.txn != nullptr) return failure(Fault::Refused, anchor().path() + ": a transaction is open already");
  if (auto opened = reopen(); !opened) return opened;
  if (const auto usage = state.env->usage(); state.full || usage.used > usage.size / 4 * 3) {
    state.env->clear_dead_readers();
    if (auto grown = state.env->grow(0); !grown) return grown;
  }
  const auto began = state.env->begin_write(stop);
  if (!began) return tl::unexpected(began.error());
  state.txn = *began;
  state.changed = state.full = false;
  state.seqnum_ahead = 0;
  return {};
}

Result<void> LmdbDatabase::try_begin() {
  return begin([] { return true; });
}

Result<void> LmdbDatabase::commit() {
  State& state = *state_;
  if (!in_transaction()) return failure(Fault::Refused, anchor().path() + ": no transaction is open");
  if (state.heap) {
    const std::uint32_t ahead = std::exchange(state.seqnum_ahead, 0);
    auto committed = state.heap->commit();
    if (committed && ahead > 0) state.anchor->shared().seqnum.fetch_add(ahead);
    return committed;
  }
  if (state.full) {
    cancel();
    state.full = true;
    return failure(Fault::StoreFull, anchor().path() + ": the transaction was too large");
  }
  const std::uint32_t ahead = state.seqnum_ahead;
  MDB_txn* txn = std::exchange(state.txn, nullptr);
  state.seqnum_ahead = 0;
  if (!state.changed) {
    state.env->abort(txn);
    return {};
  }
  auto committed = state.env->commit(txn);
  if (committed && ahead > 0) state.anchor->shared().seqnum.fetch_add(ahead);
  if (!committed && committed.error().fault == Fault::StoreFull) state.full = true;
  return committed;
}

void LmdbDatabase::cancel() {
  State& state = *state_;
  if (HeapDatabase* heap = state.in_heap()) {
    heap->cancel();
    state.seqnum_ahead = 0;
    return;
  }
  if (state.txn == nullptr) return;
  state.env->abort(std::exchange(state.txn, nullptr));
  state.seqnum_ahead = 0;
}

bool LmdbDatabase::in_transaction() {
  if (const HeapDatabase* heap = state_->in_heap()) return heap->in_transaction();
  return state_->txn != nullptr;
}

std::uint32_t LmdbDatabase::seqnum() {
  state_->check_fork();
  return anchor().shared().seqnum.load() + state_->seqnum_ahead;
}

void LmdbDatabase::bump_seqnum() { anchor().shared().seqnum.fetch_add(1); }
void LmdbDatabase::enable_seqnum() { anchor().shared().seqnum_enabled.store(1); }
bool LmdbDatabase::seqnum_enabled() const { return anchor().shared().seqnum_enabled.load() != 0; }
std::uint64_t LmdbDatabase::map_size() const { return state_->heap ? state_->heap->size() : anchor().shared().map_size.load(); }

std::uint64_t LmdbDatabase::generation() const {
  return state_->heap ? state_->heap->generation() : anchor().shared().generation.load();
}

bool LmdbDatabase::is_current(const LmdbItem& item) const {
  if (state_->heap) return state_->heap->is_current(item.position, item.stamp);
  return anchor().shared().generation.load() == item.stamp;
}

Result<void> LmdbDatabase::drop_all() {
  if (HeapDatabase* heap = state_->in_heap()) {
    auto dropped = heap->drop_all();
    if (dropped) state_->count_write();
    return dropped;
  }
  auto dropped = state_->write(0, state_->writer_wait(), [&](MDB_txn* txn) -> Result<void> {
    if (auto emptied = state_->empty(txn); !emptied) return emptied;
    auto description = state_->describe(txn);
    if (!description) return tl::unexpected(description.error());
    description->version_term = description->version_serial = description->version_seqnum = 0;
    if (auto put = state_->put_description(txn, *description); !put) return put;
    // Before the commit, while no writer can be in between: should the commit fail, the epoch has risen for
    // nothing, and the clients try again.
    anchor().shared().epoch.fetch_add(1);
    return {};
  });
  if (dropped) state_->count_write();
  return dropped;
}

Result<CopyVersion> LmdbDatabase::version() {
  if (state_->in_heap() != nullptr) return CopyVersion{};  // volatile copies have none
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  const auto d = state_->describe(reading.txn());
  if (!d) return tl::unexpected(d.error());
  return CopyVersion{Generation{d->version_term, static_cast<std::uint32_t>(d->version_serial)}, d->version_seqnum};
}

Result<void> LmdbDatabase::State::apply_entries(MDB_txn* in, const std::vector<RecordEntry>& entries) {
  for (const RecordEntry& entry : entries) {
    const Bytes header = encode_header(entry.header);
    const BytesView parts[] = {header, entry.value};
    if (auto done = put(in, entry.key, parts, StoreMode::Replace); !done) return done;
  }
  return {};
}

Result<void> LmdbDatabase::State::put_version(MDB_txn* in, const CopyVersion& version) {
  auto description = describe(in);
  if (!description) return tl::unexpected(description.error());
  description->version_term = version.generation.term;
  description->version_serial = version.generation.serial;
  description->version_seqnum = version.seqnum;
  if (auto room = env->reserve(sizeof(*description), 1); !room) return room;
  return put_description(in, *description);
}

Result<void> LmdbDatabase::apply(std::span<const DurableChange* const> changes) {
  if (state_->heap) return failure(Fault::Refused, anchor().path() + ": a volatile database has no commits");
  std::uint64_t bytes = 0;
  std::uint32_t entries = 0;
  for (const DurableChange* change : changes) {
    TDBMESH_CHECK(change->part == DurableChange::Part::All);
    for (const RecordEntry& entry : change->entries) {
      if (entry.key.size() > kMaxKeySize || entry.value.size() > kMaxValueSize) {
        return failure(Fault::Malformed, fmt::format("{}: a key of {} or a value of {} bytes is too long", anchor().path(),
                                                     entry.key.size(), entry.value.size()));
      }
      bytes += entry.key.size() + entry.value.size() + 64;
      ++entries;
    }
  }
  auto applied = state_->write(bytes, give_up_after(kWorkerWriterWait), [&](MDB_txn* txn) -> Result<void> {
    for (const DurableChange* change : changes) {
      if (change->replace_all) {
        if (auto emptied = state_->empty(txn); !emptied) return emptied;
      }
      if (auto put = state_->apply_entries(txn, change->entries); !put) return put;
      if (auto put = state_->put_version(txn, change->version); !put) return put;
    }
    return {};
  });
  if (applied && seqnum_enabled()) anchor().shared().seqnum.fetch_add(std::max<std::uint32_t>(entries, 1));
  return applied;
}

Result<void> LmdbDatabase::apply_part(const DurableChange& change) {
  if (state_->heap) return failure(Fault::Refused, anchor().path() + ": a volatile database has no commits");
  IncomingFile incoming(anchor().data_dir() + "/incoming");
  using Part = DurableChange::Part;
  if (auto added = incoming.append(change.entries, change.part == Part::First); !added) return added;
  if (change.part != Part::Last) return {};
  const auto bytes = incoming.size();
  if (!bytes) return tl::unexpected(bytes.error());
  std::uint32_t entries = 0;
  auto applied = state_->write(*bytes, give_up_after(kWorkerWriterWait), [&](MDB_txn* txn) -> Result<void> {
    if (change.replace_all) {
      if (auto emptied = state_->empty(txn); !emptied) return emptied;
    }
    entries = 0;  // tried again with a larger map
    auto read = incoming.for_each([&](const std::vector<RecordEntry>& batch) {
      entries += static_cast<std::uint32_t>(batch.size());
      return state_->apply_entries(txn, batch);
    });
    if (!read) return read;
    return state_->put_version(txn, change.version);
  });
  incoming.remove();
  if (applied && seqnum_enabled()) anchor().shared().seqnum.fetch_add(std::max<std::uint32_t>(entries, 1));
  return applied;
}

void LmdbDatabase::clear_dead_readers() {
  if (state_->in_heap() == nullptr && state_->env->is_open()) state_->env->clear_dead_readers();
}

Result<void> LmdbDatabase::check() {
  if (HeapDatabase* heap = state_->in_heap()) return heap->check();
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  const auto bad = [this](std::uint64_t position, const char* what) {
    return failure(Fault::StoreCorrupt, fmt::format("{}: record at {:#x}: {}", anchor().path(), position, what));
  };
  if (const auto description = state_->describe(reading.txn()); !description) return tl::unexpected(description.error());
  Cursor cursor(reading.txn(), state_->dbi());
  std::uint64_t count = 0;
  std::uint64_t last = 0;
  int rc = cursor.seek(0);
  for (; rc == 0; rc = cursor.next()) {
    ++count;
    const std::uint64_t position = cursor.position();
    if (count > 1 && position <= last) return bad(position, "out of order");
    last = position;
    if (position == kDescriptionAt) continue;
    const auto entry = split(cursor.data());
    if (!entry || entry->key.size() > kMaxKeySize) return bad(position, "lengths are wrong");
    const std::uint64_t first = first_position(state_->hash(entry->key));
    if (position < first || position >= first + kSlotsPerHash) return bad(position, "the key does not belong there");
  }
  if (rc != MDB_NOTFOUND) return lmdb_failure(rc, "cannot read " + anchor().path());
  MDB_stat stat{};
  mdb_stat(reading.txn(), state_->dbi(), &stat);
  if (stat.ms_entries != count) return bad(last, "the number of records is wrong");
  return {};
}

}  // namespace tdbmesh
