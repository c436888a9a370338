#include "recovery/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "db/base/thread.h"
#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {
namespace {

class SlottedFile final : public StateFile {
 public:
  SlottedFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~SlottedFile() override {
    if (worker_.joinable()) {
      {
        const std::lock_guard guard(mutex_);
        stopping_ = true;
      }
      wake_.notify_one();
      worker_.join();
    }
    ::close(fd_);
  }

  Result<std::optional<Bytes>> load() override {
    Bytes file(2 * kStateSlotBytes, '\0');
    std::size_t have = 0;
    while (have < file.size()) {
      const ssize_t got = ::pread(fd_, file.data() + have, file.size() - have, static_cast<off_t>(have));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_failure("cannot read " + path_);
      if (got == 0) break;
      have += static_cast<std::size_t>(got);
    }
    if (have == 0) return std::optional<Bytes>{};
    const BytesView both(file);
    const auto newest = newer_slot(both.substr(0, kStateSlotBytes), both.substr(kStateSlotBytes));
    if (!newest) {
      return failure(Fault::StoreCorrupt, path_ + " is damaged: this node no longer knows what it promised. If it is "
                                                 "beyond repair, move the file away: the node then joins as a new one");
    }
    sequence_ = newest->sequence;
    return std::optional<Bytes>{newest->payload};
  }

  Result<void> write_now(BytesView payload) override {
    // Two slots in turn: the older one stays whole until the newer one is on disk.
    const Result<Bytes> slot = make_slot(sequence_ + 1, payload);
    if (!slot) return tl::unexpected<Error>(slot.error());
    const off_t where = (sequence_ + 1) % 2 == 0 ? 0 : static_cast<off_t>(kStateSlotBytes);
    std::size_t done = 0;
    while (done < slot->size()) {
      const ssize_t put = ::pwrite(fd_, slot->data() + done, slot->size() - done, where + static_cast<off_t>(done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return system_failure("cannot write " + path_);
      done += static_cast<std::size_t>(put);
    }
    if (::fdatasync(fd_) != 0) return system_failure("cannot sync " + path_);
    ++sequence_;
    return {};
  }

  void start(std::function<void(std::uint64_t ticket)> on_durable,
             std::function<void(const Error&)> on_failure) override {
    on_durable_ = std::move(on_durable);
    on_failure_ = std::move(on_failure);
    worker_ = start_thread([this] { run(); });
  }

  void write(Bytes payload, std::uint64_t ticket) override {
    {
      const std::lock_guard guard(mutex_);
      next_ = Pending{std::move(payload), ticket};
    }
    wake_.notify_one();
  }

 private:
  struct Pending {
    Bytes payload;
    std::uint64_t ticket = 0;
  };

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || next_; });
      if (stopping_) return;
      const Pending pending = std::move(*next_);
      next_.reset();
      lock.unlock();
      const Result<void> written = write_now(pending.payload);
      if (!written) return on_failure_(written.error());
      on_durable_(pending.ticket);
      lock.lock();
    }
  }

  std::string path_;
  int fd_;
  std::uint64_t sequence_ = 0;  // of the newest slot on disk
  std::function<void(std::uint64_t)> on_durable_;
  std::function<void(const Error&)> on_failure_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::optional<Pending> next_;  // the newest bytes that wait
  bool stopping_ = false;
  std::thread worker_;
};

}  // namespace

Result<std::unique_ptr<StateFile>> StateFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return system_failure("cannot open " + path);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    return failure(Fault::Busy, path + " is in use: another tdbmeshd runs on this state directory");
  }
  return std::make_unique<SlottedFile>(path, fd);
}

}  // namespace tdbmesh::recovery
