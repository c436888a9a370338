#include "recovery/quorum.h"

#include <fmt/format.h>

namespace tdbmesh::recovery {
namespace {

std::size_t count(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote) {
  std::size_t votes = config.quorum == QuorumMode::LockVote && lock_vote ? 1 : 0;
  for (const Pnn voter : config.voters) votes += yes.contains(voter) ? 1 : 0;
  return votes;
}

}  // namespace

std::size_t votes_needed(const ClusterConfig& config) {
  switch (config.quorum) {
    case QuorumMode::Majority:
      return config.voters.size() / 2 + 1;
    case QuorumMode::LockVote:
      return (config.voters.size() + 1) / 2 + 1;
    case QuorumMode::None:
      break;
  }
  return 1;
}

bool is_quorum(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote) {
  return count(config, yes, lock_vote) >= votes_needed(config);
}

std::string describe_votes(const ClusterConfig& config, const std::set<Pnn>& yes, bool lock_vote) {
  const std::size_t all = config.voters.size() + (config.quorum == QuorumMode::LockVote ? 1 : 0);
  return fmt::format("{} of {} votes, {} needed", count(config, yes, lock_vote), all, votes_needed(config));
}

}  // namespace tdbmesh::recovery
