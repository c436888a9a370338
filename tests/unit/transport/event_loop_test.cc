#include "transport/event_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <thread>

namespace tdbmesh {
namespace {

using testing::ElementsAre;

class EventLoopTest : public testing::Test {
 protected:
  EventLoopTest() : loop_(EventLoop::create().value()) {}

  struct Pipe {
    Pipe() { EXPECT_EQ(pipe(ends.data()), 0); }
    ~Pipe() {
      ::close(ends[0]);
      ::close(ends[1]);
    }
    void put() { EXPECT_EQ(write(ends[1], "x", 1), 1); }
    int reader() const { return ends[0]; }
    std::array<int, 2> ends{};
  };

  std::unique_ptr<EventLoop> loop_;
  std::vector<int> seen_;
};

TEST_F(EventLoopTest, ReadinessIsReportedUntilTheBytesAreRead) {
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop_->add(pipe.reader(), EPOLLIN, [&](std::uint32_t ready) {
    EXPECT_EQ(ready, static_cast<std::uint32_t>(EPOLLIN));
    ++calls;
  }));
  loop_->run_once(Duration::zero());
  EXPECT_EQ(calls, 0);
  pipe.put();
  loop_->run_once();
  loop_->run_once();
  EXPECT_EQ(calls, 2);
  loop_->modify(pipe.reader(), 0);
  loop_->run_once(Duration::zero());
  EXPECT_EQ(calls, 2);
  loop_->remove(pipe.reader());
}

TEST_F(EventLoopTest, HandlerRemovedInTheSameTurnIsNotCalled) {
  Pipe first;
  Pipe second;
  const auto remove_both = [&](std::uint32_t) {
    seen_.push_back(1);
    loop_->remove(first.reader());
    loop_->remove(second.reader());
  };
  ASSERT_TRUE(loop_->add(first.reader(), EPOLLIN, remove_both));
  ASSERT_TRUE(loop_->add(second.reader(), EPOLLIN, remove_both));
  first.put();
  second.put();
  loop_->run_once();
  loop_->run_once(Duration::zero());
  EXPECT_THAT(seen_, ElementsAre(1));
}

TEST_F(EventLoopTest, ReusedDescriptorDoesNotGetTheEventsOfItsPredecessor) {
  Pipe first;
  Pipe second;
  Pipe fresh;  // never becomes readable
  // Whichever runs first closes the other's descriptor and puts a quiet one at its number.
  const auto replace = [&](int other) {
    seen_.push_back(1);
    loop_->remove(other);
    EXPECT_EQ(dup2(fresh.reader(), other), other);
    ASSERT_TRUE(loop_->add(other, EPOLLIN, [&](std::uint32_t) { seen_.push_back(2); }));
  };
  ASSERT_TRUE(loop_->add(first.reader(), EPOLLIN, [&](std::uint32_t) { replace(second.reader()); }));
  ASSERT_TRUE(loop_->add(second.reader(), EPOLLIN, [&](std::uint32_t) { replace(first.reader()); }));
  first.put();
  second.put();
  loop_->run_once();
  EXPECT_THAT(seen_, ElementsAre(1));
}

TEST_F(EventLoopTest, TimersRunInOrderAndNotBeforeTheirTime) {
  const Instant start = loop_->now();
  std::vector<Instant> ran;
  loop_->at(start + milliseconds(20), [&] { seen_.push_back(2); });
  loop_->at(start + milliseconds(10), [&] { seen_.push_back(1); });
  loop_->at(start + milliseconds(20), [&] {
    seen_.push_back(3);
    ran.push_back(loop_->now());
    loop_->stop();
  });
  loop_->run();
  EXPECT_THAT(seen_, ElementsAre(1, 2, 3));
  EXPECT_GE(ran.at(0), start + milliseconds(20));
}

TEST_F(EventLoopTest, CancelledTimersDoNotRunEvenIfTheyAreDue) {
  EventLoop::Timer second;
  loop_->at(loop_->now(), [&] {
    seen_.push_back(1);
    loop_->cancel(second);
  });
  second = loop_->at(loop_->now(), [&] { seen_.push_back(2); });
  loop_->run_once();
  loop_->run_once(Duration::zero());
  loop_->cancel(second);
  EXPECT_THAT(seen_, ElementsAre(1));
}

TEST_F(EventLoopTest, TimerThatRenewsItselfRunsOncePerTurn) {
  std::function<void()> again = [&] {
    seen_.push_back(1);
    loop_->at(loop_->now(), again);
  };
  loop_->at(loop_->now(), again);
  loop_->run_once();
  EXPECT_EQ(seen_.size(), 1u);
  loop_->run_once();
  EXPECT_EQ(seen_.size(), 2u);
}

TEST_F(EventLoopTest, DeferredTasksRunLastAndTheirsInTheNextTurn) {
  loop_->defer([&] {
    seen_.push_back(3);
    loop_->defer([&] { seen_.push_back(4); });
  });
  loop_->at(loop_->now(), [&] { seen_.push_back(1); });
  loop_->post([&] { seen_.push_back(2); });
  loop_->run_once();
  EXPECT_THAT(seen_, ElementsAre(1, 2, 3));
  loop_->run_once(kNever - Instant{});  // does not sleep: something is deferred
  EXPECT_THAT(seen_, ElementsAre(1, 2, 3, 4));
}

TEST_F(EventLoopTest, HooksRunAfterEverythingElseOfATurnAndWithoutSleepWhileTheyHaveMore) {
  const auto hook = loop_->at_end_of_turn([&] {
    seen_.push_back(2);
    return seen_.size() < 4;
  });
  loop_->defer([&] { seen_.push_back(1); });
  loop_->run_once();
  EXPECT_THAT(seen_, ElementsAre(1, 2));
  loop_->run_once(kNever - Instant{});  // does not sleep: the hook has more
  loop_->run_once(kNever - Instant{});
  EXPECT_THAT(seen_, ElementsAre(1, 2, 2, 2));
  loop_->remove(hook);
  loop_->run_once(Duration::zero());
  EXPECT_THAT(seen_, ElementsAre(1, 2, 2, 2));
}

TEST_F(EventLoopTest, TasksPostedByOtherThreadsAllRunInTheOrderOfEachThread) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 2000;
  std::array<int, kThreads> next{};
  int done = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        loop_->post([&, t, i] {
          EXPECT_EQ(next[t], i);
          next[t] = i + 1;
          if (++done == kThreads * kTasks) loop_->stop();
        });
      }
    });
  }
  loop_->run();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(done, kThreads * kTasks);
}

TEST_F(EventLoopTest, IdleLoopGoesOnTurningAndStopsWhenAnotherThreadSaysSo) {
  std::thread watcher([&] {
    while (loop_->turns() < 3) std::this_thread::yield();
    loop_->stop();
  });
  loop_->run();
  watcher.join();
  EXPECT_GE(loop_->turns(), 3u);
}

TEST_F(EventLoopTest, StopBeforeRunEndsItAfterOneTurn) {
  loop_->stop();
  loop_->run();
  EXPECT_EQ(loop_->turns(), 1u);
}

}  // namespace
}  // namespace tdbmesh
