#include <gtest/gtest.h>

#include "db/base/bytes.h"
#include "recovery/messages.h"
#include "recovery/persisted_state.h"

namespace tdbmesh::recovery {
namespace {

View sample_view() {
  View view;
  view.generation = {7, 3};
  view.leader = Pnn{1};
  view.members = {{Pnn{0}, 4, {6, 1}}, {Pnn{1}, 9, {7, 3}}};
  view.vnnmap = {{Pnn{0}, {6, 1}}, {Pnn{1}, {7, 3}}, {Pnn{0}, {7, 3}}};
  view.config = {2, {Pnn{0}, Pnn{1}}, {Pnn{0}}, QuorumMode::Majority, 0, {Pnn{0}}, {Pnn{0}}, QuorumMode::LockVote};
  view.chain = {{{6, 2}, {Pnn{0}, Pnn{2}}}, {{5, 1}, {Pnn{0}, Pnn{1}, Pnn{2}}}};
  return view;
}

std::vector<Message> one_of_each() {
  Prepared prepared;
  prepared.generation = {7, 3};
  prepared.ages = {{Pnn{2}, milliseconds(120)}};
  prepared.installed = {6, 1};
  prepared.persisted_installed = {6, 1};
  prepared.fresh = true;
  prepared.copies = {{DatabaseId{0xabcd}, "passdb.tdb", DatabaseKind::Persistent, {{6, 1}, 42}}};
  prepared.incomplete_slots = {2};
  prepared.flags = kFlagUnhealthy;
  prepared.addresses = {"10.0.0.1"};
  return {PreVote{8, {7, 3}, true},
          PreVoted{8, 7, false, sample_view()},
          Vote{8, {7, 3}, false, true},
          Voted{8, 8, true, std::nullopt},
          AskView{},
          AcceptedView{sample_view()},
          Prepare{7, sample_view()},
          prepared,
          PrepareRefused{{7, 3}, PrepareRefusal::NeedsJoin, 9, {8, 1}},
          Settle{{7, 3}, DatabaseId{1}, "a.tdb", DatabaseKind::Replicated, Pnn{2}, {{6, 1}, 3}},
          Settled{{7, 3}, DatabaseId{1}, false, "disk full"},
          Install{7, {7, 3}},
          Installed{{7, 3}, {"10.0.0.1", "fd00::1"}},
          Join{2, 77, 1},
          JoinRefused{"other nodes file"},
          Transfer{7},
          Bump{{7, 3}, "a gap", Pnn{2}},
          Retired{{7, 3}, true},
          Fenced{Pnn{2}, 5}};
}

TEST(ControlMessages, EveryKindComesBackAsItWas) {
  const auto messages = one_of_each();
  ASSERT_EQ(messages.size(), std::variant_size_v<Message>);
  for (const Message& message : messages) {
    const auto back = decode_message(encode(message));
    ASSERT_TRUE(back.has_value()) << describe(message);
    EXPECT_EQ(*back, message) << describe(message);
  }
}

TEST(ControlMessages, EveryTruncationAndEveryTailIsRefused) {
  for (const Message& message : one_of_each()) {
    const Bytes bytes = encode(message);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_FALSE(decode_message(BytesView(bytes).substr(0, length)).has_value()) << describe(message) << length;
    }
    EXPECT_FALSE(decode_message(bytes + "\x01").has_value()) << describe(message);
  }
}

TEST(ControlMessages, TheBytesOfAPrepareStayAsTheyAre) {
  // A change here is a new protocol version.
  EXPECT_EQ(to_hex(encode(Install{7, {7, 3}})), "010c070703");
  EXPECT_EQ(to_hex(encode(PreVote{8, {7, 3}, true})), "010108070301");
}

TEST(ControlMessages, MembersOutOfOrderAreRefused) {
  View view = sample_view();
  std::swap(view.members[0], view.members[1]);
  EXPECT_FALSE(decode_message(encode(AcceptedView{view})).has_value());
}

TEST(ControlMessages, AViewWithMembersButWithoutSlotsIsRefused) {
  View view = sample_view();
  view.vnnmap.clear();
  EXPECT_FALSE(decode_message(encode(AcceptedView{view})).has_value());
}

PersistedState sample_state() {
  PersistedState state;
  state.incarnation = 12;
  state.term = 9;
  state.voted_for = Pnn{1};
  state.voter = true;
  state.accepted = sample_view();
  state.installed = {7, 2};
  state.config = {3, {Pnn{0}, Pnn{1}}, {Pnn{0}, Pnn{1}, Pnn{100}}, QuorumMode::LockVote, 99};
  return state;
}

TEST(PersistedStateRecord, ComesBackAsItWas) {
  const auto back = decode_state(encode(sample_state()));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, sample_state());
  EXPECT_EQ(*decode_state(encode(PersistedState{})), PersistedState{});
}

TEST(PersistedStateRecord, EveryTruncationIsRefused) {
  const Bytes bytes = encode(sample_state());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_state(BytesView(bytes).substr(0, length)).has_value()) << length;
  }
}

TEST(StateSlots, TheNewerWholeSlotWins) {
  const Bytes older = *make_slot(4, "older");
  const Bytes newer = *make_slot(5, "newer");
  EXPECT_EQ(newer_slot(older, newer)->payload, "newer");
  EXPECT_EQ(newer_slot(newer, older)->payload, "newer");
}

TEST(StateSlots, AWriteCutShortLeavesTheOlderRecord) {
  const Bytes older = *make_slot(4, "older");
  const Bytes before = *make_slot(3, "the one before, which was longer");
  const Bytes newer = *make_slot(5, "newer");
  for (std::size_t written = 0; written < 40; ++written) {
    const Bytes torn = newer.substr(0, written) + before.substr(written);
    const auto content = newer_slot(older, torn);
    ASSERT_TRUE(content.has_value());
    EXPECT_EQ(content->payload, written < 24 + 5 ? "older" : "newer") << written;  // header and payload
  }
}

TEST(StateSlots, NothingWholeIsNothing) {
  EXPECT_FALSE(newer_slot("", Bytes(kStateSlotBytes, '\0')).has_value());
  Bytes flipped = *make_slot(1, "payload");
  flipped[30] = static_cast<char>(flipped[30] ^ 1);
  EXPECT_FALSE(read_slot(flipped).has_value());
}

TEST(StateSlots, ViewsOfManyNodesFit) {
  PersistedState state = sample_state();
  state.accepted->members.clear();
  state.accepted->vnnmap.clear();
  for (std::uint32_t i = 0; i < 64; ++i) {
    state.accepted->members.push_back({Pnn{i}, 1u << 20, {1u << 20, 1000}});
    state.accepted->vnnmap.push_back({Pnn{i}, {1u << 20, 1000}});
    state.config.nodes.push_back(Pnn{i});
  }
  EXPECT_TRUE(make_slot(1, encode(state)).has_value());
}

TEST(Crc32, IsTheUsualOne) { EXPECT_EQ(crc32("123456789"), 0xCBF43926u); }

}  // namespace
}  // namespace tdbmesh::recovery
