#pragma once
// One of our databases behind the face of libtdb: what a `struct tdb_context*` of ours points at, and the
// semantics of every libtdb call on it (interpose.cc only dispatches). Return codes, error codes and the rules
// about nesting, counting and read-only are libtdb's; tests/contract/shim_differential_test.cc compares them.
//
// Owner: the program that opened it, until close(). One handle per file and process, as in libtdb.
// Thread: one thread per handle. Fork: see reopen(). No exception leaves interpose.cc.
//
// What differs from libtdb, on purpose: readers take no lock, so they never wait for a chain lock or a
// transaction of another process; read chain locks are exclusive, as in libtdb's mutex mode; the sequence
// number is switched on for the database, not for one handle.

#include <csignal>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "db/gate.h"
#include "db/lmdb_database.h"
#include "db/tdb_shim/held_locks.h"
#include "db/tdb_shim/real_tdb.h"

namespace tdbmesh::shim {

using ParseFunction = int (*)(TDB_DATA key, TDB_DATA data, void* private_data);

class Handle {
 public:
  // The database at `name`, an anchor, or null with errno set and one line logged. `file`: the anchor, if it is open.
  static tdb_context* open(const char* name, int tdb_flags, int open_flags, const tdb_logging_context* log, AnchorFile file);
  // Our handle behind `tdb`, or null if it belongs to the real libtdb (null belongs to it, too).
  static Handle* of(tdb_context* tdb);
  // tdb_reopen_all, for ours.
  static int reopen_all();

  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  // --- the handle itself (handle.cc)
  int close();   // frees *this, also when it fails
  int reopen();  // frees *this when it fails
  void set_max_dead(int) {}
  void set_logging_function(const tdb_logging_context* log);
  void logging_function(tdb_log_func function) { log_.log_fn = function; }
  tdb_log_func log_fn() const { return log_.log_fn; }
  void* get_logging_private() const { return log_.log_private; }
  TDB_ERROR error() const { return error_; }
  const char* errorstr() const;
  const char* name() const { return name_.c_str(); }
  int fd() const { return db_->fd(); }
  int hash_size() const { return static_cast<int>(db_->anchor().chain_count()); }
  std::size_t map_size() const { return static_cast<std::size_t>(db_->map_size()); }
  int get_flags() const { return flags_; }
  void add_flags(unsigned flags);
  void remove_flags(unsigned flags);
  void setalarm_sigptr(volatile sig_atomic_t* flag) { alarm_ = flag; }
  int get_seqnum() { return static_cast<int>(db_->seqnum() + transaction_.bumps); }
  void enable_seqnum();
  void increment_seqnum_nonblock();
  // A call that makes no sense here: logs `what`, sets the error.
  void refuse(const char* what);
  // An exception was about to leave: out of memory, or a bug.
  void failed_inside(const char* what) noexcept;

  // --- records (handle_records.cc)
  TDB_DATA fetch(TDB_DATA key);
  int parse_record(TDB_DATA key, ParseFunction parser, void* private_data);
  int exists(TDB_DATA key);
  int store(TDB_DATA key, TDB_DATA value, int flag) { return storev(key, &value, 1, flag); }
  int storev(TDB_DATA key, const TDB_DATA* parts, int count, int flag);
  int append(TDB_DATA key, TDB_DATA more);
  int erase(TDB_DATA key);
  int wipe_all();

  // --- all records (handle_traverse.cc). Returns the count, or -1. The callback runs without a snapshot or
  // a lock held; a non-zero answer stops.
  int traverse(tdb_traverse_func step, void* private_data);
  int traverse_read(tdb_traverse_func step, void* private_data);
  int traverse_chain(unsigned chain, tdb_traverse_func step, void* private_data);
  int traverse_key_chain(TDB_DATA key, tdb_traverse_func step, void* private_data);
  TDB_DATA firstkey();
  TDB_DATA nextkey(TDB_DATA key);
  int check(ParseFunction judge, void* private_data);

  // --- locks (handle_locks.cc)
  enum class Lock { Read, Write };
  enum class Wait { No, Yes };
  int chainlock(TDB_DATA key, Lock kind, Wait wait);
  int chainunlock(TDB_DATA key, Lock kind);
  int chainlock_mark(TDB_DATA key);
  int chainlock_unmark(TDB_DATA key);
  int lockall(Lock kind, Wait wait);
  int unlockall(Lock kind);
  int lockall_mark();
  int lockall_unmark();

  // --- transactions (handle_transaction.cc)
  bool transaction_active();
  int transaction_start(Wait wait);
  int transaction_prepare_commit();
  int transaction_commit();
  int transaction_cancel();

  // --- for held_locks.cc: the gate between this node and the cluster.
  [[nodiscard]] LmdbDatabase& database() { return *db_; }
  [[nodiscard]] bool gated() const { return db_->kind() == DatabaseKind::Volatile; }

 private:
  friend struct Opening;
  struct Transaction {
    int depth = 0;          // 0 = none
    bool poisoned = false;  // a nested one was cancelled, or a write came after prepare: commit fails
    bool prepared = false;
    bool changed = false;
    std::uint32_t bumps = 0;  // of the sequence number, by hand; shared with others at the commit
  };
  enum class Access { Read, Lock, Write };

  Handle() = default;
  int fail(TDB_ERROR error) { return error_ = error, -1; }
  int fail(const Error& error);  // maps the fault; logs what is not a normal outcome
  void log(tdb_debug_level level, const std::string& text);
  [[nodiscard]] StopWaiting stop_waiting() const;
  void forget_after_fork();

  [[nodiscard]] bool gate_open() {
    if (gate_ == nullptr) find_gate();
    return gate_ != nullptr && gate_->is_open();
  }
  // The same without a look at the clock: a gate that has lapsed, but that nobody has shut, passes. For a lock, under which
  // nothing is read or stored before gate_open().
  [[nodiscard]] bool gate_not_shut() {
    if (gate_ == nullptr) find_gate();
    return gate_ != nullptr && (gate_->is_not_shut() || gate_->is_open());
  }
  void find_gate();
  [[nodiscard]] bool daemon_alive();
  // True when the gate is open; false (error set) if there is nobody to open it, or a signal ended the wait.
  [[nodiscard]] bool wait_for_gate();
  [[nodiscard]] bool needs_gate(Access access) const;
  // This handle's part in the cluster is over: TDB_ERR_IO. A client of the daemon ends here, as Samba itself does when it
  // loses its daemon: if it went on with an error it would tell that to its own clients first.
  int cut_off(const std::string& why);
  [[nodiscard]] bool emptied_under_lock();

  [[nodiscard]] bool no_locks() const { return (flags_ & TDB_NOLOCK) != 0; }
  [[nodiscard]] bool holds_locks();
  // Runs `write` with the chain of `key` locked and the gate open; answers its answer.
  template <class F>
  int with_chain(BytesView key, F&& write) {
    using Fn = std::remove_reference_t<F>;
    return with_chain(key, [](void* f) { return (*static_cast<Fn*>(f))(); }, const_cast<void*>(static_cast<const void*>(&write)));
  }
  int with_chain(BytesView key, int (*write)(void*), void* argument);
  int write_allowed();
  [[nodiscard]] bool read(BytesView key, Bytes& into);  // false: error set
  int store_locked(BytesView key, std::span<const BytesView> parts, StoreMode mode);
  int walk(tdb_traverse_func step, void* private_data, std::optional<std::uint32_t> chain);
  void end_transaction();

  std::uint64_t forks_ = 0;
  tdb_context* face_ = nullptr;
  std::string name_;
  std::unique_ptr<LmdbDatabase> db_;
  std::unique_ptr<GateView> gate_;
  tdb_logging_context log_{nullptr, nullptr};
  TDB_ERROR error_ = TDB_SUCCESS;
  int flags_ = 0;
  bool read_only_ = false;
  volatile sig_atomic_t* alarm_ = nullptr;
  int writing_walks_ = 0;
  int reading_walks_ = 0;
  std::optional<Lock> all_;  // what kind of lock on everything is held
  int all_count_ = 0;
  int all_marks_ = 0;
  std::vector<std::uint32_t> marks_;  // chains somebody else holds for us, once per mark
  Transaction transaction_;
  Bytes value_;  // the last value that was read: memory to use again
};

}  // namespace tdbmesh::shim
