#include "recovery/force_without.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recovery/reconfiguration.h"
#include "recovery/view_change.h"

namespace tdbmesh::recovery {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Node 0 of three; the newest view that it accepted is one of the two others, which it never was in.
PersistedState left_behind() {
  PersistedState state;
  state.incarnation = 7;
  state.term = 5;
  state.voter = true;
  state.installed = Generation{4, 1};
  state.config.epoch = 3;
  state.config.nodes = state.config.voters = {Pnn{0}, Pnn{1}, Pnn{2}};
  state.accepted.emplace();
  state.accepted->generation = Generation{5, 2};
  state.accepted->leader = Pnn{1};
  state.accepted->members = {{Pnn{1}, 9, Generation{4, 1}}, {Pnn{2}, 9, Generation{4, 1}}};
  state.accepted->vnnmap = {{Pnn{1}, Generation{5, 2}}, {Pnn{1}, Generation{4, 1}}, {Pnn{2}, Generation{4, 1}}};
  state.accepted->config = state.config;
  state.accepted->chain = {{Generation{4, 1}, {Pnn{0}, Pnn{1}, Pnn{2}}}};
  return state;
}

TEST(ForceWithout, TheOneThatIsLeftIsAMajorityAndWaitsForNobody) {
  PersistedState state = left_behind();
  ASSERT_TRUE(force_without(state, Pnn{0}, {Pnn{1}, Pnn{2}}));
  EXPECT_THAT(state.config.nodes, ElementsAre(Pnn{0}));
  EXPECT_EQ(state.config.epoch, 3 + kForcedEpochStep);
  EXPECT_TRUE(is_joint_quorum(state.config, {Pnn{0}}, false));
  EXPECT_GT(state.accepted->generation, (Generation{5, 2}));
  EXPECT_EQ(state.accepted->config, state.config);
  const View next = propose_view(Generation{state.term + 1, 1}, Pnn{0}, state.config, {{Pnn{0}, 8, Generation{}, true}},
                                 &*state.accepted, {}, state.installed);
  EXPECT_EQ(next.members.front().join, next.generation);
  Reports reports;
  reports[Pnn{0}].said.persisted_installed = state.installed;
  EXPECT_THAT(missing_carriers(next, reports), IsEmpty());
  const auto back = decode_state(encode(state));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->config, state.config);
}

TEST(ForceWithout, OfTwoSurvivorsTheOneWithMoreCommitsWins) {
  PersistedState a = left_behind();
  PersistedState b = left_behind();
  ASSERT_TRUE(force_without(a, Pnn{0}, {Pnn{1}}));
  ASSERT_TRUE(force_without(b, Pnn{2}, {Pnn{1}}));
  EXPECT_NE(a.accepted->generation, b.accepted->generation);
  EXPECT_EQ(a.config, b.config);
  EXPECT_EQ(a.installed, b.installed) << "a copy is not newer because of the order";
}

TEST(ForceWithout, ItIsTheOperatorsWordThatMakesIt) {
  const PersistedState state = left_behind();
  EXPECT_FALSE(is_joint_quorum(state.config, {Pnn{0}}, false));
  const View next = propose_view(Generation{6, 1}, Pnn{0}, state.config, {{Pnn{0}, 8, Generation{}, true}},
                                 &*state.accepted, {}, state.installed);
  Reports reports;
  reports[Pnn{0}].said.persisted_installed = state.installed;
  EXPECT_THAT(missing_carriers(next, reports), ElementsAre(Pnn{1}, Pnn{2}));
}

TEST(ForceWithout, SaysWhatCannotBeMeant) {
  const auto refused = [](PersistedState state, const std::set<Pnn>& lost) {
    const PersistedState before = state;
    const auto done = force_without(state, Pnn{0}, lost);
    EXPECT_EQ(state, before);
    return done ? std::string() : done.error().context;
  };
  EXPECT_THAT(refused(left_behind(), {Pnn{0}}), HasSubstr("without itself"));
  EXPECT_THAT(refused(left_behind(), {Pnn{1}, Pnn{5}}), HasSubstr("node 5 is not in the configuration"));
  EXPECT_THAT(refused({}, {Pnn{1}}), HasSubstr("never been in a cluster"));
}

}  // namespace
}  // namespace tdbmesh::recovery
