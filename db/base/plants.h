#pragma once
// Bugs that can be planted in the cores, one at a time, to show that the simulator finds them (tests/sim/plants.cc says
// what each one is and how soon it is found). They exist only in the copy of the cores that is compiled with
// TDBMESH_PLANTS for the simulator's program node_sim_planted: everywhere else planted() is the constant false, so
// nothing of them is in the daemon or in node_sim. Include this only from sources, never from a header.

#include <cstdint>

namespace tdbmesh {

enum class Plant : std::uint8_t {
  None,
  // records
  AcceptOldGrant,
  SkipGenerationCheck,
  CompareRsnWrongly,
  KeepRecords,
  VacuumWithoutAsking,
  AnswerBeforeInstall,
  SettleWithMajority,
  SkipRevocation,
  KeepReadOnlyAtQuery,
  BelieveIncompleteDirectory,
  IgnoreSince,
  // commits
  AcknowledgeBeforeFsync,
  CommitWithMajority,
  CompareSeqnumAlone,
  RefuseInViewChange,
  AnswerBeforeAllInstalled,
  // heartbeats
  InstallOpensGate,
  LeaseFromArrival,
  SupportIgnoresJoin,
  CallDeadEarly,
  // views
  ImpatientPrepare,
};

#ifdef TDBMESH_PLANTS
[[nodiscard]] bool planted(Plant plant);
void plant_bug(Plant plant);  // from now on, in the whole process; None: no more
#else
[[nodiscard]] constexpr bool planted(Plant) { return false; }
#endif

}  // namespace tdbmesh
