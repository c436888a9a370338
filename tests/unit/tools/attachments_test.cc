// Who may be told that a database is there, and when.

#include "tools/daemon/attachments.h"

#include <gtest/gtest.h>

#include "db/base/hash.h"
#include "db/memory_store.h"
#include "tests/unit/tools/idle_services.h"

namespace tdbmesh {
namespace {

constexpr Generation kView{1, 1};
constexpr Pnn kOther{1};

class OneNode final : public IdleServices {
 public:
  OneNode() : IdleServices(Pnn{0}) {}
  [[nodiscard]] Instant now() const override { return time; }
  void send_relay(Pnn to, const RelayPayload& payload) override { sent.emplace_back(to, payload); }
  void reply(const ReplyTo&, std::int32_t status, Bytes, std::string) override { replies.push_back(status); }
  void leave_out(Pnn pnn, const std::string& why) override {
    EXPECT_EQ(pnn, self());
    left_out = why;
  }

  // What `to` was told is attached everywhere here, by the round it was asked in.
  [[nodiscard]] std::vector<std::uint64_t> confirmed(Pnn to) const {
    std::vector<std::uint64_t> rounds;
    for (const auto& [pnn, payload] : sent) {
      if (const auto* attached = std::get_if<RelayAttached>(&payload); attached && pnn == to) rounds.push_back(attached->id);
    }
    return rounds;
  }
  // The round in which the others were asked last.
  [[nodiscard]] std::uint64_t asked() const {
    std::uint64_t round = 0;
    for (const auto& [pnn, payload] : sent) {
      if (const auto* attach = std::get_if<RelayAttach>(&payload)) round = attach->id;
    }
    return round;
  }

  Instant time{seconds(1)};
  std::vector<std::pair<Pnn, RelayPayload>> sent;
  std::vector<std::int32_t> replies;
  std::string left_out;
  MemoryStore store;
  Databases databases{store};
  Attachments attachments{*this, databases, [](Databases::Attached&) {}, [](ClientId) {}, [] { return kView; }};
};

RelayAttach announcement(std::uint64_t round) {
  return RelayAttach{round, {AttachedDatabase{"secrets.tdb", DatabaseKind::Persistent, false, false}}, kView};
}

TEST(Attachments, ClientIsAnsweredWhenEveryMemberHasTheDatabase) {
  OneNode node;
  node.attachments.request(ReplyTo{}, "secrets.tdb", DatabaseKind::Persistent, true, kNever);
  node.attachments.on_message(Pnn{1}, RelayAttached{node.asked()});
  EXPECT_TRUE(node.replies.empty());
  node.attachments.on_message(Pnn{2}, RelayAttached{node.asked()});
  EXPECT_EQ(node.replies, std::vector<std::int32_t>{0});
}

TEST(Attachments, MemberThatCannotOpenItConfirmsNothingUntilItCan) {
  OneNode node;
  node.store.faults.failing = true;
  node.attachments.on_message(kOther, announcement(7));
  EXPECT_TRUE(node.confirmed(kOther).empty());

  node.time = node.attachments.next_deadline();
  node.attachments.on_deadline(node.time);
  EXPECT_TRUE(node.confirmed(kOther).empty());

  node.store.faults.failing = false;
  node.time = node.attachments.next_deadline();
  node.attachments.on_deadline(node.time);
  EXPECT_EQ(node.confirmed(kOther), std::vector<std::uint64_t>{7});
  EXPECT_EQ(node.left_out, "");
  EXPECT_EQ(node.attachments.next_deadline(), kNever);
}

TEST(Attachments, MemberThatOpensNothingForLongHasItselfLeftOut) {
  OneNode node;
  node.store.faults.failing = true;
  node.attachments.on_message(kOther, announcement(7));
  for (int i = 0; i < 100 && node.left_out.empty(); ++i) {
    node.time = node.attachments.next_deadline();
    node.attachments.on_deadline(node.time);
  }
  EXPECT_NE(node.left_out.find("secrets.tdb cannot be opened"), std::string::npos) << node.left_out;
  EXPECT_TRUE(node.confirmed(kOther).empty());
}

TEST(Attachments, DetachedDatabaseComesBackOnlyWithANewerView) {
  OneNode node;
  ASSERT_TRUE(node.attachments.open("secrets.tdb", DatabaseKind::Persistent));
  ASSERT_TRUE(node.databases.detach(database_id("secrets.tdb")));
  node.attachments.detached(database_id("secrets.tdb"));
  node.attachments.on_message(kOther, announcement(7));
  EXPECT_EQ(node.databases.find(database_id("secrets.tdb")), nullptr);
  node.attachments.view_installed();
  node.attachments.on_message(kOther, announcement(8));
  EXPECT_NE(node.databases.find(database_id("secrets.tdb")), nullptr);
}

}  // namespace
}  // namespace tdbmesh
