#pragma once
// The real libtdb behind the shim: every function that the shim interposes, looked up once, on first use, as
// the next definition after ours (RTLD_NEXT), or from libtdb.so.1 when the shim was loaded in a way that has no
// "next" (dlopen with RTLD_LOCAL) or the program itself does not link libtdb.
//
// Thread: safe from any thread. Errors: a process without any libtdb gets null pointers; it cannot have a
// TDB handle either, except through the opening calls, which check. errno is left alone.

// tdb.h needs these before it.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(default)  // what tdb.h declares is what the shim exports
#include <tdb.h>

// Exported by libtdb but not declared in tdb.h.
extern "C" {
int tdb_lock_nonblock(struct tdb_context* tdb, int list, int ltype);
int tdb_unlock(struct tdb_context* tdb, int list, int ltype);
int tdb_transaction_write_lock_mark(struct tdb_context* tdb);
int tdb_transaction_write_lock_unmark(struct tdb_context* tdb);
}
#pragma GCC visibility pop

// Every interposed function. tdb_jenkins_hash, tdb_runtime_check_for_robust_mutexes and the object tdb_null
// have no handle and are deliberately not here.
#define TDBMESH_INTERPOSED(X)                                                                             \
  X(tdb_open) X(tdb_open_ex) X(tdb_close) X(tdb_reopen) X(tdb_reopen_all) X(tdb_set_max_dead)             \
  X(tdb_set_logging_function) X(tdb_logging_function) X(tdb_log_fn) X(tdb_get_logging_private)            \
  X(tdb_error) X(tdb_errorstr) X(tdb_name) X(tdb_fd) X(tdb_hash_size) X(tdb_map_size)                     \
  X(tdb_get_flags) X(tdb_add_flags) X(tdb_remove_flags) X(tdb_setalarm_sigptr)                            \
  X(tdb_fetch) X(tdb_parse_record) X(tdb_exists) X(tdb_store) X(tdb_storev) X(tdb_append) X(tdb_delete)   \
  X(tdb_wipe_all) X(tdb_check)                                                                            \
  X(tdb_firstkey) X(tdb_nextkey) X(tdb_traverse) X(tdb_traverse_read) X(tdb_traverse_chain)               \
  X(tdb_traverse_key_chain)                                                                               \
  X(tdb_get_seqnum) X(tdb_enable_seqnum) X(tdb_increment_seqnum_nonblock)                                 \
  X(tdb_chainlock) X(tdb_chainlock_nonblock) X(tdb_chainunlock) X(tdb_chainlock_read)                     \
  X(tdb_chainlock_read_nonblock) X(tdb_chainunlock_read) X(tdb_chainlock_mark) X(tdb_chainlock_unmark)    \
  X(tdb_lockall) X(tdb_lockall_nonblock) X(tdb_unlockall) X(tdb_lockall_read)                             \
  X(tdb_lockall_read_nonblock) X(tdb_unlockall_read) X(tdb_lockall_mark) X(tdb_lockall_unmark)            \
  X(tdb_lock_nonblock) X(tdb_unlock)                                                                      \
  X(tdb_transaction_active) X(tdb_transaction_start) X(tdb_transaction_start_nonblock)                    \
  X(tdb_transaction_prepare_commit) X(tdb_transaction_commit) X(tdb_transaction_cancel)                   \
  X(tdb_transaction_write_lock_mark) X(tdb_transaction_write_lock_unmark)                                 \
  X(tdb_repack) X(tdb_rescue) X(tdb_dump_all) X(tdb_printfreelist) X(tdb_validate_freelist)               \
  X(tdb_freelist_size) X(tdb_summary)

namespace tdbmesh::shim {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // tdb_logging_function
struct RealTdb {
#define TDBMESH_MEMBER(name) decltype(&::name) name = nullptr;
  TDBMESH_INTERPOSED(TDBMESH_MEMBER)
#undef TDBMESH_MEMBER
};
#pragma GCC diagnostic pop

[[nodiscard]] const RealTdb& real();

}  // namespace tdbmesh::shim
