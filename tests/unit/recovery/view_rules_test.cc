#include <gtest/gtest.h>

#include "recovery/quorum.h"
#include "recovery/view_change.h"
#include "recovery/vnnmap.h"

namespace tdbmesh::recovery {
namespace {

const Pnn n0{0}, n1{1}, n2{2};
const Generation g1{1, 1}, g2{2, 1}, g3{3, 1};

ClusterConfig three() { return {0, {n0, n1, n2}, {n0, n1, n2}, QuorumMode::Majority, 0}; }
Member in(Pnn pnn, Generation join) { return {pnn, 1, join}; }
std::vector<Pnn> holders(const std::vector<Slot>& map) {
  std::vector<Pnn> result;
  for (const Slot& s : map) result.push_back(s.lmaster);
  return result;
}
View view_of(Generation generation, std::vector<Member> members, const View* base = nullptr) {
  View view;
  view.generation = generation;
  view.leader = n0;
  view.members = std::move(members);
  std::set<Pnn> all;
  for (const Member& m : view.members) all.insert(m.pnn);
  view.vnnmap = make_vnnmap({n0, n1, n2}, view.members, all, base, {}, generation);
  return view;
}

TEST(Vnnmap, EverybodyHoldsItsOwnSlot) {
  const View view = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  EXPECT_EQ(holders(view.vnnmap), (std::vector<Pnn>{n0, n1, n2}));
}

TEST(Vnnmap, ALossMovesOnlyTheSlotsOfTheLost) {
  const View before = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  const View after = view_of(g2, {in(n0, g1), in(n2, g1)}, &before);
  EXPECT_EQ(holders(after.vnnmap), (std::vector<Pnn>{n0, n0, n2}));
  EXPECT_EQ(after.vnnmap[0].since, g1);
  EXPECT_EQ(after.vnnmap[1].since, g2);
  EXPECT_EQ(after.vnnmap[2].since, g1);
}

TEST(Vnnmap, TheHomeNodeGetsItsSlotBackAsNew) {
  const View full = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  const View without = view_of(g2, {in(n0, g1), in(n2, g1)}, &full);
  const View again = view_of(g3, {in(n0, g1), in(n1, g3), in(n2, g1)}, &without);
  EXPECT_EQ(holders(again.vnnmap), (std::vector<Pnn>{n0, n1, n2}));
  EXPECT_EQ(again.vnnmap[1].since, g3);
}

TEST(Vnnmap, WhoCameInAsNewHasNoOldDirectory) {
  const View before = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  const View after = view_of(g2, {in(n0, g1), in(n1, g2), in(n2, g1)}, &before);
  EXPECT_EQ(after.vnnmap[1].since, g2);
}

TEST(Vnnmap, AnIncompleteDirectoryStartsAgain) {
  const View before = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  const auto map = make_vnnmap({n0, n1, n2}, before.members, {n0, n1, n2}, &before, {{n1, 1u}}, g2);
  EXPECT_EQ(map[1].since, g2);
  EXPECT_EQ(map[2].since, g1);
}

TEST(Vnnmap, WithoutCapableMembersAllServe) {
  const auto map = make_vnnmap({n0, n1, n2}, {in(n0, g1), in(n1, g1)}, {}, nullptr, {}, g1);
  EXPECT_EQ(holders(map), (std::vector<Pnn>{n0, n1, n0}));
}

TEST(ProposedView, WhoStayedKeepsItsJoinAndWhoRestartedDoesNot) {
  const View base = view_of(g1, {in(n0, g1), in(n1, g1), in(n2, g1)});
  const View next = propose_view(g2, n0, three(), {{n0, 1, g1}, {n1, 2, g1}, {n2, 1, g1}}, &base, {}, g1);
  EXPECT_EQ(next.member(n0)->join, g1);
  EXPECT_EQ(next.member(n1)->join, g2);
  EXPECT_EQ(next.member(n2)->join, g1);
}

TEST(ProposedView, WhoHasNotInstalledItsJoinComesInAsNew) {
  const View base = view_of(g2, {in(n0, g1), in(n1, g2)});
  const View next = propose_view(g3, n0, three(), {{n0, 1, g1}, {n1, 1, g1}}, &base, {}, g1);
  EXPECT_EQ(next.member(n0)->join, g1);
  EXPECT_EQ(next.member(n1)->join, g3);
}

TEST(ProposedView, TheChainEndsAtAViewKnownToBeInstalled) {
  View base = view_of(g2, {in(n0, g1)});
  base.chain = {{g1, {n0, n1}}, {{0, 9}, {n2}}};
  const auto links = [&](Generation known) {
    return propose_view(g3, n0, three(), {{n0, 1, g1}}, &base, {}, known).chain.size();
  };
  EXPECT_EQ(links({0, 1}), 3u);
  EXPECT_EQ(links(g1), 2u);
  EXPECT_EQ(links(g2), 1u);
}

Reports answered_by(const std::vector<std::pair<Pnn, Generation>>& who) {
  Reports reports;
  for (const auto& [pnn, installed] : who) {
    Prepared said;
    said.persisted_installed = said.installed = installed;
    reports[pnn] = {said, Instant(seconds(100))};
  }
  return reports;
}

TEST(CarrierRule, AViewThatSomebodyInstalledIsSettled) {
  View view;
  view.chain = {{g2, {n0, n1}}, {g1, {n2}}};
  EXPECT_TRUE(missing_carriers(view, answered_by({{n0, g2}})).empty());
}

TEST(CarrierRule, AMemberThatNeverInstalledItProvesItEmptyAndOlderOnesAreAsked) {
  View view;
  view.chain = {{g2, {n0, n1}}, {g1, {n2}}};
  EXPECT_EQ(missing_carriers(view, answered_by({{n0, Generation{0, 1}}})), (std::vector<Pnn>{n2}));
  EXPECT_TRUE(missing_carriers(view, answered_by({{n0, Generation{0, 1}}, {n2, Generation{0, 1}}})).empty());
}

TEST(CarrierRule, WhoWasNoMemberCannotTell) {
  View view;
  view.chain = {{g2, {n1}}};
  EXPECT_EQ(missing_carriers(view, answered_by({{n0, g1}, {n2, g1}})), (std::vector<Pnn>{n1}));
}

TEST(Fence, CountsFromTheNewestSupportThatAnyReporterGave) {
  View view;
  view.members = {in(n0, g1), in(n1, g1)};
  Reports reports = answered_by({{n0, g1}, {n1, g1}});
  reports[n0].said.ages = {{n2, milliseconds(500)}};
  reports[n1].said.ages = {{n2, milliseconds(100)}};
  const Timing timing;
  EXPECT_EQ(fence_passed(view, three(), reports, {}, timing), Instant(seconds(100)) + timing.fence() - milliseconds(100));
  EXPECT_EQ(fence_passed(view, three(), reports, {n2}, timing), Instant::min());
  reports[n2] = reports[n0];  // it answered, so it has closed its gate itself
  EXPECT_EQ(fence_passed(view, three(), reports, {}, timing), Instant::min());
}

TEST(Settling, AReturningCopyWithTheSameSeqnumLoses) {
  View view;
  view.generation = g3;
  view.members = {in(n0, g1), in(n1, g3)};
  Reports reports = answered_by({{n0, g2}, {n1, g1}});
  reports[n0].said.copies = {{DatabaseId{1}, "a", DatabaseKind::Persistent, {g2, 5}}};
  reports[n1].said.copies = {{DatabaseId{1}, "a", DatabaseKind::Persistent, {g1, 5}}};
  const auto plan = settle_plan(view, reports);
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan.begin()->first, (std::pair{n1, DatabaseId{1}}));
  EXPECT_EQ(plan.begin()->second.source, n0);
}

TEST(Settling, ADatabaseThatIsMissingSomewhereIsFetchedThere) {
  View view;
  view.generation = g2;
  view.members = {in(n0, g1), in(n1, g1)};
  Reports reports = answered_by({{n0, g1}, {n1, g1}});
  reports[n1].said.copies = {{DatabaseId{1}, "a", DatabaseKind::Persistent, {Generation{}, 0}}};
  const auto plan = settle_plan(view, reports);
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan.begin()->first.first, n0);
}

// Whoever lacks a copy hears the members; a node that only answered need not be heard by anybody but the leader.
TEST(Settling, ACopyComesFromAMemberAndFromAnotherNodeThroughTheLeader) {
  View view;
  view.leader = n1;
  view.members = {in(n1, g1), in(n2, g1)};
  const Pnn outside = n0;
  Reports reports = answered_by({{outside, g1}, {n1, g1}, {n2, g1}});
  const auto has = [](std::uint64_t seqnum) { return std::vector<CopyReport>{{DatabaseId{1}, "a", DatabaseKind::Persistent, {g1, seqnum}}}; };
  reports[outside].said.copies = has(6);
  reports[n1].said.copies = has(6);
  reports[n2].said.copies = has(5);
  auto plan = settle_plan(view, reports);
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan.at({n2, DatabaseId{1}}).source, n1);
  reports[n1].said.copies = has(5);
  plan = settle_plan(view, reports);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan.at({n1, DatabaseId{1}}).source, outside);
  EXPECT_EQ(plan.at({n2, DatabaseId{1}}).source, n1);
}

TEST(Settling, EqualCopiesAreLeftAlone) {
  View view;
  view.members = {in(n0, g1), in(n1, g1)};
  Reports reports = answered_by({{n0, g1}, {n1, g1}});
  for (auto& [pnn, report] : reports) report.said.copies = {{DatabaseId{1}, "a", DatabaseKind::Persistent, {g1, 3}}};
  EXPECT_TRUE(settle_plan(view, reports).empty());
}

TEST(Quorum, CountsVotersOnly) {
  EXPECT_EQ(votes_needed(three()), 2u);
  EXPECT_TRUE(is_quorum(three(), {n0, n2}, false));
  EXPECT_FALSE(is_quorum(three(), {n0, Pnn{7}}, true));
}

TEST(Quorum, OfTwoNodesEitherGoesOnWithTheLock) {
  const ClusterConfig two{0, {n0, n1}, {n0, n1}, QuorumMode::LockVote, 0};
  EXPECT_TRUE(is_quorum(two, {n0, n1}, false));
  EXPECT_TRUE(is_quorum(two, {n1}, true));
  EXPECT_FALSE(is_quorum(two, {n1}, false));
}

}  // namespace
}  // namespace tdbmesh::recovery
