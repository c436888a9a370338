#pragma once
// How the agreed configuration becomes that of the nodes files (`reloadnodes`): in steps, each one a view change in
// which at most one voter comes or goes, so that any quorum before a step and any quorum after it share a voter.
// Every prefix of the steps is a configuration to stay with; a leader that dies leaves nothing to clean up. Pure.
//
//   a node comes:  member first, without a vote (it may be down, or new and remember nothing); it votes when it has
//                  been a member of an installed view
//   a node goes:   out of nodes and voters at once; those that are down go first, since that eases the majority
//   quorum mode:   changes while the voters stay. The lock's vote goes before a third node comes, and comes after it
//                  went: {node, lock} and {the other node, the third} would be two quorums without a common voter

#include <optional>
#include <set>
#include <string>

#include "db/cluster_config.h"

namespace tdbmesh::recovery {

using tdbmesh::ClusterConfig;
using tdbmesh::QuorumMode;

// The next step from `agreed` towards `files` (its nodes, voters, quorum), or nothing if they agree or the rest has
// to wait: epoch + 1, with what it was before as old_*. `reachable`: nodes heard both ways, this one included.
// `settled`: voters to be that remember (members of the view in use; a witness that accepted it).
[[nodiscard]] std::optional<ClusterConfig> next_step(const ClusterConfig& agreed, const ClusterConfig& files,
                                                     const std::set<Pnn>& reachable, const std::set<Pnn>& settled);

// The same nodes, voters and quorum: nothing is left to do.
[[nodiscard]] bool agrees(const ClusterConfig& agreed, const ClusterConfig& files);

// Why nobody should take up these files now; empty if one may. Nodes that have never voted must stay a minority of
// the new voters: by themselves they could otherwise found a second cluster.
[[nodiscard]] std::string objection(const ClusterConfig& agreed, const ClusterConfig& files);

// "3 joins", "2 leaves", "3 votes", "quorum by majority": what a step does.
[[nodiscard]] std::string describe_step(const ClusterConfig& step);

// Both sides of the change under way are satisfied.
[[nodiscard]] bool is_joint_quorum(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote);

}  // namespace tdbmesh::recovery
