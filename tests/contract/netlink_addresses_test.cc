// Addresses, announcements and connections on a real kernel, in a network namespace of this program's own.

#include "ipfailover/netlink_addresses.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "db/base/time.h"
#include "ipfailover/connections.h"
#include "ipfailover/raw_sender.h"
#include "tests/support/private_network.h"

namespace tdbmesh::ipfailover {
namespace {

std::string g_why_not;

Address address(const std::string& text, std::uint16_t port = 0) { return *ctdb::parse_address(text, port); }

class NetlinkAddressesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const std::string why = enter_private_network();
    g_why_not = why;
  }
  void SetUp() override {
    if (!g_why_not.empty()) GTEST_SKIP() << g_why_not;
    shell("ip addr flush dev eth0 scope global; ip addr flush dev eth1 scope global");
    auto opened = NetlinkAddresses::open();
    ASSERT_TRUE(opened) << opened.error().context;
    kernel_ = std::move(*opened);
  }
  std::vector<KernelAddress> find(const std::string& text) {
    std::vector<KernelAddress> found;
    const auto all = kernel_->list();
    EXPECT_TRUE(all) << all.error().context;
    if (all) std::copy_if(all->begin(), all->end(), std::back_inserter(found), [&](const auto& a) { return a.address == address(text); });
    return found;
  }
  std::unique_ptr<NetlinkAddresses> kernel_;
};

TEST_F(NetlinkAddressesTest, AnAddressIsPutProlongedAndRemoved) {
  for (const char* text : {"10.7.0.1", "fd07::1"}) {
    const std::uint8_t prefix = text[0] == 'f' ? 64 : 24;
    ASSERT_TRUE(kernel_->put({address(text), prefix, "eth0"}, 30));
    auto there = find(text);
    ASSERT_EQ(there.size(), 1u) << text;
    EXPECT_EQ(there[0].interface, "eth0");
    EXPECT_EQ(there[0].prefix, prefix);
    EXPECT_EQ(there[0].scope, 0) << "global";
    ASSERT_TRUE(there[0].valid_seconds) << "it has a lifetime from the first moment on";
    EXPECT_LE(*there[0].valid_seconds, 30u);
    ASSERT_TRUE(kernel_->put({address(text), prefix, "eth0"}, 600));
    there = find(text);
    ASSERT_EQ(there.size(), 1u);
    EXPECT_GT(*there[0].valid_seconds, 30u);
    EXPECT_TRUE(kernel_->remove(there).front());
    EXPECT_TRUE(find(text).empty());
    EXPECT_TRUE(kernel_->remove(there).front()) << "not there any more is as good as removed";
  }
}

TEST_F(NetlinkAddressesTest, AnIpv6AddressIsUsableAtOnce) {
  ASSERT_TRUE(kernel_->put({address("fd07::2"), 64, "eth0"}, 30));
  const int fd = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 self{};
  self.sin6_family = AF_INET6;
  std::memcpy(&self.sin6_addr, address("fd07::2").bytes.data(), 16);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&self), sizeof self), 0) << "duplicate address detection is off";
  ::close(fd);
}

// The kernel says yes to a new address before it receives for it: a datagram sent in between would leave by eth0.
TEST_F(NetlinkAddressesTest, WhatIsSentToANewIpv6AddressArrives) {
  const int receiver = ::socket(AF_INET6, SOCK_DGRAM, 0);
  sockaddr_in6 there{};
  there.sin6_family = AF_INET6;
  ASSERT_EQ(::bind(receiver, reinterpret_cast<sockaddr*>(&there), sizeof there), 0);
  socklen_t size = sizeof there;
  ASSERT_EQ(::getsockname(receiver, reinterpret_cast<sockaddr*>(&there), &size), 0);
  const int sender = ::socket(AF_INET6, SOCK_DGRAM, 0);
  for (int i = 1; i <= 50; ++i) {
    const std::string text = "fd07::2:" + std::to_string(i);
    std::memcpy(&there.sin6_addr, address(text).bytes.data(), 16);
    ASSERT_TRUE(kernel_->put({address(text), 64, "eth0"}, 30));
    ASSERT_EQ(::sendto(sender, "x", 1, 0, reinterpret_cast<sockaddr*>(&there), sizeof there), 1) << text;
    pollfd wait{receiver, POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 2000), 1) << text;
    char ignored = 0;
    ASSERT_EQ(::recv(receiver, &ignored, 1, 0), 1);
  }
  ::close(sender);
  ::close(receiver);
}

// Also by a socket that has been sending: its route is looked up anew.
TEST_F(NetlinkAddressesTest, NothingLeavesAMutedIpv6Address) {
  ASSERT_TRUE(kernel_->put({address("fd07::30"), 64, "eth0"}, 30));
  const auto towards = [](const char* text) {
    sockaddr_in6 there{};
    there.sin6_family = AF_INET6;
    there.sin6_port = htons(9);
    std::memcpy(&there.sin6_addr, address(text).bytes.data(), 16);
    return there;
  };
  const int sender = ::socket(AF_INET6, SOCK_DGRAM, 0);
  sockaddr_in6 own = towards("fd07::30");
  sockaddr_in6 other = towards("fd07::31");
  ASSERT_EQ(::bind(sender, reinterpret_cast<sockaddr*>(&own), sizeof own), 0);
  ASSERT_EQ(::connect(sender, reinterpret_cast<sockaddr*>(&other), sizeof other), 0);
  EXPECT_EQ(::send(sender, "x", 1, 0), 1);
  const std::vector<KernelAddress> places = find("fd07::30");
  kernel_->mute(places);
  kernel_->mute(places);  // twice is once
  EXPECT_EQ(::send(sender, "x", 1, 0), -1);
  ASSERT_TRUE(kernel_->remove(places).front());
  EXPECT_EQ(::send(sender, "x", 1, 0), -1);
  kernel_->unmute({address("fd07::30"), address("fd07::31"), address("10.7.0.1")});
  ASSERT_TRUE(kernel_->put({address("fd07::30"), 64, "eth0"}, 30));
  EXPECT_EQ(::send(sender, "x", 1, 0), 1);
  ::close(sender);
}

TEST_F(NetlinkAddressesTest, TheKernelForgetsWhatIsNotRenewed) {
  for (const char* text : {"10.7.0.3", "fd07::3"}) {
    ASSERT_TRUE(kernel_->put({address(text), 24, "eth0"}, 1));
  }
  const Instant began = boot_time_now();
  while (!find("10.7.0.3").empty() || !find("fd07::3").empty()) {
    ASSERT_LT(boot_time_now() - began, seconds(60)) << "it stays";
    ::usleep(10'000);
  }
  EXPECT_GT(boot_time_now() - began, milliseconds(500)) << "a renewal every quarter of a second must be enough";
}

TEST_F(NetlinkAddressesTest, TheOthersOfANetworkStayWhenItsFirstAddressGoes) {
  shell("echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries; echo 0 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries");
  ASSERT_TRUE(shell("ip addr add 10.7.1.1/24 dev eth0 && ip addr add 10.7.1.2/24 dev eth0 && ip addr add 10.7.1.3/24 dev eth0"));
  EXPECT_TRUE(kernel_->remove(find("10.7.1.1")).front());
  EXPECT_EQ(find("10.7.1.2").size(), 1u);
  EXPECT_EQ(find("10.7.1.3").size(), 1u);
}

TEST_F(NetlinkAddressesTest, ManyAreOneCall) {
  std::vector<AddressToPut> many;
  for (int i = 0; i < 500; ++i) many.push_back({address("10.8." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250)), 16, "eth0"});
  many.push_back({address("10.8.9.9"), 16, "nowhere"});
  const auto put = kernel_->put(many, 60);
  ASSERT_EQ(put.size(), many.size());
  for (std::size_t i = 0; i < 500; ++i) EXPECT_TRUE(put[i]) << i << put[i].error().context;
  ASSERT_FALSE(put.back());
  EXPECT_EQ(put.back().error().fault, Fault::NotFound);
  EXPECT_THAT(put.back().error().context, testing::HasSubstr("nowhere"));
  std::vector<KernelAddress> doomed;
  const auto all = kernel_->list();
  ASSERT_TRUE(all);
  for (const KernelAddress& a : *all) {
    if (a.prefix == 16) doomed.push_back(a);
  }
  EXPECT_EQ(doomed.size(), 500u);
  for (const auto& removed : kernel_->remove(doomed)) EXPECT_TRUE(removed);
  EXPECT_TRUE(find("10.8.0.1").empty());
}

// ---- announcements, as the other end of the cable sees them ----

TEST_F(NetlinkAddressesTest, TheNeighbourHearsArpAndNeighbourAdvertisement) {
  const int listen = ::socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(::if_nametoindex("eth1"));
  ASSERT_EQ(::bind(listen, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  RawSender sender;
  EXPECT_TRUE(sender.announce(address("10.7.2.1"), "eth0"));
  EXPECT_TRUE(sender.announce(address("fd07::21"), "eth0"));
  EXPECT_TRUE(sender.announce(address("10.7.2.1"), "lo")) << "nobody to tell, no error";
  EXPECT_FALSE(sender.announce(address("10.7.2.1"), "nowhere"));
  int arp = 0;
  int advertisement = 0;
  pollfd ready{listen, POLLIN, 0};
  while ((arp < 2 || advertisement < 1) && ::poll(&ready, 1, 10'000) > 0) {
    unsigned char frame[2048];
    const ssize_t got = ::recv(listen, frame, sizeof frame, 0);
    if (got >= 42 && frame[12] == 0x08 && frame[13] == 0x06 && std::memcmp(frame + 28, "\x0a\x07\x02\x01", 4) == 0) ++arp;
    if (got >= 86 && frame[12] == 0x86 && frame[54] == 136 && frame[77] == 0x21) ++advertisement;
  }
  EXPECT_EQ(arp, 2) << "request and reply";
  EXPECT_EQ(advertisement, 1);
  ::close(listen);
}

// ---- connections ----

class Connected {
 public:
  explicit Connected(int listening_family) {
    const int server = ::socket(listening_family, SOCK_STREAM, 0);
    sockaddr_storage any{};
    any.ss_family = static_cast<sa_family_t>(listening_family);
    socklen_t size = listening_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    EXPECT_EQ(::bind(server, reinterpret_cast<sockaddr*>(&any), size), 0);
    EXPECT_EQ(::listen(server, 5), 0);
    ::getsockname(server, reinterpret_cast<sockaddr*>(&any), &size);
    // the port is at the same place in both
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = reinterpret_cast<sockaddr_in*>(&any)->sin_port;
    to.sin_addr.s_addr = htonl(0x7F000009);
    client = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
    accepted = ::accept(server, nullptr, nullptr);
    ::close(server);
  }
  ~Connected() {
    ::close(client);
    ::close(accepted);
  }
  int client = -1;
  int accepted = -1;
};

TEST_F(NetlinkAddressesTest, ConnectionsOfAnAddressEndAndOthersDoNot) {
  for (const int family : {AF_INET, AF_INET6}) {
    Connected connection(family);
    const auto others = destroy_connections({address("127.0.0.8"), address("127.0.0.10")});
    ASSERT_TRUE(others) << others.error().context;
    EXPECT_EQ(*others, 0u);
    char byte = 0;
    EXPECT_EQ(::recv(connection.accepted, &byte, 1, MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, EAGAIN) << "still connected";
    const auto ended = destroy_connections({address("127.0.0.9"), address("::1")});
    ASSERT_TRUE(ended) << ended.error().context;
    EXPECT_EQ(*ended, 1u) << (family == AF_INET ? "IPv4" : "IPv4 on an IPv6 socket");
    EXPECT_EQ(::recv(connection.accepted, &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNABORTED);
  }
}

}  // namespace
}  // namespace tdbmesh::ipfailover
