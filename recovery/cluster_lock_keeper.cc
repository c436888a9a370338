#include "recovery/cluster_lock_keeper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "db/base/match.h"
#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {
namespace {

constexpr std::size_t kMaxSlots = 256;

class Keeper final : public ClusterLockKeeper {
 public:
  Keeper(EventLoop& loop, ClusterLockSettings settings, std::function<void(const LockStatus&)> on_status)
      : loop_(loop),
        settings_(std::move(settings)),
        on_status_(std::move(on_status)),
        foreign_(!settings_.lock.empty() && settings_.lock[0] == '!'),
        lock_(settings_.self, settings_.timing, !foreign_) {}

  ~Keeper() override {
    loop_.cancel(timer_);
    stop_helper();  // not waited for: it may hang in a dead file system
  }

  void want(const LockRecord& record) override {
    step([&](LockActions& out) { lock_.want(record, loop_.now(), out); });
  }
  void release() override {
    step([&](LockActions& out) { lock_.release(loop_.now(), out); });
  }

 private:
  void step(const std::function<void(LockActions&)>& what) {
    LockActions actions;
    what(actions);
    for (std::size_t i = 0; i < actions.size(); ++i) {
      std::visit(Match{[&](const StartHelper&) { start_helper(actions); }, [&](const StopHelper&) { stop_helper(); },
                       [&](const ReadRegister&) { request({}); },
                       [&](const WriteRegister& a) { request(Bytes(a.own_slot)); }},
                 LockAction(actions[i]));
    }
    tell();
    loop_.cancel(timer_);
    if (const Instant wake = lock_.next_wake(); wake != kNever) {
      timer_ = loop_.at(wake, [this] { step([&](LockActions& out) { lock_.on_tick(loop_.now(), out); }); });
    }
  }

  void tell() {
    if (telling_) return;
    telling_ = true;
    loop_.defer([this, alive = std::weak_ptr<int>(alive_)] {
      if (alive.expired()) return;
      telling_ = false;
      on_status_(lock_.status());
    });
  }

  void start_helper(LockActions& more) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0) return helper_failed(more);
    if (::pipe2(out, O_CLOEXEC) != 0) {
      ::close(in[0]);
      ::close(in[1]);
      return helper_failed(more);
    }
    const std::string pnn = std::to_string(number(settings_.self));
    const std::string command = foreign_ ? "exec " + settings_.lock.substr(1) : std::string();
    const pid_t pid = ::fork();
    if (pid == 0) {
      // Only async-signal-safe calls here: other threads may have held locks at the fork.
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::signal(SIGTERM, SIG_DFL);
      ::signal(SIGPIPE, SIG_DFL);
      if (foreign_) {
        ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
      } else {
        ::execl(settings_.helper_path.c_str(), "tdbmesh-lock-helper", settings_.lock.c_str(), pnn.c_str(),
                static_cast<char*>(nullptr));
      }
      const char failed = '3';
      (void)!::write(1, &failed, 1);
      ::_exit(1);
    }
    ::close(in[0]);
    ::close(out[1]);
    if (pid < 0) {
      ::close(in[1]);
      ::close(out[0]);
      return helper_failed(more);
    }
    pid_ = pid;
    to_helper_ = in[1];
    from_helper_ = out[0];
    status_seen_ = false;
    received_.clear();
    to_send_.clear();
    ::fcntl(to_helper_, F_SETFL, O_NONBLOCK);
    ::fcntl(from_helper_, F_SETFL, O_NONBLOCK);
    if (!loop_.add(from_helper_, EPOLLIN, [this](std::uint32_t) { read_helper(); })) {
      stop_helper();
      helper_failed(more);
    }
  }

  void helper_failed(LockActions& more) { lock_.on_helper('3', loop_.now(), more); }

  void stop_helper() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    forget_helper();
  }

  void forget_helper() {
    loop_.remove(from_helper_);
    if (writing_) loop_.remove(to_helper_);
    writing_ = false;
    ::close(from_helper_);
    ::close(to_helper_);
    from_helper_ = to_helper_ = -1;
    reap(pid_, 0);
    pid_ = -1;
  }

  // Collects the process without waiting for it; one that hangs in a dead file system is killed and left alone.
  void reap(pid_t pid, int tries) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0 || tries > 100) return;
    if (tries == 50) ::kill(pid, SIGKILL);
    loop_.after(milliseconds(100), [this, pid, tries, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) reap(pid, tries + 1);
    });
  }

  void request(Bytes slot) {
    if (pid_ <= 0) return;
    ByteWriter frame;
    frame.put(static_cast<std::uint32_t>(slot.size())).put_bytes(slot);
    to_send_ += std::move(frame).take();
    write_helper();
  }

  void write_helper() {
    while (!to_send_.empty()) {
      const ssize_t wrote = ::write(to_helper_, to_send_.data(), to_send_.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) break;  // full: later; broken: its stdout ends too
      to_send_.erase(0, static_cast<std::size_t>(wrote));
    }
    if (!to_send_.empty() && !writing_) {
      writing_ = loop_.add(to_helper_, EPOLLOUT, [this](std::uint32_t) { write_helper(); }).has_value();
    } else if (to_send_.empty() && writing_) {
      loop_.remove(to_helper_);
      writing_ = false;
    }
  }

  void read_helper() {
    bool ended = false;
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::read(from_helper_, buffer, sizeof buffer);
      if (got > 0) {
        received_.append(buffer, static_cast<std::size_t>(got));
        if (received_.size() > kMaxSlots * (kStateSlotBytes + 8) + 64) ended = true;
        if (ended) break;
        continue;
      }
      if (got < 0 && errno == EINTR) continue;
      ended = got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
      break;
    }
    const pid_t life = pid_;
    if (!status_seen_ && !received_.empty()) {
      status_seen_ = true;
      const char status = received_[0];
      received_.erase(0, 1);
      step([&](LockActions& out) { lock_.on_helper(status, loop_.now(), out); });
    }
    while (pid_ == life && pid_ > 0 && !foreign_ && take_answer()) {
    }
    if (pid_ != life || pid_ <= 0) return;
    if (foreign_) received_.clear();
    if (!ended) return;
    forget_helper();
    step([&](LockActions& out) { lock_.on_helper_gone(loop_.now(), out); });
  }

  // One whole answer, if it is there.
  bool take_answer() {
    ByteReader in(received_);
    const auto count = in.get<std::uint32_t>();
    std::map<Pnn, Bytes> slots;
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
      const Pnn pnn{in.get<std::uint32_t>()};
      const auto length = in.get<std::uint32_t>();
      slots[pnn] = Bytes(in.get_bytes(length));
    }
    if (!in.ok() || count > kMaxSlots) return false;
    received_ = Bytes(in.rest());
    step([&](LockActions& out) { lock_.on_register(slots, loop_.now(), out); });
    return true;
  }

  EventLoop& loop_;
  ClusterLockSettings settings_;
  std::function<void(const LockStatus&)> on_status_;
  bool foreign_;
  ClusterLock lock_;
  EventLoop::Timer timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // deferred tasks look whether this is still there
  bool telling_ = false;
  pid_t pid_ = -1;
  int to_helper_ = -1;
  int from_helper_ = -1;
  bool writing_ = false;
  bool status_seen_ = false;
  Bytes received_;
  Bytes to_send_;
};

}  // namespace

std::unique_ptr<ClusterLockKeeper> ClusterLockKeeper::create(EventLoop& loop, ClusterLockSettings settings,
                                                             std::function<void(const LockStatus&)> on_status) {
  return std::make_unique<Keeper>(loop, std::move(settings), std::move(on_status));
}

}  // namespace tdbmesh::recovery
