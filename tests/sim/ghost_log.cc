#include "tests/sim/ghost_log.h"

#include <algorithm>
#include <fmt/format.h>

namespace tdbmesh::sim {

GhostLog::Version GhostLog::newest(const std::map<Pnn, std::pair<Member, Version>>& seen) const {
  Version newest = 0;
  for (const auto& [pnn, what] : seen) {
    const Member* member = view_.member(pnn);
    if (member != nullptr && *member == what.first) newest = std::max(newest, what.second);
  }
  return newest;
}

GhostLog::Floor GhostLog::floor(const Key& key) const {
  const auto at = keys_.find(key);
  if (at == keys_.end()) return {};
  return Floor{at->second.seen, at->second.dead};
}

std::string GhostLog::judge(const Key& key, const Floor& floor, Version observed) const {
  const Version least = newest(floor.seen);
  const auto at = keys_.find(key);
  const auto text = [&](const char* what) {
    return fmt::format("{} (key {} of {}: version {} seen, at least {} expected, all up to {} are gone)", what,
                       to_hex(key.second), to_string(key.first), observed, least, floor.dead);
  };
  if (observed != 0) {
    if (observed <= floor.dead) return text("I4: a deleted record came back");
    if (observed < least) return text("I5: a record was rolled back or has two holders");
    return {};
  }
  if (least == 0) return {};
  if (at != keys_.end() && at->second.deletions.lower_bound(least) != at->second.deletions.end()) return {};
  return text("I5: a record was lost");
}

void GhostLog::observed(const Key& key, const Member& node, Version version) {
  History& history = keys_[key];
  auto& seen = history.seen[node.pnn];
  if (seen.first != node) seen = {node, 0};
  if (version == 0) {
    const auto deletion = history.deletions.lower_bound(newest(history.seen));
    if (deletion != history.deletions.end()) version = *deletion;
  }
  seen.second = std::max(seen.second, version);
}

void GhostLog::wrote(const Key& key, const Member& node, Version version, bool deletion) {
  History& history = keys_[key];
  history.last = version;
  if (deletion) history.deletions.insert(version);
  auto& seen = history.seen[node.pnn];
  seen = {node, version};
}

GhostLog::Version GhostLog::known_to(const Key& key, Pnn node) const {
  const auto at = keys_.find(key);
  if (at == keys_.end()) return 0;
  const auto seen = at->second.seen.find(node);
  const Member* member = view_.member(node);
  if (seen == at->second.seen.end() || member == nullptr || *member != seen->second.first) return 0;
  const Version version = seen->second.second;
  // A deletion since may have buried the copy here without a client looking at it.
  const bool deleted = at->second.deletions.lower_bound(version) != at->second.deletions.end();
  return version <= at->second.dead || deleted ? 0 : version;
}

GhostLog::Version GhostLog::known_to_others(const Key& key, Pnn node) const {
  const auto at = keys_.find(key);
  if (at == keys_.end()) return 0;
  auto seen = at->second.seen;
  seen.erase(node);
  return newest(seen);
}

void GhostLog::holds(const Key& key, const Member& node, Version version) {
  auto& seen = keys_[key].seen[node.pnn];
  if (seen.first != node) seen = {node, 0};
  seen.second = std::max(seen.second, version);
}

void GhostLog::vacuumed(const Key& key, Pnn owner) {
  History& history = keys_[key];
  const auto seen = history.seen.find(owner);
  if (seen == history.seen.end()) return;
  // What the owner saw last was a deletion, or it got the empty record without a client looking at it.
  const auto deletion = history.deletions.upper_bound(seen->second.second);
  if (deletion == history.deletions.begin()) return;
  const Version last = *std::prev(deletion);
  if (last == seen->second.second) history.dead = std::max(history.dead, last);
}

}  // namespace tdbmesh::sim
