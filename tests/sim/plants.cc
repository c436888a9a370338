#include "tests/sim/plants.h"

namespace tdbmesh {

#ifdef TDBMESH_PLANTS
namespace {
Plant the_plant = Plant::None;
}

bool planted(Plant plant) { return plant == the_plant; }
void plant_bug(Plant plant) { the_plant = plant; }
#endif

}  // namespace tdbmesh

namespace tdbmesh::sim {

const std::vector<PlantedBug>& planted_bugs() {
  static const std::vector<PlantedBug> bugs{
      {"accept-old-grant", Plant::AcceptOldGrant, "node", 3, 20, 100, {"recovery asked for", "loss and delay"},
       "a GRANT of an older generation is taken"},
      {"skip-generation-check", Plant::SkipGenerationCheck, "node", 3, 20, 100, {},
       "record messages of older generations are handled"},
      {"compare-rsn-wrongly", Plant::CompareRsnWrongly, "node", 3, 20, 40, {}, "the oldest copy wins where nobody owns"},
      {"keep-records", Plant::KeepRecords, "node", 3, 20, 40, {}, "a node that was left out keeps its volatile records"},
      {"vacuum-without-asking", Plant::VacuumWithoutAsking, "node", 3, 20, 40, {},
       "a deleted record is removed without its copies"},
      {"answer-before-install", Plant::AnswerBeforeInstall, "node", 3, 20, 40,
       {"disk hanging", "loss and delay", "recovery asked for"},
       "QUERY is answered by a member that has not installed the view"},
      {"settle-with-majority", Plant::SettleWithMajority, "node", 3, 20, 40, {}, "a settle is content with a majority"},
      {"skip-revocation", Plant::SkipRevocation, "node", 3, 20, 40, {}, "read-only copies are not taken back"},
      {"keep-read-only-at-query", Plant::KeepReadOnlyAtQuery, "node", 3, 20, 200, {},
       "a QUERY leaves read-only copies readable"},
      {"believe-incomplete-directory", Plant::BelieveIncompleteDirectory, "node", 3, 20, 40, {},
       "a new lmaster believes that what it has not heard of is absent"},
      {"ignore-since", Plant::IgnoreSince, "node", 3, 20, 40, {}, "an lmaster of long ago trusts its old directory"},
      {"acknowledge-before-fsync", Plant::AcknowledgeBeforeFsync, "node", 3, 20, 40, {},
       "a member says DURABLE when it begins to write"},
      {"commit-with-majority", Plant::CommitWithMajority, "node", 3, 20, 40, {}, "a commit is done when a majority has it"},
      {"compare-seqnum-alone", Plant::CompareSeqnumAlone, "node", 3, 20, 40, {},
       "the highest sequence number wins, whatever its view"},
      {"refuse-in-view-change", Plant::RefuseInViewChange, "node", 3, 20, 40, {},
       "a commit cut off by a view change is answered as refused"},
      {"answer-before-all-installed", Plant::AnswerBeforeAllInstalled, "node", 3, 20, 400, {},
       "a commit cut off by a view change is answered before all members use the next one"},
      {"skip-fence", Plant::None, "control", 3, 30, 200, {}, "a view is installed while a lost node's lease may live"},
      {"skip-carriers", Plant::None, "control", 3, 30, 200, {},
       "a leader goes on without a copy that may have acknowledged commits"},
      {"jump-configuration", Plant::None, "reconfigure", 5, 30, 200, {}, "the voters change by more than one in one step"},
      {"leaver-forgets-copies", Plant::None, "node", 3, 20, 200, {}, "a leaving node hands over what it owns, not its copies"},
      {"leaver-does-not-ask", Plant::None, "node", 3, 20, 200, {}, "a leaving node hands over nothing"},
      {"keep-addresses", Plant::None, "node", 3, 20, 200, {}, "a node that was left out keeps its public addresses"},
      {"no-supervisor", Plant::None, "node", 3, 20, 200, {}, "nothing drops the addresses of a daemon that hangs"},
      {"no-wait-for-released", Plant::None, "node", 3, 20, 200, {}, "an address is taken before the old owner released it"},
      {"ignore-numbers", Plant::None, "node", 3, 20, 200, {}, "assignment numbers are not compared"},
      {"any-generation", Plant::None, "node", 3, 20, 200, {}, "a TAKE of another generation is obeyed"},
      {"forget-vote", Plant::None, "node", 3, 20, 40, {}, "a vote is forgotten at a restart"},
      {"forget-accepted", Plant::None, "node", 3, 20, 200,
       {"all die", "power off", "restart one by one", "recovery asked for"}, "the accepted view is forgotten at a restart"},
      {"install-opens-gate", Plant::InstallOpensGate, "node", 3, 20, 200,
       {"cut one way", "daemon paused", "isolated shortly", "link flapping"}, "INSTALL opens the gate without support"},
      {"lease-from-arrival", Plant::LeaseFromArrival, "node", 3, 20, 80, {"daemon paused", "machine frozen"},
       "the lease counts from the arrival of the answer"},
      {"support-ignores-join", Plant::SupportIgnoresJoin, "node", 3, 20, 40, {},
       "a returning node is supported before it emptied its records"},
      {"call-dead-early", Plant::CallDeadEarly, "node", 3, 20, 40, {}, "who was silent for two thirds of the limit is called dead"},
      {"impatient-prepare", Plant::ImpatientPrepare, "node", 3, 20, 40, {},
       "who does not answer PREPARE within 10 ms is left out"},
      {"ignore-gate", Plant::None, "node", 3, 20, 40, {}, "clients work although the gate is closed"},
      {"lie-about-disk", Plant::None, "node", 3, 20, 40, {}, "a disk reports writes that it never made"},
      {"hide-attached", Plant::None, "node", 3, 20, 40, {}, "what a node attached does not reach the others"},
      {"swallow-gaps", Plant::None, "node", 3, 20, 40, {"connection broken"}, "lost messages go unnoticed"},
      {"hide-missed", Plant::None, "node", 3, 20, 40, {"connection broken"}, "who sent what was lost does not hear of it"},
  };
  return bugs;
}

const PlantedBug* find_planted_bug(const std::string& name) {
  for (const PlantedBug& bug : planted_bugs()) {
    if (name == bug.name) return &bug;
  }
  return nullptr;
}

}  // namespace tdbmesh::sim
