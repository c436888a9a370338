#pragma once
// The one event loop of a daemon: file descriptors (epoll, level-triggered), timers, tasks. One thread runs
// it and owns everything it calls; from other threads only post() and stop() may be called, and turns() read.
//
// A turn: sleep until something is ready or due, read the clock once, call the handlers of the ready
// descriptors, the due timers, the posted tasks, the deferred tasks, and last the hooks. A handler that throws or
// blocks is a bug. Whatever a handler removes is not called any more, even in the same turn.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "db/base/result.h"
#include "db/base/time.h"

namespace tdbmesh {

class EventLoop {
 public:
  using Task = std::function<void()>;
  // `ready` are EPOLL... bits. EPOLLERR and EPOLLHUP come without being asked for.
  using Handler = std::function<void(std::uint32_t ready)>;

  // Names a timer until it ran or was cancelled. The default value names none.
  struct Timer {
    Instant when = kNever;
    std::uint64_t sequence = 0;
    friend auto operator<=>(const Timer&, const Timer&) = default;
  };

  // Names a hook. The default value names none.
  struct Hook {
    std::uint64_t serial = 0;
  };

  // An idle loop still turns this often, so that who watches turns() can tell idle from hung, and so that
  // timers are at most this late after the machine slept.
  static constexpr Duration kLongestSleep = std::chrono::milliseconds(250);

  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `events` are EPOLLIN, EPOLLOUT or 0. The descriptor stays the caller's: remove() it before closing it.
  // Adding one that is there already is the caller's bug. Fails if the system is out of something.
  [[nodiscard]] Result<> add(int fd, std::uint32_t events, Handler handler);
  void modify(int fd, std::uint32_t events);
  void remove(int fd);  // of one that is not there: nothing happens

  // Calls `task` once, in the first turn at or after `when`; in the next turn if that is past. Timers of one
  // instant run in the order in which they were made.
  Timer at(Instant when, Task task);
  Timer after(Duration delay, Task task) { return at(now_ + delay, std::move(task)); }
  void cancel(const Timer& timer);  // of one that ran or was cancelled: nothing happens

  // From any thread: runs `task` in the loop's thread, in order of posting. Tasks left when the loop is
  // destroyed are dropped.
  void post(Task task);
  // From the loop's thread: runs `task` at the end of this turn; what such a task defers, at the end of the next.
  void defer(Task task);

  // Calls `hook` at the end of each turn, when everything else is done: the place to write out what a turn has gathered.
  // It answers whether it has more to do, and then the next turn begins without sleep. It must not remove hooks.
  Hook at_end_of_turn(std::function<bool()> hook);
  void remove(Hook hook);

  // The time of this turn (boot time, see time.h).
  [[nodiscard]] Instant now() const { return now_; }
  // Turns so far, from any thread. It grows while the loop makes progress.
  [[nodiscard]] std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }

  // Turns until stop(). A stop() before run() ends the next run() after one turn.
  void run();
  void stop();
  // One turn, sleeping no longer than `longest_sleep`. For tests and for programs with a loop of their own.
  void run_once(Duration longest_sleep = kLongestSleep);

 private:
  struct Watch {
    std::uint32_t serial = 0;
    std::uint32_t events = 0;
    std::shared_ptr<Handler> handler;  // null: this descriptor is not watched
  };

  EventLoop(int epoll_fd, int wake_fd);
  void sleep_and_dispatch(Duration longest_sleep);
  void run_due_timers();
  void run_posted();
  void run_deferred();
  void run_hooks();
  void wake();

  int epoll_fd_;
  int wake_fd_;
  Instant now_;
  std::uint32_t next_serial_ = 1;
  std::uint64_t next_timer_ = 1;
  std::vector<Watch> watches_;  // by descriptor
  std::map<Timer, Task> timers_;
  std::vector<Task> deferred_;
  std::map<std::uint64_t, std::function<bool()>> hooks_;
  bool hooks_have_more_ = false;
  std::mutex posted_mutex_;
  std::vector<Task> posted_;  // guarded by posted_mutex_
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> turns_{0};
};

}  // namespace tdbmesh
