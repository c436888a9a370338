#include "recovery/force_without.h"

#include <algorithm>
#include <fmt/format.h>

namespace tdbmesh::recovery {

Result<void> force_without(PersistedState& state, Pnn self, const std::set<Pnn>& lost) {
  const auto is_lost = [&](Pnn pnn) { return lost.contains(pnn); };
  if (!state.accepted) return failure(Fault::Refused, "this node has never been in a cluster: there is nothing to go on with");
  if (is_lost(self)) return failure(Fault::Refused, "this node cannot go on without itself");
  ClusterConfig config = state.config;
  for (const Pnn pnn : lost) {
    const auto in = [pnn](const std::vector<Pnn>& list) { return std::find(list.begin(), list.end(), pnn) != list.end(); };
    if (in(config.nodes) || in(config.voters) || in(config.old_nodes) || in(config.old_voters)) continue;
    return failure(Fault::Refused, fmt::format("node {} is not in the configuration that this node remembers", number(pnn)));
  }
  std::erase_if(config.nodes, is_lost);
  std::erase_if(config.voters, is_lost);
  if (config.voters.empty()) return failure(Fault::Refused, "no node that votes would be left");
  config.old_nodes.clear();
  config.old_voters.clear();
  config.old_quorum = QuorumMode::Majority;
  if (config.nodes.size() != 2 && config.quorum == QuorumMode::LockVote) config.quorum = QuorumMode::Majority;
  config.epoch += kForcedEpochStep;
  config.digest = 0;

  // A view of its own, of this node alone in the life that has ended, tells whoever leads next of the configuration. No
  // election can have given it its generation.
  const View before = std::move(*state.accepted);
  View forced;
  forced.generation = Generation{std::max(state.term, before.generation.term) + kForcedTermStep, number(self) + 1};
  forced.leader = self;
  forced.members = {{self, state.incarnation, forced.generation}};
  forced.vnnmap.assign(config.nodes.size(), Slot{self, forced.generation});
  forced.config = config;
  ChainLink last{before.generation, {}};
  for (const Member& member : before.members) last.members.push_back(member.pnn);
  forced.chain = {std::move(last)};
  state.term = forced.generation.term;
  state.voted_for = kNoPnn;
  // The carrier rule would ask for members of views that nobody here has installed.
  state.installed = std::max(state.installed, before.generation);
  state.accepted = std::move(forced);
  state.config = std::move(config);
  return {};
}

}  // namespace tdbmesh::recovery
