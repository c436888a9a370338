#include "transport/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "db/base/check.h"

namespace tdbmesh {
namespace {

// One epoll_wait hands out up to this many descriptors: enough that a busy turn is one system call, small
// enough that timers are looked at often.
constexpr int kEventsPerTurn = 512;

// An event carries the descriptor and the serial of its watch: if a handler closes a descriptor and the number
// is used again in the same turn, the old event must not reach the new handler.
constexpr std::uint64_t tag(int fd, std::uint32_t serial) {
  return std::uint64_t{serial} << 32 | static_cast<std::uint32_t>(fd);
}

// Serial 0 is no watch's: it marks the loop's own eventfd.
constexpr std::uint32_t kWakeSerial = 0;

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return system_failure("cannot create an epoll instance");
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    auto error = system_failure("cannot create an eventfd");
    close(epoll_fd);
    return error;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag(wake_fd, kWakeSerial);
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0) {
    auto error = system_failure("cannot watch an eventfd");
    close(wake_fd);
    close(epoll_fd);
    return error;
  }
  return std::unique_ptr<EventLoop>(new EventLoop(epoll_fd, wake_fd));
}

EventLoop::EventLoop(int epoll_fd, int wake_fd)
    : epoll_fd_(epoll_fd), wake_fd_(wake_fd), now_(boot_time_now()) {}

EventLoop::~EventLoop() {
  ::close(wake_fd_);
  ::close(epoll_fd_);
}

Result<> EventLoop::add(int fd, std::uint32_t events, Handler handler) {
  TDBMESH_CHECK(fd >= 0 && handler);
  const auto index = static_cast<std::size_t>(fd);
  if (index >= watches_.size()) watches_.resize(index + 1);
  Watch& watch = watches_[index];
  TDBMESH_CHECK(!watch.handler);
  const std::uint32_t serial = next_serial_;
  next_serial_ = next_serial_ == UINT32_MAX ? 1 : next_serial_ + 1;
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag(fd, serial);
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return system_failure("cannot watch a descriptor");
  watch = Watch{serial, events, std::make_shared<Handler>(std::move(handler))};
  return {};
}

void EventLoop::modify(int fd, std::uint32_t events) {
  const auto index = static_cast<std::size_t>(fd);
  TDBMESH_CHECK(index < watches_.size() && watches_[index].handler);
  Watch& watch = watches_[index];
  if (watch.events == events) return;
  watch.events = events;
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag(fd, watch.serial);
  TDBMESH_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) == 0);
}

void EventLoop::remove(int fd) {
  const auto index = static_cast<std::size_t>(fd);
  if (fd < 0 || index >= watches_.size() || !watches_[index].handler) return;
  watches_[index].handler.reset();
  epoll_event event{};
  (void)epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, &event);
}

EventLoop::Timer EventLoop::at(Instant when, Task task) {
  const Timer timer{when, next_timer_++};
  timers_.emplace(timer, std::move(task));
  return timer;
}

void EventLoop::cancel(const Timer& timer) { timers_.erase(timer); }

void EventLoop::post(Task task) {
  bool first = false;
  {
    const std::scoped_lock lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(task));
  }
  // Whoever found the list empty wakes the loop; the loop empties list and eventfd before it runs them.
  if (first) wake();
}

void EventLoop::defer(Task task) { deferred_.push_back(std::move(task)); }

EventLoop::Hook EventLoop::at_end_of_turn(std::function<bool()> hook) {
  const Hook name{next_timer_++};
  hooks_.emplace(name.serial, std::move(hook));
  return name;
}

void EventLoop::remove(Hook hook) { hooks_.erase(hook.serial); }

void EventLoop::wake() {
  const std::uint64_t one = 1;
  // A full counter means that the loop will wake anyway.
  (void)!write(wake_fd_, &one, sizeof(one));
}

void EventLoop::run() {
  do {
    run_once();
  } while (!stopping_.load(std::memory_order_acquire));
  stopping_.store(false, std::memory_order_release);
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void EventLoop::run_once(Duration longest_sleep) {
  sleep_and_dispatch(longest_sleep);
  run_due_timers();
  run_posted();
  run_deferred();
  run_hooks();
  turns_.fetch_add(1, std::memory_order_relaxed);
}

void EventLoop::sleep_and_dispatch(Duration longest_sleep) {
  Duration sleep = longest_sleep;
  if (!deferred_.empty() || hooks_have_more_) sleep = Duration::zero();
  if (!timers_.empty() && sleep > Duration::zero()) {
    // now_ is the beginning of the last turn, which may have been a long one.
    sleep = std::clamp(timers_.begin()->first.when - boot_time_now(), Duration::zero(), sleep);
  }
  const auto micros = sleep.count();
  std::array<epoll_event, kEventsPerTurn> events;
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(micros / 1'000'000);
  timeout.tv_nsec = static_cast<long>(micros % 1'000'000) * 1000;
  int ready = epoll_pwait2(epoll_fd_, events.data(), kEventsPerTurn, &timeout, nullptr);
  if (ready < 0 && errno == ENOSYS) {  // kernels before 5.11: rounded up, or a timer would spin
    ready = epoll_wait(epoll_fd_, events.data(), kEventsPerTurn, static_cast<int>((micros + 999) / 1000));
  }
  TDBMESH_CHECK(ready >= 0 || errno == EINTR);
  now_ = boot_time_now();
  for (int i = 0; i < ready; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const auto fd = static_cast<std::size_t>(event.data.u64 & 0xFFFFFFFFu);
    const auto serial = static_cast<std::uint32_t>(event.data.u64 >> 32);
    if (serial == kWakeSerial) {
      std::uint64_t count = 0;
      (void)!read(wake_fd_, &count, sizeof(count));
      continue;
    }
    if (fd >= watches_.size() || watches_[fd].serial != serial || !watches_[fd].handler) continue;
    // The handler may remove its own watch, and with it the function object that runs.
    const std::shared_ptr<Handler> handler = watches_[fd].handler;
    (*handler)(event.events);
  }
}

void EventLoop::run_due_timers() {
  // Timers made now wait for the next turn, even if they are due: a timer that renews itself with a time in the
  // past must not keep the loop here.
  const std::uint64_t made_before = next_timer_;
  while (true) {
    const auto due = std::find_if(timers_.begin(), timers_.upper_bound(Timer{now_, UINT64_MAX}),
                                  [&](const auto& timer) { return timer.first.sequence < made_before; });
    if (due == timers_.end() || due->first.when > now_) return;
    const Task task = std::move(due->second);
    timers_.erase(due);
    task();
  }
}

void EventLoop::run_posted() {
  std::vector<Task> tasks;
  {
    const std::scoped_lock lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (const Task& task : tasks) task();
}

void EventLoop::run_deferred() {
  std::vector<Task> tasks;
  tasks.swap(deferred_);
  for (const Task& task : tasks) task();
  tasks.clear();
  if (deferred_.empty()) deferred_.swap(tasks);  // its memory is used again
}

void EventLoop::run_hooks() {
  hooks_have_more_ = false;
  for (const auto& [serial, hook] : hooks_) hooks_have_more_ = hook() || hooks_have_more_;
}

}  // namespace tdbmesh
