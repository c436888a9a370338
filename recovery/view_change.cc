#include "recovery/view_change.h"

#include <algorithm>

#include "db/base/plants.h"
#include "recovery/vnnmap.h"

namespace tdbmesh::recovery {

bool continues(const View* base, const Proposed& member) {
  if (base == nullptr) return false;
  const Member* was = base->member(member.pnn);
  return was != nullptr && was->incarnation == member.incarnation && !member.installed.is_none() &&
         member.installed >= was->join;
}

View propose_view(Generation generation, Pnn leader, const ClusterConfig& config, const std::vector<Proposed>& members,
                  const View* base, const std::set<std::pair<Pnn, std::uint32_t>>& incomplete,
                  Generation known_installed) {
  View view;
  view.generation = generation;
  view.leader = leader;
  view.config = config;
  view.config.digest = 0;
  std::set<Pnn> capable;
  for (const Proposed& p : members) {
    const Generation join = continues(base, p) ? base->member(p.pnn)->join : generation;
    view.members.push_back({p.pnn, p.incarnation, join});
    if (p.lmaster) capable.insert(p.pnn);
  }
  std::sort(view.members.begin(), view.members.end(), [](const Member& a, const Member& b) { return a.pnn < b.pnn; });
  view.vnnmap = make_vnnmap(config.nodes, view.members, capable, base, incomplete, generation);
  if (base == nullptr) return view;
  // The chain: older views that may hold acknowledged commits. One that was installed somewhere was settled
  // then, so it holds all that older ones had, and nothing beyond it is needed.
  std::vector<ChainLink> links;
  ChainLink newest{base->generation, {}};
  for (const Member& m : base->members) newest.members.push_back(m.pnn);
  links.push_back(std::move(newest));
  links.insert(links.end(), base->chain.begin(), base->chain.end());
  for (ChainLink& link : links) {
    const Generation at = link.generation;
    // Of two views with the same members the newer one asks for no less than the older one.
    const bool same = std::any_of(view.chain.begin(), view.chain.end(),
                                  [&](const ChainLink& have) { return have.members == link.members; });
    if (!same) view.chain.push_back(std::move(link));
    if (known_installed >= at) break;
  }
  return view;
}

Instant fence_passed(const View& view, const ClusterConfig& config, const Reports& reports,
                     const std::set<Pnn>& fenced, const Timing& timing) {
  Instant passed = Instant::min();
  // Every configured node that is not in the new view, not only those of the last one [ce 7].
  // During a change of configuration that includes the nodes that were in it before.
  std::set<Pnn> all(config.nodes.begin(), config.nodes.end());
  all.insert(config.old_nodes.begin(), config.old_nodes.end());
  for (const Pnn node : all) {
    if (view.contains(node) || reports.contains(node) || fenced.contains(node)) continue;
    for (const auto& [reporter, report] : reports) {
      for (const SupportAge& age : report.said.ages) {
        if (age.pnn == node) passed = std::max(passed, report.arrived + timing.fence() - age.age);
      }
    }
  }
  return passed;
}

std::vector<Pnn> missing_carriers(const View& view, const Reports& reports) {
  for (const ChainLink& link : view.chain) {
    bool member_answers = false;
    for (const auto& [pnn, report] : reports) {
      if (report.said.persisted_installed >= link.generation) return {};  // settled then
      if (std::find(link.members.begin(), link.members.end(), pnn) != link.members.end()) member_answers = true;
    }
    // A member that has not installed it: no commit of that view can have been acknowledged without it.
    if (!member_answers) return link.members;
  }
  return {};
}

CopyVersion effective(const CopyReport& copy, const Prepared& said) {
  CopyVersion version = copy.version;
  // Never committed to: new, or empty in the place of a damaged one. It must not win over a copy with contents.
  if (version == CopyVersion{}) return version;
  // A replicated copy is emptied at each start, so only this life counts for it.
  const Generation installed = copy.kind == DatabaseKind::Persistent ? said.persisted_installed : said.installed;
  version.generation = planted(Plant::CompareSeqnumAlone) ? Generation{} : std::max(version.generation, installed);
  return version;
}

std::map<std::pair<Pnn, DatabaseId>, Settle> settle_plan(const View& view, const Reports& reports) {
  struct Best {
    Settle settle;
    CopyVersion version;
  };
  std::map<DatabaseId, Best> best;
  for (const auto& [pnn, report] : reports) {  // ascending pnn: of equal copies the lowest is the source
    for (const CopyReport& copy : report.said.copies) {
      const CopyVersion version = effective(copy, report.said);
      const auto known = best.find(copy.db);
      if (known != best.end() && known->second.version >= version) continue;
      best[copy.db] = Best{Settle{view.generation, copy.db, copy.name, copy.kind, pnn, copy.version}, version};
    }
  }
  // Members hear each other; of who only answered that is known for the leader alone.
  for (const Member& member : view.members) {
    const auto report = reports.find(member.pnn);
    if (report == reports.end()) continue;
    for (const CopyReport& copy : report->second.said.copies) {
      Best& top = best.at(copy.db);
      if (!view.contains(top.settle.source) && copy.version == top.settle.version) top.settle.source = member.pnn;
    }
  }
  std::map<std::pair<Pnn, DatabaseId>, Settle> plan;
  for (const Member& member : view.members) {
    const auto report = reports.find(member.pnn);
    if (report == reports.end()) continue;
    for (const auto& [db, top] : best) {
      const auto& copies = report->second.said.copies;
      const auto own = std::find_if(copies.begin(), copies.end(), [&](const CopyReport& c) { return c.db == db; });
      // The same commit as its last one means the same content, whatever was installed since.
      const bool equal = own != copies.end() && (own->version == top.settle.version ||
                                                 effective(*own, report->second.said) == top.version);
      if (equal || top.settle.source == member.pnn) continue;
      Settle settle = top.settle;
      if (!view.contains(settle.source) && member.pnn != view.leader) settle.source = view.leader;
      plan.emplace(std::pair(member.pnn, db), std::move(settle));
    }
  }
  return plan;
}

}  // namespace tdbmesh::recovery
