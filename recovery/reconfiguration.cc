#include "recovery/reconfiguration.h"

#include <algorithm>
#include <fmt/format.h>

#include "recovery/quorum.h"

namespace tdbmesh::recovery {
namespace {

bool has(const std::vector<Pnn>& list, Pnn pnn) { return std::binary_search(list.begin(), list.end(), pnn); }

void insert(std::vector<Pnn>& list, Pnn pnn) {
  if (!has(list, pnn)) list.insert(std::lower_bound(list.begin(), list.end(), pnn), pnn);
}

void remove(std::vector<Pnn>& list, Pnn pnn) { std::erase(list, pnn); }

// The first of `list` that is not in `other`; kNoPnn if there is none.
Pnn first_missing(const std::vector<Pnn>& list, const std::vector<Pnn>& other) {
  for (const Pnn pnn : list) {
    if (!has(other, pnn)) return pnn;
  }
  return kNoPnn;
}

const char* words(QuorumMode mode) {
  switch (mode) {
    case QuorumMode::Majority: return "quorum by majority";
    case QuorumMode::LockVote: return "quorum with the lock's vote";
    case QuorumMode::None: return "no quorum";
  }
  return "?";
}

}  // namespace

bool agrees(const ClusterConfig& agreed, const ClusterConfig& files) {
  return agreed.nodes == files.nodes && agreed.voters == files.voters && agreed.quorum == files.quorum;
}

std::optional<ClusterConfig> next_step(const ClusterConfig& agreed, const ClusterConfig& files,
                                       const std::set<Pnn>& reachable, const std::set<Pnn>& settled) {
  ClusterConfig next = agreed;
  next.epoch = agreed.epoch + 1;
  next.digest = 0;
  next.old_nodes = agreed.nodes;
  next.old_voters = agreed.voters;
  next.old_quorum = agreed.quorum;
  const bool same_voters = agreed.nodes == files.nodes && agreed.voters == files.voters;
  if (agreed.quorum != files.quorum && (same_voters || agreed.quorum != QuorumMode::Majority)) {
    // Everything else happens under majority; the mode of the files comes last.
    next.quorum = same_voters && agreed.quorum == QuorumMode::Majority ? files.quorum : QuorumMode::Majority;
    return next;
  }
  // With the lock as a vote or without a quorum, voters stay as they are until the mode is majority.
  if (agreed.quorum != QuorumMode::Majority && !same_voters) {
    next.quorum = QuorumMode::Majority;
    return next;
  }
  const auto leave = [&](Pnn pnn) {
    remove(next.nodes, pnn);
    remove(next.voters, pnn);
    return next;
  };
  std::vector<Pnn> known = agreed.nodes;
  for (const Pnn voter : agreed.voters) insert(known, voter);
  std::vector<Pnn> wanted = files.nodes;
  for (const Pnn voter : files.voters) insert(wanted, voter);
  for (const Pnn pnn : known) {
    if (!has(wanted, pnn) && !reachable.contains(pnn)) return leave(pnn);
  }
  if (const Pnn comes = first_missing(files.nodes, agreed.nodes); comes != kNoPnn) {
    insert(next.nodes, comes);
    return next;
  }
  for (const Pnn pnn : files.voters) {
    if (has(agreed.voters, pnn) || !settled.contains(pnn)) continue;
    insert(next.voters, pnn);
    return next;
  }
  for (const Pnn pnn : known) {
    if (!has(wanted, pnn)) return leave(pnn);
  }
  return std::nullopt;
}

std::string objection(const ClusterConfig& agreed, const ClusterConfig& files) {
  std::size_t fresh = 0;
  for (const Pnn voter : files.voters) fresh += has(agreed.voters, voter) ? 0 : 1;
  if (fresh == 0 || fresh * 2 < files.voters.size() + (files.voters.size() % 2 == 0 ? 1 : 0)) return {};
  return fmt::format(
      "{} of {} nodes would be new: that many could found a cluster of their own. Add fewer at a time, and start them "
      "after `reloadnodes`",
      fresh, files.voters.size());
}

std::string describe_step(const ClusterConfig& step) {
  if (step.quorum != step.old_quorum) return words(step.quorum);
  for (const auto& [list, other, what] : {std::tuple(&step.nodes, &step.old_nodes, "is added"),
                                          std::tuple(&step.old_nodes, &step.nodes, "is removed"),
                                          std::tuple(&step.voters, &step.old_voters, "votes from now on"),
                                          std::tuple(&step.old_voters, &step.voters, "votes no more")}) {
    if (const Pnn pnn = first_missing(*list, *other); pnn != kNoPnn) return fmt::format("node {} {}", number(pnn), what);
  }
  return "nothing";
}

bool is_joint_quorum(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote) {
  if (!is_quorum(config, yes, lock_vote)) return false;
  if (config.old_voters.empty()) return true;
  ClusterConfig old;
  old.voters = config.old_voters;
  old.quorum = config.old_quorum;
  return is_quorum(old, yes, lock_vote);
}

}  // namespace tdbmesh::recovery
