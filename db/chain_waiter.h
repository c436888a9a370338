#pragma once
// Waits for busy chain locks on the event loop's behalf. The loop only ever tries a lock; if somebody has it, it
// asks here, and gets a "free now" event after which it tries again (somebody else may have been faster).
//
// One helper thread. It waits on the wanted chains in turn, a few milliseconds each (at most 5 ms for one alone),
// and frees a chain at once when it got it.
// Threads: everything from the event loop.

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "db/lmdb_store.h"

namespace tdbmesh {

class ChainWaiter {
 public:
  struct Free {
    DatabaseId database{};
    std::uint32_t chain = 0;  // LmdbDatabase::chain_of; all requests for the chain are answered by one event
  };

  explicit ChainWaiter(const LmdbStore& store);
  ~ChainWaiter();
  ChainWaiter(const ChainWaiter&) = delete;
  ChainWaiter& operator=(const ChainWaiter&) = delete;

  // One Free event will follow, also if the database is removed meanwhile.
  void wait_for(DatabaseId database, BytesView key);
  [[nodiscard]] int fd() const { return event_fd_; }  // eventfd; take() drains it
  [[nodiscard]] std::vector<Free> take();

 private:
  struct Wanted {
    DatabaseId id{};
    std::shared_ptr<LmdbDatabase> database;
    std::uint32_t chain = 0;
  };
  void run();

  const LmdbStore& store_;
  int event_fd_ = -1;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Wanted> wanted_;
  std::vector<Free> free_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tdbmesh
