#include "transport/ctdb_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "tests/support/temp_dir.h"
#include "transport/client_server.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctdb {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A daemon in a thread of its own that answers with whatever the test says.
class ScriptedDaemon : public ClientListener {
 public:
  using Answer = std::function<std::vector<Packet>(const Packet&)>;

  ScriptedDaemon(const std::string& path, Answer answer) : answer_(std::move(answer)), loop_(EventLoop::create().value()) {
    server_ = ClientServer::create(*loop_, path, *this).value();
    thread_ = std::thread([this] { loop_->run(); });
  }
  ~ScriptedDaemon() override {
    loop_->stop();
    thread_.join();
  }
  // Sends the next packet and then hangs up.
  void hang_up_after_answer() { hang_up_ = true; }

  void on_connect(ClientId, std::int32_t) override {}
  void on_disconnect(ClientId) override {}
  void on_packet(ClientId client, BytesView bytes) override {
    for (const Packet& packet : answer_(decode_packet(bytes).value())) server_->send(client, encode_packet(packet));
    if (hang_up_) server_->close(client);
  }

 private:
  Answer answer_;
  std::atomic<bool> hang_up_{false};
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ClientServer> server_;
  std::thread thread_;
};

Packet reply(const Packet& request, std::int32_t status, Bytes data = {}, std::string error = {}) {
  return {reply_header(request.header, Pnn{0}, 7),
          ReplyControl{.status = status, .data = std::move(data), .error = std::move(error)}};
}

class CtdbClientTest : public testing::Test {
 protected:
  Client connected(ScriptedDaemon::Answer answer) {
    daemon_ = std::make_unique<ScriptedDaemon>(path_, std::move(answer));
    return Client::connect(path_).value();
  }

  TempDir directory_;
  std::string path_ = directory_ / "ctdbd.socket";
  std::unique_ptr<ScriptedDaemon> daemon_;
};

TEST_F(CtdbClientTest, MissingDaemonIsNamedWithWhatToDo) {
  const auto client = Client::connect(path_);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().fault, Fault::Unreachable);
  EXPECT_THAT(client.error().context, HasSubstr(path_));
  EXPECT_THAT(client.error().context, HasSubstr("is tdbmeshd running"));
}

TEST_F(CtdbClientTest, ControlReturnsStatusDataAndErrorText) {
  auto client = connected([](const Packet& p) { return std::vector{reply(p, -1, {}, "no such thing")}; });
  const auto answer = client.control(ControlOpcode::Ping, kCurrentNode);
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, (ReplyControl{.status = -1, .data = {}, .error = "no such thing"}));
  const auto data = client.control_data(ControlOpcode::GetDbPath, 3);
  ASSERT_FALSE(data);
  EXPECT_EQ(data.error().context, "GETDBPATH failed on node 3: status -1, no such thing");
}

TEST_F(CtdbClientTest, NumberOfTheNodeIsAskedOnceAndUsedAsSource) {
  std::atomic<int> asked = 0;
  std::atomic<std::uint32_t> source = 0;
  auto client = connected([&](const Packet& p) {
    ++asked;
    source = p.header.srcnode;
    return std::vector{reply(p, 5)};
  });
  EXPECT_EQ(client.pnn().value(), Pnn{5});
  EXPECT_EQ(source, kUnknownPnn);
  EXPECT_EQ(client.pnn().value(), Pnn{5});
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(client.control(ControlOpcode::Ping, kCurrentNode));
  EXPECT_EQ(source, 5u);
}

TEST_F(CtdbClientTest, MessagesThatComeBeforeTheReplyAreKeptInOrder) {
  auto client = connected([](const Packet& p) {
    return std::vector<Packet>{{Header{}, ReqMessage{Srvid{1}, "first"}},
                               {Header{}, ReqMessage{Srvid{2}, "second"}},
                               {Header{}, ReqMessage{Srvid{1}, "third"}},
                               reply(p, 0)};
  });
  EXPECT_TRUE(client.register_srvid(Srvid{1}));
  EXPECT_EQ(client.wait_message(Srvid{2}).value().data, "second");
  EXPECT_EQ(client.wait_message(std::nullopt).value().data, "first");
  EXPECT_EQ(client.wait_message(Srvid{1}).value().data, "third");
}

TEST_F(CtdbClientTest, TimeoutLeavesTheConnectionUsableAndLateRepliesAreForgotten) {
  std::vector<Packet> late;
  auto client = connected([&](const Packet& p) {
    if (std::get<ReqControl>(p.body).opcode == ControlOpcode::Uptime) {
      late.push_back(reply(p, 99));
      return std::vector<Packet>{};
    }
    return std::vector{late.at(0), reply(p, 1)};
  });
  const auto lost = client.control(ControlOpcode::Uptime, kCurrentNode, {}, milliseconds(20));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().fault, Fault::Busy);
  EXPECT_EQ(client.control(ControlOpcode::Ping, kCurrentNode).value().status, 1);
}

TEST_F(CtdbClientTest, ManyNodesAreAskedAtOnceAndAnswerInAnyOrder) {
  std::vector<Packet> answers;
  auto client = connected([&](const Packet& p) {
    answers.insert(answers.begin(), reply(p, static_cast<std::int32_t>(p.header.destnode) * 10));
    return answers.size() == 3 ? answers : std::vector<Packet>{};
  });
  const auto replies = client.control_many(ControlOpcode::GetRunstate, {0, 1, 2});
  ASSERT_EQ(replies.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(replies[i].value().status, static_cast<std::int32_t>(i) * 10);
}

TEST_F(CtdbClientTest, CallBringsTheRecordOrTheRefusal) {
  auto client = connected([](const Packet& p) {
    const auto& call = std::get<ReqCall>(p.body);
    if (call.database == DatabaseId{1}) {
      return std::vector<Packet>{{reply_header(p.header, Pnn{0}, 1), ReplyCall{.status = 0, .data = "of " + call.key}}};
    }
    return std::vector<Packet>{{reply_header(p.header, Pnn{0}, 1), ReplyError{.status = -1, .text = "no database"}}};
  });
  EXPECT_EQ(client.call(DatabaseId{1}, "key", CallId::Fetch, 0).value().data, "of key");
  const auto refused = client.call(DatabaseId{2}, "key", CallId::Fetch, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().fault, Fault::Refused);
  EXPECT_THAT(refused.error().context, HasSubstr("no database"));
}

TEST_F(CtdbClientTest, AttachAsksForIdPathAndFlagsInThisOrder) {
  std::vector<ControlOpcode> asked;
  auto client = connected([&](const Packet& p) {
    const auto& control = std::get<ReqControl>(p.body);
    asked.push_back(control.opcode);
    if (control.opcode == ControlOpcode::GetDbPath) return std::vector{reply(p, 0, encode_text("/x/a.tdb.0"))};
    if (control.opcode == ControlOpcode::DbOpenFlags) return std::vector{reply(p, 0, encode_i32(0x400))};
    return std::vector{reply(p, 0, encode_u32(17))};
  });
  const auto attached = client.attach("a.tdb", Client::DatabaseType::Persistent).value();
  EXPECT_EQ(attached.id, DatabaseId{17});
  EXPECT_EQ(attached.path, "/x/a.tdb.0");
  EXPECT_EQ(attached.open_flags, 0x400);
  EXPECT_THAT(asked, ElementsAre(ControlOpcode::DbAttachPersistent, ControlOpcode::GetDbPath,
                                 ControlOpcode::DbOpenFlags));
}

TEST_F(CtdbClientTest, ConnectionThatEndsIsUnreachableFromThenOn) {
  auto client = connected([](const Packet&) { return std::vector<Packet>{}; });
  daemon_->hang_up_after_answer();
  const auto first = client.control(ControlOpcode::Ping, kCurrentNode, {}, kForever);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().fault, Fault::Unreachable);
  const auto second = client.control(ControlOpcode::Ping, kCurrentNode, {}, kForever);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().fault, Fault::Unreachable);
}

TEST_F(CtdbClientTest, ControlWithoutReplyReturnsAtOnce) {
  std::atomic<bool> quiet = false;
  auto client = connected([&](const Packet& p) {
    if (std::get<ReqControl>(p.body).flags == kControlNoReply) {
      quiet = std::get<ReqControl>(p.body).srvid == Srvid{8};
      return std::vector<Packet>{};
    }
    return std::vector{reply(p, 0)};
  });
  EXPECT_TRUE(client.control_no_reply(ControlOpcode::ScheduleForDeletion, kCurrentNode, "x", Srvid{8}));
  EXPECT_TRUE(client.control(ControlOpcode::Ping, kCurrentNode));  // the one before arrived before it
  EXPECT_TRUE(quiet);
}

}  // namespace
}  // namespace tdbmesh::ctdb
