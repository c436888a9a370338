#pragma once
// What an all-seeing observer remembers of the records that simulated clients wrote, and what a client may
// therefore see. Versions of a key are numbered in the order of their writing; a value carries its number, a
// deletion leaves an empty value.
//
//  I4  a version older than a deletion whose vacuum was finished is never seen again.
//  I5  what is seen is no older than the newest version that any uninterrupted member has seen. A write obeys
//      the same rule for what it was based on, so no write is lost and none is done twice.
//
// Commits: the keys of acknowledged ones, which no copy may lack (I3).

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/view.h"

namespace tdbmesh::sim {

class GhostLog {
 public:
  using Key = std::pair<DatabaseId, Bytes>;
  using Version = std::uint64_t;  // 0: absent or deleted

  // The newest view that anybody installed: who counts as an uninterrupted member.
  void set_view(const View& view) { view_ = view; }

  // What a read that begins now must see at least.
  struct Floor {
    std::map<Pnn, std::pair<Member, Version>> seen;
    Version dead = 0;
  };
  [[nodiscard]] Floor floor(const Key& key) const;
  // Empty if `observed` is all right for a read that began when `floor` was taken.
  [[nodiscard]] std::string judge(const Key& key, const Floor& floor, Version observed) const;

  // A client of this node, under the chain lock, saw this / wrote a version based on what it saw.
  void observed(const Key& key, const Member& node, Version version);
  [[nodiscard]] Version next(const Key& key) { return keys_[key].last + 1; }
  void wrote(const Key& key, const Member& node, Version version, bool deletion);
  // What an uninterrupted node has seen itself; 0: nothing that counts, or deleted since.
  [[nodiscard]] Version known_to(const Key& key, Pnn node) const;
  // The newest that any other uninterrupted member has seen, deletions included.
  [[nodiscard]] Version known_to_others(const Key& key, Pnn node) const;
  // This member holds the version now, and is to be held to it.
  void holds(const Key& key, const Member& node, Version version);
  // The owner removed the record after it had asked all members to.
  void vacuumed(const Key& key, Pnn owner);

  void acknowledged(DatabaseId database, Bytes commit) { commits_[database].insert(std::move(commit)); }
  [[nodiscard]] const std::map<DatabaseId, std::set<Bytes>>& commits() const { return commits_; }

 private:
  struct History {
    Version last = 0;
    Version dead = 0;
    std::set<Version> deletions;
    std::map<Pnn, std::pair<Member, Version>> seen;
  };
  [[nodiscard]] Version newest(const std::map<Pnn, std::pair<Member, Version>>& seen) const;

  View view_;
  std::map<Key, History> keys_;
  std::map<DatabaseId, std::set<Bytes>> commits_;
};

}  // namespace tdbmesh::sim
