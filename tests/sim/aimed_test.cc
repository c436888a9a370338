// Planted bugs that random faults hit too seldom to count seeds: each with the course of events that shows it. The same
// courses without the bug are clean.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/base/hash.h"
#include "db/base/plants.h"
#include "tests/sim/node_cluster.h"

namespace tdbmesh::sim {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kSeeds = 20;
constexpr Duration kStep{200};  // finer than anything that a message or a disk takes

class Course {
 public:
  Course(std::uint64_t seed, ClusterSettings settings) : cluster_(seed, std::move(settings)) {
    (void)cluster_.run_for(seconds(10), [this] { return cluster_.well(); });
  }
  // The first violation; empty: none, and all was well at the end.
  std::string end() {
    if (cluster_.violation().empty()) (void)cluster_.run_until_well(seconds(10), seconds(15));
    return cluster_.violation();
  }

 protected:
  SimNode& node(std::uint32_t pnn) { return cluster_.node(Pnn{pnn}); }
  void run(Duration how_long) { (void)cluster_.run_for(how_long, nullptr); }
  // Stops at the very moment; false if it did not come.
  bool run_until(const std::function<bool()>& so) {
    for (Duration spent{0}; spent < seconds(5) && cluster_.violation().empty(); spent += kStep) {
      if (so()) return true;
      run(kStep);
    }
    return false;
  }
  void cut(SimNode& from, SimNode& to, bool how) { cluster_.world().link(from.pnn(), to.pnn()).cut = how; }
  void cut_both_ways(SimNode& a, SimNode& b, bool how) {
    cut(a, b, how);
    cut(b, a, how);
  }

  NodeCluster cluster_;
};

// A voter votes, dies at once, comes back, and is asked by another candidate who has heard of neither.
class AskedTwice : public Course {
 public:
  AskedTwice(std::uint64_t seed, bool planted) : Course(seed, settings(planted)) {
    SimNode* voter = cluster_.leader();
    if (voter == nullptr) return;
    SimNode& first = node((number(voter->pnn()) + 1) % 3);
    SimNode& second = node((number(voter->pnn()) + 2) % 3);
    cut_both_ways(second, first, true);
    cut_both_ways(second, *voter, true);
    cluster_.power_off(*voter, milliseconds(700));
    if (!run_until([&] { return first.node().control().leading(); })) return;
    cut_both_ways(first, *voter, true);
    cut_both_ways(second, *voter, false);
    cluster_.power_off(*voter, milliseconds(20));
    (void)run_until([&] { return second.node().control().leading(); });
  }

 private:
  static ClusterSettings settings(bool planted) {
    ClusterSettings s;
    s.record_clients = s.talk_clients = 0;
    s.plants.forget_vote = planted;
    return s;
  }
};

// A commit is durable at its sequencer alone when that one is cut off. In the next view it is absent; a client who was told
// so before the other member knows for good that it uses this view finds it present later, when the one who told it has died.
class ToldTooEarly : public Course {
 public:
  explicit ToldTooEarly(std::uint64_t seed) : Course(seed, settings()) {
    const View* view = node(0).node().control().installed_view();
    if (view == nullptr) return;
    SimNode& sequencer = cluster_.node(view->vnnmap[number(database_id("passdb.tdb")) % view->vnnmap.size()].lmaster);
    SimNode& a = node((number(sequencer.pnn()) + 1) % 3);
    SimNode& b = node((number(sequencer.pnn()) + 2) % 3);
    const Generation before = view->generation;
    for (SimNode* other : {&a, &b}) cut(sequencer, *other, true);
    if (!run_until([&] { return a.installed() > before || b.installed() > before; })) return;
    SimNode& teller = a.installed() > before ? a : b;
    SimNode& other = &teller == &a ? b : a;
    other.disk_hangs_until = cluster_.world().now() + seconds(20);
    run(milliseconds(300));
    other.disk_hangs_until = Instant{};
    cluster_.power_off(teller, seconds(8));
    cluster_.power_off(other, milliseconds(20));
    cluster_.world().heal_all_links();
    run(seconds(4));
  }

 private:
  static ClusterSettings settings() {
    ClusterSettings s;
    s.record_clients = s.talk_clients = 0;
    s.commit_clients = 2;
    return s;
  }
};

// A record is on its way from giver to asker when the view changes. The asker has promised the next view and not installed it, so
// that it still takes the record; all others have, and settle who owns it. It takes four: the messages of a link keep their
// order, so the giver can be neither who asks everybody nor who tells to install.
class AnsweredWhilePromised : public Course {
 public:
  explicit AnsweredWhilePromised(std::uint64_t seed) : Course(seed, settings()) {
    for (int round = 0; round < 10 && cluster_.violation().empty(); ++round) {
      SimNode* leader = cluster_.leader();
      if (leader == nullptr) return;
      SimNode& asker = node((number(leader->pnn()) + 1) % 4);
      SimNode& giver = node((number(leader->pnn()) + 2) % 4);
      delay(giver, asker, milliseconds(80));
      run(milliseconds(300));
      const Generation before = asker.installed();
      leader->in_turn_soon(Duration(0), [leader] { leader->recover(); });
      if (!run_until([&] { return asker.node().control().accepted_view()->generation > before; })) return;
      delay(*leader, asker, milliseconds(150));
      run(milliseconds(400));
      cluster_.world().heal_all_links();
      run(milliseconds(300));
    }
  }

 private:
  void delay(SimNode& from, SimNode& to, Duration how_long) {
    LinkQuality& quality = cluster_.world().link(from.pnn(), to.pnn());
    quality.delay_least = quality.delay_most = how_long;
  }
  static ClusterSettings settings() {
    ClusterSettings s;
    s.nodes = 4;
    s.talk_clients = 0;
    return s;
  }
};

// Records come to a node whose store is full, and leave it again over a slow link, while their last writer goes: on its way
// such a record is nowhere but in the memory of the full node.
class HandedOnUnstored : public Course {
 public:
  HandedOnUnstored(std::uint64_t seed, bool planted) : Course(seed, settings(planted)) {
    SimNode& writer = node(0);
    SimNode& full = node(1);
    for (int round = 0; round < 10 && cluster_.violation().empty(); ++round) {
      run(milliseconds(100));
      full.store().memory().faults.full = true;
      cluster_.world().link(full.pnn(), Pnn{2}).delay_most = milliseconds(40);
      run(milliseconds(50));
      const std::uint64_t before = cluster_.counts().leaves;
      cluster_.set_stopped(writer, true);
      if (!run_until([&] { return cluster_.counts().leaves > before; })) return;
      run(milliseconds(300));
      full.store().memory().faults.full = false;
      cluster_.world().heal_all_links();
      cluster_.set_stopped(writer, false);
      (void)cluster_.run_for(seconds(10), [this] { return cluster_.well(); });
    }
  }

 private:
  static ClusterSettings settings(bool planted) {
    ClusterSettings s;
    s.talk_clients = 0;
    s.plants.records.unstored_leaves_no_backup = planted;
    return s;
  }
};

template <class MakeCourse>
std::string first_violation(MakeCourse make) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    if (std::string violation = make(seed).end(); !violation.empty()) return violation;
  }
  return {};
}

TEST(Aimed, AForgottenVoteMakesTwoLeadersOfOneTerm) {
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return AskedTwice(seed, false); }), IsEmpty());
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return AskedTwice(seed, true); }), HasSubstr("has a second leader"));
}

TEST(Aimed, AnAnswerBeforeTheViewIsInstalledMakesTwoHolders) {
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return AnsweredWhilePromised(seed); }), IsEmpty());
  plant_bug(Plant::AnswerBeforeInstall);
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return AnsweredWhilePromised(seed); }), HasSubstr("both own"));
  plant_bug(Plant::None);
}

TEST(Aimed, ARecordHandedOnWithoutABackupGoesWithItsLastWriter) {
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return HandedOnUnstored(seed, false); }), IsEmpty());
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return HandedOnUnstored(seed, true); }), HasSubstr("I5"));
}

TEST(Aimed, ACommitCalledAbsentBeforeAllUseTheViewComesBack) {
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return ToldTooEarly(seed); }), IsEmpty());
  plant_bug(Plant::AnswerBeforeAllInstalled);
  EXPECT_THAT(first_violation([](std::uint64_t seed) { return ToldTooEarly(seed); }), HasSubstr("was found absent after a view change"));
  plant_bug(Plant::None);
}

}  // namespace
}  // namespace tdbmesh::sim
