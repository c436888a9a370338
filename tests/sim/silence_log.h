#pragma once
// When heartbeats and their answers have truly arrived at each node, and how long nothing did: what nodes say of each
// other's silence is judged by it.

#include <deque>
#include <map>
#include <utility>

#include "db/base/ids.h"
#include "db/base/time.h"

namespace tdbmesh::sim {

class SilenceLog {
 public:
  // Silences that were shorter are not remembered.
  explicit SilenceLog(Duration least) : least_(least) {}

  // A life of `at` begins: it has heard nobody.
  void started(Pnn at);
  void heard(Pnn at, Pnn from, Instant now);
  // The longest silence of `from` at `at` that goes on or ended since then; Duration::max() if it was never heard.
  [[nodiscard]] Duration longest(Pnn at, Pnn from, Instant since, Instant now) const;

 private:
  struct Ear {
    Instant last = Instant::min();
    std::deque<std::pair<Instant, Duration>> silences;  // by their end
  };
  Duration least_;
  std::map<std::pair<Pnn, Pnn>, Ear> ears_;
};

}  // namespace tdbmesh::sim
