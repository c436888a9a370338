#pragma once
// A view: who is in the cluster, who leads, and which node is lmaster of which slot. Published by the
// leader (recovery/), obeyed by the records (db/). A plain value; compare and copy freely.

#include <cstdint>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/cluster_config.h"

namespace tdbmesh {

struct Member {
  Pnn pnn{};
  Incarnation incarnation = 0;
  Generation join;  // the generation in which it last came in as new; its volatile records are no older
  friend bool operator==(const Member&, const Member&) = default;
};

struct Slot {
  Pnn lmaster{};
  Generation since;  // lmaster without interruption, in every view prepared by anybody, from here on
  friend bool operator==(const Slot&, const Slot&) = default;
};

// An older view that may hold commits this one must not forget (control-plane 8).
struct ChainLink {
  Generation generation;
  std::vector<Pnn> members;
  friend bool operator==(const ChainLink&, const ChainLink&) = default;
};

struct View {
  Generation generation;
  Pnn leader = kNoPnn;
  std::vector<Member> members;  // ascending pnn
  std::vector<Slot> vnnmap;     // size = configured nodes
  ClusterConfig config;         // who exists and who votes, from the moment this view is accepted
  std::vector<ChainLink> chain;

  [[nodiscard]] const Member* member(Pnn pnn) const {
    for (const Member& m : members) {
      if (m.pnn == pnn) return &m;
    }
    return nullptr;
  }
  [[nodiscard]] bool contains(Pnn pnn) const { return member(pnn) != nullptr; }
  // The slot of a key. A view with members always has a vnnmap.
  [[nodiscard]] std::size_t slot_of(BytesView key) const;
  [[nodiscard]] Pnn lmaster_of(BytesView key) const { return vnnmap[slot_of(key)].lmaster; }
  friend bool operator==(const View&, const View&) = default;
};

}  // namespace tdbmesh
