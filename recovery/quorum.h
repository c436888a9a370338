#pragma once
// How many votes decide, in each quorum mode. Pure arithmetic, in one place, so that elections, PREPARE, the
// leader's lease and every gate count the same way.
//
//   Majority  more than half of the voters
//   LockVote  two nodes: the cluster lock is the third vote, so either node with the lock, or both, decide
//   None      one vote decides: nothing protects against two halves that both serve

#include <set>
#include <string>

#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {

[[nodiscard]] std::size_t votes_needed(const ClusterConfig& config);
// `yes` may contain pnns that are no voters; they do not count. lock_vote: the lock is held and fresh here.
[[nodiscard]] bool is_quorum(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote);
// "1 of 3 votes, 2 needed"
[[nodiscard]] std::string describe_votes(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote);

}  // namespace tdbmesh::recovery
