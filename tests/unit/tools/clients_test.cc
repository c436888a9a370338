#include "tools/daemon/clients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/daemon/remote_controls.h"

namespace tdbmesh {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr ClientId kSmbd{1};
constexpr ClientId kWinbind{2};
constexpr Srvid kMine{100};
constexpr Srvid kAll{0xFFFFFFFFFFFFFFFFu};

Clients two_clients() {
  Clients clients;
  clients.connect(kSmbd, 4711);
  clients.connect(kWinbind, 4712);
  return clients;
}

TEST(Clients, EachRegistrationGetsACopy) {
  Clients clients = two_clients();
  clients.register_srvid(kSmbd, kMine);
  clients.register_srvid(kWinbind, kMine);
  clients.register_srvid(kSmbd, kMine);
  EXPECT_THAT(clients.receivers(kMine), ElementsAre(kSmbd, kWinbind, kSmbd));
}

TEST(Clients, DeregisteringTakesAwayOneRegistration) {
  Clients clients = two_clients();
  clients.register_srvid(kSmbd, kMine);
  clients.register_srvid(kSmbd, kMine);
  EXPECT_TRUE(clients.deregister_srvid(kSmbd, kMine));
  EXPECT_THAT(clients.receivers(kMine), ElementsAre(kSmbd));
  EXPECT_TRUE(clients.deregister_srvid(kSmbd, kMine));
  EXPECT_FALSE(clients.deregister_srvid(kSmbd, kMine));
}

TEST(Clients, WhoListensToAllHearsEverything) {
  Clients clients = two_clients();
  clients.register_srvid(kWinbind, kAll);
  clients.register_srvid(kSmbd, kMine);
  EXPECT_THAT(clients.receivers(kMine), ElementsAre(kSmbd, kWinbind));
}

TEST(Clients, OnlyWhoUsedADatabaseIsAUserOfDatabases) {
  Clients clients = two_clients();
  EXPECT_TRUE(clients.database_users().empty());
  clients.uses_databases(kSmbd);
  clients.uses_databases(ClientId{99});  // gone meanwhile
  EXPECT_THAT(clients.database_users(), ElementsAre(kSmbd));
  clients.disconnect(kSmbd);
  EXPECT_TRUE(clients.database_users().empty());
}

TEST(Clients, ADisconnectForgetsTheClientAndReturnsItsLastWords) {
  Clients clients = two_clients();
  clients.register_srvid(kSmbd, kMine);
  EXPECT_TRUE(clients.register_notify(kSmbd, Srvid{7}, "bye"));
  EXPECT_FALSE(clients.register_notify(kSmbd, Srvid{7}, "twice"));
  const auto last_words = clients.disconnect(kSmbd);
  ASSERT_EQ(last_words.size(), 1u);
  EXPECT_EQ(last_words[0].data, "bye");
  EXPECT_TRUE(clients.receivers(kMine).empty());
  EXPECT_TRUE(clients.with_pid(4711).empty());
}

TEST(Clients, APidIsKnownByAllItsConnections) {
  Clients clients = two_clients();
  clients.connect(ClientId{3}, 4711);
  clients.register_srvid(ClientId{3}, kMine);
  EXPECT_TRUE(clients.pid_has_srvid(4711, kMine));
  EXPECT_FALSE(clients.pid_has_srvid(4712, kMine));
  clients.disconnect(ClientId{3});
  EXPECT_FALSE(clients.pid_has_srvid(4711, kMine));
  EXPECT_THAT(clients.with_pid(4711), ElementsAre(kSmbd));
}

TEST(RemoteControls, AControlEndsExactlyOnce) {
  RemoteControls controls{1};
  ReplyTo reply;
  reply.client = kSmbd;
  const std::uint64_t first = controls.add(Pnn{1}, reply, Instant{seconds(60)});
  const std::uint64_t second = controls.add(Pnn{2}, reply, Instant{seconds(10)});
  EXPECT_FALSE(controls.answered(first, Pnn{2}).has_value());  // somebody else cannot answer it
  EXPECT_TRUE(controls.answered(first, Pnn{1}).has_value());
  EXPECT_FALSE(controls.answered(first, Pnn{1}).has_value());
  EXPECT_EQ(controls.next_deadline(), Instant{seconds(10)});
  EXPECT_EQ(controls.expired(Instant{seconds(10)}).size(), 1u);
  EXPECT_FALSE(controls.answered(second, Pnn{2}).has_value());
}

TEST(RemoteControls, AnAnswerToAnEarlierLifeFitsNoControl) {
  RemoteControls before{1};
  RemoteControls now{2};
  const std::uint64_t late = before.add(Pnn{1}, {}, kNever);
  now.add(Pnn{1}, {}, kNever);
  EXPECT_FALSE(now.answered(late, Pnn{1}).has_value());
}

TEST(RemoteControls, ALostNodeEndsAllThatWaitForIt) {
  RemoteControls controls{1};
  controls.add(Pnn{1}, {}, kNever);
  controls.add(Pnn{1}, {}, kNever);
  controls.add(Pnn{2}, {}, kNever);
  EXPECT_EQ(controls.lost(Pnn{1}).size(), 2u);
  EXPECT_EQ(controls.size(), 1u);
}

TEST(RemoteControls, WhetherAProcessLivesIsAskedUntilItsNodeIsLeftOut) {
  RemoteControls controls{1};
  RelayControl question;
  question.data = "pid";
  controls.add_until_left_out(Pnn{1}, {}, kNever, question);
  controls.add(Pnn{1}, {}, kNever);
  EXPECT_EQ(controls.lost(Pnn{1}).size(), 1u);
  EXPECT_THAT(controls.to_ask_again(Pnn{1}), ElementsAre(question));
  EXPECT_THAT(controls.to_ask_again(Pnn{2}), IsEmpty());
  EXPECT_TRUE(controls.left_out({Pnn{0}, Pnn{1}}).empty());
  EXPECT_EQ(controls.left_out({Pnn{0}, Pnn{2}}).size(), 1u);
  EXPECT_FALSE(controls.answered(question.id, Pnn{1}).has_value());
  controls.add_until_left_out(Pnn{1}, {}, kNever, question);
  EXPECT_TRUE(controls.answered(question.id, Pnn{1}).has_value());
  EXPECT_EQ(controls.size(), 0u);
}

}  // namespace
}  // namespace tdbmesh
