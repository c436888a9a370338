#pragma once
// The commit worker of the real node: one thread that applies durable changes, so that the event loop never waits
// for a disk. Changes of one database that are queued together share one transaction and one fsync; if that fails
// they are tried one by one, so that only the guilty one is refused.
//
// Threads: submit() and take() from the event loop; fd() becomes readable when take() has something.
// Destruction finishes the change under way, drops the rest of the queue unreported (as a crash would).

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "db/lmdb_store.h"
#include "db/store.h"

namespace tdbmesh {

struct Completion {
  std::uint64_t ticket = 0;
  Result<void> result;
};

class CommitWorkerThread : public CommitWorker {
 public:
  // `store` must outlive it.
  explicit CommitWorkerThread(const LmdbStore& store);
  ~CommitWorkerThread() override;
  CommitWorkerThread(const CommitWorkerThread&) = delete;
  CommitWorkerThread& operator=(const CommitWorkerThread&) = delete;

  void submit(std::uint64_t ticket, DurableChange change) override;
  [[nodiscard]] int fd() const { return event_fd_; }  // eventfd, non-blocking, close-on-exec; take() drains it
  [[nodiscard]] std::vector<Completion> take();

 private:
  struct Job {
    std::uint64_t ticket;
    DurableChange change;
  };
  void run();
  void work(std::vector<Job> jobs);
  void report(std::uint64_t ticket, Result<void> result);

  const LmdbStore& store_;
  int event_fd_ = -1;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  std::vector<Completion> done_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tdbmesh
