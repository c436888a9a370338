#include "db/lmdb_database.h"

#include <fmt/format.h>

#include "db/base/check.h"
#include "db/heap_database.h"
#include "db/incoming_file.h"
#include "db/key_hash.h"
#include "db/lmdb_environment.h"
#include "db/lmdb_records.h"
#include "db/open_files.h"

namespace tdbmesh {

namespace {

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
  std::optional<LmdbRecords> records;    // in `env`
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
  void make_environment() {
    env = std::make_unique<LmdbEnvironment>(*anchor, role == Role::Inspector, role == Role::Daemon);
    records.emplace(*anchor, *env);
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

  // The heap of a volatile database, with a fork noticed; else null.
  HeapDatabase* in_heap() {
    check_fork();
    return heap.get();
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
  state.make_environment();
  if (auto opened = state.env->open(); !opened) return opened;
  LmdbRecords::Description description;
  description.identity = settings.identity;
  description.hash_seed = settings.hash_seed;
  description.hash_mask = settings.hash_mask;
  return state.write(sizeof(description), {}, [&](MDB_txn* txn) { return state.records->put_description(txn, description); });
}

Result<std::unique_ptr<LmdbDatabase>> LmdbDatabase::open(const std::string& anchor_path, Role role, AnchorFile file) {
  if (same_file_open(anchor_path)) return failure(Fault::Busy, anchor_path + " is open already in this process");
  auto anchor = Anchor::open(anchor_path, role == Role::Inspector ? Anchor::ForBoot::Any : Anchor::ForBoot::This, std::move(file));
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
  state->make_environment();
  if (auto opened = state->env->open(); !opened) return tl::unexpected(opened.error());
  {
    const State::Reading reading(*state);
    if (!reading) return reading.error();
    const auto description = state->records->describe(reading.txn());
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
  return LmdbRecords::settings_of_files(data_dir);
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
  const auto place = state_->records->locate(reading.txn(), key);
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
  const std::size_t size = total_size(parts);
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
    const auto found = parse(key, [&](BytesView stored) { unchanged = same_value(stored, parts); });
    if (found && *found && unchanged) {
      auto may = state_->allowed(key, chain);
      if (may) state_->count_write();
      return may;
    }
  }
  auto stored = state_->write(size + key.size(), state_->writer_wait(), [&](MDB_txn* txn) -> Result<void> {
    // Inside the transaction, because emptying the database is one, too.
    if (auto may = state_->allowed(key, chain); !may) return may;
    return state_->records->put(txn, key, parts, mode);
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
    auto done = state_->records->erase(txn, key);
    if (!done) return tl::unexpected(done.error());
    was_there = *done;
    return {};
  });
  if (!erased) return tl::unexpected(erased.error());
  if (was_there) state_->count_write();
  return was_there;
}

Result<void> LmdbDatabase::wipe() {
  HeapDatabase* heap = state_->in_heap();
  auto wiped = heap != nullptr ? heap->wipe() : state_->write(0, state_->writer_wait(), [&](MDB_txn* txn) { return state_->records->empty(txn); });
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
  auto items = state_->records->scan(reading.txn(), from, most, most_bytes, stamp, batch.done);
  if (!items) return tl::unexpected(items.error());
  batch.items = std::move(*items);
  if (!batch.items.empty()) batch.next = batch.items.back().position + 1;
  batch.done = batch.done || batch.next == 0;  // 0: past the very last position
  return batch;
}

Result<std::optional<Bytes>> LmdbDatabase::first_key() {
  if (HeapDatabase* heap = state_->in_heap()) return heap->next_key(std::nullopt);
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  return state_->records->next_key(reading.txn(), std::nullopt);
}

Result<std::optional<Bytes>> LmdbDatabase::next_key(BytesView key) {
  if (HeapDatabase* heap = state_->in_heap()) return heap->next_key(key);
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  return state_->records->next_key(reading.txn(), key);
}

Result<std::uint64_t> LmdbDatabase::record_count() {
  if (HeapDatabase* heap = state_->in_heap()) return heap->record_count();
  const State::Reading reading(*state_);
  if (!reading) return reading.error();
  return state_->records->count(reading.txn());
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
    if (auto emptied = state_->records->empty(txn); !emptied) return emptied;
    if (auto put = state_->put_version(txn, {}); !put) return put;
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
  const auto d = state_->records->describe(reading.txn());
  if (!d) return tl::unexpected(d.error());
  return CopyVersion{Generation{d->version_term, static_cast<std::uint32_t>(d->version_serial)}, d->version_seqnum};
}

Result<void> LmdbDatabase::State::apply_entries(MDB_txn* in, const std::vector<RecordEntry>& entries) {
  for (const RecordEntry& entry : entries) {
    const Bytes header = encode_header(entry.header);
    const BytesView parts[] = {header, entry.value};
    if (auto done = records->put(in, entry.key, parts, StoreMode::Replace); !done) return done;
  }
  return {};
}

Result<void> LmdbDatabase::State::put_version(MDB_txn* in, const CopyVersion& version) {
  auto description = records->describe(in);
  if (!description) return tl::unexpected(description.error());
  description->version_term = version.generation.term;
  description->version_serial = version.generation.serial;
  description->version_seqnum = version.seqnum;
  return records->put_description(in, *description);
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
        if (auto emptied = state_->records->empty(txn); !emptied) return emptied;
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
      if (auto emptied = state_->records->empty(txn); !emptied) return emptied;
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
  return state_->records->check(reading.txn());
}

}  // namespace tdbmesh
