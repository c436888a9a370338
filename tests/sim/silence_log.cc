#include "tests/sim/silence_log.h"

#include <algorithm>

namespace tdbmesh::sim {

namespace {
constexpr Duration kKept = seconds(60);
}

void SilenceLog::started(Pnn at) {
  std::erase_if(ears_, [at](const auto& ear) { return ear.first.first == at; });
}

void SilenceLog::heard(Pnn at, Pnn from, Instant now) {
  Ear& ear = ears_[{at, from}];
  // The first one ends a silence too: it makes no good standing out of nothing.
  const Duration silence = ear.last == Instant::min() ? Duration::max() : Duration(now - ear.last);
  ear.last = now;
  if (silence < least_) return;
  ear.silences.emplace_back(now, silence);
  while (ear.silences.front().first < now - kKept) ear.silences.pop_front();
}

Duration SilenceLog::longest(Pnn at, Pnn from, Instant since, Instant now) const {
  const auto found = ears_.find({at, from});
  if (found == ears_.end()) return Duration::max();
  Duration longest = now - found->second.last;
  for (const auto& [end, silence] : found->second.silences) {
    if (end >= since) longest = std::max(longest, silence);
  }
  return longest;
}

}  // namespace tdbmesh::sim
