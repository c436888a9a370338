#include "tests/sim/world.h"

#include <algorithm>
#include <tuple>

namespace tdbmesh::sim {

Instant MachineClock::local(Instant true_time) const {
  const std::int64_t t = true_time.time_since_epoch().count();
  return Instant(Duration(t + t / 1'000'000 * ppm_ + t % 1'000'000 * ppm_ / 1'000'000) + offset_);
}

Instant MachineClock::when(Instant local_time) const {
  const std::int64_t l = (local_time - offset_).time_since_epoch().count();
  Instant guess(Duration(l - l / 1'000'000 * ppm_));
  // The rate is small: a few corrections reach it.
  for (int i = 0; i < 8; ++i) guess += local_time - local(guess);
  while (local(guess) < local_time) guess += Duration(1);
  return guess;
}

void World::at(Instant when, std::function<void()> what) {
  queue_.push({std::max(when, now_), order_++, std::move(what)});
}

void World::postpone(Instant when, std::function<void()> what) {
  queue_.push({std::max(when, now_), running_, std::move(what)});
}

void World::run_until(Instant end, const std::function<void()>& after_each) {
  while (!queue_.empty() && queue_.top().when <= end) {
    const auto what = std::move(const_cast<Event&>(queue_.top()).what);  // popped next, its order does not change
    now_ = queue_.top().when;
    running_ = queue_.top().order;
    queue_.pop();
    what();
    if (after_each) after_each();
  }
  now_ = end;
}

bool World::send(Pnn from, Pnn to, int channel, std::function<void()> deliver) {
  const LinkQuality& quality = link(from, to);
  const bool lost = quality.cut || random_.below(100) < quality.loss_percent;
  const Duration delay = quality.delay_least + random_.up_to(quality.delay_most - quality.delay_least);
  if (lost) return false;
  Instant& newest = newest_arrival_[{from, to, channel}];
  newest = std::max(newest + Duration(1), now_ + delay);
  at(newest, std::move(deliver));
  return true;
}

}  // namespace tdbmesh::sim
