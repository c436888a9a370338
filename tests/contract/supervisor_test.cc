// The supervisor as a process beside a daemon as a process, on a real kernel in a network namespace of its own: what
// becomes of a public address when either of them is stopped or killed.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "db/gate.h"
#include "ipfailover/address_shell.h"
#include "tests/support/private_network.h"
#include "tests/support/temp_dir.h"
#include "transport/heartbeat_thread.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr Duration kBound = seconds(60);  // only so that a hung test ends
std::string g_why_not;

Address address(const std::string& text) { return *ctdb::parse_address(text); }
const std::vector<PublicAddress> kAddresses = {{address("10.7.0.1"), 24, {"eth0"}},
                                               {address("10.7.0.2"), 24, {"eth0", "eth1"}},
                                               {address("fd07::1"), 64, {"eth0"}}};

bool wait_for(const std::function<bool()>& condition) {
  const Instant end = boot_time_now() + kBound;
  while (!condition()) {
    if (boot_time_now() > end) return false;
    ::usleep(2000);
  }
  return true;
}

class SupervisorTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const std::string why = enter_private_network();
    g_why_not = why;
  }
  void SetUp() override {
    if (!g_why_not.empty()) GTEST_SKIP() << g_why_not;
    shell("ip addr flush dev eth0 scope global; ip addr flush dev eth1 scope global");
    kernel_ = *NetlinkAddresses::open();
  }
  void TearDown() override {
    if (daemon_ > 0) {
      ::kill(daemon_, SIGKILL);
      ::waitpid(daemon_, nullptr, 0);
    }
    // The supervisor of the dead daemon tidies up; the next test must not meet it.
    if (supervisor_ > 0) wait_for([&] { return ::kill(supervisor_, 0) != 0; });
  }

  // A daemon that keeps its gate open for `lease` at a time, takes all addresses and writes its supervisor's pid to a
  // file when it has them.
  void start_daemon(Duration lease = seconds(3600), Duration renewed_every = seconds(3600)) {
    daemon_ = ::fork();
    ASSERT_GE(daemon_, 0);
    if (daemon_ == 0) {
      run_daemon(lease, renewed_every);
      ::_exit(0);
    }
    ASSERT_TRUE(wait_for([&] { return (supervisor_ = read_pid()) > 0; }));
  }
  pid_t read_pid() {
    pid_t pid = 0;
    std::ifstream(dir_.path() + "/taken") >> pid;
    return pid;
  }
  void run_daemon(Duration lease, Duration renewed_every) {
    const auto gate = GateKeeper::open(gate_path());
    auto loop = *EventLoop::create();
    std::function<void()> renew = [&] {
      const auto until = (boot_time_now() + lease).time_since_epoch();
      (*gate)->set_open_until(static_cast<std::uint64_t>(std::chrono::nanoseconds(until).count()), 2);
      loop->after(renewed_every, renew);
    };
    renew();
    std::size_t taken = 0;
    std::unique_ptr<AddressShell> shell;
    AddressShellSettings settings;
    settings.setup.self = Pnn{0};
    settings.setup.incarnation = 5;
    settings.setup.address = "127.0.0.1";
    settings.setup.port = 4380;
    settings.setup.peers = {{Pnn{0}, "127.0.0.1"}, {Pnn{1}, "127.0.0.2"}};
    settings.setup.gate_path = gate_path();
    settings.setup.daemon_pid = ::getpid();
    settings.setup.drop_allowance = milliseconds(50);
    settings.setup.announce_after = default_announcements();
    settings.supervisor_path = TDBMESH_SUPERVISOR;
    settings.on_event = [&](const KernelEvent& event) {
      if (const auto* m = std::get_if<Taken>(&event)) {
        if (!m->error.empty()) note("refused", m->error);
        if (m->error.empty() && ++taken == kAddresses.size()) note("taken", std::to_string(shell->supervisor_pid()));
      }
      if (const auto* m = std::get_if<Vanished>(&event)) note("vanished", ctdb::to_string(m->address));
      if (const auto* m = std::get_if<Appeared>(&event)) note("appeared", ctdb::to_string(m->address));
      if (const auto* m = std::get_if<InterfaceState>(&event)) note(m->interface, m->up ? "up" : "down");
    };
    settings.log = [&](bool, const std::string& text) { note("log", text); };
    auto created = AddressShell::create(*loop, std::move(settings));
    if (!created) ::_exit(1);
    shell = std::move(*created);
    shell->configure(kAddresses);
    KernelTicket ticket = 0;
    for (const PublicAddress& a : kAddresses) shell->take({++ticket, a.address, a.prefix, "eth0", kNever});
    std::function<void()> look = [&] {  // the test's hand
      pid_t current = shell->supervisor_pid();
      if (current > 0) note("supervisor", std::to_string(current));
      if (std::ifstream(dir_.path() + "/release").good()) {
        ::unlink((dir_.path() + "/release").c_str());
        shell->release(++ticket, kAddresses[0].address);
      }
      if (std::ifstream(dir_.path() + "/take").good()) {
        ::unlink((dir_.path() + "/take").c_str());
        shell->take({++ticket, kAddresses[0].address, 24, "eth0", kNever});
      }
      loop->after(milliseconds(5), look);
    };
    look();
    loop->run();
  }
  void note(const std::string& name, const std::string& text) {
    std::ofstream(dir_.path() + "/new") << text;
    ::rename((dir_.path() + "/new").c_str(), (dir_.path() + "/" + name).c_str());
  }
  std::string said(const std::string& name) {
    std::string text;
    std::getline(std::ifstream(dir_.path() + "/" + name), text);
    return text;
  }
  [[nodiscard]] std::string gate_path() const { return dir_.path() + "/gate"; }
  std::size_t count() {
    const auto all = kernel_->list();
    if (!all) return 99;
    return static_cast<std::size_t>(std::count_if(all->begin(), all->end(), [](const KernelAddress& a) {
      return std::any_of(kAddresses.begin(), kAddresses.end(), [&](const auto& p) { return p.address == a.address; });
    }));
  }

  TempDir dir_;
  std::unique_ptr<NetlinkAddresses> kernel_;
  pid_t daemon_ = -1;
  pid_t supervisor_ = -1;
};

TEST_F(SupervisorTest, WhatIsTakenStaysBeyondItsLifetimeWhileTheGateIsOpen) {
  start_daemon(milliseconds(400), milliseconds(100));
  EXPECT_EQ(count(), 3u);
  const Instant until = boot_time_now() + seconds(4);
  while (boot_time_now() < until) {
    ASSERT_EQ(count(), 3u);
    ::usleep(5000);
  }
  EXPECT_EQ(said("eth0"), "up");
}

TEST_F(SupervisorTest, AFrozenDaemonsAddressesGoWhenItsGateLapses) {
  start_daemon(seconds(1), milliseconds(100));
  ::kill(daemon_, SIGSTOP);
  ASSERT_TRUE(wait_for([&] { return count() == 0; }));
  const auto gate = GateView::open(gate_path());
  EXPECT_GE(gate_now(), (*gate)->open_until()) << "not a moment before";
  ::kill(daemon_, SIGCONT);
  EXPECT_TRUE(wait_for([&] { return !said("vanished").empty(); })) << "and it is told";
}

TEST_F(SupervisorTest, AThawedDaemonAddsNothingUnderALeaseThatIsOver) {
  start_daemon(seconds(1), seconds(3600));
  ASSERT_TRUE(wait_for([&] { return count() == 0; }));
  std::ofstream(dir_.path() + "/take") << 1;
  ASSERT_TRUE(wait_for([&] { return !said("refused").empty(); }));
  EXPECT_THAT(said("refused"), testing::HasSubstr("lease"));
  EXPECT_EQ(count(), 0u);
}

TEST_F(SupervisorTest, AKilledDaemonsAddressesGoItsGateClosesAndItsPeersAreTold) {
  HeartbeatOptions peer;
  peer.self = Pnn{1};
  peer.incarnation = 1;
  peer.address = "127.0.0.2";
  peer.peers = {{Pnn{0}, "127.0.0.1"}, {Pnn{1}, "127.0.0.2"}};
  peer.realtime = false;
  start_daemon();
  auto heartbeats = HeartbeatThread::start(peer);
  ASSERT_TRUE(heartbeats) << heartbeats.error().context;
  ::kill(daemon_, SIGKILL);
  ::waitpid(daemon_, nullptr, 0);
  daemon_ = -1;
  EXPECT_TRUE(wait_for([&] { return count() == 0; }));
  EXPECT_TRUE(wait_for([&] {
    const auto table = (*heartbeats)->snapshot(boot_time_now());
    return table && table->peer(Pnn{0})->fenced == 5;
  }));
  EXPECT_FALSE((*GateView::open(gate_path()))->is_open());
  EXPECT_TRUE(wait_for([&] { return ::kill(supervisor_, 0) != 0; })) << "its work is done";
}

TEST_F(SupervisorTest, AKilledSupervisorIsReplacedAndNoAddressIsLost) {
  start_daemon();
  ::kill(supervisor_, SIGKILL);
  ASSERT_TRUE(wait_for([&] {
    EXPECT_EQ(count(), 3u);
    const pid_t now = std::atoi(said("supervisor").c_str());
    return now > 0 && now != supervisor_;
  }));
  supervisor_ = std::atoi(said("supervisor").c_str());
  const Instant until = boot_time_now() + seconds(4);
  while (boot_time_now() < until) {
    ASSERT_EQ(count(), 3u) << "the new one renews them";
    ::usleep(5000);
  }
}

TEST_F(SupervisorTest, ASupervisorThatHangsIsReplaced) {
  start_daemon();
  ::kill(supervisor_, SIGSTOP);
  ASSERT_TRUE(wait_for([&] {
    const pid_t now = std::atoi(said("supervisor").c_str());
    return now > 0 && now != supervisor_;
  }));
  supervisor_ = std::atoi(said("supervisor").c_str());
}

TEST_F(SupervisorTest, WithEveryProcessDeadTheKernelItselfDropsTheAddresses) {
  start_daemon();
  ::kill(supervisor_, SIGSTOP);
  ::kill(daemon_, SIGKILL);
  ::kill(supervisor_, SIGKILL);
  ::waitpid(daemon_, nullptr, 0);
  daemon_ = -1;
  const Instant began = boot_time_now();
  EXPECT_TRUE(wait_for([&] { return count() == 0; }));
  RecordProperty("milliseconds", static_cast<int>((boot_time_now() - began).count() / 1000));
  std::printf("the kernel dropped them after %.2f s\n", static_cast<double>((boot_time_now() - began).count()) / 1e6);
}

TEST_F(SupervisorTest, ReleasedIsGoneAndStaysGone) {
  start_daemon();
  std::ofstream(dir_.path() + "/release") << 1;
  ASSERT_TRUE(wait_for([&] { return count() == 2; }));
  const Instant until = boot_time_now() + seconds(1);  // renewals go on meanwhile
  while (boot_time_now() < until) {
    ASSERT_EQ(count(), 2u);
    ::usleep(5000);
  }
}

TEST_F(SupervisorTest, WhatAnOperatorDoesIsSeen) {
  start_daemon();
  ASSERT_TRUE(shell("ip addr del 10.7.0.1/24 dev eth0"));
  EXPECT_TRUE(wait_for([&] { return said("vanished") == "10.7.0.1"; }));
  ASSERT_TRUE(shell("ip addr add 10.7.0.1/24 dev eth1"));
  EXPECT_TRUE(wait_for([&] { return said("appeared") == "10.7.0.1"; }));
  ASSERT_TRUE(shell("ip link set eth1 down"));
  EXPECT_TRUE(wait_for([&] { return said("eth0") == "down"; })) << "no carrier";
  ASSERT_TRUE(shell("ip link set eth1 up"));
  EXPECT_TRUE(wait_for([&] { return said("eth0") == "up"; }));
}

}  // namespace
}  // namespace tdbmesh::ipfailover
