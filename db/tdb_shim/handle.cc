#include "db/tdb_shim/handle.h"

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <mutex>

#include "db/tdb_shim/daemon_client.h"

namespace tdbmesh::shim {
namespace {

// What a tdb_context* of ours points at. libtdb keeps a heap pointer in these first eight bytes; no pointer of
// x86-64 or arm64 user space looks like this one.
constexpr std::uint64_t kFaceMagic = 0xA7D8'6D65'7368'7464u;
struct Face {
  std::uint64_t magic = kFaceMagic;
  Handle* handle = nullptr;
};

// All handles of the process, for tdb_reopen_all. Leaked: exit handlers close databases, too.
struct Registry {
  std::mutex mutex;
  std::vector<Handle*> handles;
};
Registry& registry() {
  static Registry* const all = [] {
    auto* made = new Registry;
    // A fork in another thread must not leave the child with a locked registry.
    pthread_atfork([] { registry().mutex.lock(); }, [] { registry().mutex.unlock(); },
                   [] { registry().mutex.unlock(); });
    return made;
  }();
  return *all;
}

int errno_of(const Error& error, int system) {
  switch (error.fault) {
    case Fault::NotFound: return ENOENT;
    case Fault::Busy: return EBUSY;
    case Fault::StoreFull: return ENOSPC;
    case Fault::Io: return system != 0 ? system : EIO;
    default: return EIO;  // what libtdb says of a file it does not know
  }
}

// The checks libtdb makes of its arguments, as far as they are about any database. 0 or errno.
int wrong_arguments(int tdb_flags, int open_flags) {
  if ((tdb_flags & TDB_ALLOW_NESTING) != 0 && (tdb_flags & TDB_DISALLOW_NESTING) != 0) return EINVAL;
  switch (open_flags & O_ACCMODE) {
    case O_WRONLY: return EINVAL;
    case O_ACCMODE: return EBADF;
    default: break;
  }
  if ((open_flags & O_CREAT) != 0 && (open_flags & O_EXCL) != 0) return EEXIST;
  if ((open_flags & O_TRUNC) != 0) return EINVAL;  // the anchor belongs to the daemon
  return 0;
}

}  // namespace

Handle* Handle::of(tdb_context* tdb) {
  if (tdb == nullptr) return nullptr;
  const Face* face = reinterpret_cast<const Face*>(tdb);
  if (face->magic != kFaceMagic) return nullptr;
  if (face->handle->forks_ != fork_count()) face->handle->forget_after_fork();
  return face->handle;
}

tdb_context* Handle::open(const char* name, int tdb_flags, int open_flags, const tdb_logging_context* log, AnchorFile file) {
  auto face = std::make_unique<Face>();
  std::unique_ptr<Handle> handle(new Handle);
  face->handle = handle.get();
  handle->face_ = reinterpret_cast<tdb_context*>(face.get());
  handle->name_ = name;
  handle->forks_ = fork_count();
  if (log != nullptr) handle->log_ = *log;

  const auto give_up = [&](int why, const std::string& text) -> tdb_context* {
    handle->log(TDB_DEBUG_ERROR, text);
    errno = why;
    return nullptr;
  };
  if (const int wrong = wrong_arguments(tdb_flags, open_flags); wrong != 0) {
    return give_up(wrong, fmt::format("cannot open {}: the flags do not fit", name));
  }
  // Each LMDB environment allocates megabytes of tables: from fresh pages, or they have to be zeroed at every fork.
  static const int pinned = mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  (void)pinned;
  errno = 0;
  auto db = LmdbDatabase::open(name, LmdbDatabase::Role::Client, std::move(file));
  if (!db) return give_up(errno_of(db.error(), errno), db.error().context);
  handle->db_ = std::move(*db);

  // CLEAR_IF_FIRST is the daemon's business: it was first, and nobody else ever empties the database.
  handle->read_only_ = (open_flags & O_ACCMODE) == O_RDONLY;
  handle->flags_ = tdb_flags;
  if (handle->read_only_) handle->flags_ = (handle->flags_ | TDB_NOLOCK) & ~TDB_CLEAR_IF_FIRST;
  if ((tdb_flags & TDB_DISALLOW_NESTING) == 0) handle->flags_ |= TDB_ALLOW_NESTING;
  if ((tdb_flags & TDB_SEQNUM) != 0) handle->enable_seqnum();
  // Now: smbd works with a user's rights later, and these may not reach the runtime directory.
  handle->find_gate();
  {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    all.handles.push_back(handle.get());
  }
  (void)handle.release();
  return reinterpret_cast<tdb_context*>(face.release());
}

Handle::~Handle() {
  if (db_ != nullptr) {
    held_locks().remove_all_of(*this);
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    all.handles.erase(std::remove(all.handles.begin(), all.handles.end(), this), all.handles.end());
  }
}

int Handle::close() {
  Face* face = reinterpret_cast<Face*>(face_);
  delete this;  // cancels a transaction, releases the locks
  face->magic = 0;
  delete face;
  return 0;
}

void Handle::forget_after_fork() {
  forks_ = fork_count();
  all_.reset();
  all_count_ = 0;
  all_marks_ = 0;
  marks_.clear();
  transaction_ = {};
}

int Handle::reopen() {
  if (transaction_.depth == 0 && !holds_locks()) {
    const auto opened = db_->reopen();
    if (opened) return 0;
    log(TDB_DEBUG_ERROR, opened.error().context);
  } else {
    log(TDB_DEBUG_ERROR, "reopen with locks held or inside a transaction");
  }
  close();
  return -1;
}

int Handle::reopen_all() {
  std::vector<Handle*> handles;
  {
    const std::lock_guard lock(registry().mutex);
    handles = registry().handles;
  }
  int result = 0;
  for (Handle* handle : handles) {
    if (handle->forks_ != fork_count()) handle->forget_after_fork();
    if (handle->reopen() != 0) result = -1;
  }
  return result;
}

void Handle::set_logging_function(const tdb_logging_context* log) {
  log_ = log != nullptr ? *log : tdb_logging_context{nullptr, nullptr};
}

const char* Handle::errorstr() const {
  static constexpr std::array<const char*, 11> texts = {
      "Success",       "Corrupt database",           "IO Error",        "Locking error",
      "Out of memory", "Record exists",              "Lock exists on other keys",
      "Lock timeout",  "Record does not exist",      "Invalid parameter", "write not permitted"};
  return static_cast<std::size_t>(error_) < texts.size() ? texts[error_] : "Invalid error code";
}

void Handle::add_flags(unsigned flags) {
  if ((flags & TDB_ALLOW_NESTING) != 0 && (flags & TDB_DISALLOW_NESTING) != 0) {
    (void)fail(TDB_ERR_NESTING);
    return;
  }
  if ((flags & TDB_ALLOW_NESTING) != 0) flags_ &= ~TDB_DISALLOW_NESTING;
  if ((flags & TDB_DISALLOW_NESTING) != 0) flags_ &= ~TDB_ALLOW_NESTING;
  flags_ |= static_cast<int>(flags);
  if ((flags & TDB_SEQNUM) != 0) db_->enable_seqnum();
}

void Handle::remove_flags(unsigned flags) {
  if ((flags & TDB_ALLOW_NESTING) != 0 && (flags & TDB_DISALLOW_NESTING) != 0) {
    (void)fail(TDB_ERR_NESTING);
    return;
  }
  if ((flags & TDB_NOLOCK) != 0 && (flags_ & TDB_NOLOCK) != 0) {
    (void)fail(TDB_ERR_NOLOCK);
    return;
  }
  if ((flags & TDB_ALLOW_NESTING) != 0) flags_ |= TDB_DISALLOW_NESTING;
  if ((flags & TDB_DISALLOW_NESTING) != 0) flags_ |= TDB_ALLOW_NESTING;
  flags_ &= ~static_cast<int>(flags);
}

void Handle::enable_seqnum() {
  flags_ |= TDB_SEQNUM;
  if (!read_only_) db_->enable_seqnum();
}

void Handle::increment_seqnum_nonblock() {
  if (read_only_ || (flags_ & TDB_SEQNUM) == 0) return;
  if (transaction_.depth > 0) {
    ++transaction_.bumps;
    transaction_.changed = true;
  } else {
    db_->bump_seqnum();
  }
}

void Handle::log(tdb_debug_level level, const std::string& text) {
  const int saved = errno;
  if (log_.log_fn != nullptr) {
    log_.log_fn(face_, level, "tdbmesh: %s: %s\n", name_.c_str(), text.c_str());
  } else {
    std::fprintf(stderr, "tdbmesh: %s: %s\n", name_.c_str(), text.c_str());
  }
  errno = saved;
}

void Handle::refuse(const char* what) {
  error_ = TDB_ERR_EINVAL;
  log(TDB_DEBUG_ERROR, fmt::format("{} does not apply to a database of tdbmesh (use tdbmesh or dbtool)", what));
}

void Handle::failed_inside(const char* what) noexcept {
  error_ = TDB_ERR_OOM;
  std::fprintf(stderr, "tdbmesh: %s: %s failed inside: out of memory?\n", name_.c_str(), what);
}

int Handle::fail(const Error& error) {
  switch (error.fault) {
    case Fault::NotFound: return fail(TDB_ERR_NOEXIST);
    case Fault::Exists: return fail(TDB_ERR_EXISTS);
    case Fault::Busy: return fail(TDB_ERR_LOCK);
    case Fault::Malformed: return fail(TDB_ERR_EINVAL);
    case Fault::StoreCorrupt: error_ = TDB_ERR_CORRUPT; break;
    default: error_ = TDB_ERR_IO; break;
  }
  if (error.fault == Fault::Refused && (db_->anchor().retired() || emptied_under_lock())) return cut_off(error.context);
  log(TDB_DEBUG_ERROR, error.context);
  return -1;
}

int Handle::cut_off(const std::string& why) {
  const std::string& gate = db_->anchor().settings().gate_path;
  if (gated() && connected_to(gate.substr(0, gate.rfind('/') + 1) + "ctdbd.socket")) {
    log(TDB_DEBUG_FATAL, why + "; this process ends");
    ::_exit(1);
  }
  log(TDB_DEBUG_ERROR, why);
  return fail(TDB_ERR_IO);
}

bool Handle::emptied_under_lock() {
  const std::uint64_t now = db_->anchor().shared().epoch.load();
  auto& held = held_locks();
  return std::any_of(held.begin(), held.end(), [&](const HeldLock& lock) {
    if (lock.handle != this || lock.everything) return false;
    const auto taken = db_->locks().epoch_when_taken(lock.chain);
    return taken && *taken != now;
  });
}

StopWaiting Handle::stop_waiting() const {
  if (alarm_ == nullptr) return {};
  return [flag = alarm_] { return *flag != 0; };
}

// --- the gate ---------------------------------------------------------------------------------------------

// All databases of a node have one gate: a process maps it once. Leaves gate_ as it is if there is none.
void Handle::find_gate() {
  const std::string& path = db_->anchor().settings().gate_path;
  const std::lock_guard lock(registry().mutex);  // others look at gate_, too
  for (const Handle* other : registry().handles) {
    if (other == this || other->gate_ == nullptr || !other->gate_->is_at(path)) continue;
    gate_ = other->gate_->another();
    return;
  }
  if (auto gate = GateView::open(path)) gate_ = std::move(*gate);
}

bool Handle::daemon_alive() {
  if (gate_ != nullptr && gate_->daemon_alive()) return true;
  // The file may have been replaced together with its directory.
  if (gate_ != nullptr && gate_->is_at(db_->anchor().settings().gate_path)) return false;
  find_gate();
  return gate_ != nullptr && gate_->daemon_alive();
}

bool Handle::needs_gate(Access access) const {
  // A persistent copy may be read at any time: what is in it was committed. Writing it is another matter.
  return access == Access::Write || gated();
}

bool Handle::wait_for_gate() {
  if (gate_open()) return true;
  const LocksGivenBack given_back;
  for (;;) {
    if (!daemon_alive()) {
      (void)cut_off("no tdbmeshd runs here: nothing can be locked, stored or read from volatile databases");
      return false;
    }
    if (db_->anchor().retired()) {
      (void)cut_off("the database was replaced by a new life of tdbmeshd: open it again");
      return false;
    }
    const StopWaiting stop = stop_waiting();
    if (gate_->wait_open(std::chrono::milliseconds(500), stop)) return true;
    if (stop && stop()) {
      error_ = TDB_ERR_LOCK;
      return false;
    }
  }
}

}  // namespace tdbmesh::shim
