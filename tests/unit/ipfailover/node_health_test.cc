#include "ipfailover/node_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr Instant kStart{std::chrono::seconds(100)};
const EventResult kGood{};
const EventResult kBad{EventResult::Outcome::Failed, 1, "50.samba", "no smbd"};
const EventResult kLate{EventResult::Outcome::TimedOut, -110, "50.samba", ""};
const EventResult kCancelled{EventResult::Outcome::Cancelled, -125, "", ""};

class Health : public testing::Test {
 protected:
  NodeHealth::Actions result(NodeHealth& health, EventKind kind, const EventResult& how) {
    NodeHealth::Actions out;
    health.on_result(kind, how, now, settings, out);
    return out;
  }
  NodeHealth::Actions tick(NodeHealth& health) {
    NodeHealth::Actions out;
    health.tick(now, out);
    return out;
  }
  // Up to and with the first monitor run, which is asked for.
  void start(NodeHealth& health) {
    NodeHealth::Actions out;
    health.start(out);
    (void)result(health, EventKind::Setup, kGood);
    health.serving(true, now, out);
    (void)result(health, EventKind::Startup, kGood);
  }
  Instant now = kStart;
  HealthSettings settings{seconds(15), 3};
};

// The event loop would turn without a pause: while a node is cut off, stopped or banned, monitoring stays due.
TEST_F(Health, WhatIsDueWhileNothingIsServedWakesNobody) {
  NodeHealth health(true, {});
  start(health);
  (void)result(health, EventKind::Monitor, kGood);
  EXPECT_EQ(health.next_wake(), now + settings.interval);
  NodeHealth::Actions out;
  health.serving(false, now, out);
  now += 2 * settings.interval;
  EXPECT_THAT(tick(health).run, IsEmpty());
  EXPECT_EQ(health.next_wake(), kNever);
  health.serving(true, now, out);
  EXPECT_THAT(out.run, ElementsAre(EventKind::Monitor)) << "at once";
}

TEST_F(Health, ANodeWithScriptsIsUnhealthyUntilStartupAndMonitorSucceeded) {
  NodeHealth health(true, {});
  NodeHealth::Actions out;
  health.start(out);
  EXPECT_THAT(out.run, ElementsAre(EventKind::Setup));
  EXPECT_THAT(result(health, EventKind::Setup, kGood).run, IsEmpty()) << "no view yet";
  out = {};
  health.serving(true, now, out);
  EXPECT_THAT(out.run, ElementsAre(EventKind::Startup));
  const auto started = result(health, EventKind::Startup, kGood);
  EXPECT_THAT(started.run, ElementsAre(EventKind::Monitor));
  EXPECT_THAT(started.notify, ElementsAre("startup"));
  EXPECT_FALSE(health.healthy());
  const auto monitored = result(health, EventKind::Monitor, kGood);
  EXPECT_TRUE(monitored.flag_changed);
  EXPECT_THAT(monitored.notify, ElementsAre("healthy"));
  EXPECT_TRUE(health.healthy());
  EXPECT_THAT(health.reasons(), IsEmpty());
}

TEST_F(Health, ANodeWithoutAnythingToCheckIsHealthyFromTheFirstMoment) {
  NodeHealth health(false, {});
  EXPECT_TRUE(health.healthy());
  start(health);
  EXPECT_TRUE(health.healthy());
  EXPECT_EQ(health.stage(), NodeHealth::Stage::Running);
}

TEST_F(Health, AScriptThatIsDroppedInLaterCounts) {
  NodeHealth health(false, {});
  start(health);
  EXPECT_TRUE(result(health, EventKind::Monitor, kBad).flag_changed);
  EXPECT_FALSE(health.healthy());
}

TEST_F(Health, StartupIsTriedAgainUntilItSucceeds) {
  NodeHealth health(true, {});
  NodeHealth::Actions out;
  health.start(out);
  (void)result(health, EventKind::Setup, kGood);
  health.serving(true, now, out);
  EXPECT_THAT(result(health, EventKind::Startup, kBad).run, IsEmpty());
  EXPECT_THAT(health.reasons(), ElementsAre("unhealthy: startup: 50.samba failed: no smbd"));
  now += NodeHealth::kStartupRetry - milliseconds(1);
  EXPECT_THAT(tick(health).run, IsEmpty());
  now += milliseconds(1);
  EXPECT_THAT(tick(health).run, ElementsAre(EventKind::Startup));
}

TEST_F(Health, OneFailureIsEnoughAndOneSuccessMendsIt) {
  NodeHealth health(true, {});
  start(health);
  (void)result(health, EventKind::Monitor, kGood);
  now = health.next_wake();
  EXPECT_EQ(now, kStart + seconds(15));
  EXPECT_THAT(tick(health).run, ElementsAre(EventKind::Monitor));
  EXPECT_THAT(result(health, EventKind::Monitor, kBad).notify, ElementsAre("unhealthy"));
  EXPECT_EQ(health.next_wake() - now, seconds(1)) << "it wants to come back soon";
  now = health.next_wake();
  (void)tick(health);
  (void)result(health, EventKind::Monitor, kBad);
  EXPECT_EQ(health.next_wake() - now, seconds(2));
  now = health.next_wake();
  (void)tick(health);
  EXPECT_THAT(result(health, EventKind::Monitor, kGood).notify, ElementsAre("healthy"));
}

TEST_F(Health, TimeoutsCountOnlyInARow) {
  NodeHealth health(true, {});
  start(health);
  (void)result(health, EventKind::Monitor, kGood);
  for (const EventResult& each : {kLate, kLate, kGood, kLate, kCancelled, kLate}) {
    now = health.next_wake();
    (void)tick(health);
    EXPECT_FALSE(result(health, EventKind::Monitor, each).flag_changed);
  }
  now = health.next_wake();
  (void)tick(health);
  EXPECT_TRUE(result(health, EventKind::Monitor, kLate).flag_changed) << "the third in a row";
}

TEST_F(Health, NothingIsMonitoredWithoutAView) {
  NodeHealth health(true, {});
  start(health);
  (void)result(health, EventKind::Monitor, kGood);
  NodeHealth::Actions out;
  health.serving(false, now, out);
  now += seconds(60);
  EXPECT_THAT(tick(health).run, IsEmpty());
  health.serving(true, now, out);
  EXPECT_THAT(out.run, ElementsAre(EventKind::Monitor));
}

TEST_F(Health, ABuiltInCheckCountsAtOnceAndBesideTheScripts) {
  NodeHealth health(true, {"web"});
  start(health);
  EXPECT_FALSE(result(health, EventKind::Monitor, kGood).flag_changed) << "the check has not spoken";
  NodeHealth::Actions out;
  health.on_check("web", true, "", out);
  EXPECT_TRUE(health.healthy());
  out = {};
  health.on_check("web", false, "Connection refused", out);
  EXPECT_TRUE(out.flag_changed);
  EXPECT_THAT(health.reasons(), ElementsAre("unhealthy: check web: Connection refused"));
}

TEST_F(Health, RecoveryEventsDoNotPileUp) {
  NodeHealth health(true, {});
  start(health);
  NodeHealth::Actions out;
  for (int i = 0; i < 5; ++i) {
    health.view_change_began(out);
    health.view_in_use(out);
  }
  EXPECT_THAT(out.run, ElementsAre(EventKind::StartRecovery, EventKind::Recovered));
}

TEST_F(Health, TheNodeMayLeaveWhenItsShutdownScriptsAreDone) {
  NodeHealth health(true, {});
  start(health);
  NodeHealth::Actions out;
  health.shut_down(out);
  health.shut_down(out);
  EXPECT_THAT(out.run, ElementsAre(EventKind::Shutdown));
  EXPECT_FALSE(out.may_leave);
  EXPECT_TRUE(result(health, EventKind::Shutdown, kBad).may_leave) << "whatever the scripts said";
}

}  // namespace
}  // namespace tdbmesh
