// One node's Ownership, played through by hand: single rows of the protocol's tables.

#include "db/ownership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/memory_store.h"
#include "db/record_router.h"

namespace tdbmesh {
namespace {

using record::Kind;

constexpr Generation kFirst{1, 1};
constexpr Generation kSecond{1, 2};

View view_of(Generation generation, std::vector<Pnn> members, Pnn lmaster, Generation since = kFirst) {
  View view;
  view.generation = generation;
  for (const Pnn pnn : members) view.members.push_back(Member{pnn, 1, kFirst});
  view.vnnmap = {Slot{lmaster, since}};
  return view;
}

// Node 0 of three; the lmaster of everything is node 1 unless a test says otherwise.
class OneNode : public testing::Test {
 protected:
  explicit OneNode(Pnn lmaster = Pnn{1}) {
    database = static_cast<MemoryDatabase*>(*store.open("locking.tdb", DatabaseKind::Volatile));
    node = std::make_unique<Ownership>(Pnn{0}, *database);
    const View view = view_of(kFirst, {Pnn{0}, Pnn{1}, Pnn{2}}, lmaster);
    node->prepare(view, false, now);
    (void)node->gate_changed(true, now);
    (void)node->install(view, now);
  }
  RecordActions receive(Pnn from, record::Body body) {
    return node->on_message(from, RecordMessage{kFirst, database->id(), std::move(body)}, now);
  }
  RecordAction send(Pnn to, record::Body body) const {
    return SendRecord{to, RecordMessage{kFirst, database->id(), std::move(body)}};
  }
  // Node 0 asks for the key and is granted it.
  void own(const Bytes& key, const Bytes& value) {
    (void)node->client_call(CallId{99}, key, Kind::Write, now);
    (void)receive(Pnn{1}, record::Grant{key, 1, 5, false, value});
    (void)database->client_try_lock(key, 1);  // used once, so the pin ends
    database->client_unlock(key, 1);
  }

  [[nodiscard]] std::optional<Bytes> value(const Bytes& key) const {
    const auto record = *database->fetch(key);
    return record ? std::optional(record->value) : std::nullopt;
  }

  Instant now = Instant{} + seconds(10);
  MemoryStore store;
  MemoryDatabase* database = nullptr;
  std::unique_ptr<Ownership> node;
};

TEST_F(OneNode, AsksTheLmasterOnceHoweverManyWait) {
  EXPECT_EQ(node->client_call(CallId{1}, "key", Kind::Write, now),
            (RecordActions{send(Pnn{1}, record::Request{"key", 1, Kind::Write})}));
  EXPECT_TRUE(node->client_call(CallId{2}, "key", Kind::Write, now).empty());
}

TEST_F(OneNode, GrantIsStoredBeforeItIsAnswered) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  const RecordHeader header{7, Pnn{0}, kRecordMigratedWithData};
  EXPECT_EQ(receive(Pnn{2}, record::Grant{"key", 1, 7, true, "v"}),
            (RecordActions{AnswerCall{CallId{1}, 0, header, "v", {}}}));
  EXPECT_EQ(**database->fetch("key"), (StoredRecord{header, "v"}));
}

TEST_F(OneNode, EmptyRecordIsStoredWithItsHeader) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  (void)receive(Pnn{1}, record::Grant{"key", 1, 1, false, ""});
  EXPECT_EQ(**database->fetch("key"), (StoredRecord{RecordHeader{1, Pnn{0}, 0}, ""}));
}

TEST_F(OneNode, GrantWaitsForTheChainLock) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  ASSERT_TRUE(database->client_try_lock("key", 5));
  EXPECT_EQ(receive(Pnn{1}, record::Grant{"key", 1, 1, false, ""}),
            (RecordActions{WaitChain{database->id(), "key"}}));
  EXPECT_TRUE(node->owns("key"));  // in every answer and claim
  database->client_unlock("key", 5);
  EXPECT_EQ(node->chain_free("key", now).size(), 1u);
}

TEST_F(OneNode, HandOverLeavesTheSameBytesBehind) {
  own("key", "v");
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}),
            (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 6, true, "v"})}));
  EXPECT_EQ(**database->fetch("key"), (StoredRecord{RecordHeader{5, Pnn{2}, kRecordMigratedWithData}, "v"}));
}

TEST_F(OneNode, EmptyRecordThatNobodyElseHadIsNotKept) {
  own("key", "");
  (void)receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}});
  EXPECT_EQ(*database->fetch("key"), std::nullopt);
}

TEST_F(OneNode, RecordIsNotTakenBeforeItWasUsed) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  (void)receive(Pnn{1}, record::Grant{"key", 1, 5, false, "v"});
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}).empty());
  EXPECT_TRUE(node->where("key").pinned);
  now += milliseconds(20);
  EXPECT_EQ(node->tick(now), (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 6, true, "v"})}));
}

TEST_F(OneNode, RecordIsNotTakenWhileAClientHoldsTheChain) {
  own("key", "v");
  ASSERT_TRUE(database->client_try_lock("key", 5));
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}),
            (RecordActions{WaitChain{database->id(), "key"}}));
  ASSERT_TRUE(database->client_store("key", 5, RecordHeader{5, Pnn{0}, 0}, "newer"));
  database->client_unlock("key", 5);
  EXPECT_EQ(node->chain_free("key", now), (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 6, true, "newer"})}));
}

TEST_F(OneNode, NothingLeavesThroughAClosedGate) {
  own("key", "v");
  (void)node->gate_changed(false, now);
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}).empty());
  EXPECT_EQ(node->gate_changed(true, now), (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 6, true, "v"})}));
}

TEST_F(OneNode, CallIsNotAnsweredThroughAClosedGate) {
  (void)node->client_call(CallId{1}, "key", Kind::Read, now);
  (void)node->gate_changed(false, now);
  EXPECT_TRUE(receive(Pnn{2}, record::Copy{"key", 1, 4, false, "v"}).empty());
  const auto actions = node->gate_changed(true, now);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<AnswerCall>(actions[0]).value, "v");
}

TEST_F(OneNode, ForwardForAnUnknownTenureIsAMiss) {
  own("key", "v");
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 77, {}}),
            (RecordActions{send(Pnn{1}, record::Miss{"key", Pnn{2}, 8, Kind::Write})}));
}

TEST_F(OneNode, SuccessorOfAnAwaitedTenureWaitsForIt) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}).empty());
  (void)receive(Pnn{1}, record::Grant{"key", 1, 5, false, "v"});
  EXPECT_EQ(node->where("key").successor, Pnn{2});
}

TEST_F(OneNode, CopyIsAdoptedOnlyWithItsExactRsn) {
  ASSERT_TRUE(database->try_lock("key"));
  ASSERT_TRUE(database->store("key", RecordHeader{20, Pnn{2}, kRecordMigratedWithData}, "v"));
  database->unlock("key");
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 0, Rsn{19}}),
            (RecordActions{send(Pnn{1}, record::Miss{"key", Pnn{2}, 8, Kind::Write})}));
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 0, Rsn{20}}),
            (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 22, true, "v"})}));
}

TEST_F(OneNode, PlainReadChangesNothing) {
  own("key", "v");
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Read, 0, {}}),
            (RecordActions{send(Pnn{2}, record::Copy{"key", 8, 5, false, "v"})}));
  EXPECT_TRUE(node->owns("key"));
}

TEST_F(OneNode, DelegationRaisesTheOwnersRsnAndIsTakenBackForAWriter) {
  node->set_readonly();
  own("key", "v");
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Read, 0, {}}),
            (RecordActions{send(Pnn{2}, record::Copy{"key", 8, 5, true, "v"})}));
  EXPECT_EQ((*database->fetch("key"))->header,
            (RecordHeader{6, Pnn{0}, kRecordMigratedWithData | kRecordHaveDelegations}));
  EXPECT_EQ(node->client_call(CallId{1}, "key", Kind::Write, now),
            (RecordActions{send(Pnn{2}, record::Revoke{"key"})}));
  EXPECT_EQ(receive(Pnn{2}, record::Revoked{"key"}),
            (RecordActions{AnswerCall{CallId{1}, 0, RecordHeader{6, Pnn{0}, kRecordMigratedWithData}, "v", {}}}));
}

TEST_F(OneNode, FullStoreIsToldToTheClientAndTheRecordCanStillLeave) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  store.faults.full = true;
  const auto actions = receive(Pnn{1}, record::Grant{"key", 1, 5, false, "v"});
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<AnswerCall>(actions[0]).status, -1);
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}),
            (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 6, true, "v"})}));
}

// The grant may be cut off by a view change: then the giver's copy is the only one.
TEST_F(OneNode, BackupThatTheStoreHasNoRoomForIsKept) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  store.faults.full = true;
  (void)receive(Pnn{1}, record::Grant{"key", 1, 5, true, "v"});
  (void)receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}});
  EXPECT_EQ(receive(Pnn{1}, record::Query{"key", 3}),
            (RecordActions{send(Pnn{1}, record::Answer{"key", 3, false, Rsn{5}})}));
  EXPECT_EQ(receive(Pnn{2}, record::Leaving{1, {{"key", 5, Pnn{0}}}}),
            (RecordActions{send(Pnn{2}, record::Keeping{1, false, {true}})}));
  store.faults.full = false;
  ASSERT_LE(node->next_wake(), now + milliseconds(200));
  now += milliseconds(200);
  (void)node->tick(now);
  EXPECT_EQ(**database->fetch("key"), (StoredRecord{RecordHeader{5, Pnn{2}, kRecordMigratedWithData}, "v"}));
}

TEST_F(OneNode, BackupThatTheStoreHasNoRoomForIsClaimedAdoptedAndPurged) {
  store.faults.full = true;
  for (const Bytes key : {"adopted", "purged"}) {
    (void)node->client_call(CallId{1}, key, Kind::Write, now);
    const record::RequestNumber q = key == "adopted" ? 1 : 2;
    (void)receive(Pnn{1}, record::Grant{key, q, 5, true, "v"});
    (void)receive(Pnn{1}, record::Forward{key, Pnn{2}, 8, Kind::Write, q, {}});
  }
  (void)receive(Pnn{2}, record::Purge{{{"purged", 5}}});
  EXPECT_EQ(receive(Pnn{1}, record::Query{"purged", 3}),
            (RecordActions{send(Pnn{1}, record::Answer{"purged", 3, false, {}})}));
  const View next = view_of(kSecond, {Pnn{0}, Pnn{1}, Pnn{2}}, Pnn{1}, kSecond);
  node->prepare(next, false, now);
  const auto claims = node->install(next, now);
  ASSERT_FALSE(claims.empty());
  const auto& first = std::get<record::Claim>(std::get<SendRecord>(claims[0]).message.body);
  EXPECT_EQ(first.entries, (std::vector<record::ClaimEntry>{{"adopted", false, 5}}));
  const auto granted = receive(Pnn{1}, record::Forward{"adopted", Pnn{2}, 9, Kind::Write, 0, Rsn{5}});
  ASSERT_EQ(granted.size(), 1u);
  EXPECT_EQ(std::get<SendRecord>(granted[0]).message.body, record::Body(record::Grant{"adopted", 9, 7, true, "v"}));
}

TEST_F(OneNode, UnreadableStoreDoesNotPassForAnEmptyOne) {
  store.faults.failing = true;
  const auto actions = receive(Pnn{1}, record::Query{"key", 3});
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<Bump>(actions[0]).peer, Pnn{0});
}

TEST_F(OneNode, RecordThatNeverLeftIsVacuumedWithoutAskingAnybody) {
  own("key", "");
  (void)node->schedule_deletion("key", now);
  now += milliseconds(20);
  (void)node->tick(now);
  EXPECT_EQ(node->vacuum(now), (RecordActions{send(Pnn{1}, record::Gone{"key", 5})}));
  EXPECT_EQ(*database->fetch("key"), std::nullopt);
}

TEST_F(OneNode, TombMakesNoRecordWhereThereIsNone) {
  EXPECT_EQ(receive(Pnn{2}, record::Tomb{{{"key", 9}}}),
            (RecordActions{send(Pnn{2}, record::VacuumAck{1, {{"key", 9, true}}})}));
  EXPECT_EQ(*database->fetch("key"), std::nullopt);
}

TEST_F(OneNode, TombAndPurgeSpareWhatIsNewerAndWhatIsOwned) {
  own("mine", "v");
  ASSERT_TRUE(database->try_lock("copy"));
  ASSERT_TRUE(database->store("copy", RecordHeader{9, Pnn{1}, kRecordMigratedWithData}, "newer"));
  database->unlock("copy");
  (void)receive(Pnn{2}, record::Tomb{{{"copy", 7}, {"mine", 100}}});
  (void)receive(Pnn{2}, record::Purge{{{"copy", 8}, {"mine", 100}}});
  EXPECT_EQ(value("copy"), "newer");
  EXPECT_EQ(value("mine"), "v");
  (void)receive(Pnn{2}, record::Tomb{{{"copy", 10}}});
  EXPECT_EQ(value("copy"), "");
  (void)receive(Pnn{2}, record::Purge{{{"copy", 10}}});
  EXPECT_EQ(value("copy"), std::nullopt);
}

// An empty record that was elsewhere before, so that its vacuum has to ask.
class Vacuuming : public OneNode {
 protected:
  Vacuuming() {
    (void)node->client_call(CallId{99}, "key", Kind::Write, now);
    (void)receive(Pnn{2}, record::Grant{"key", 1, 5, true, ""});
    (void)database->client_try_lock("key", 1);
    database->client_unlock("key", 1);
    now += milliseconds(20);
    (void)node->tick(now);
  }
  void acknowledge(std::uint8_t phase) {
    (void)receive(Pnn{1}, record::VacuumAck{phase, {{"key", 5, true}}});
    last = receive(Pnn{2}, record::VacuumAck{phase, {{"key", 5, true}}});
  }
  RecordActions last;
};

// Otherwise a copy made empty and the record that a client revives meanwhile had the same rsn.
TEST_F(Vacuuming, OwnersRsnRisesAboveTheTomb) {
  const record::Tomb tomb{{{"key", 5}}};
  EXPECT_EQ(node->vacuum(now), (RecordActions{send(Pnn{1}, tomb), send(Pnn{2}, tomb)}));
  EXPECT_EQ((*database->fetch("key"))->header.rsn, 6u);
}

TEST_F(Vacuuming, RemovesTheRecordWhenNobodyHasACopyAnyMore) {
  (void)node->vacuum(now);
  acknowledge(1);
  const record::Purge purge{{{"key", 5}}};
  EXPECT_EQ(last, (RecordActions{send(Pnn{1}, purge), send(Pnn{2}, purge)}));
  acknowledge(2);
  EXPECT_EQ(last, (RecordActions{send(Pnn{1}, record::Gone{"key", 6})}));
  EXPECT_EQ(value("key"), std::nullopt);
}

TEST_F(Vacuuming, SparesARecordThatAClientRevived) {
  (void)node->vacuum(now);
  acknowledge(1);
  ASSERT_TRUE(database->client_try_lock("key", 5));
  ASSERT_TRUE(database->client_store("key", 5, RecordHeader{6, Pnn{0}, kRecordMigratedWithData}, "alive"));
  database->client_unlock("key", 5);
  acknowledge(2);
  EXPECT_EQ(value("key"), "alive");
}

TEST_F(Vacuuming, LeavesTheRecordToARequestThatCameMeanwhile) {
  (void)node->vacuum(now);
  acknowledge(1);
  ASSERT_TRUE(database->client_try_lock("key", 5));
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}),
            (RecordActions{WaitChain{database->id(), "key"}}));
  database->client_unlock("key", 5);
  acknowledge(2);
  EXPECT_TRUE(last.empty());
  EXPECT_EQ(node->chain_free("key", now), (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 7, true, ""})}));
}

TEST_F(OneNode, OneVacuumRunGoesThroughAllDeletionsBatchByBatch) {
  RecordSettings settings;
  settings.vacuum_batch = 2;
  node->configure(settings);
  const std::vector<Bytes> keys{"a", "b", "c", "d", "e"};
  record::RequestNumber q = 0;
  for (const Bytes& key : keys) {
    (void)node->client_call(CallId{++q}, key, Kind::Write, now);
    (void)receive(Pnn{1}, record::Grant{key, q, 5, false, ""});
    (void)node->schedule_deletion(key, now);
  }
  now += milliseconds(20);
  (void)node->tick(now);
  ASSERT_TRUE(database->client_try_lock("b", 7));  // busy: it costs nobody else a turn
  EXPECT_EQ(node->vacuum(now).size(), 1u);
  std::size_t gone = 1;
  for (int i = 0; i < 2; ++i) gone += node->tick(now += settings.background_interval).size();
  EXPECT_EQ(gone, 4u);
  database->client_unlock("b", 7);
  EXPECT_TRUE(node->tick(now + settings.background_interval).empty());
  EXPECT_EQ(node->tick(now + settings.vacuum_interval), (RecordActions{send(Pnn{1}, record::Gone{"b", 5})}));
}

TEST_F(OneNode, StickyRecordStaysItsTimeAlthoughItWasUsed) {
  RecordSettings settings;
  settings.sticky_hops = 2;
  settings.sticky_duration = seconds(1);
  node->configure(settings);
  node->set_sticky();
  Rsn rsn = 5;
  record::RequestNumber q = 0;
  // How long the record stays here although its client had it at once and another node waits for it.
  const auto stay = [&] {
    (void)node->client_call(CallId{++q}, "key", Kind::Write, now);
    (void)receive(Pnn{2}, record::Grant{"key", q, rsn += 2, true, "v"});
    (void)receive(Pnn{1}, record::Forward{"key", Pnn{2}, q, Kind::Write, q, {}});
    (void)database->client_try_lock("key", 1);
    database->client_unlock("key", 1);
    const Instant came = now;
    while (node->owns("key")) (void)node->tick(now = node->next_wake());
    return now - came;
  };
  EXPECT_LE(stay(), settings.pin_limit);
  EXPECT_EQ(stay(), settings.sticky_pindown);  // it arrived for the second time
  EXPECT_EQ(stay(), settings.sticky_pindown);
  now += settings.sticky_duration;
  EXPECT_LE(stay(), settings.pin_limit);
}

TEST_F(OneNode, RequestIsNeverRepeated) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  for (int i = 0; i < 600; ++i) {
    now += seconds(1);
    EXPECT_TRUE(node->tick(now).empty());
  }
  EXPECT_TRUE(node->client_call(CallId{2}, "key", Kind::Write, now).empty());
}

TEST_F(OneNode, QueuedReadsAreAnsweredBeforeTheRecordLeaves) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  (void)receive(Pnn{1}, record::Grant{"key", 1, 5, false, "v"});
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{1}, 7, Kind::Read, 1, {}}).empty());
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}).empty());
  now += milliseconds(20);
  EXPECT_EQ(node->tick(now), (RecordActions{send(Pnn{1}, record::Copy{"key", 7, 5, false, "v"}),
                                            send(Pnn{2}, record::Grant{"key", 8, 6, true, "v"})}));
}

// The local writer waits for REVOKED, which comes behind a read that waits for the chain.
TEST_F(OneNode, WaitingReadHoldsUpNoOtherMessage) {
  node->set_readonly();
  own("key", "v");
  (void)receive(Pnn{1}, record::Forward{"key", Pnn{2}, 7, Kind::Read, 0, {}});
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  ASSERT_TRUE(database->client_try_lock("key", 5));
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{1}, 8, Kind::Read, 0, {}}),
            (RecordActions{WaitChain{database->id(), "key"}}));
  EXPECT_TRUE(receive(Pnn{2}, record::Revoked{"key"}).empty());
  database->client_unlock("key", 5);
  const auto actions = node->chain_free("key", now);
  const RecordAction answer = AnswerCall{CallId{1}, 0, RecordHeader{6, Pnn{0}, kRecordMigratedWithData}, "v", {}};
  EXPECT_THAT(actions, testing::Contains(answer));
}

// It waits for its own turn, with node 2 behind it, and is told to adopt its copy for node 1.
TEST_F(OneNode, AdopterKeepsTheSuccessorOfTheTurnItWaitsFor) {
  ASSERT_TRUE(database->try_lock("key"));
  ASSERT_TRUE(database->store("key", RecordHeader{20, Pnn{2}, kRecordMigratedWithData}, "v"));
  database->unlock("key");
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  EXPECT_TRUE(receive(Pnn{1}, record::Forward{"key", Pnn{2}, 8, Kind::Write, 1, {}}).empty());
  (void)receive(Pnn{1}, record::Forward{"key", Pnn{1}, 4, Kind::Write, 0, Rsn{20}});
  now += milliseconds(20);
  EXPECT_EQ(node->tick(now), (RecordActions{send(Pnn{1}, record::Grant{"key", 4, 22, true, "v"})}));
  EXPECT_EQ(receive(Pnn{1}, record::Grant{"key", 1, 23, true, "w"}),
            (RecordActions{send(Pnn{2}, record::Grant{"key", 8, 24, true, "w"})}));
}

TEST_F(OneNode, WaitingCallsAskAgainInTheNextView) {
  (void)node->client_call(CallId{1}, "key", Kind::Write, now);
  const View next = view_of(kSecond, {Pnn{0}, Pnn{2}}, Pnn{2}, kSecond);
  node->prepare(next, false, now);
  const auto actions = node->install(next, now);
  const RecordAction again = SendRecord{
      Pnn{2}, RecordMessage{kSecond, database->id(), record::Request{"key", 2, Kind::Write}}};
  EXPECT_THAT(actions, testing::Contains(again));
}

TEST_F(OneNode, BrokenContinuityDropsEverything) {
  own("key", "v");
  View next = view_of(kSecond, {Pnn{0}, Pnn{2}}, Pnn{2}, kSecond);
  next.members[0].join = kSecond;
  node->prepare(next, true, now);
  EXPECT_TRUE(node->emptied());
  EXPECT_EQ(database->record_count(), 0u);
}

TEST_F(OneNode, LeavingNodeAsksWhoKeepsItsRecordsAndHasTheRestTaken) {
  own("key", "v");
  ASSERT_TRUE(database->try_lock("old"));
  ASSERT_TRUE(database->store("old", RecordHeader{3, Pnn{2}, kRecordMigratedWithData}, "x"));
  database->unlock("old");
  (void)node->gate_changed(false, now);
  const record::Leaving question{1, {{"key", 5, Pnn{1}}, {"old", 3, Pnn{1}}}};
  EXPECT_EQ(node->drain(true, now), (RecordActions{send(Pnn{1}, question), send(Pnn{2}, question)}));
  EXPECT_FALSE(node->drained());
  (void)receive(Pnn{1}, record::Keeping{1, false, {false, false}});
  (void)receive(Pnn{2}, record::Keeping{1, false, {false, true}});  // it has the old one, or a newer
  EXPECT_FALSE(node->drained());
  // Node 1 asked for it as for a client. Though no client is served here, the record leaves.
  EXPECT_EQ(receive(Pnn{1}, record::Forward{"key", Pnn{1}, 8, Kind::Write, 1, {}}),
            (RecordActions{send(Pnn{1}, record::Grant{"key", 8, 6, true, "v"})}));
  EXPECT_FALSE(node->drained());  // the grant may still be lost
  now += milliseconds(3);
  const record::Leaving again{2, {{"key", 5, Pnn{1}}}};
  EXPECT_EQ(node->tick(now), (RecordActions{send(Pnn{1}, again), send(Pnn{2}, again)}));
  (void)receive(Pnn{1}, record::Keeping{2, false, {true}});
  EXPECT_FALSE(node->drained());  // everybody is heard, so that a question is never answered twice
  (void)receive(Pnn{2}, record::Keeping{2, false, {false}});
  EXPECT_TRUE(node->drained());
}

TEST_F(OneNode, TakerAsksForTheRecordAsForAClient) {
  EXPECT_EQ(receive(Pnn{2}, record::Leaving{4, {{"key", 5, Pnn{0}}, {"other", 5, Pnn{1}}}}),
            (RecordActions{send(Pnn{1}, record::Request{"key", 1, Kind::Write}),
                           send(Pnn{2}, record::Keeping{4, false, {false, false}})}));
  (void)receive(Pnn{2}, record::Grant{"key", 1, 6, true, "v"});
  EXPECT_TRUE(node->owns("key"));
  EXPECT_FALSE(node->where("key").pinned);
  EXPECT_EQ(receive(Pnn{2}, record::Leaving{5, {{"key", 5, Pnn{0}}}}),
            (RecordActions{send(Pnn{2}, record::Keeping{5, false, {true}})}));
}

// Otherwise two leavers with the same copy, whose owner died, would each leave it to the other.
TEST_F(OneNode, WhoLeavesItselfKeepsAndTakesNothing) {
  own("key", "v");
  (void)node->gate_changed(false, now);
  (void)node->drain(true, now);
  EXPECT_EQ(receive(Pnn{2}, record::Leaving{4, {{"key", 3, Pnn{0}}, {"new", 3, Pnn{0}}}}),
            (RecordActions{send(Pnn{2}, record::Keeping{4, true, {false, false}})}));
  (void)receive(Pnn{1}, record::Keeping{1, true, {false}});
  EXPECT_FALSE(node->drain_hopeless());
  (void)receive(Pnn{2}, record::Keeping{1, true, {false}});
  EXPECT_TRUE(node->drain_hopeless());
}

TEST_F(OneNode, LeavingNodeAsksForNothing) {
  (void)node->drain(true, now);
  EXPECT_TRUE(node->client_call(CallId{1}, "key", Kind::Write, now).empty());
  EXPECT_EQ(node->drain(false, now), (RecordActions{send(Pnn{1}, record::Request{"key", 1, Kind::Write})}));
}

class Lmaster : public OneNode {
 protected:
  Lmaster() : OneNode(Pnn{0}) {}
  void complete() {
    (void)receive(Pnn{1}, record::Claim{{}, true, true});
    (void)receive(Pnn{2}, record::Claim{{}, true, true});
  }
};

TEST_F(Lmaster, IncompleteSlotAsksEverybodyBeforeItMakesARecord) {
  EXPECT_EQ(receive(Pnn{1}, record::Request{"key", 4, Kind::Write}),
            (RecordActions{send(Pnn{1}, record::Query{"key", 1}), send(Pnn{2}, record::Query{"key", 1})}));
  EXPECT_TRUE(receive(Pnn{1}, record::Answer{"key", 1, false, {}}).empty());
  EXPECT_EQ(receive(Pnn{2}, record::Answer{"key", 1, false, {}}),
            (RecordActions{send(Pnn{1}, record::Grant{"key", 4, 1, false, ""})}));
}

TEST_F(Lmaster, CompleteSlotMakesAnAbsentRecordAtOnce) {
  complete();
  EXPECT_TRUE(node->incomplete_slots().empty());
  EXPECT_EQ(receive(Pnn{1}, record::Request{"key", 4, Kind::Write}),
            (RecordActions{send(Pnn{1}, record::Grant{"key", 4, 1, false, ""})}));
  EXPECT_EQ(receive(Pnn{2}, record::Request{"other", 4, Kind::Read}),
            (RecordActions{send(Pnn{2}, record::Copy{"other", 4, 0, false, ""})}));
}

TEST_F(Lmaster, EachRequestGoesToTheNewestDesignatedHolder) {
  complete();
  (void)receive(Pnn{1}, record::Request{"key", 4, Kind::Write});
  EXPECT_EQ(receive(Pnn{2}, record::Request{"key", 6, Kind::Write}),
            (RecordActions{send(Pnn{1}, record::Forward{"key", Pnn{2}, 6, Kind::Write, 4, {}})}));
  EXPECT_EQ(receive(Pnn{1}, record::Request{"key", 5, Kind::Write}),
            (RecordActions{send(Pnn{2}, record::Forward{"key", Pnn{1}, 5, Kind::Write, 6, {}})}));
}

TEST_F(Lmaster, ClaimedOwnerIsAHint) {
  (void)receive(Pnn{1}, record::Claim{{{"key", true, 5}}, true, true});
  (void)receive(Pnn{2}, record::Claim{{{"key", false, 4}}, true, true});
  EXPECT_EQ(receive(Pnn{2}, record::Request{"key", 6, Kind::Write}),
            (RecordActions{send(Pnn{1}, record::Forward{"key", Pnn{2}, 6, Kind::Write, 0, {}})}));
}

// The scan of node 2 saw its record before that was forwarded to node 1.
TEST_F(Lmaster, LateClaimDoesNotOverwriteANewerEntry) {
  (void)receive(Pnn{1}, record::Request{"key", 4, Kind::Write});
  EXPECT_EQ(receive(Pnn{2}, record::Answer{"key", 1, true, Rsn{5}}),
            (RecordActions{send(Pnn{2}, record::Forward{"key", Pnn{1}, 4, Kind::Write, 0, {}})}));
  (void)receive(Pnn{2}, record::Claim{{{"key", true, 5}}, true, true});
  EXPECT_EQ(receive(Pnn{2}, record::Request{"key", 6, Kind::Write}),
            (RecordActions{send(Pnn{1}, record::Forward{"key", Pnn{2}, 6, Kind::Write, 4, {}})}));
}

TEST_F(Lmaster, NewestCopyWinsWhenNobodyOwns) {
  (void)receive(Pnn{1}, record::Request{"key", 4, Kind::Write});
  (void)receive(Pnn{1}, record::Answer{"key", 1, false, Rsn{3}});
  EXPECT_EQ(receive(Pnn{2}, record::Answer{"key", 1, false, Rsn{9}}),
            (RecordActions{send(Pnn{2}, record::Forward{"key", Pnn{1}, 4, Kind::Write, 0, Rsn{9}})}));
}

TEST_F(Lmaster, NewLifeOfAKeyStartsAboveTheOldOne) {
  complete();
  (void)receive(Pnn{1}, record::Request{"key", 4, Kind::Write});
  (void)receive(Pnn{1}, record::Gone{"key", 41});
  EXPECT_EQ(receive(Pnn{2}, record::Request{"key", 6, Kind::Write}),
            (RecordActions{send(Pnn{2}, record::Grant{"key", 6, 42, false, ""})}));
}

TEST_F(Lmaster, OrphansAreAdoptedInTheBackground) {
  (void)receive(Pnn{1}, record::Claim{{{"key", false, 5}}, true, true});
  (void)receive(Pnn{2}, record::Claim{{}, true, true});
  now += milliseconds(20);
  EXPECT_EQ(node->tick(now),
            (RecordActions{send(Pnn{1}, record::Query{"key", 1}), send(Pnn{2}, record::Query{"key", 1})}));
  (void)receive(Pnn{2}, record::Answer{"key", 1, false, {}});
  EXPECT_EQ(receive(Pnn{1}, record::Answer{"key", 1, false, Rsn{5}}),
            (RecordActions{send(Pnn{1}, record::Forward{"key", Pnn{1}, 0, Kind::Write, 0, Rsn{5}})}));
}

TEST(RecordRouter, KeepsMessagesOfAViewThatIsNotInstalledYet) {
  MemoryStore store;
  Database& database = **store.open("locking.tdb", DatabaseKind::Volatile);
  RecordRouter router(Pnn{0});
  const Instant now{};
  (void)router.attach(database, now);
  (void)router.gate_changed(true, now);
  const View view = view_of(kFirst, {Pnn{0}, Pnn{1}}, Pnn{0});
  const Bytes request = encode_record_message({kFirst, database.id(), record::Request{"key", 1, Kind::Write}});
  router.prepare(view, false, now);
  EXPECT_TRUE(router.on_message(Pnn{1}, 1, request, now).empty());
  const auto actions = router.install(view, now);
  const RecordAction question =
      SendRecord{Pnn{1}, RecordMessage{kFirst, database.id(), record::Query{"key", 1}}};
  EXPECT_THAT(actions, testing::Contains(question));
}

TEST(RecordRouter, AnswersForADatabaseThatIsNotAttachedHere) {
  RecordRouter router(Pnn{0});
  const Instant now{};
  const View view = view_of(kFirst, {Pnn{0}, Pnn{1}}, Pnn{1});
  router.prepare(view, false, now);
  (void)router.install(view, now);
  const DatabaseId id{7};
  const Bytes query = encode_record_message({kFirst, id, record::Query{"key", 3}});
  EXPECT_EQ(router.on_message(Pnn{1}, 1, query, now),
            (RecordActions{SendRecord{Pnn{1}, {kFirst, id, record::Answer{"key", 3, false, {}}}}}));
}

TEST(RecordRouter, RefusesStrangersAndOldGenerations) {
  MemoryStore store;
  Database& database = **store.open("locking.tdb", DatabaseKind::Volatile);
  RecordRouter router(Pnn{0});
  const Instant now{};
  (void)router.attach(database, now);
  for (const Generation generation : {kFirst, kSecond}) {
    const View view = view_of(generation, {Pnn{0}, Pnn{1}}, Pnn{0}, generation);
    router.prepare(view, false, now);
    (void)router.install(view, now);
  }
  const auto query = [&](Generation generation) {
    return encode_record_message({generation, database.id(), record::Query{"key", 3}});
  };
  EXPECT_TRUE(router.on_message(Pnn{2}, 1, query(kSecond), now).empty());  // no member
  EXPECT_TRUE(router.on_message(Pnn{1}, 2, query(kSecond), now).empty());  // another life
  EXPECT_TRUE(router.on_message(Pnn{1}, 1, query(kFirst), now).empty());   // an older view
  EXPECT_EQ(router.on_message(Pnn{1}, 1, query(kSecond), now).size(), 1u);
  EXPECT_EQ(router.counters().dropped, 3u);
}

}  // namespace
}  // namespace tdbmesh
