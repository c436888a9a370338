#include "db/commit_worker_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "db/base/check.h"
#include "db/base/thread.h"

namespace tdbmesh {

namespace {
void ring(int fd) {
  const std::uint64_t one = 1;
  (void)!::write(fd, &one, sizeof(one));
}
void silence(int fd) {
  std::uint64_t count = 0;
  (void)!::read(fd, &count, sizeof(count));
}
// More would make all of them wait for the last one's pages; the next round takes the rest.
constexpr std::size_t kMostPerTransaction = 64;
}  // namespace

CommitWorkerThread::CommitWorkerThread(const LmdbStore& store) : store_(store) {
  event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  TDBMESH_CHECK(event_fd_ >= 0);
  thread_ = start_thread([this] { run(); });
}

CommitWorkerThread::~CommitWorkerThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  ::close(event_fd_);
}

void CommitWorkerThread::submit(std::uint64_t ticket, DurableChange change) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back({ticket, std::move(change)});
  }
  wake_.notify_one();
}

std::vector<Completion> CommitWorkerThread::take() {
  silence(event_fd_);
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void CommitWorkerThread::report(std::uint64_t ticket, Result<void> result) {
  {
    const std::lock_guard lock(mutex_);
    done_.push_back({ticket, std::move(result)});
  }
  ring(event_fd_);
}

void CommitWorkerThread::run() {
  for (;;) {
    std::vector<Job> jobs;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      // All that waits for the database of the oldest one, in order; the others keep their places.
      const DatabaseId database = queue_.front().change.database;
      std::deque<Job> rest;
      bool closed = false;  // a part goes alone
      for (Job& job : queue_) {
        const bool alone = job.change.part != DurableChange::Part::All;
        if (job.change.database == database && jobs.size() < kMostPerTransaction && !(alone && !jobs.empty()) && !closed) {
          closed = alone;
          jobs.push_back(std::move(job));
        } else {
          rest.push_back(std::move(job));
        }
      }
      queue_.swap(rest);
    }
    work(std::move(jobs));
  }
}

void CommitWorkerThread::work(std::vector<Job> jobs) {
  const std::shared_ptr<LmdbDatabase> database = store_.lmdb(jobs.front().change.database);
  if (database == nullptr) {
    for (const Job& job : jobs) report(job.ticket, failure(Fault::NotFound, "database " + to_string(job.change.database) + " is gone"));
    return;
  }
  if (jobs.front().change.part != DurableChange::Part::All) {
    return report(jobs.front().ticket, database->apply_part(jobs.front().change));
  }
  std::vector<const DurableChange*> changes;
  for (const Job& job : jobs) changes.push_back(&job.change);
  if (jobs.size() > 1 && database->apply(changes)) {
    for (const Job& job : jobs) report(job.ticket, {});
    return;
  }
  for (const Job& job : jobs) {
    const DurableChange* one = &job.change;
    report(job.ticket, database->apply(std::span(&one, 1)));
  }
}

}  // namespace tdbmesh
