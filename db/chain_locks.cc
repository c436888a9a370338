#include "db/chain_locks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "db/base/check.h"

namespace tdbmesh {

std::atomic<std::uint64_t> forks_so_far{0};

namespace {

constexpr long kSliceNs = 50'000'000;

// Counting in an atfork handler is much cheaper than asking for the pid in every call.
[[maybe_unused]] const int counted = ::pthread_atfork(nullptr, nullptr, [] { forks_so_far.fetch_add(1, std::memory_order_relaxed); });

// The last part of every lock call: a dead owner's mutex is ours, and the data it guarded is sound.
bool got(pthread_mutex_t& mutex, int rc) {
  if (rc == 0) return true;
  if (rc == EOWNERDEAD) {
    TDBMESH_CHECK(::pthread_mutex_consistent(&mutex) == 0);
    return true;
  }
  return false;
}

}  // namespace

void init_shared_mutex(pthread_mutex_t& mutex) {
  pthread_mutexattr_t kind;
  TDBMESH_CHECK(::pthread_mutexattr_init(&kind) == 0);
  TDBMESH_CHECK(::pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED) == 0);
  TDBMESH_CHECK(::pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST) == 0);
  TDBMESH_CHECK(::pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK) == 0);
  TDBMESH_CHECK(::pthread_mutex_init(&mutex, &kind) == 0);
  ::pthread_mutexattr_destroy(&kind);
}

bool lock_shared_mutex(pthread_mutex_t& mutex, const StopWaiting& stop) {
  if (try_lock_shared_mutex(mutex)) return true;
  for (;;) {
    if (stop && stop()) return false;
    timespec until{};
    ::clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += kSliceNs;
    if (until.tv_nsec >= 1'000'000'000) {
      until.tv_nsec -= 1'000'000'000;
      ++until.tv_sec;
    }
    const int rc = ::pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
    if (got(mutex, rc)) return true;
    if (rc != ETIMEDOUT && rc != EINTR) return false;  // we have it already, or the table is damaged
  }
}

bool try_lock_shared_mutex(pthread_mutex_t& mutex) { return got(mutex, ::pthread_mutex_trylock(&mutex)); }

void unlock_shared_mutex(pthread_mutex_t& mutex) { TDBMESH_CHECK(::pthread_mutex_unlock(&mutex) == 0); }

ChainLocks::ChainLocks(const Anchor& anchor, LockRole role) : anchor_(anchor), role_(role), forks_(fork_count()) {}

ChainLocks::~ChainLocks() { release_everything(); }

void ChainLocks::forget_everything() {
  // A new process: the mutexes belong to the parent's thread, and it goes on holding them.
  forks_ = fork_count();
  held_.clear();
  all_count_ = 0;
  gathering_ = false;
}

Result<void> ChainLocks::lock(std::uint32_t chain, const StopWaiting& stop) { return take(chain, true, stop); }
Result<void> ChainLocks::try_lock(std::uint32_t chain) { return take(chain, false, {}); }

Result<void> ChainLocks::take(std::uint32_t chain, bool wait, const StopWaiting& stop) {
  forget_after_fork();
  TDBMESH_CHECK(chain < anchor_.chain_count());
  if (all_count_ > 0) return {};
  if (Held* held = find(chain)) {
    ++held->count;
    return {};
  }
  ChainEntry& entry = anchor_.chain(chain);
  const auto busy = [&] { return failure(Fault::Busy, fmt::format("chain {} of {} is locked", chain, anchor_.path())); };
  for (;;) {
    if (anchor_.retired()) return failure(Fault::Refused, anchor_.path() + " was replaced: open it again");
    if (wait ? !lock_shared_mutex(entry.mutex, stop) : !try_lock_shared_mutex(entry.mutex)) return busy();
    // With the chain in hand the flag cannot rise for a sweep that has already passed it.
    if (anchor_.shared().all_locked.load() == 0 || gathering_) break;
    unlock_shared_mutex(entry.mutex);
    // Somebody has or is getting all chains, or died doing so: queue behind its mutex, and tidy up after the dead.
    pthread_mutex_t& all = anchor_.shared().all_mutex;
    if (wait ? !lock_shared_mutex(all, stop) : !try_lock_shared_mutex(all)) return busy();
    free_all_mutex();
  }
  held_.push_back({chain, 1, anchor_.shared().epoch.load()});
  // Only the holder writes it.
  if (role_ == LockRole::Client) entry.client_uses.store(entry.client_uses.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return {};
}

Result<void> ChainLocks::unlock(std::uint32_t chain) {
  forget_after_fork();
  if (all_count_ > 0) return {};
  Held* held = find(chain);
  if (held == nullptr) return failure(Fault::Refused, fmt::format("chain {} of {} is not locked by this process", chain, anchor_.path()));
  if (--held->count > 0) return {};
  *held = held_.back();
  held_.pop_back();
  unlock_shared_mutex(anchor_.chain(chain).mutex);
  return {};
}

void ChainLocks::free_all_mutex() {
  anchor_.shared().all_locked.store(0);
  unlock_shared_mutex(anchor_.shared().all_mutex);
}

Result<void> ChainLocks::lock_all(const StopWaiting& stop) { return take_all(true, stop); }
Result<void> ChainLocks::try_lock_all() { return take_all(false, {}); }

Result<void> ChainLocks::take_all(bool wait, const StopWaiting& stop) {
  forget_after_fork();
  if (all_count_ > 0) {
    ++all_count_;
    return {};
  }
  if (!held_.empty()) return failure(Fault::Refused, "all chains of " + anchor_.path() + ": some are held already");
  if (anchor_.retired()) return failure(Fault::Refused, anchor_.path() + " was replaced: open it again");
  AnchorShared& shared = anchor_.shared();
  const auto busy = [&] { return failure(Fault::Busy, "chains of " + anchor_.path() + " are locked"); };
  if (wait ? !lock_shared_mutex(shared.all_mutex, stop) : !try_lock_shared_mutex(shared.all_mutex)) return busy();
  shared.all_locked.store(1);
  for (std::uint32_t i = 0; i < anchor_.chain_count(); ++i) {
    pthread_mutex_t& mutex = anchor_.chain(i).mutex;
    if (wait ? !lock_shared_mutex(mutex, stop) : !try_lock_shared_mutex(mutex)) {
      free_all_mutex();
      return busy();
    }
    unlock_shared_mutex(mutex);
  }
  all_count_ = 1;
  all_epoch_ = shared.epoch.load();
  return {};
}

Result<void> ChainLocks::unlock_all() {
  forget_after_fork();
  if (all_count_ == 0) return failure(Fault::Refused, "chains of " + anchor_.path() + " are not all locked by this process");
  if (--all_count_ == 0) free_all_mutex();
  return {};
}

bool ChainLocks::gather_all() {
  forget_after_fork();
  AnchorShared& shared = anchor_.shared();
  if (!gathering_) {
    if (!try_lock_shared_mutex(shared.all_mutex)) return false;
    shared.all_locked.store(1);
    gathering_ = true;
    gathered_ = 0;
  }
  // A chain once seen free stays free of others: newcomers meet the flag.
  for (; gathered_ < anchor_.chain_count(); ++gathered_) {
    if (find(gathered_) != nullptr) continue;
    pthread_mutex_t& mutex = anchor_.chain(gathered_).mutex;
    if (!try_lock_shared_mutex(mutex)) return false;
    unlock_shared_mutex(mutex);
  }
  return true;
}

void ChainLocks::release_gathered() {
  forget_after_fork();
  if (!gathering_) return;
  gathering_ = false;
  free_all_mutex();
}

bool ChainLocks::holds_all() {
  forget_after_fork();
  return all_count_ > 0;
}

bool ChainLocks::holds_any() {
  forget_after_fork();
  return all_count_ > 0 || !held_.empty();
}

int ChainLocks::holder(std::uint32_t chain) const {
  // glibc keeps the owner's thread id in the mutex; only shown to people, never decided upon.
  return anchor_.chain(chain).mutex.__data.__owner;
}

void ChainLocks::release_everything() {
  forget_after_fork();
  for (const Held& held : held_) unlock_shared_mutex(anchor_.chain(held.chain).mutex);
  held_.clear();
  if (all_count_ > 0) {
    all_count_ = 0;
    free_all_mutex();
  }
  release_gathered();
}

}  // namespace tdbmesh
