#include "db/chain_waiter.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "db/base/check.h"
#include "db/base/thread.h"

namespace tdbmesh {

namespace {
constexpr std::chrono::milliseconds kTurnAlone{5};
constexpr std::chrono::milliseconds kTurn{1};

// True if the chain was free for a moment within `turn`.
bool came_free(const LmdbDatabase& database, std::uint32_t chain, std::chrono::milliseconds turn) {
  if (database.anchor().retired()) return true;
  pthread_mutex_t& mutex = database.anchor().chain(chain).mutex;
  timespec until{};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += std::chrono::nanoseconds(turn).count();
  if (until.tv_nsec >= 1'000'000'000) {
    until.tv_nsec -= 1'000'000'000;
    ++until.tv_sec;
  }
  const int rc = ::pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
  if (rc == ETIMEDOUT) return false;
  if (rc == EOWNERDEAD) TDBMESH_CHECK(::pthread_mutex_consistent(&mutex) == 0);
  if (rc == 0 || rc == EOWNERDEAD) unlock_shared_mutex(mutex);
  // While somebody has all chains a single one is not to be had.
  if (database.anchor().shared().all_locked.load() == 0) return true;
  pthread_mutex_t& all = database.anchor().shared().all_mutex;
  if (!try_lock_shared_mutex(all)) {
    ::usleep(1000);
    return false;
  }
  database.anchor().shared().all_locked.store(0);  // whoever had them is dead
  unlock_shared_mutex(all);
  return true;
}
}  // namespace

ChainWaiter::ChainWaiter(const LmdbStore& store) : store_(store) {
  event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  TDBMESH_CHECK(event_fd_ >= 0);
  thread_ = start_thread([this] { run(); });
}

ChainWaiter::~ChainWaiter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  ::close(event_fd_);
}

void ChainWaiter::wait_for(DatabaseId database, BytesView key) {
  std::shared_ptr<LmdbDatabase> lmdb = store_.lmdb(database);
  const std::uint32_t chain = lmdb == nullptr ? 0 : lmdb->chain_of(key);
  {
    const std::lock_guard lock(mutex_);
    for (const Wanted& wanted : wanted_) {
      if (wanted.id == database && wanted.chain == chain) return;
    }
    wanted_.push_back({database, std::move(lmdb), chain});
  }
  wake_.notify_one();
}

std::vector<ChainWaiter::Free> ChainWaiter::take() {
  std::uint64_t count = 0;
  (void)!::read(event_fd_, &count, sizeof(count));
  const std::lock_guard lock(mutex_);
  return std::exchange(free_, {});
}

void ChainWaiter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !wanted_.empty(); });
    if (stopping_) return;
    Wanted turn = wanted_.front();
    const auto most = wanted_.size() == 1 ? kTurnAlone : kTurn;
    lock.unlock();
    const bool free = turn.database == nullptr || came_free(*turn.database, turn.chain, most);
    turn.database.reset();  // perhaps the last one: its files close here, outside the mutex
    lock.lock();
    // The list only grows at its end meanwhile, so the front is still the one whose turn it was.
    if (free) {
      wanted_.erase(wanted_.begin());
      free_.push_back({turn.id, turn.chain});
      const std::uint64_t one = 1;
      (void)!::write(event_fd_, &one, sizeof(one));
    } else {
      std::rotate(wanted_.begin(), wanted_.begin() + 1, wanted_.end());
    }
  }
}

}  // namespace tdbmesh
