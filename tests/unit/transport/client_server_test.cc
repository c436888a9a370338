#include "transport/client_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/captured_packets.h"
#include "tests/support/temp_dir.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

using testing::ElementsAre;

// The far end of a connection, not blocking, raw bytes.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    EXPECT_EQ(fcntl(fd_, F_SETFL, O_NONBLOCK), 0);
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  RawClient& operator=(RawClient&&) = delete;
  ~RawClient() { hang_up(); }
  void hang_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // What the kernel takes.
  std::size_t write(BytesView bytes) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return count < 0 ? 0 : static_cast<std::size_t>(count);
  }
  // Everything that is there now.
  Bytes read() {
    Bytes bytes;
    char buffer[65536];
    ssize_t count = 0;
    while ((count = recv(fd_, buffer, sizeof(buffer), 0)) > 0) bytes.append(buffer, static_cast<std::size_t>(count));
    ended_ = ended_ || count == 0 || (count < 0 && errno == ECONNRESET);
    return bytes;
  }
  bool connected() const { return connected_; }
  bool ended() {
    read();
    return ended_;
  }

 private:
  int fd_;
  bool connected_ = false;
  bool ended_ = false;
};

class Recorder : public ClientListener {
 public:
  void on_connect(ClientId client, std::int32_t pid) override {
    connected.push_back(client);
    pids.push_back(pid);
  }
  void on_packet(ClientId client, BytesView packet) override {
    packets[client].emplace_back(packet);
    if (handle) handle(client, packet);
  }
  void on_disconnect(ClientId client) override { disconnected.push_back(client); }
  void on_drained(ClientId client) override { drained.push_back(client); }

  std::function<void(ClientId, BytesView)> handle;
  std::vector<ClientId> connected;
  std::vector<std::int32_t> pids;
  std::vector<ClientId> disconnected;
  std::vector<ClientId> drained;
  std::map<ClientId, std::vector<std::string>> packets;
};

class ClientServerTest : public testing::Test {
 protected:
  ClientServerTest() : loop_(EventLoop::create().value()), path_(directory_ / "ctdbd.socket") {}

  void start(ClientServer::Limits limits = {}) {
    auto server = ClientServer::create(*loop_, path_, listener_, limits);
    ASSERT_TRUE(server) << server.error().context;
    server_ = std::move(*server);
  }
  template <class Condition>
  void turn_until(Condition condition) {
    while (!condition()) loop_->run_once();
  }
  // Connects and waits until the server knows.
  RawClient client() {
    RawClient raw(path_);
    EXPECT_TRUE(raw.connected());
    const std::size_t before = listener_.connected.size();
    turn_until([&] { return listener_.connected.size() > before; });
    return raw;
  }
  ClientId last() const { return listener_.connected.back(); }

  TempDir directory_;
  std::unique_ptr<EventLoop> loop_;
  std::string path_;
  Recorder listener_;
  std::unique_ptr<ClientServer> server_;
};

const Bytes& request() { return ctdb::captured("get_pnn_request"); }

TEST_F(ClientServerTest, ClientIsKnownByItsProcessAndSocketIsForRootOnly) {
  start();
  auto raw = client();
  EXPECT_THAT(listener_.pids, ElementsAre(getpid()));
  EXPECT_NE(number(last()), 0u);
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
}

TEST_F(ClientServerTest, ManyPacketsInOneWriteAllArriveInOrder) {
  start();
  auto raw = client();
  Bytes stream;
  std::vector<std::string> expected;
  for (const auto& capture : ctdb::captured_packets()) {
    stream += capture.bytes;
    expected.push_back(capture.bytes);
  }
  ASSERT_EQ(raw.write(stream), stream.size());
  turn_until([&] { return listener_.packets[last()].size() >= expected.size(); });
  EXPECT_EQ(listener_.packets[last()], expected);
}

TEST_F(ClientServerTest, PacketsWrittenByteByByteArriveWhole) {
  start();
  auto raw = client();
  const Bytes stream = ctdb::captured("attach_request") + ctdb::captured("null_call");
  for (const char byte : stream) {
    ASSERT_EQ(raw.write({&byte, 1}), 1u);
    loop_->run_once();
  }
  turn_until([&] { return listener_.packets[last()].size() >= 2; });
  EXPECT_THAT(listener_.packets[last()], ElementsAre(ctdb::captured("attach_request"), ctdb::captured("null_call")));
}

TEST_F(ClientServerTest, LargePacketsPassBothWays) {
  start();
  auto raw = client();
  const Bytes large = ctdb::encode_message(Pnn{1}, 2, Srvid{3}, Bytes(5'000'000, 'v'));
  std::size_t written = 0;
  turn_until([&] {
    written += raw.write(BytesView(large).substr(written));
    return !listener_.packets[last()].empty();
  });
  EXPECT_EQ(listener_.packets[last()].at(0), large);
  server_->send(last(), large);
  Bytes back;
  turn_until([&] { return (back += raw.read()).size() >= large.size(); });
  EXPECT_EQ(back, large);
  turn_until([&] { return server_->queued_bytes(last()) == 0; });
  EXPECT_FALSE(listener_.drained.empty());
}

TEST_F(ClientServerTest, AnswersOfOneTurnLeaveTogetherAndInOrder) {
  start();
  auto raw = client();
  Bytes expected;
  for (std::uint32_t i = 0; i < 200; ++i) {
    const Bytes packet = ctdb::encode_message(Pnn{0}, 1, Srvid{i}, Bytes(i % 13, 'x'));
    expected += packet;
    server_->send(last(), packet);
  }
  EXPECT_EQ(raw.read(), "");
  EXPECT_EQ(server_->queued_bytes(last()), expected.size());
  loop_->run_once();
  EXPECT_EQ(raw.read(), expected);
  EXPECT_THAT(listener_.drained, ElementsAre(last()));
}

TEST_F(ClientServerTest, LengthZeroClosesTheConnectionAfterThePacketsBeforeIt) {
  start();
  auto raw = client();
  raw.write(request() + Bytes(4, '\0') + request());
  turn_until([&] { return !listener_.disconnected.empty(); });
  EXPECT_THAT(listener_.disconnected, ElementsAre(last()));
  EXPECT_EQ(listener_.packets[last()].size(), 1u);
  EXPECT_TRUE(raw.ended());
  EXPECT_EQ(server_->client_count(), 0u);
  EXPECT_EQ(server_->counters().broken_streams, 1u);
}

TEST_F(ClientServerTest, PacketOverTheLimitClosesOnlyItsOwnConnection) {
  start({.packet_bytes = 1000, .queued_packets = 10, .queued_bytes = 1000});
  auto bystander = client();
  const ClientId innocent = last();
  auto raw = client();
  raw.write(ctdb::encode_u32(1001));
  turn_until([&] { return !listener_.disconnected.empty(); });
  EXPECT_THAT(listener_.disconnected, ElementsAre(last()));
  bystander.write(request());
  turn_until([&] { return !listener_.packets[innocent].empty(); });
}

TEST_F(ClientServerTest, WrongMagicIsSkippedAndTheConnectionStays) {
  start();
  auto raw = client();
  Bytes wrong = request();
  wrong[4] = 'X';
  raw.write(wrong + request());
  turn_until([&] { return !listener_.packets[last()].empty(); });
  EXPECT_THAT(listener_.packets[last()], ElementsAre(request()));
  EXPECT_THAT(listener_.disconnected, ElementsAre());
}

TEST_F(ClientServerTest, ClientThatHangsUpIsReportedOnce) {
  start();
  auto raw = client();
  server_->send(last(), request());
  raw.hang_up();
  turn_until([&] { return !listener_.disconnected.empty(); });
  server_->send(last(), request());
  server_->close(last());
  loop_->run_once(Duration::zero());
  EXPECT_THAT(listener_.disconnected, ElementsAre(last()));
}

TEST_F(ClientServerTest, CloseDeliversWhatIsQueuedAndReportsAtTheEndOfTheTurn) {
  start();
  auto raw = client();
  server_->send(last(), ctdb::captured("get_pnn_reply"));
  server_->close(last());
  EXPECT_THAT(listener_.disconnected, ElementsAre());
  loop_->run_once(Duration::zero());
  EXPECT_THAT(listener_.disconnected, ElementsAre(last()));
  EXPECT_EQ(raw.read(), ctdb::captured("get_pnn_reply"));
  EXPECT_TRUE(raw.ended());
}

TEST_F(ClientServerTest, NoPacketFollowsACloseFromInsideThePacketHandler) {
  start();
  auto raw = client();
  listener_.handle = [&](ClientId id, BytesView) { server_->close(id); };
  raw.write(request() + request() + request());
  turn_until([&] { return !listener_.disconnected.empty(); });
  EXPECT_EQ(listener_.packets[last()].size(), 1u);
}

TEST_F(ClientServerTest, SlowReaderIsDisconnectedAtThePacketLimitAndOthersAreServed) {
  start({.packet_bytes = 1'000'000, .queued_packets = 100, .queued_bytes = 100'000'000});
  auto slow = client();
  const ClientId slow_id = last();
  auto good = client();
  const Bytes packet = ctdb::encode_message(Pnn{0}, 1, Srvid{1}, Bytes(100'000, 'x'));
  int sent = 0;
  turn_until([&] {
    for (int i = 0; i < 20; ++i, ++sent) server_->send(slow_id, packet);
    return !listener_.disconnected.empty();
  });
  EXPECT_THAT(listener_.disconnected, ElementsAre(slow_id));
  EXPECT_EQ(server_->counters().over_limit, 1u);
  EXPECT_GT(sent, 100);  // the limit counts what the kernel did not take
  server_->send(last(), packet);
  Bytes got;
  turn_until([&] { return (got += good.read()).size() >= packet.size(); });
  EXPECT_EQ(got, packet);
}

TEST_F(ClientServerTest, QueuedBytesAreBoundedToo) {
  start({.packet_bytes = 1'000'000, .queued_packets = 1'000'000, .queued_bytes = 1000});
  auto raw = client();
  server_->send(last(), Bytes(900, 'x'));
  loop_->run_once(Duration::zero());
  server_->send(last(), Bytes(900, 'x'));
  server_->send(last(), Bytes(900, 'x'));
  loop_->run_once(Duration::zero());
  EXPECT_THAT(listener_.disconnected, ElementsAre(last()));
}

TEST_F(ClientServerTest, ThousandConnectionsAreServedAndForgotten) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_cur < 2200) GTEST_SKIP() << "not enough descriptors allowed";
  start();
  listener_.handle = [&](ClientId id, BytesView packet) { server_->send(id, Bytes(packet)); };
  std::vector<RawClient> raws;
  for (std::size_t i = 0; i < 1000; ++i) raws.push_back(client());
  for (auto& raw : raws) ASSERT_EQ(raw.write(request()), request().size());
  turn_until([&] { return listener_.packets.size() == 1000; });
  turn_until([&] { return listener_.drained.size() == 1000; });
  for (auto& raw : raws) EXPECT_EQ(raw.read(), request());
  raws.clear();
  turn_until([&] { return listener_.disconnected.size() == 1000; });
  EXPECT_EQ(server_->client_count(), 0u);
}

TEST_F(ClientServerTest, WithoutDescriptorsNewClientsWaitUntilThereAreSome) {
  start();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  RawClient raw(path_);
  // The next descriptor would be over the limit.
  const int next = dup(0);
  ::close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  for (int i = 0; i < 3; ++i) loop_->run_once(Duration::zero());
  EXPECT_THAT(listener_.connected, ElementsAre());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  turn_until([&] { return listener_.connected.size() == 1; });
}

TEST_F(ClientServerTest, StaleSocketIsReplacedAndRemovedAtTheEnd) {
  start();
  // As after a kill: the file stays, nobody answers.
  std::filesystem::rename(path_, path_ + ".moved");
  server_.reset();
  std::filesystem::rename(path_ + ".moved", path_);
  EXPECT_FALSE(RawClient(path_).connected());
  start();
  EXPECT_TRUE(RawClient(path_).connected());
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ClientServerTest, SocketOfALivingDaemonIsLeftAlone) {
  start();
  Recorder other;
  const auto second = ClientServer::create(*loop_, path_, other);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().fault, Fault::Exists);
  EXPECT_TRUE(RawClient(path_).connected());
}

TEST_F(ClientServerTest, FileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  const auto server = ClientServer::create(*loop_, path_, listener_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().fault, Fault::Exists);
  EXPECT_EQ(std::filesystem::file_size(path_), 8u);
}

TEST_F(ClientServerTest, SocketOfASuccessorIsNotRemoved) {
  start();
  std::filesystem::remove(path_);
  Recorder other;
  auto successor = ClientServer::create(*loop_, path_, other).value();
  server_.reset();
  EXPECT_TRUE(RawClient(path_).connected());
}

TEST_F(ClientServerTest, PathTooLongForASocketIsRefused) {
  const auto server = ClientServer::create(*loop_, directory_ / std::string(120, 'x'), listener_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().fault, Fault::Refused);
}

TEST_F(ClientServerTest, ServerDestroyedWithWorkForTheEndOfTheTurnLeavesNothingBehind) {
  start();
  auto raw = client();
  server_->send(last(), request());
  server_->close(last());
  server_.reset();
  loop_->run_once(Duration::zero());
  EXPECT_TRUE(raw.read() == request());
  EXPECT_TRUE(raw.ended());
}

}  // namespace
}  // namespace tdbmesh
