// What the library exports: every handle-taking function of libtdb. Each one looks whose handle it got, and
// either answers it itself or passes the call on unchanged. No exception leaves, errno is the callee's.

#include <type_traits>

#include "db/anchor.h"
#include "db/tdb_shim/handle.h"
#include "db/tdb_shim/real_tdb.h"

namespace tdbmesh::shim {
namespace {

// Runs `call`; if it throws, the handle says out of memory and the answer is `failed`.
template <class Answer, class Call>
Answer guarded(Handle& handle, const char* what, Answer failed, Call&& call) noexcept {
  try {
    return call();
  } catch (...) {
    handle.failed_inside(what);
    return failed;
  }
}

template <class Call>
void guarded(Handle& handle, const char* what, Call&& call) noexcept {
  try {
    call();
  } catch (...) {
    handle.failed_inside(what);
  }
}

tdb_context* open_any(const char* name, int hash_size, int tdb_flags, int open_flags, mode_t mode,
                      const tdb_logging_context* log, tdb_hash_func hash) {
  if (name != nullptr && (tdb_flags & TDB_INTERNAL) == 0) {
    const int saved = errno;
    try {
      // The open ones first, by stat: opening and closing the file would drop this process's fcntl locks on it.
      const bool open_already = LmdbDatabase::same_file_open(name);
      auto file = open_already ? std::optional(AnchorFile()) : AnchorFile::open(name);
      if (file) {
        errno = saved;
        return Handle::open(name, tdb_flags, open_flags, log, std::move(*file));
      }
    } catch (...) {
      errno = ENOMEM;
      return nullptr;
    }
    errno = saved;
  }
  if (real().tdb_open_ex == nullptr) {
    errno = ENOSYS;
    return nullptr;
  }
  return real().tdb_open_ex(name, hash_size, tdb_flags, open_flags, mode, log, hash);
}

constexpr TDB_DATA kNoData{nullptr, 0};

}  // namespace
}  // namespace tdbmesh::shim

using tdbmesh::shim::guarded;
using tdbmesh::shim::Handle;
using tdbmesh::shim::kNoData;
using tdbmesh::shim::real;

// ANSWER(type, value when it throws, name, (parameters), (arguments), what ours does)
#define ANSWER(type, failed, name, parameters, arguments, ours)                                     \
  type name parameters {                                                                            \
    if (Handle* handle = Handle::of(tdb)) {                                                         \
      return guarded<type>(*handle, #name, failed, [&]() -> type { return handle->ours; });         \
    }                                                                                               \
    return real().name arguments;                                                                   \
  }
#define DO(name, parameters, arguments, ours)                                \
  void name parameters {                                                     \
    if (Handle* handle = Handle::of(tdb)) {                                  \
      guarded(*handle, #name, [&] { handle->ours; });                        \
      return;                                                                \
    }                                                                        \
    real().name arguments;                                                   \
  }
// A call that makes no sense on our databases.
#define REFUSE(type, failed, name, parameters, arguments)                                  \
  type name parameters {                                                                   \
    if (Handle* handle = Handle::of(tdb)) {                                                \
      guarded(*handle, #name, [&] { handle->refuse(#name); });                             \
      return failed;                                                                       \
    }                                                                                      \
    return real().name arguments;                                                          \
  }

#define TDB struct tdb_context *tdb
constexpr auto kRead = Handle::Lock::Read;
constexpr auto kWrite = Handle::Lock::Write;
constexpr auto kWait = Handle::Wait::Yes;
constexpr auto kTry = Handle::Wait::No;

extern "C" {

tdb_context* tdb_open(const char* name, int hash_size, int tdb_flags, int open_flags, mode_t mode) {
  return tdbmesh::shim::open_any(name, hash_size, tdb_flags, open_flags, mode, nullptr, nullptr);
}
tdb_context* tdb_open_ex(const char* name, int hash_size, int tdb_flags, int open_flags, mode_t mode,
                         const tdb_logging_context* log_ctx, tdb_hash_func hash_fn) {
  return tdbmesh::shim::open_any(name, hash_size, tdb_flags, open_flags, mode, log_ctx, hash_fn);
}
int tdb_reopen_all(int parent_longlived) {
  int result = real().tdb_reopen_all == nullptr ? 0 : real().tdb_reopen_all(parent_longlived);
  try {
    if (Handle::reopen_all() != 0) result = -1;
  } catch (...) {
    result = -1;
  }
  return result;
}

ANSWER(int, -1, tdb_close, (TDB), (tdb), close())
ANSWER(int, -1, tdb_reopen, (TDB), (tdb), reopen())
DO(tdb_set_max_dead, (TDB, int max_dead), (tdb, max_dead), set_max_dead(max_dead))
DO(tdb_set_logging_function, (TDB, const tdb_logging_context* log_ctx), (tdb, log_ctx),
   set_logging_function(log_ctx))
DO(tdb_logging_function, (TDB, tdb_log_func function), (tdb, function), logging_function(function))
ANSWER(tdb_log_func, nullptr, tdb_log_fn, (TDB), (tdb), log_fn())
ANSWER(void*, nullptr, tdb_get_logging_private, (TDB), (tdb), get_logging_private())
ANSWER(enum TDB_ERROR, TDB_ERR_OOM, tdb_error, (TDB), (tdb), error())
ANSWER(const char*, "", tdb_errorstr, (TDB), (tdb), errorstr())
ANSWER(const char*, "", tdb_name, (TDB), (tdb), name())
ANSWER(int, -1, tdb_fd, (TDB), (tdb), fd())
ANSWER(int, 1, tdb_hash_size, (TDB), (tdb), hash_size())
ANSWER(std::size_t, 0, tdb_map_size, (TDB), (tdb), map_size())
ANSWER(int, 0, tdb_get_flags, (TDB), (tdb), get_flags())
DO(tdb_add_flags, (TDB, unsigned flag), (tdb, flag), add_flags(flag))
DO(tdb_remove_flags, (TDB, unsigned flag), (tdb, flag), remove_flags(flag))
DO(tdb_setalarm_sigptr, (TDB, volatile sig_atomic_t* sigptr), (tdb, sigptr), setalarm_sigptr(sigptr))

ANSWER(TDB_DATA, kNoData, tdb_fetch, (TDB, TDB_DATA key), (tdb, key), fetch(key))
ANSWER(int, -1, tdb_parse_record,
       (TDB, TDB_DATA key, int (*parser)(TDB_DATA key, TDB_DATA data, void* private_data), void* private_data),
       (tdb, key, parser, private_data), parse_record(key, parser, private_data))
ANSWER(int, 0, tdb_exists, (TDB, TDB_DATA key), (tdb, key), exists(key))
ANSWER(int, -1, tdb_store, (TDB, TDB_DATA key, TDB_DATA dbuf, int flag), (tdb, key, dbuf, flag),
       store(key, dbuf, flag))
ANSWER(int, -1, tdb_storev, (TDB, TDB_DATA key, const TDB_DATA* dbufs, int num_dbufs, int flag),
       (tdb, key, dbufs, num_dbufs, flag), storev(key, dbufs, num_dbufs, flag))
ANSWER(int, -1, tdb_append, (TDB, TDB_DATA key, TDB_DATA new_dbuf), (tdb, key, new_dbuf), append(key, new_dbuf))
ANSWER(int, -1, tdb_delete, (TDB, TDB_DATA key), (tdb, key), erase(key))
ANSWER(int, -1, tdb_wipe_all, (TDB), (tdb), wipe_all())
ANSWER(int, -1, tdb_check,
       (TDB, int (*check)(TDB_DATA key, TDB_DATA data, void* private_data), void* private_data),
       (tdb, check, private_data), check(check, private_data))

ANSWER(TDB_DATA, kNoData, tdb_firstkey, (TDB), (tdb), firstkey())
ANSWER(TDB_DATA, kNoData, tdb_nextkey, (TDB, TDB_DATA key), (tdb, key), nextkey(key))
ANSWER(int, -1, tdb_traverse, (TDB, tdb_traverse_func fn, void* private_data), (tdb, fn, private_data),
       traverse(fn, private_data))
ANSWER(int, -1, tdb_traverse_read, (TDB, tdb_traverse_func fn, void* private_data), (tdb, fn, private_data),
       traverse_read(fn, private_data))
ANSWER(int, -1, tdb_traverse_chain, (TDB, unsigned chain, tdb_traverse_func fn, void* private_data),
       (tdb, chain, fn, private_data), traverse_chain(chain, fn, private_data))
ANSWER(int, -1, tdb_traverse_key_chain, (TDB, TDB_DATA key, tdb_traverse_func fn, void* private_data),
       (tdb, key, fn, private_data), traverse_key_chain(key, fn, private_data))

ANSWER(int, 0, tdb_get_seqnum, (TDB), (tdb), get_seqnum())
DO(tdb_enable_seqnum, (TDB), (tdb), enable_seqnum())
DO(tdb_increment_seqnum_nonblock, (TDB), (tdb), increment_seqnum_nonblock())

ANSWER(int, -1, tdb_chainlock, (TDB, TDB_DATA key), (tdb, key), chainlock(key, kWrite, kWait))
ANSWER(int, -1, tdb_chainlock_nonblock, (TDB, TDB_DATA key), (tdb, key), chainlock(key, kWrite, kTry))
ANSWER(int, -1, tdb_chainunlock, (TDB, TDB_DATA key), (tdb, key), chainunlock(key, kWrite))
ANSWER(int, -1, tdb_chainlock_read, (TDB, TDB_DATA key), (tdb, key), chainlock(key, kRead, kWait))
ANSWER(int, -1, tdb_chainlock_read_nonblock, (TDB, TDB_DATA key), (tdb, key), chainlock(key, kRead, kTry))
ANSWER(int, -1, tdb_chainunlock_read, (TDB, TDB_DATA key), (tdb, key), chainunlock(key, kRead))
ANSWER(int, -1, tdb_chainlock_mark, (TDB, TDB_DATA key), (tdb, key), chainlock_mark(key))
ANSWER(int, -1, tdb_chainlock_unmark, (TDB, TDB_DATA key), (tdb, key), chainlock_unmark(key))
ANSWER(int, -1, tdb_lockall, (TDB), (tdb), lockall(kWrite, kWait))
ANSWER(int, -1, tdb_lockall_nonblock, (TDB), (tdb), lockall(kWrite, kTry))
ANSWER(int, -1, tdb_unlockall, (TDB), (tdb), unlockall(kWrite))
ANSWER(int, -1, tdb_lockall_read, (TDB), (tdb), lockall(kRead, kWait))
ANSWER(int, -1, tdb_lockall_read_nonblock, (TDB), (tdb), lockall(kRead, kTry))
ANSWER(int, -1, tdb_unlockall_read, (TDB), (tdb), unlockall(kRead))
ANSWER(int, -1, tdb_lockall_mark, (TDB), (tdb), lockall_mark())
ANSWER(int, -1, tdb_lockall_unmark, (TDB), (tdb), lockall_unmark())
REFUSE(int, -1, tdb_lock_nonblock, (TDB, int list, int ltype), (tdb, list, ltype))
REFUSE(int, -1, tdb_unlock, (TDB, int list, int ltype), (tdb, list, ltype))

ANSWER(bool, false, tdb_transaction_active, (TDB), (tdb), transaction_active())
ANSWER(int, -1, tdb_transaction_start, (TDB), (tdb), transaction_start(kWait))
ANSWER(int, -1, tdb_transaction_start_nonblock, (TDB), (tdb), transaction_start(kTry))
ANSWER(int, -1, tdb_transaction_prepare_commit, (TDB), (tdb), transaction_prepare_commit())
ANSWER(int, -1, tdb_transaction_commit, (TDB), (tdb), transaction_commit())
ANSWER(int, -1, tdb_transaction_cancel, (TDB), (tdb), transaction_cancel())
REFUSE(int, -1, tdb_transaction_write_lock_mark, (TDB), (tdb))
REFUSE(int, -1, tdb_transaction_write_lock_unmark, (TDB), (tdb))

REFUSE(int, -1, tdb_repack, (TDB), (tdb))
REFUSE(int, -1, tdb_rescue,
       (TDB, void (*walk)(TDB_DATA key, TDB_DATA data, void* private_data), void* private_data),
       (tdb, walk, private_data))
REFUSE(void, , tdb_dump_all, (TDB), (tdb))
REFUSE(int, -1, tdb_printfreelist, (TDB), (tdb))
REFUSE(int, -1, tdb_validate_freelist, (TDB, int* pnum_entries), (tdb, pnum_entries))
REFUSE(int, -1, tdb_freelist_size, (TDB), (tdb))
REFUSE(char*, nullptr, tdb_summary, (TDB), (tdb))

}  // extern "C"
