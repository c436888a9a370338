#pragma once
// Virtual time for whole clusters: one queue of events ordered by (time, order of scheduling), one seed, a clock
// per machine that runs up to 1 % fast or slow, and links with loss, delay and cuts per direction. Everything
// that happens in a simulation happens here, so a seed replays a run exactly.
//
// Time on the queue is true time; cores are handed local time of their machine.

#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <vector>

#include "db/base/ids.h"
#include "db/base/random.h"
#include "db/base/time.h"

namespace tdbmesh::sim {

class MachineClock {
 public:
  MachineClock() = default;
  // rate in parts per million beside true time: -10000 .. 10000.
  MachineClock(std::int64_t ppm, Duration offset) : ppm_(ppm), offset_(offset) {}
  [[nodiscard]] Instant local(Instant true_time) const;
  [[nodiscard]] Instant when(Instant local_time) const;  // true time, never before local() reaches it

 private:
  std::int64_t ppm_ = 0;
  Duration offset_{0};
};

struct LinkQuality {
  bool cut = false;
  bool for_good = false;  // ... as long as the run lasts, so that nobody needs to look again and again whether it is healed
  std::uint32_t loss_percent = 0;
  Duration delay_least{100};
  Duration delay_most{400};
};

class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  [[nodiscard]] Instant now() const { return now_; }
  [[nodiscard]] Random& random() { return random_; }
  void at(Instant when, std::function<void()> what);
  void after(Duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
  // For the event that is running: not yet. It keeps its place among events of one time, so that what two of them
  // put off, to the same time in different steps, still comes in the order in which it was due.
  void postpone(Instant when, std::function<void()> what);
  // Runs what is due until then; `after_each` sees the state after every event.
  void run_until(Instant end, const std::function<void()>& after_each);

  [[nodiscard]] LinkQuality& link(Pnn from, Pnn to) { return links_[{from, to}]; }
  void heal_all_links() { links_.clear(); }
  // Delivers in order per (from, to, channel), or not at all.
  bool send(Pnn from, Pnn to, int channel, std::function<void()> deliver);
  [[nodiscard]] std::uint64_t events() const { return order_; }

 private:
  struct Event {
    Instant when;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return std::tie(when, order) > std::tie(other.when, other.order);
    }
  };
  Random random_;
  Instant now_{seconds(1000)};
  std::uint64_t order_ = 0;
  std::uint64_t running_ = 0;  // order of the event that is running
  std::priority_queue<Event> queue_;
  std::map<std::pair<Pnn, Pnn>, LinkQuality> links_;
  std::map<std::tuple<Pnn, Pnn, int>, Instant> newest_arrival_;
};

}  // namespace tdbmesh::sim
