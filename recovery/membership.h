#pragma once
// Who can be a member right now, seen from this node: life signs (transport/heartbeat_core.h) refined by resets,
// supervisors' word, orderly leaving, pairwise links and a penalty for nodes that come and go. Pure.
//
//   alive      heard within D, its loop runs, no reset since
//   reachable  alive, and it hears this node too (one-way loss is thus seen at both ends)

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "transport/heartbeat_core.h"

namespace tdbmesh::recovery {

class Membership {
 public:
  Membership(Pnn self, const Timing& timing) : self_(self), timing_(timing) {}

  void update(const HeartbeatTable& table);
  [[nodiscard]] const HeartbeatTable& table() const { return table_; }
  [[nodiscard]] const PeerHeartbeats* peer(Pnn pnn) const { return table_.peer(pnn); }
  [[nodiscard]] Incarnation incarnation_of(Pnn pnn) const;

  // Its host reset the connection to this life of it, or an earlier one: lost, until a newer heartbeat of the same life
  // shows that only the connection broke. Of a later life it says nothing.
  void note_reset(Pnn pnn, Incarnation incarnation);
  void note_fenced(Pnn pnn, Incarnation incarnation);
  void note_leaving(Pnn pnn, Incarnation incarnation);

  void forget(Pnn pnn);  // it is removed from the configuration

  [[nodiscard]] bool alive(Pnn pnn, Instant now) const;
  [[nodiscard]] bool reachable(Pnn pnn, Instant now) const;
  [[nodiscard]] bool leaving(Pnn pnn) const;
  // This life, and every one before, has its gate closed and its addresses dropped for good.
  [[nodiscard]] bool fenced(Pnn pnn, Incarnation known) const;
  // Why it is not reachable; empty if it is.
  [[nodiscard]] std::string trouble(Pnn pnn, Instant now) const;
  // Nearest moment at which somebody becomes silent.
  [[nodiscard]] Instant next_loss(Instant now) const;

  // Which of `wanted` (this node included) are to go so that the rest hear each other pairwise. Only links
  // broken for link_patience count; until then, who is not in the view waits. Most missing links go first, then who is not
  // in the view, then the highest pnn, never this node.
  [[nodiscard]] std::set<Pnn> not_in_clique(const std::set<Pnn>& wanted, const std::set<Pnn>& in_the_view, Instant now);

  // Nothing if that is not known: `who` is not heard here.
  [[nodiscard]] std::optional<bool> hears(Pnn who, Pnn whom, Instant now) const;
  [[nodiscard]] bool heard_by_anybody(Pnn pnn, Instant now) const;
  // One of the two is known not to hear the other one.
  [[nodiscard]] bool broken(Pnn a, Pnn b, Instant now) const;
  // How many of `nodes` could be members if `leader`, one that is heard here, led: it hears all, and they hear each other.
  [[nodiscard]] std::size_t circle(Pnn leader, const std::set<Pnn>& nodes, Instant now) const;

 private:
  using Pair = std::pair<Pnn, Pnn>;
  void note_links(Instant now);
  [[nodiscard]] bool heard(const PeerHeartbeats& peer, Instant now) const {
    return peer.incarnation != 0 && judged(now) - peer.silent_since < timing_.silence;
  }
  [[nodiscard]] std::set<Pnn> clique(std::set<Pnn> nodes, const std::set<Pnn>& in_the_view, Instant now) const;

  struct Reset {
    Incarnation incarnation = 0;
    std::uint64_t seq = 0;  // newest heartbeat then
  };

  Pnn self_;
  Timing timing_;
  // Silence is judged as of the table: after a pause of this machine an event may come before the heartbeats that were
  // received meanwhile, and nobody is silent because they were not looked at.
  [[nodiscard]] Instant judged(Instant now) const { return std::min(now, table_.at); }

  HeartbeatTable table_;
  std::map<Pnn, Reset> resets_;
  std::map<Pnn, Incarnation> fenced_;
  std::map<Pnn, Incarnation> leaving_;
  // Lower pnn first. Noted by every node in each beat, so that a new leader knows what has been broken for long.
  std::map<Pair, Instant> broken_since_;
  Instant links_noted_ = kNever;
};

// A node that was removed more than 3 times in 60 s waits 1, 2, 4 ... 60 s before it is admitted again; each
// 60 s of membership halves the penalty. Never a ban.
class FlapGuard {
 public:
  void removed(Pnn pnn, Instant now);
  void member(Pnn pnn, Instant now);
  void forget(Pnn pnn) { nodes_.erase(pnn); }
  // Until when it must wait; Instant::min() if it need not.
  [[nodiscard]] Instant held_until(Pnn pnn) const;

 private:
  struct History {
    std::vector<Instant> removals;
    Duration penalty{0};
    Instant held_until = Instant::min();
    Instant member_since = Instant::min();
  };
  std::map<Pnn, History> nodes_;
};

}  // namespace tdbmesh::recovery
