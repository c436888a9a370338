#include "recovery/vnnmap.h"

#include <algorithm>
#include <map>

namespace tdbmesh::recovery {

std::vector<Slot> make_vnnmap(const std::vector<Pnn>& nodes, const std::vector<Member>& members,
                              const std::set<Pnn>& capable, const View* previous,
                              const std::set<std::pair<Pnn, std::uint32_t>>& incomplete, Generation now) {
  if (members.empty() || nodes.empty()) return {};
  std::map<Pnn, std::size_t> load;  // candidates, with the number of slots each has
  for (const Member& m : members) {
    if (capable.contains(m.pnn)) load[m.pnn] = 0;
  }
  if (load.empty()) {
    for (const Member& m : members) load[m.pnn] = 0;
  }
  const bool comparable = previous != nullptr && previous->vnnmap.size() == nodes.size();
  std::vector<Slot> map(nodes.size(), Slot{kNoPnn, now});
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Pnn holder = kNoPnn;
    if (load.contains(nodes[i])) {
      holder = nodes[i];
    } else if (comparable && load.contains(previous->vnnmap[i].lmaster)) {
      holder = previous->vnnmap[i].lmaster;
    }
    if (holder == kNoPnn) continue;
    map[i].lmaster = holder;
    ++load[holder];
  }
  for (Slot& slot : map) {
    if (slot.lmaster != kNoPnn) continue;
    // std::map is in pnn order, so the first minimum is the lowest pnn.
    const auto least = std::min_element(load.begin(), load.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    slot.lmaster = least->first;
    ++least->second;
  }
  if (!comparable) return map;
  for (std::size_t i = 0; i < map.size(); ++i) {
    const Slot& before = previous->vnnmap[i];
    if (before.lmaster != map[i].lmaster) continue;
    if (incomplete.contains({before.lmaster, static_cast<std::uint32_t>(i)})) continue;
    const Member* was = previous->member(before.lmaster);
    const auto is = std::find_if(members.begin(), members.end(),
                                 [&](const Member& m) { return m.pnn == before.lmaster; });
    if (was != nullptr && is != members.end() && was->incarnation == is->incarnation && was->join == is->join) {
      map[i].since = before.since;
    }
  }
  return map;
}

}  // namespace tdbmesh::recovery
