#pragma once
// What has arrived from one peer, by the numbers in the envelopes (envelope.h): what is a repetition or overtaken, where
// something is missing, and whether a tail is. Pure.

#include <cstdint>

#include "db/base/ids.h"
#include "db/base/time.h"
#include "transport/envelope.h"
#include "transport/heartbeat_core.h"

namespace tdbmesh {

class Arrivals {
 public:
  // How long what the peer counts may stay ahead of what has arrived.
  static constexpr Duration kPatience = std::chrono::seconds(1);

  struct Verdict {
    bool stale = false;     // of an older life, session or connection, or a repetition: to be dropped
    bool gap = false;       // before this one something is missing
    bool new_life = false;  // the peer has been started again, or is heard for the first time
  };
  [[nodiscard]] Verdict take(const Envelope& envelope);

  // The peer's heartbeat says that it has sent so much. True if some of that must be lost: once for each loss.
  [[nodiscard]] bool is_behind(Incarnation incarnation, LinkCount said, Instant now);

  [[nodiscard]] LinkCount count() const { return {session_, sequence_}; }

 private:
  Incarnation incarnation_ = 0;
  std::uint64_t session_ = 0;
  std::uint64_t connection_ = 0;
  std::uint64_t sequence_ = 0;
  Instant behind_since_ = kNever;   // the peer's count is ahead and nothing has arrived since
  std::uint64_t behind_at_ = 0;     // sequence that had arrived then
  std::uint64_t told_missing_ = 0;  // a gap up to here was told already
};

}  // namespace tdbmesh
