// One node's Commits, played through by hand.

#include "db/commits.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "db/memory_store.h"

namespace tdbmesh {
namespace {

constexpr Generation kFirst{1, 1};
constexpr Generation kSecond{1, 2};

View alone(Generation generation) {
  View view;
  view.generation = generation;
  view.members = {Member{Pnn{0}, 1, kFirst}};
  view.vnnmap = {Slot{Pnn{0}, kFirst}};
  return view;
}

class LoneCommits : public testing::Test {
 protected:
  LoneCommits() {
    persistent = static_cast<MemoryDatabase*>(*store.open("secrets.tdb", DatabaseKind::Persistent));
    fleeting = static_cast<MemoryDatabase*>(*store.open("locking.tdb", DatabaseKind::Volatile));
    (void)commits.attach(*persistent, now);
    (void)commits.attach(*fleeting, now);
    install(kFirst);
  }
  CommitActions install(Generation generation) {
    commits.prepare(alone(generation), false, now);
    CommitActions actions = commits.install(alone(generation), now);
    for (CommitAction& action : commits.view_durable(now)) actions.push_back(std::move(action));
    return actions;
  }
  static RecordEntry entry(const Bytes& key, const Bytes& value) {
    return RecordEntry{0, key, RecordHeader{1, Pnn{0}, 0}, value};
  }
  static RecordEntry sequence(std::uint64_t number) {
    ByteWriter value;
    value.put(number);
    return RecordEntry{0, Bytes(kSequenceNumberKey), RecordHeader{number, Pnn{0}, 0}, value.bytes()};
  }
  // Lets the disk finish everything; returns what was answered.
  std::vector<CommitAnswer> drain(CommitActions actions) {
    std::vector<CommitAnswer> answers;
    for (;;) {
      for (CommitAction& action : actions) {
        if (auto* submit = std::get_if<SubmitChange>(&action)) {
          store.worker().submit(submit->ticket, std::move(submit->change));
        } else if (auto* answer = std::get_if<CommitAnswer>(&action)) {
          answers.push_back(*answer);
        }
      }
      actions.clear();
      const auto done = store.worker().complete(1);
      if (done.empty()) return answers;
      actions = commits.on_durable(done[0].ticket, done[0].result, now);
    }
  }
  std::vector<CommitAnswer> commit(std::uint64_t id, std::vector<RecordEntry> entries) {
    return drain(commits.client_commit(CommitId{id}, id, RecordBuffer{persistent->id(), std::move(entries)}, now));
  }

  Instant now{};
  MemoryStore store;
  MemoryDatabase* persistent = nullptr;
  MemoryDatabase* fleeting = nullptr;
  Commits commits{Pnn{0}};
};

using Answers = std::vector<CommitAnswer>;

TEST_F(LoneCommits, CommitIsAnsweredWhenItIsOnDisk) {
  const auto actions = commits.client_commit(CommitId{1}, 1, {persistent->id(), {entry("k", "v"), sequence(1)}}, now);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_FALSE(commits.quiet());
  EXPECT_EQ(drain(actions), (Answers{CommitAnswer{CommitId{1}, 0, ""}}));
  EXPECT_EQ((*persistent->fetch("k"))->value, "v");
  EXPECT_EQ(commits.sequence_number(persistent->id()), 1u);
  EXPECT_EQ(commits.versions().at(persistent->id()), (CopyVersion{kFirst, 1}));
}

TEST_F(LoneCommits, CommitWithoutSequenceNumberGetsTheNextOne) {
  (void)commit(1, {entry("k", "v"), sequence(1)});
  EXPECT_EQ(commit(2, {entry("k", "w")}), (Answers{CommitAnswer{CommitId{2}, 0, ""}}));
  EXPECT_EQ(commits.sequence_number(persistent->id()), 2u);
}

TEST_F(LoneCommits, WrongSequenceNumberIsRefusedAndNothingWritten) {
  const auto answers = commit(1, {entry("k", "v"), sequence(5)});
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].status, -1);
  EXPECT_EQ(persistent->record_count(), 0u);
}

TEST_F(LoneCommits, NumberTakenByAnotherCommitIsNotWhatARefusedClientFinds) {
  (void)commit(1, {entry("k", "theirs"), sequence(1)});
  const auto answers = commit(2, {entry("k", "ours"), sequence(1)});
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].status, -1);
  EXPECT_EQ((*persistent->fetch("k"))->value, "theirs");
  EXPECT_EQ(commits.sequence_number(persistent->id()), 2u) << "with 1 the client would believe that it was committed";
}

TEST_F(LoneCommits, ViewChangeDoesNotMakeAnothersCommitLookLikeOnesOwn) {
  auto first = commits.client_commit(CommitId{1}, 1, {persistent->id(), {entry("k", "theirs"), sequence(1)}}, now);
  auto second = commits.client_commit(CommitId{2}, 2, {persistent->id(), {entry("k", "ours"), sequence(1)}}, now);
  commits.prepare(alone(kSecond), false, now);
  EXPECT_TRUE(drain(std::move(first)).empty());
  EXPECT_TRUE(drain(std::move(second)).empty());
  const auto answers = drain(install(Generation{1, 3}));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].status, 2) << "this one was written";
  EXPECT_EQ(answers[1].status, -1);
  EXPECT_EQ((*persistent->fetch("k"))->value, "theirs");
  EXPECT_EQ(commits.sequence_number(persistent->id()), 2u);
}

TEST_F(LoneCommits, EmptyCommitIsDoneAtOnce) {
  EXPECT_EQ(commit(1, {}), (Answers{CommitAnswer{CommitId{1}, 0, ""}}));
}

TEST_F(LoneCommits, SecondCommitOfOneClientAndUnknownDatabaseAreRefused) {
  const auto first = commits.client_commit(CommitId{1}, 9, {persistent->id(), {entry("k", "v")}}, now);
  const auto second = drain(commits.client_commit(CommitId{2}, 9, {persistent->id(), {entry("k", "w")}}, now));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].status, -1);
  const auto unknown = drain(commits.client_commit(CommitId{3}, 8, {DatabaseId{1}, {entry("k", "w")}}, now));
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0].status, -1);
  EXPECT_EQ(drain(first).size(), 1u);
}

TEST_F(LoneCommits, CommitIsHeldThroughAViewChange) {
  commits.prepare(alone(kSecond), false, now);
  EXPECT_TRUE(commits.client_commit(CommitId{1}, 1, {persistent->id(), {entry("k", "v")}}, now).empty());
  EXPECT_EQ(drain(commits.install(alone(kSecond), now)), (Answers{CommitAnswer{CommitId{1}, 0, ""}}));
}

TEST_F(LoneCommits, CommitCutByAViewChangeIsAnsweredAfterIt) {
  auto actions = commits.client_commit(CommitId{1}, 1, {persistent->id(), {entry("k", "v"), sequence(1)}}, now);
  commits.prepare(alone(kSecond), false, now);
  EXPECT_TRUE(drain(std::move(actions)).empty());  // written, and not answered yet
  EXPECT_TRUE(commits.quiet());
  EXPECT_TRUE(commits.install(alone(kSecond), now).empty()) << "a restart could forget that the view was in use";
  EXPECT_EQ(commits.view_durable(now).size(), 1u);
  EXPECT_EQ(commits.open_commits(), 0u);
}

TEST(CommitsOfThree, CutCommitIsAnsweredOnlyWhenEveryMemberUsesTheNextView) {
  const auto three = [](Generation generation) {
    View view;
    view.generation = generation;
    for (const std::uint32_t pnn : {0, 1, 2}) view.members.push_back(Member{Pnn{pnn}, 1, kFirst});
    view.vnnmap = {Slot{Pnn{0}, kFirst}};
    return view;
  };
  const auto answers = [](const CommitActions& actions) {
    return std::count_if(actions.begin(), actions.end(),
                         [](const CommitAction& action) { return std::holds_alternative<CommitAnswer>(action); });
  };
  const Instant now{};
  MemoryStore store;
  Database& database = **store.open("secrets.tdb", DatabaseKind::Persistent);
  Commits commits{Pnn{0}};
  (void)commits.attach(database, now);
  (void)commits.install(three(kFirst), now);
  (void)commits.view_durable(now);
  const RecordBuffer buffer{database.id(), {RecordEntry{0, "k", RecordHeader{1, Pnn{0}, 0}, "v"}}};
  EXPECT_EQ(answers(commits.client_commit(CommitId{1}, 1, buffer, now)), 0);

  commits.prepare(three(kSecond), false, now);
  const Bytes installed = encode_commit_message({kSecond, DatabaseId{}, commit::Installed{}});
  EXPECT_EQ(answers(commits.install(three(kSecond), now)), 0);
  EXPECT_EQ(answers(commits.view_durable(now)), 0) << "this member uses it, the others may not";
  EXPECT_EQ(answers(commits.on_message(Pnn{1}, 1, installed, now)), 0) << "the last one may yet come back without it";
  EXPECT_EQ(answers(commits.on_message(Pnn{2}, 1, installed, now)), 1);
  EXPECT_EQ(commits.open_commits(), 0u);
}

TEST_F(LoneCommits, WipeKeepsTheSequenceNumberGrowing) {
  (void)commit(1, {entry("k", "v"), sequence(1)});
  EXPECT_EQ(drain(commits.replace_all(CommitId{2}, persistent->id(), {}, now)),
            (Answers{CommitAnswer{CommitId{2}, 0, ""}}));
  EXPECT_EQ(persistent->record_count(), 1u);
  EXPECT_EQ(commits.sequence_number(persistent->id()), 2u);
}

TEST_F(LoneCommits, VolatileCommitReplacesOnlyWhatIsHereAndOwned) {
  ASSERT_TRUE(fleeting->try_lock("own"));
  (void)fleeting->store("own", RecordHeader{3, Pnn{0}, 0}, "old");
  (void)fleeting->store("copy", RecordHeader{3, Pnn{1}, 0}, "old");
  fleeting->unlock("own");
  const RecordBuffer buffer{fleeting->id(), {entry("own", "new"), entry("copy", "new"), entry("none", "new")}};
  EXPECT_EQ(drain(commits.client_commit(CommitId{1}, 1, buffer, now)), (Answers{CommitAnswer{CommitId{1}, 0, ""}}));
  EXPECT_EQ(**fleeting->fetch("own"), (StoredRecord{RecordHeader{3, Pnn{0}, 0}, "new"}));
  EXPECT_EQ((*fleeting->fetch("copy"))->value, "old");
  EXPECT_EQ(*fleeting->fetch("none"), std::nullopt);
}

TEST_F(LoneCommits, FetchDoesNotOutliveTheViewItWasFor) {
  commits.prepare(alone(kSecond), false, now);
  EXPECT_EQ(commits.settle(persistent->id(), Pnn{1}, CopyVersion{kFirst, 7}, now).size(), 1u);
  commits.prepare(alone(Generation{1, 3}), false, now);
  commit::PullData data;
  data.id = 1;
  data.version = CopyVersion{kFirst, 7};
  data.done = true;
  const Bytes late = encode_commit_message({kFirst, persistent->id(), data});
  EXPECT_TRUE(commits.on_message(Pnn{1}, 1, late, now).empty());
  EXPECT_TRUE(commits.quiet());
}

TEST_F(LoneCommits, FailedDiskIsReportedAndNotAnsweredAsFailure) {
  store.faults.full = true;
  auto actions = commits.client_commit(CommitId{1}, 1, {persistent->id(), {entry("k", "v")}}, now);
  store.worker().submit(std::get<SubmitChange>(actions[0]).ticket, std::get<SubmitChange>(actions[0]).change);
  const auto done = store.worker().complete(1);
  actions = commits.on_durable(done[0].ticket, done[0].result, now);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(std::get<CommitTrouble>(actions[0]).peer, Pnn{0});
  EXPECT_EQ(commits.open_commits(), 1u);
}

// A source that commits while its copy is fetched, and a puller with a store of its own.
class CopyFetching : public testing::Test {
 protected:
  CopyFetching() {
    source = static_cast<MemoryDatabase*>(*theirs.open("secrets.tdb", DatabaseKind::Persistent));
    copy = static_cast<MemoryDatabase*>(*ours.open("secrets.tdb", DatabaseKind::Persistent));
    settings.batch_records = 16;
  }
  void commit(const std::string& key, const std::string& value) {
    DurableChange change{source->id(), CopyVersion{kFirst, durable.seqnum + 1}, false, {{0, key, {}, value}}};
    ASSERT_TRUE(source->apply(change));
    history.add(durable, change.version, change.entries, settings);
    durable = change.version;
  }
  void fill(unsigned records) {
    for (unsigned i = 0; i < records; ++i) commit("k" + std::to_string(i), "old");
  }
  // One question, its answer and its write. True: complete.
  bool step(CopyFetch& fetch) {
    const auto body = answer_pull(*source, durable, history, fetch.next(), settings);
    auto data = std::get<commit::PullData>(body);
    sent += data.entries.size();
    auto done = fetch.on_data(Pnn{1}, std::move(data), settings, Instant{});
    EXPECT_TRUE(done);
    if (auto* write = std::get_if<CopyFetch::Write>(&*done)) {
      write->change.database = copy->id();
      if (fetch.whole()) { EXPECT_LE(write->change.entries.size(), 16u + settings.batch_records); }
      EXPECT_TRUE(copy->apply(write->change));
      return fetch.written(Instant{});
    }
    if (auto* failed = std::get_if<CopyFetch::Failed>(&*done)) why = failed->reason;
    return false;
  }
  void expect_equal() {
    EXPECT_EQ(copy->version(), source->version());
    const auto a = source->scan({}, 10000);
    const auto b = copy->scan({}, 10000);
    EXPECT_EQ(a->records, b->records);
  }

  CommitSettings settings;
  MemoryStore theirs;
  MemoryStore ours;
  MemoryDatabase* source = nullptr;
  MemoryDatabase* copy = nullptr;
  CommitHistory history;
  CopyVersion durable;
  std::size_t sent = 0;
  std::string why;
};

TEST_F(CopyFetching, WholeCopyWithTheCommitsThatHappenedMeanwhile) {
  fill(100);
  history.clear();
  CopyFetch fetch(1, Pnn{1}, {}, {}, Instant{});
  unsigned batches = 0;
  while (!step(fetch)) {
    ASSERT_EQ(why, "");
    ASSERT_LT(++batches, 50u);
    EXPECT_EQ(copy->record_count(), 0u) << "nothing is visible before all is there";
    if (batches < 5) {
      commit("k" + std::to_string(batches * 20), "new");
      commit("k" + std::to_string(batches), "");
    }
  }
  EXPECT_TRUE(fetch.whole());
  expect_equal();
}

TEST_F(CopyFetching, SmallDifferenceSendsOnlyTheDifference) {
  fill(500);
  CopyFetch first(1, Pnn{1}, {}, {}, Instant{});
  while (!step(first)) ASSERT_EQ(why, "");
  expect_equal();
  sent = 0;
  for (int i = 0; i < 5; ++i) commit("k" + std::to_string(i), "new");
  CopyFetch again(2, Pnn{1}, copy->version(), durable, Instant{});
  while (!step(again)) ASSERT_EQ(why, "");
  EXPECT_FALSE(again.whole());
  EXPECT_EQ(sent, 5u);
  expect_equal();
}

TEST_F(CopyFetching, LargeDifferenceComesInChunksEachACopyOfItsOwn) {
  fill(10);
  settings.batch_bytes = 300;
  CopyFetch fetch(1, Pnn{1}, {}, {}, Instant{});
  unsigned chunks = 0;
  CopyVersion before;
  while (!step(fetch)) {
    ASSERT_EQ(why, "");
    EXPECT_GT(copy->version(), before);
    before = copy->version();
    ++chunks;
  }
  EXPECT_GT(chunks, 1u);
  EXPECT_FALSE(fetch.whole());
  expect_equal();
}

TEST_F(CopyFetching, OtherCommitOfTheSameNumberNeedsTheWholeCopy) {
  fill(30);
  ASSERT_TRUE(copy->apply({copy->id(), CopyVersion{Generation{0, 1}, 30}, false, {{0, "stray", {}, "x"}}}));
  CopyFetch fetch(1, Pnn{1}, copy->version(), durable, Instant{});
  while (!step(fetch)) ASSERT_EQ(why, "");
  EXPECT_TRUE(fetch.whole());
  expect_equal();
}

TEST_F(CopyFetching, WaitsForACommitThatIsVisibleButNotDurableYet) {
  fill(30);
  CopyFetch fetch(1, Pnn{1}, durable, {}, Instant{});
  const DurableChange early{source->id(), CopyVersion{kFirst, 31}, false, {{0, "k1", {}, "early"}}};
  ASSERT_TRUE(source->apply(early));
  EXPECT_FALSE(step(fetch));
  EXPECT_LT(fetch.retry_at(), kNever);
  fetch.asked(kNever);
  history.add(durable, early.version, early.entries, settings);
  durable = early.version;
  EXPECT_TRUE(step(fetch));
}

TEST_F(CopyFetching, StartsOverWhenWhatHappenedMeanwhileIsForgotten) {
  fill(100);
  history.clear();
  CopyFetch fetch(1, Pnn{1}, {}, {}, Instant{});
  EXPECT_FALSE(step(fetch));
  commit("k1", "new");
  history.clear();
  while (!step(fetch)) ASSERT_EQ(why, "");
  expect_equal();
}

TEST_F(CopyFetching, GivesUpWhenTheSourceChangesFasterThanItIsRead) {
  fill(40);
  CopyFetch fetch(1, Pnn{1}, {}, {}, Instant{});
  for (unsigned i = 0; i < 500 && why.empty(); ++i) {
    commit("k1", std::to_string(i));
    history.clear();
    ASSERT_FALSE(step(fetch));
  }
  EXPECT_NE(why, "");
  EXPECT_EQ(copy->record_count(), 0u);
}

TEST_F(CopyFetching, AnotherVersionThanAgreedFails) {
  fill(5);
  CopyFetch fetch(1, Pnn{1}, {}, CopyVersion{kFirst, 4}, Instant{});
  EXPECT_FALSE(step(fetch));
  EXPECT_NE(why, "");
}

TEST(CommitHistory, KnowsOnlyWhatFollowsWithoutAGap) {
  const CommitSettings settings;
  CommitHistory history;
  const CopyVersion one{kFirst, 1};
  const CopyVersion two{kFirst, 2};
  const CopyVersion three{kSecond, 3};
  history.add(one, two, {{0, "a", {}, "1"}}, settings);
  history.add(two, three, {{0, "b", {}, "2"}}, settings);
  EXPECT_EQ(history.after(one, 1000)->entries.size(), 2u);
  EXPECT_EQ(history.after(one, 1000)->version, three);
  EXPECT_EQ(history.after(one, 1)->version, two) << "whole commits, at least one";
  EXPECT_EQ(history.after(two, 1000)->entries.size(), 1u);
  EXPECT_FALSE(history.after(CopyVersion{kSecond, 1}, 1000));  // same number, other commit
  history.add(CopyVersion{kSecond, 9}, CopyVersion{kSecond, 10}, {}, settings);
  EXPECT_FALSE(history.after(one, 1000));
}

}  // namespace
}  // namespace tdbmesh
