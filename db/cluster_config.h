#pragma once
// The agreed configuration: which nodes exist and who votes. It travels in each view, so that whoever accepts a view
// counts votes as its leader does (recovery/reconfiguration.h says how it changes, one step a view).

#include <cstdint>
#include <vector>

#include "db/base/ids.h"

namespace tdbmesh {

enum class QuorumMode : std::uint8_t {
  Majority,  // of the voters
  LockVote,  // two nodes: the cluster lock is the third vote
  None,      // must be asked for: two halves both serve
};

struct ClusterConfig {
  std::uint64_t epoch = 0;
  std::vector<Pnn> nodes;   // configured, not deleted; ascending. Their count is the size of the vnnmap
  std::vector<Pnn> voters;  // ascending; nodes that have been members once, and the witness if there is one
  QuorumMode quorum = QuorumMode::Majority;
  std::uint64_t digest = 0;  // of the nodes file it came from; 0 in views
  // While a step is not known to be installed anywhere: what it was before. A view then needs the votes of both, and
  // waits for the fence of the nodes of both. Empty otherwise.
  std::vector<Pnn> old_nodes = {};
  std::vector<Pnn> old_voters = {};
  QuorumMode old_quorum = QuorumMode::Majority;
  friend bool operator==(const ClusterConfig&, const ClusterConfig&) = default;
};

}  // namespace tdbmesh
