#include "db/lmdb_environment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "db/base/check.h"

namespace tdbmesh {

namespace {

constexpr std::uint64_t kFirstStep = 256 * 1024;       // blocks are allocated in steps from here ...
constexpr std::uint64_t kLargestStep = 16 * 1024 * 1024;  // ... to here
constexpr std::uint64_t kPagesPerChange = 24;  // copies of the path in two trees, with a split on each level
constexpr std::uint64_t kPagesPerTxn = 64;
constexpr std::chrono::seconds kResizeWait{10};

StopWaiting after(std::chrono::milliseconds wait) {
  return [until = std::chrono::steady_clock::now() + wait] { return std::chrono::steady_clock::now() >= until; };
}

// Holds the anchor's resize mutex for a block.
class Resizing {
 public:
  explicit Resizing(const Anchor& anchor) : mutex_(anchor.shared().resize_mutex), needed_(anchor.from_this_boot()) {
    if (needed_) held_ = lock_shared_mutex(mutex_, after(kResizeWait));
  }
  ~Resizing() {
    if (held_) unlock_shared_mutex(mutex_);
  }
  Resizing(const Resizing&) = delete;
  Resizing& operator=(const Resizing&) = delete;
  [[nodiscard]] bool held() const { return held_ || !needed_; }

 private:
  pthread_mutex_t& mutex_;
  const bool needed_;  // mutexes of an earlier boot mean nothing, and nobody else has that file mapped
  bool held_ = false;
};

}  // namespace

tl::unexpected<Error> lmdb_failure(int rc, const std::string& context) {
  Fault fault = Fault::Io;
  switch (rc) {
    case MDB_NOTFOUND: fault = Fault::NotFound; break;
    case MDB_KEYEXIST: fault = Fault::Exists; break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case MDB_MAP_FULL: fault = Fault::StoreFull; break;
    case MDB_READERS_FULL: fault = Fault::Busy; break;
    case EACCES:
    case EROFS: fault = Fault::Refused; break;
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE: fault = Fault::StoreCorrupt; break;
    default: break;
  }
  return failure(fault, fmt::format("{}: {}", context, mdb_strerror(rc)));
}

LmdbEnvironment::LmdbEnvironment(const Anchor& anchor, bool read_only, bool shared_between_threads)
    : anchor_(anchor),
      read_only_(read_only),
      threads_(shared_between_threads),
      through_map_(anchor.settings().kind != DatabaseKind::Persistent) {}

LmdbEnvironment::~LmdbEnvironment() { close(); }

void LmdbEnvironment::close() {
  if (env_ == nullptr) return;
  if (read_txn_ != nullptr) mdb_txn_abort(read_txn_);
  read_txn_ = nullptr;
  read_depth_ = 0;
  mdb_env_close(env_);
  env_ = nullptr;
}

void LmdbEnvironment::abandon_after_fork() {
  if (env_ == nullptr) return;
  // Aborting the inherited read transaction would free the parent's reader slot. Closing the environment only
  // clears slots with our own pid, of which there are none. The transaction structs leak, a few hundred bytes.
  read_txn_ = nullptr;
  read_depth_ = 0;
  mdb_env_close(env_);
  env_ = nullptr;
}

Result<void> LmdbEnvironment::create_files(const std::string& data_dir) {
  if (::mkdir(data_dir.c_str(), 0700) != 0) return system_failure("cannot create " + data_dir);
  // The reader table with real blocks, or touching it on a full disk would be a SIGBUS. LMDB takes the number of
  // readers from the size.
  const std::string lock_file = data_dir + "/lock.mdb";
  const int fd = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return system_failure("cannot create " + lock_file);
  const int rc = ::posix_fallocate(fd, 0, std::int64_t{kMaxReaders} * 64 + 4096);
  ::close(fd);
  if (rc != 0) return lmdb_failure(rc, "cannot allocate " + lock_file);
  // LMDB writes two meta pages into a new data file; give them blocks as well.
  const std::string data_file = data_dir + "/data.mdb";
  const int data = ::open(data_file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (data < 0) return system_failure("cannot create " + data_file);
  ::close(data);
  return {};
}

Result<void> LmdbEnvironment::open() {
  Resizing resizing(anchor_);
  if (!resizing.held()) return failure(Fault::Busy, "opening " + anchor_.path() + ": its map is being resized");
  auto opened = open_mapped();
  if (!opened) close();
  return opened;
}

Result<void> LmdbEnvironment::open_mapped() {
  const std::string dir = anchor_.data_dir();
  struct stat st {};
  // LMDB would create what is missing, and an empty database is not what was asked for.
  if (::stat((dir + "/data.mdb").c_str(), &st) != 0) {
    return failure(Fault::StoreCorrupt, fmt::format("{}: its data in {} is missing", anchor_.path(), dir));
  }
  if (const int rc = mdb_env_create(&env_); rc != 0) return lmdb_failure(rc, "cannot make an LMDB environment");
  mdb_env_set_mapsize(env_, anchor_.shared().map_size.load());
  mdb_env_set_maxreaders(env_, kMaxReaders);
  unsigned flags = MDB_NOTLS;
  if (through_map_) flags |= MDB_NOSYNC | MDB_WRITEMAP | MDB_NORDAHEAD | MDB_NOMEMINIT;
  if (read_only_) flags |= MDB_RDONLY;
  if (const int rc = mdb_env_open(env_, dir.c_str(), flags, 0600); rc != 0) return lmdb_failure(rc, "cannot open " + dir);
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // LMDB 0.9.24 forgets it for the data file

  MDB_stat stat{};
  mdb_env_stat(env_, &stat);
  page_size_ = stat.ms_psize;
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  // A data file that is shorter than its own last page would be a SIGBUS later.
  if (::fstat(fd, &st) != 0 || static_cast<std::uint64_t>(st.st_size) / page_size_ < info.me_last_pgno + 1) {
    return failure(Fault::StoreCorrupt, fmt::format("{}/data.mdb is cut off", dir));
  }

  MDB_txn* txn = nullptr;
  int rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn);
  if (rc == MDB_READERS_FULL) {
    clear_dead_readers();
    rc = mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn);
  }
  if (rc != 0) return lmdb_failure(rc, "cannot read " + dir);
  rc = mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &dbi_);
  mdb_txn_abort(txn);  // gives the reader slot back until it is needed
  if (rc != 0) return lmdb_failure(rc, "cannot open the records in " + dir);
  return {};
}

Result<void> LmdbEnvironment::map_again(std::uint64_t size) {
  const int rc = mdb_env_set_mapsize(env_, size);
  if (rc == 0) return {};
  // LMDB has unmapped already: only a new environment helps.
  auto error = lmdb_failure(rc, fmt::format("cannot map {} bytes of {}", size, anchor_.path()));
  close();
  if (auto opened = open_mapped(); !opened) close();
  return error;
}

Result<void> LmdbEnvironment::adopt_size() {
  std::unique_lock<std::shared_mutex> alone(use_, std::defer_lock);
  if (threads_) alone.lock();
  Resizing resizing(anchor_);
  if (!resizing.held()) return failure(Fault::Busy, anchor_.path() + ": its map is being resized");
  return map_again(anchor_.shared().map_size.load());
}

Result<void> LmdbEnvironment::grow(std::uint64_t bytes) {
  if (!threads_ && read_depth_ > 0) {
    return failure(Fault::StoreFull, anchor_.path() + ": the map is full, and it cannot grow while a record is being read");
  }
  std::unique_lock<std::shared_mutex> alone(use_, std::defer_lock);
  if (threads_) alone.lock();
  Resizing resizing(anchor_);
  if (!resizing.held()) return failure(Fault::Busy, anchor_.path() + ": its map is being resized");
  const Usage now = usage();
  const std::uint64_t others = anchor_.shared().map_size.load();
  std::uint64_t wanted = std::max(others, now.used + 2 * bytes + (1u << 20));
  if (others <= now.size) wanted = std::max(wanted, 2 * now.size);
  wanted = (wanted + page_size_ - 1) / page_size_ * page_size_;
  if (wanted > kLargestMapSize) {
    return failure(Fault::StoreFull, fmt::format("{}: the map has reached its limit of {} bytes", anchor_.path(), kLargestMapSize));
  }
  auto mapped = map_again(wanted);
  if (mapped) anchor_.shared().map_size.store(wanted);
  return mapped;
}

LmdbEnvironment::Usage LmdbEnvironment::usage() const {
  MDB_envinfo info{};
  mdb_env_info(env_, &info);
  return {(info.me_last_pgno + 1) * page_size_, info.me_mapsize};
}

void LmdbEnvironment::clear_dead_readers() {
  int dead = 0;
  mdb_reader_check(env_, &dead);
}

Result<MDB_txn*> LmdbEnvironment::begin_read() {
  if (read_depth_ > 0) {
    ++read_depth_;
    return read_txn_;
  }
  if (env_ == nullptr) {
    if (auto opened = open(); !opened) return tl::unexpected(opened.error());
  }
  for (int attempt = 0;; ++attempt) {
    enter();
    const int rc = read_txn_ != nullptr ? mdb_txn_renew(read_txn_) : mdb_txn_begin(env_, nullptr, MDB_RDONLY, &read_txn_);
    if (rc == 0) {
      read_depth_ = 1;
      return read_txn_;
    }
    leave();
    if (attempt > 2) return lmdb_failure(rc, "cannot read " + anchor_.path());
    if (rc == MDB_MAP_RESIZED) {
      if (auto adopted = adopt_size(); !adopted) return tl::unexpected(adopted.error());
    } else if (rc == MDB_READERS_FULL) {
      clear_dead_readers();
    } else {
      return lmdb_failure(rc, "cannot read " + anchor_.path());
    }
  }
}

void LmdbEnvironment::end_read() {
  TDBMESH_CHECK(read_depth_ > 0);
  if (--read_depth_ > 0) return;
  mdb_txn_reset(read_txn_);
  leave();
}

Result<MDB_txn*> LmdbEnvironment::begin_write(const StopWaiting& stop, bool wait) {
  if (read_only_) return failure(Fault::Refused, anchor_.path() + " was opened for reading only");
  if (env_ == nullptr) {
    if (auto opened = open(); !opened) return tl::unexpected(opened.error());
  }
  pthread_mutex_t& writer = anchor_.shared().writer_mutex;
  if (wait ? !lock_shared_mutex(writer, stop) : !try_lock_shared_mutex(writer)) {
    return failure(Fault::Busy, anchor_.path() + ": another process is writing");
  }
  for (int attempt = 0;; ++attempt) {
    MDB_txn* txn = nullptr;
    enter();
    const int rc = mdb_txn_begin(env_, nullptr, 0, &txn);
    if (rc == 0) {
      MDB_envinfo info{};
      mdb_env_info(env_, &info);  // nobody else can move it now
      first_free_page_ = info.me_last_pgno + 1;
      pages_promised_ = kPagesPerTxn + first_free_page_ / 400;  // the list of free pages is rewritten, too
      if (anchor_.retired()) {
        abort(txn);
        return failure(Fault::Refused, anchor_.path() + " was replaced: open it again");
      }
      return txn;
    }
    leave();
    Result<void> mended = lmdb_failure(rc, "cannot write to " + anchor_.path());
    if (attempt < 3 && rc == MDB_MAP_RESIZED && (threads_ || read_depth_ == 0)) mended = adopt_size();
    if (attempt < 3 && rc == MDB_PANIC && !threads_ && read_depth_ == 0) {
      close();
      mended = open();
    }
    if (!mended) {
      unlock_shared_mutex(writer);
      return tl::unexpected(mended.error());
    }
  }
}

Result<void> LmdbEnvironment::reserve(std::uint64_t bytes, std::uint64_t changes) {
  pages_promised_ += changes * kPagesPerChange + (bytes + page_size_ - 1) / page_size_ + 1;
  return allocate((first_free_page_ + pages_promised_) * page_size_);
}

Result<void> LmdbEnvironment::allocate(std::uint64_t end) {
  std::atomic<std::uint64_t>& have = anchor_.shared().preallocated;
  const std::uint64_t begin = have.load();
  if (end <= begin) return {};
  const std::uint64_t map_size = usage().size;
  if (end > map_size) end = std::max(begin, map_size);  // LMDB itself says that the map is full
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  const std::uint64_t step = std::clamp(begin / 8, kFirstStep, kLargestStep);
  // A whole step if there is room, else exactly what is needed.
  for (const std::uint64_t to : {std::min(std::max(end, begin + step), map_size), end}) {
    if (to <= begin) return {};
    // Not posix_fallocate: where the file system cannot do it, that writes into the file beside other writers.
    int rc = ::fallocate(fd, 0, static_cast<off_t>(begin), static_cast<off_t>(to - begin)) == 0 ? 0 : errno;
    if (rc == EOPNOTSUPP && !through_map_) rc = 0;  // then a full disk shows at the commit
    if (rc == 0) {
      have.store(to);
      return {};
    }
    if (to == end) return lmdb_failure(rc, fmt::format("{}: no room for {} more bytes", anchor_.path(), end - begin));
  }
  return {};
}

Result<void> LmdbEnvironment::commit(MDB_txn* txn) {
  const int rc = mdb_txn_commit(txn);
  leave();
  if (rc == 0) anchor_.shared().generation.fetch_add(1);
  unlock_shared_mutex(anchor_.shared().writer_mutex);
  if (rc != 0) return lmdb_failure(rc, "cannot commit to " + anchor_.path());
  return {};
}

void LmdbEnvironment::abort(MDB_txn* txn) {
  mdb_txn_abort(txn);
  leave();
  unlock_shared_mutex(anchor_.shared().writer_mutex);
}

}  // namespace tdbmesh
