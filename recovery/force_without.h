#pragma once
// Going on after nodes are lost for good that were a majority, or had the only copy of commits: the operator's word takes
// the place of their votes. It is given at the start of each survivor's daemon (`tdbmeshd --force-without 1,2`) and changes
// what that one remembers. Nobody can undo it: should one of the lost come back with its old state, it knows nothing of
// this and would vote as before. Pure.

#include <set>

#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {

// Far above what `reloadnodes` counts, so that a configuration made so is newer than any of the lost nodes'.
inline constexpr std::uint64_t kForcedEpochStep = 1000;
inline constexpr std::uint64_t kForcedTermStep = 1000;

// `self` goes on without `lost`. They neither vote nor are waited for any more, and what is here counts as settled.
// Refused, with what is wrong, if that cannot be meant.
[[nodiscard]] Result<void> force_without(PersistedState& state, Pnn self, const std::set<Pnn>& lost);

}  // namespace tdbmesh::recovery
