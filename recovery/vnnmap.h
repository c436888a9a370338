#pragma once
// The vnnmap of a new view: which node is lmaster of which slot, and since when without interruption. Pure.

#include <set>
#include <utility>
#include <vector>

#include "db/view.h"

namespace tdbmesh::recovery {

// `nodes`: configured nodes, ascending; slot i has nodes[i] as its home. `members` of the new view with their
// joins; `capable`: those of them that may be lmaster (if none: all are). `previous`: newest accepted view, or
// null. `incomplete`: (pnn, slot) pairs reported as not yet rebuilt.
//   A slot stays with its holder while that may hold it; its home gets it back on return; orphans go to whoever
//   has fewest slots, lowest pnn first.
//   `since` is kept iff the previous view had the same lmaster with the same join and complete; else `now`.
// `now` is the generation of the new view. An empty member list gives an empty map.
[[nodiscard]] std::vector<Slot> make_vnnmap(const std::vector<Pnn>& nodes, const std::vector<Member>& members,
                                            const std::set<Pnn>& capable, const View* previous,
                                            const std::set<std::pair<Pnn, std::uint32_t>>& incomplete, Generation now);

}  // namespace tdbmesh::recovery
