#include "recovery/cluster_lock_keeper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
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
        lock_(settings_.self, settings_.timing,
              {.has_register = !foreign_ || !settings_.register_file.empty(), .foreign = foreign_}) {}

  ~Keeper() override {
    loop_.cancel(timer_);
    stop_all();  // not waited for: it may hang in a dead file system
  }

  void want(const LockRecord& record) override {
    step([&](LockActions& out) { lock_.want(record, loop_.now(), out); });
  }
  void release() override {
    step([&](LockActions& out) { lock_.release(loop_.now(), out); });
  }

 private:
  // A process of ours or of the operator's, with a pipe to its stdin and one from its stdout.
  struct Process {
    pid_t pid = -1;
    int to = -1;
    int from = -1;
    bool writing = false;
    Bytes received;
    Bytes to_send;
    [[nodiscard]] bool runs() const { return pid > 0; }
  };

  void step(const std::function<void(LockActions&)>& what) {
    LockActions actions;
    what(actions);
    for (std::size_t i = 0; i < actions.size(); ++i) {
      std::visit(Match{[&](const StartHelper&) { start_helper(actions); }, [&](const StopHelper&) { stop_all(); },
                       [&](const ReadRegister&) { request({}); },
                       [&](const WriteRegister& a) { request(Bytes(a.own_slot)); }},
                 LockAction(actions[i]));
    }
    tell();
    loop_.cancel(timer_);
    if (const Instant wake = lock_.next_wake(); wake != kNever) timer_ = loop_.at(wake, [this] { on_timer(); });
  }

  void on_timer() {
    if (holder_.runs() && is_stopped(holder_.pid)) return lost();
    step([&](LockActions& out) { lock_.on_tick(loop_.now(), out); });
  }

  // A stopped helper no longer renews what it holds elsewhere, and somebody may have taken it.
  static bool is_stopped(pid_t pid) {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
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

  bool spawn(Process& process, const std::vector<std::string>& command, void (Keeper::*on_input)()) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0) return false;
    if (::pipe2(out, O_CLOEXEC) != 0) {
      ::close(in[0]);
      ::close(in[1]);
      return false;
    }
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      // Only async-signal-safe calls here: other threads may have held locks at the fork.
      ::setpgid(0, 0);  // so that its own children end with it
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::signal(SIGTERM, SIG_DFL);
      ::signal(SIGPIPE, SIG_DFL);
      // Also a helper that forgets to watch its parent lets go when the daemon is killed.
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::execv(arguments[0], arguments.data());
      const char failed = '3';
      (void)!::write(1, &failed, 1);
      ::_exit(1);
    }
    ::close(in[0]);
    ::close(out[1]);
    if (pid < 0) {
      ::close(in[1]);
      ::close(out[0]);
      return false;
    }
    process = Process{};
    process.pid = pid;
    process.to = in[1];
    process.from = out[0];
    ::fcntl(process.to, F_SETFL, O_NONBLOCK);
    ::fcntl(process.from, F_SETFL, O_NONBLOCK);
    if (loop_.add(process.from, EPOLLIN, [this, on_input](std::uint32_t) { (this->*on_input)(); })) return true;
    stop(process);
    return false;
  }

  void start_helper(LockActions& more) {
    const std::vector<std::string> command =
        foreign_ ? std::vector<std::string>{"/bin/sh", "-c", "exec " + settings_.lock.substr(1)}
                 : std::vector<std::string>{settings_.helper_path, settings_.lock, pnn()};
    status_seen_ = false;
    if (!spawn(holder_, command, &Keeper::on_holder)) return lock_.on_helper('3', loop_.now(), more);
    if (settings_.register_file.empty()) return;
    register_ready_ = false;
    if (!spawn(register_, {settings_.helper_path, "--register", settings_.register_file, pnn()}, &Keeper::on_register)) {
      lock_.on_helper('3', loop_.now(), more);
    }
  }

  [[nodiscard]] std::string pnn() const { return std::to_string(number(settings_.self)); }

  void stop_all() {
    stop(holder_);
    stop(register_);
  }

  void stop(Process& process) {
    if (!process.runs()) return;
    signal_all_of(process.pid, SIGTERM);
    signal_all_of(process.pid, SIGCONT);  // a stopped process does not even end
    loop_.remove(process.from);
    if (process.writing) loop_.remove(process.to);
    ::close(process.from);
    ::close(process.to);
    reap(process.pid, 0);
    process = Process{};
  }

  // The group may not be there yet, right after the fork.
  static void signal_all_of(pid_t pid, int which) {
    if (::kill(-pid, which) != 0) ::kill(pid, which);
  }

  // Collects the process without waiting for it; one that hangs in a dead file system is killed and left alone.
  void reap(pid_t pid, int tries) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0 || tries > 100) return;
    if (tries == 50) signal_all_of(pid, SIGKILL);
    loop_.after(milliseconds(100), [this, pid, tries, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) reap(pid, tries + 1);
    });
  }

  void lost() {
    stop_all();
    step([&](LockActions& out) { lock_.on_helper_gone(loop_.now(), out); });
  }

  // ---- the register ----

  [[nodiscard]] Process& keeper_of_register() { return settings_.register_file.empty() ? holder_ : register_; }

  void request(Bytes slot) {
    Process& process = keeper_of_register();
    if (!process.runs()) return;
    ByteWriter frame;
    frame.put(static_cast<std::uint32_t>(slot.size())).put_bytes(slot);
    process.to_send += std::move(frame).take();
    write_to_register();
  }

  void write_to_register() {
    Process& process = keeper_of_register();
    while (!process.to_send.empty()) {
      const ssize_t wrote = ::write(process.to, process.to_send.data(), process.to_send.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) break;  // full: later; broken: its stdout ends too
      process.to_send.erase(0, static_cast<std::size_t>(wrote));
    }
    if (!process.to_send.empty() && !process.writing) {
      process.writing = loop_.add(process.to, EPOLLOUT, [this](std::uint32_t) { write_to_register(); }).has_value();
    } else if (process.to_send.empty() && process.writing) {
      loop_.remove(process.to);
      process.writing = false;
    }
  }

  // True when it has ended, or says more than it ever should.
  static bool read_from(Process& process) {
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::read(process.from, buffer, sizeof buffer);
      if (got > 0) {
        process.received.append(buffer, static_cast<std::size_t>(got));
        if (process.received.size() > kMaxSlots * (kStateSlotBytes + 8) + 64) return true;
        continue;
      }
      if (got < 0 && errno == EINTR) continue;
      return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
  }

  void on_holder() {
    const bool ended = read_from(holder_);
    const pid_t life = holder_.pid;
    if (!status_seen_ && !holder_.received.empty()) {
      status_seen_ = true;
      const char status = holder_.received[0];
      holder_.received.erase(0, 1);
      step([&](LockActions& out) { lock_.on_helper(status, loop_.now(), out); });
    }
    if (!foreign_) {
      while (holder_.pid == life && holder_.runs() && take_answer(holder_)) {
      }
    }
    if (holder_.pid != life || !holder_.runs()) return;
    if (foreign_) {
      // Some helpers repeat their '0'; anything else takes it back.
      const bool taken_back = holder_.received.find_first_not_of("0\r\n ") != Bytes::npos;
      holder_.received.clear();
      if (taken_back) return lost();
    }
    if (ended) lost();
  }

  void on_register() {
    const bool ended = read_from(register_);
    const pid_t life = register_.pid;
    if (!register_ready_ && !register_.received.empty()) {
      register_ready_ = register_.received[0] == '0';
      register_.received.erase(0, 1);
      if (!register_ready_) return lost();
    }
    while (register_.pid == life && register_.runs() && take_answer(register_)) {
    }
    if (register_.pid == life && register_.runs() && ended) lost();
  }

  // One whole answer, if it is there.
  bool take_answer(Process& process) {
    ByteReader in(process.received);
    const auto count = in.get<std::uint32_t>();
    std::map<Pnn, Bytes> slots;
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
      const Pnn pnn{in.get<std::uint32_t>()};
      const auto length = in.get<std::uint32_t>();
      slots[pnn] = Bytes(in.get_bytes(length));
    }
    if (!in.ok() || count > kMaxSlots) return false;
    process.received = Bytes(in.rest());
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
  Process holder_;
  Process register_;            // beside a foreign helper
  bool status_seen_ = false;    // of the holder
  bool register_ready_ = false;
};

}  // namespace

std::unique_ptr<ClusterLockKeeper> ClusterLockKeeper::create(EventLoop& loop, ClusterLockSettings settings,
                                                             std::function<void(const LockStatus&)> on_status) {
  return std::make_unique<Keeper>(loop, std::move(settings), std::move(on_status));
}

}  // namespace tdbmesh::recovery
