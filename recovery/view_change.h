#pragma once
// The leader's side of a view change: which view to propose, what must hold before it may be installed, and
// which copies have to be settled. Pure functions, and the phases as a variant:
//
//   Steady -> Gathering (P0: joiners, fence) -> Preparing (P1, P2) -> Settling (P3) -> Installing (P4) -> Steady (P5)
//                 ^                                  |                    |                |
//                 +-- a member lost, restarted or silent: new serial -----+----------------+

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "recovery/messages.h"
#include "recovery/persisted_state.h"
#include "transport/timing.h"

namespace tdbmesh::recovery {

// What a node that answered PREPARE said, and when it arrived.
struct Report {
  Prepared said;
  Instant arrived{};
};
using Reports = std::map<Pnn, Report>;

struct Steady {};  // nothing to do in the view that is installed everywhere (or: no view yet, nothing to propose)
struct Gathering {
  Instant since{};       // reason seen
  Instant not_before{};  // PREPARE then
};
struct Preparing {
  View view;
  Instant proposed{};
  Instant since{};             // waited for answers; later than `proposed` if this node itself hung
  Instant looked_at = kNever;  // last; long ago: this node itself hung
  Instant repeat_at{};
  Reports reports;
  std::string waiting;  // for status: what keeps P2 from ending
  std::vector<Pnn> carriers;  // one of which must appear for that; empty: it is not that
  Instant check_at = kNever;  // when the fence will have passed
};
struct Settling {
  View view;
  Instant repeat_at{};
  Reports reports;
  std::map<std::pair<Pnn, DatabaseId>, Settle> open;  // (member, database) not yet settled
};
struct Installing {
  View view;
  Instant repeat_at{};
  std::set<Pnn> installed;
  std::map<Pnn, std::vector<std::string>> addresses;
};
using Phase = std::variant<Steady, Gathering, Preparing, Settling, Installing>;

// A member as the leader knows it when it proposes.
struct Proposed {
  Pnn pnn{};
  Incarnation incarnation = 0;
  Generation installed;  // in use there under an unbroken join; none forces a new join
  bool lmaster = true;
};

// `base`: newest accepted view, null if there was none. `known_installed`: newest generation that anybody is
// known to have installed: the chain is cut after the first view that old.
[[nodiscard]] View propose_view(Generation generation, Pnn leader, const ClusterConfig& config,
                                const std::vector<Proposed>& members, const View* base,
                                const std::set<std::pair<Pnn, std::uint32_t>>& incomplete, Generation known_installed);

// Would this base member keep its join?
[[nodiscard]] bool continues(const View* base, const Proposed& member);

// When every node that is configured but not in `view` has certainly closed its gate and dropped its
// addresses: who answered PREPARE closed it itself; `fenced` nodes are dead; for the others, each report's age
// of support + F counts from its arrival.
[[nodiscard]] Instant fence_passed(const View& view, const ClusterConfig& config, const Reports& reports,
                                   const std::set<Pnn>& fenced, const Timing& timing);

// The carrier rule: no older view may hold acknowledged commits that nobody here has. Returns the nodes one of
// which must appear first; empty if all is well.
[[nodiscard]] std::vector<Pnn> missing_carriers(const View& view, const Reports& reports);

// Effective version: what a node held when it installed a view counts as of that view [ce 9].
[[nodiscard]] CopyVersion effective(const CopyReport& copy, const Prepared& said);

// Who has to fetch what, from whom. What only a node has that answered without being a member, the leader fetches there,
// and the others from the leader, afterwards.
[[nodiscard]] std::map<std::pair<Pnn, DatabaseId>, Settle> settle_plan(const View& view, const Reports& reports);

}  // namespace tdbmesh::recovery
