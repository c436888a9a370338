#include "db/lmdb_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "db/base/check.h"
#include "db/base/hash.h"

namespace tdbmesh {

namespace fs = std::filesystem;

namespace {

constexpr unsigned kLongestCheck = 120;  // seconds for the check of one persistent database

std::uint64_t random_number() {
  std::uint64_t value = 0;
  TDBMESH_CHECK(::getrandom(&value, sizeof(value), 0) == static_cast<ssize_t>(sizeof(value)));
  return value;
}

Result<void> make_directory(const std::string& dir) {
  std::error_code error;
  if (fs::is_directory(dir, error)) return {};
  fs::create_directories(fs::path(dir).parent_path(), error);
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return system_failure("cannot create directory " + dir);
  return {};
}

void remove_tree(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

// Marks an anchor as replaced and returns the epoch it had reached; 0 if there is none.
std::uint64_t retire(const std::string& path) {
  const auto anchor = Anchor::open(path, Anchor::ForBoot::Any);
  if (!anchor) return 0;
  const std::uint64_t epoch = (*anchor)->shared().epoch.exchange(kRetiredEpoch);
  return epoch == kRetiredEpoch ? 0 : epoch;
}

std::string stem_for(Pnn pnn) { return fmt::format(".{}", number(pnn)); }

// Runs `check` in a child process, so that a damaged LMDB file can at worst crash the child.
template <class F>
Result<void> in_child(const std::string& what, F&& check) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_failure("cannot check " + what);
  const pid_t child = ::fork();
  if (child < 0) {
    const auto error = system_failure("cannot check " + what);
    ::close(ends[0]);
    ::close(ends[1]);
    return error;
  }
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    ::signal(SIGSEGV, SIG_DFL);
    ::signal(SIGBUS, SIG_DFL);
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(kLongestCheck);
    const Result<void> result = check();
    std::string verdict = "+";
    if (!result) verdict = (result.error().fault == Fault::StoreCorrupt ? "-" : "!") + result.error().context.substr(0, 1000);
    (void)!::write(ends[1], verdict.data(), verdict.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string verdict;
  char buffer[1024];
  for (;;) {
    const ssize_t got = ::read(ends[0], buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    verdict.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (verdict == "+") return {};
  if (verdict.empty()) return failure(Fault::StoreCorrupt, "reading all of " + what + " crashed");
  return failure(verdict[0] == '!' ? Fault::Io : Fault::StoreCorrupt, verdict.substr(1));
}

}  // namespace

// One open database behind the interface of store.h.
class LmdbStore::Entry : public Database {
 public:
  explicit Entry(std::shared_ptr<LmdbDatabase> lmdb) : lmdb_(std::move(lmdb)) {}

  [[nodiscard]] const std::string& name() const override { return lmdb_->anchor().settings().name; }
  [[nodiscard]] DatabaseId id() const override { return lmdb_->anchor().id(); }
  [[nodiscard]] DatabaseKind kind() const override { return lmdb_->kind(); }
  [[nodiscard]] const std::string& path() const override { return lmdb_->anchor().path(); }

  bool try_lock(BytesView key) override { return lmdb_->try_lock(key).has_value(); }
  void unlock(BytesView key) override { TDBMESH_CHECK(lmdb_->unlock(key).has_value()); }
  [[nodiscard]] std::uint64_t client_locks(BytesView key) const override {
    return lmdb_->locks().client_uses(lmdb_->chain_of(key));
  }

  [[nodiscard]] Result<std::optional<StoredRecord>> fetch(BytesView key) const override {
    std::optional<StoredRecord> record;
    const auto found = lmdb_->parse(key, [&record](BytesView stored) { record = decode(stored); });
    if (!found) return tl::unexpected(found.error());
    return record;
  }
  Result<void> store(BytesView key, const RecordHeader& header, BytesView value) override {
    const Bytes head = encode_header(header);
    const BytesView parts[] = {head, value};
    return lmdb_->store(key, parts);
  }
  Result<void> erase(BytesView key) override {
    const auto erased = lmdb_->erase(key);
    if (!erased) return tl::unexpected(erased.error());
    return {};
  }

  [[nodiscard]] Result<ScanBatch> scan(ScanPosition from, std::size_t most) const override {
    auto batch = lmdb_->scan(from.at, most);
    if (!batch) return tl::unexpected(batch.error());
    ScanBatch result;
    result.next.at = batch->next;
    result.done = batch->done;
    result.records.reserve(batch->items.size());
    for (LmdbItem& item : batch->items) {
      if (auto record = decode(item.value)) result.records.push_back({std::move(item.key), std::move(*record)});
    }
    return result;
  }
  [[nodiscard]] std::uint64_t record_count() const override { return lmdb_->record_count().value_or(0); }

  Result<void> drop_all() override {
    if (!lmdb_->locks().gather_all()) return failure(Fault::Busy, path() + ": clients hold chain locks");
    auto dropped = lmdb_->drop_all();
    lmdb_->locks().release_gathered();
    return dropped;
  }
  [[nodiscard]] CopyVersion version() const override { return lmdb_->version().value_or(CopyVersion{}); }

  void enable_seqnum() override { lmdb_->enable_seqnum(); }
  [[nodiscard]] bool seqnum_enabled() const override { return lmdb_->seqnum_enabled(); }
  [[nodiscard]] std::uint32_t seqnum() const override { return lmdb_->seqnum(); }
  void bump_seqnum() override { lmdb_->bump_seqnum(); }

  [[nodiscard]] const std::shared_ptr<LmdbDatabase>& lmdb() const { return lmdb_; }

 private:
  static std::optional<StoredRecord> decode(BytesView stored) {
    const auto header = decode_header(stored);
    if (!header) return std::nullopt;
    return StoredRecord{*header, Bytes(stored.substr(kRecordHeaderSize))};
  }
  std::shared_ptr<LmdbDatabase> lmdb_;
};

LmdbStore::LmdbStore(LmdbStoreConfig config) : config_(std::move(config)) {}
LmdbStore::~LmdbStore() = default;

Result<std::unique_ptr<LmdbStore>> LmdbStore::create(LmdbStoreConfig config) {
  for (const std::string& dir : {config.volatile_dir, config.persistent_dir}) {
    if (auto made = make_directory(dir); !made) return tl::unexpected(made.error());
  }
  std::unique_ptr<LmdbStore> store(new LmdbStore(std::move(config)));
  // What earlier daemons left: volatile data is worthless to us, and its clients must not go on using it.
  std::error_code error;
  std::vector<std::string> leftovers;
  for (const auto& item : fs::directory_iterator(store->config_.volatile_dir, error)) {
    const std::string path = item.path().string();
    const std::string file = item.path().filename().string();
    if (item.is_regular_file(error) && Anchor::is_anchor(path)) {
      if (const std::uint64_t epoch = retire(path); epoch > 0) store->last_epochs_[path] = epoch;
      leftovers.push_back(path);
    } else if (item.is_directory(error) && (file.find(".lmdb-") != std::string::npos || file.find(".heap-") != std::string::npos)) {
      leftovers.push_back(path);
    }
  }
  for (const std::string& path : leftovers) remove_tree(path);
  return store;
}

std::string LmdbStore::anchor_path(const std::string& name, DatabaseKind kind) const {
  const std::string& dir = kind == DatabaseKind::Persistent ? config_.persistent_dir : config_.volatile_dir;
  return dir + "/" + name + stem_for(config_.pnn);
}

AnchorSettings LmdbStore::new_settings(const std::string& name, DatabaseKind kind, std::string data_dir) const {
  AnchorSettings settings;
  settings.name = name;
  settings.kind = kind;
  settings.pnn = config_.pnn;
  settings.data_dir = std::move(data_dir);
  settings.gate_path = config_.gate_path;
  settings.identity = random_number();
  settings.hash_seed = random_number();
  settings.hash_mask = config_.hash_mask;
  settings.map_size = config_.map_size;
  return settings;
}

Result<Database*> LmdbStore::open(const std::string& name, DatabaseKind kind) {
  if (name.empty() || name.size() > 200 || name[0] == '.' || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
    return failure(Fault::Malformed, fmt::format("'{}' cannot be the name of a database", name));
  }
  const DatabaseId id = database_id(name);
  if (const auto found = databases_.find(id); found != databases_.end()) {
    if (found->second->name() != name || found->second->kind() != kind) {
      return failure(Fault::Exists, fmt::format("'{}' is open already, with another name or kind", name));
    }
    return found->second.get();
  }
  auto lmdb = kind == DatabaseKind::Persistent ? open_persistent(name) : open_fresh(name, kind);
  if (!lmdb) return tl::unexpected(lmdb.error());
  auto entry = std::make_unique<Entry>(std::move(*lmdb));
  Database* result = entry.get();
  const std::lock_guard lock(mutex_);
  databases_[id] = std::move(entry);
  return result;
}

Result<std::shared_ptr<LmdbDatabase>> LmdbStore::open_fresh(const std::string& name, DatabaseKind kind) {
  const std::string path = anchor_path(name, kind);
  std::error_code error;
  if (fs::exists(path, error) && !Anchor::is_anchor(path)) {
    return failure(Fault::Refused, path + " is not a database of tdbmesh: move it away");
  }
  AnchorSettings settings = new_settings(name, kind, "");
  settings.data_dir = fmt::format("{}.{}-{:016x}", path, kind == DatabaseKind::Volatile ? "heap" : "lmdb", settings.identity);
  const auto last = last_epochs_.find(path);
  settings.epoch = (last == last_epochs_.end() ? 0 : last->second) + 1;
  if (auto made = LmdbDatabase::create(path, settings); !made) {
    remove_tree(settings.data_dir);
    std::error_code ignored;
    fs::remove(path, ignored);
    return tl::unexpected(made.error());
  }
  auto opened = LmdbDatabase::open(path, LmdbDatabase::Role::Daemon);
  if (!opened) return tl::unexpected(opened.error());
  return std::shared_ptr<LmdbDatabase>(std::move(*opened));
}

Result<void> LmdbStore::set_aside(const std::string& anchor, const std::string& data_dir, const std::string& why) {
  retire(anchor);
  std::error_code error;
  fs::remove(anchor, error);
  if (!fs::exists(data_dir, error)) return {};
  for (int n = 1; n < 10000; ++n) {
    const std::string to = fmt::format("{}.corrupt-{}", data_dir, n);
    if (fs::exists(to, error)) continue;
    if (::rename(data_dir.c_str(), to.c_str()) != 0) return system_failure("cannot set aside " + data_dir);
    notices_.push_back(fmt::format("{} cannot be trusted ({}): it is now {}, and an empty database takes its place", data_dir, why, to));
    return {};
  }
  return failure(Fault::Io, "too many damaged databases beside " + data_dir);
}

Result<std::shared_ptr<LmdbDatabase>> LmdbStore::open_persistent(const std::string& name) {
  const std::string path = anchor_path(name, DatabaseKind::Persistent);
  const std::string data_dir = path + ".lmdb";
  std::error_code error;
  if (fs::exists(path, error) && !Anchor::is_anchor(path)) {
    return failure(Fault::Refused, path + " is not a database of tdbmesh (a TDB of CTDB?): move it away");
  }
  // Twice: if the files are damaged they are set aside, and the second round creates an empty database.
  for (int round = 0; round < 2; ++round) {
    const bool have_data = fs::exists(data_dir, error);
    Result<void> ready;
    if (have_data) {
      ready = in_child(data_dir, [&]() -> Result<void> {
        const auto files = LmdbDatabase::settings_of_files(data_dir);
        if (!files) return tl::unexpected(files.error());
        return {};
      });
      if (ready) ready = renew_anchor(name, path, data_dir);
      if (ready) {
        ready = in_child(path, [&]() -> Result<void> {
          const auto database = LmdbDatabase::open(path, LmdbDatabase::Role::Inspector);
          if (!database) return tl::unexpected(database.error());
          return (*database)->check();
        });
      }
    } else {
      if (fs::exists(path, error) && !damage_.contains(database_id(name))) {
        damage_[database_id(name)] = data_dir + " is missing";
        notices_.push_back(data_dir + " is missing: an empty database takes its place");
      }
      retire(path);
      ready = LmdbDatabase::create(path, new_settings(name, DatabaseKind::Persistent, data_dir));
      if (!ready) remove_tree(data_dir);
    }
    if (ready) {
      auto opened = LmdbDatabase::open(path, LmdbDatabase::Role::Daemon);
      if (opened) return std::shared_ptr<LmdbDatabase>(std::move(*opened));
      ready = tl::unexpected(opened.error());
    }
    if (ready.error().fault != Fault::StoreCorrupt || !have_data) return tl::unexpected(ready.error());
    damage_[database_id(name)] = ready.error().context;
    if (auto aside = set_aside(path, data_dir, ready.error().context); !aside) return tl::unexpected(aside.error());
  }
  return failure(Fault::StoreCorrupt, path + " cannot be created");
}

// The lock table of an anchor is good for one boot, and its settings for one configuration; the data files know
// the rest. Only called for data files whose description can be read.
Result<void> LmdbStore::renew_anchor(const std::string& name, const std::string& path, const std::string& data_dir) {
  auto files = LmdbDatabase::settings_of_files(data_dir);
  if (!files) return tl::unexpected(files.error());
  AnchorSettings wanted = new_settings(name, DatabaseKind::Persistent, data_dir);
  wanted.identity = files->identity;
  wanted.hash_seed = files->hash_seed;
  wanted.hash_mask = files->hash_mask;
  wanted.map_size = std::max(files->map_size, config_.map_size == 0 ? std::uint64_t{1} << 32 : config_.map_size);
  {
    const auto old = Anchor::open(path, Anchor::ForBoot::Any);
    if (old) {
      const AnchorSettings& have = (*old)->settings();
      const bool same = have.name == name && have.kind == DatabaseKind::Persistent && have.pnn == config_.pnn &&
                        have.data_dir == data_dir && have.gate_path == config_.gate_path && have.identity == wanted.identity &&
                        have.hash_seed == wanted.hash_seed && have.hash_mask == wanted.hash_mask;
      if (same && (*old)->from_this_boot() && !(*old)->retired()) return {};
      wanted.epoch = have.epoch == kRetiredEpoch ? 1 : have.epoch + 1;
      wanted.seqnum = have.seqnum + 1;
      if ((*old)->from_this_boot()) wanted.map_size = std::max(wanted.map_size, have.map_size);
      (*old)->retire();
    }
  }
  return Anchor::create(path, wanted);
}

Result<void> LmdbStore::remove(DatabaseId id) {
  const auto found = databases_.find(id);
  if (found == databases_.end()) return failure(Fault::NotFound, "database " + to_string(id) + " is not open");
  const std::shared_ptr<LmdbDatabase> lmdb = found->second->lmdb();
  {
    const std::lock_guard lock(mutex_);
    databases_.erase(found);
  }
  if (lmdb->kind() == DatabaseKind::Persistent) return {};
  last_epochs_[lmdb->anchor().path()] = lmdb->epoch();
  lmdb->anchor().retire();
  std::error_code ignored;
  fs::remove(lmdb->anchor().path(), ignored);
  remove_tree(lmdb->anchor().settings().data_dir);
  return {};
}

Result<std::vector<std::pair<std::string, DatabaseKind>>> LmdbStore::existing() const {
  // Anchors, and data files whose anchor was lost: open() makes a new one.
  std::map<std::string, DatabaseKind> found;
  std::error_code error;
  const std::string ending = stem_for(config_.pnn);
  const auto name_of = [&](const std::string& file, const std::string& tail) -> std::optional<std::string> {
    if (file.size() <= tail.size() || !file.ends_with(tail)) return std::nullopt;
    return file.substr(0, file.size() - tail.size());
  };
  for (const auto& item : fs::directory_iterator(config_.persistent_dir, error)) {
    const std::string file = item.path().filename().string();
    if (item.is_directory(error)) {
      if (auto name = name_of(file, ending + ".lmdb")) found[*name] = DatabaseKind::Persistent;
    } else if (auto name = name_of(file, ending); name && Anchor::is_anchor(item.path().string())) {
      found[*name] = DatabaseKind::Persistent;
    }
  }
  if (error) return failure(Fault::Io, fmt::format("cannot list {}: {}", config_.persistent_dir, error.message()));
  return std::vector<std::pair<std::string, DatabaseKind>>(found.begin(), found.end());
}

std::string LmdbStore::damage(DatabaseId id) const {
  const auto found = damage_.find(id);
  return found == damage_.end() ? std::string() : found->second;
}

std::vector<std::string> LmdbStore::take_notices() { return std::exchange(notices_, {}); }

void LmdbStore::maintain() {
  for (const auto& [id, entry] : databases_) entry->lmdb()->clear_dead_readers();
}

std::shared_ptr<LmdbDatabase> LmdbStore::lmdb(DatabaseId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = databases_.find(id);
  return found == databases_.end() ? nullptr : found->second->lmdb();
}

}  // namespace tdbmesh
