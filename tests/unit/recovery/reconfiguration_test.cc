// The steps from one configuration to the next, and that any two quorums of neighbouring steps share a voter.

#include "recovery/reconfiguration.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "recovery/quorum.h"

namespace tdbmesh::recovery {
namespace {

constexpr std::uint32_t kMachines = 4;

std::vector<Pnn> pnns(std::initializer_list<std::uint32_t> numbers) {
  std::vector<Pnn> list;
  for (const std::uint32_t n : numbers) list.push_back(Pnn{n});
  return list;
}

ClusterConfig config(const std::vector<Pnn>& nodes, QuorumMode quorum = QuorumMode::Majority) {
  ClusterConfig c;
  c.nodes = c.voters = nodes;
  c.quorum = quorum;
  return c;
}

std::set<Pnn> everybody() {
  std::set<Pnn> all;
  for (std::uint32_t i = 0; i < kMachines; ++i) all.insert(Pnn{i});
  return all;
}

// Every set of voters (and the lock) that decides under `c`; bit kMachines is the lock.
std::vector<std::uint32_t> quorums(const ClusterConfig& c) {
  std::vector<std::uint32_t> found;
  for (std::uint32_t bits = 0; bits < 1u << (kMachines + 1); ++bits) {
    std::set<Pnn> yes;
    for (std::uint32_t i = 0; i < kMachines; ++i) {
      if ((bits >> i & 1u) != 0) yes.insert(Pnn{i});
    }
    if (is_quorum(c, yes, (bits >> kMachines & 1u) != 0)) found.push_back(bits);
  }
  return found;
}

TEST(Reconfiguration, EveryStepKeepsAVoterCommonToAllQuorumsBeforeAndAfter) {
  for (std::uint32_t from = 1; from < 1u << kMachines; ++from) {
    for (std::uint32_t to = 1; to < 1u << kMachines; ++to) {
      std::vector<Pnn> old_nodes;
      std::vector<Pnn> new_nodes;
      for (std::uint32_t i = 0; i < kMachines; ++i) {
        if ((from >> i & 1u) != 0) old_nodes.push_back(Pnn{i});
        if ((to >> i & 1u) != 0) new_nodes.push_back(Pnn{i});
      }
      if ((from & to) == 0) continue;  // a cluster that is replaced whole goes through `objection`
      const auto mode = [](const std::vector<Pnn>& n) { return n.size() == 2 ? QuorumMode::LockVote : QuorumMode::Majority; };
      ClusterConfig now = config(old_nodes, mode(old_nodes));
      const ClusterConfig files = config(new_nodes, mode(new_nodes));
      int steps = 0;
      while (!agrees(now, files)) {
        ASSERT_LT(++steps, 20);
        const auto next = next_step(now, files, everybody(), everybody());
        ASSERT_TRUE(next.has_value());
        EXPECT_EQ(next->epoch, now.epoch + 1);
        for (const std::uint32_t a : quorums(now)) {
          for (const std::uint32_t b : quorums(*next)) ASSERT_NE(a & b, 0u) << describe_step(*next);
        }
        now = *next;
      }
    }
  }
}

TEST(Reconfiguration, ANodeThatComesVotesOnlyWhenItRemembers) {
  const auto files = config(pnns({0, 1, 2, 3}));
  const auto joined = next_step(config(pnns({0, 1, 2})), files, everybody(), {Pnn{0}, Pnn{1}, Pnn{2}});
  ASSERT_TRUE(joined.has_value());
  EXPECT_EQ(joined->nodes, pnns({0, 1, 2, 3}));
  EXPECT_EQ(joined->voters, pnns({0, 1, 2}));
  EXPECT_EQ(joined->old_nodes, pnns({0, 1, 2}));
  EXPECT_FALSE(next_step(*joined, files, everybody(), {Pnn{0}, Pnn{1}, Pnn{2}}).has_value());
  EXPECT_EQ(next_step(*joined, files, everybody(), everybody())->voters, pnns({0, 1, 2, 3}));
}

TEST(Reconfiguration, TheDeadGoFirst) {
  const auto step = next_step(config(pnns({0, 1, 2, 3})), config(pnns({0, 1})), {Pnn{0}, Pnn{1}, Pnn{2}}, {});
  ASSERT_TRUE(step.has_value());
  EXPECT_EQ(step->voters, pnns({0, 1, 2}));
  EXPECT_EQ(describe_step(*step), "node 3 is removed");
}

TEST(Reconfiguration, NewNodesMustStayAMinority) {
  EXPECT_TRUE(objection(config(pnns({0})), config(pnns({0, 1}))).empty());
  EXPECT_TRUE(objection(config(pnns({0, 1})), config(pnns({0, 1, 2, 3}))).empty());
  EXPECT_FALSE(objection(config(pnns({0})), config(pnns({0, 1, 2}))).empty());
  EXPECT_FALSE(objection(config(pnns({0, 1, 2})), config(pnns({0, 3, 4}))).empty());
}

TEST(Reconfiguration, AViewNeedsBothMajoritiesUntilTheStepIsKnownToBeInstalled) {
  ClusterConfig c = config(pnns({0, 1, 2}));
  c.old_voters = pnns({0, 1, 2, 3});
  EXPECT_FALSE(is_joint_quorum(c, {Pnn{0}, Pnn{1}}, false));
  EXPECT_TRUE(is_joint_quorum(c, {Pnn{0}, Pnn{1}, Pnn{3}}, false));
  c.old_voters.clear();
  EXPECT_TRUE(is_joint_quorum(c, {Pnn{0}, Pnn{1}}, false));
}

}  // namespace
}  // namespace tdbmesh::recovery
