#include "ipfailover/raw_sender.h"

#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace tdbmesh::ipfailover {

RawSender::~RawSender() {
  for (const int fd : {packet_fd_, v4_fd_, v6_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

Result<int> RawSender::opened(int& fd, int domain, int type, int protocol) {
  if (fd < 0) fd = ::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return system_failure("cannot open a raw socket (CAP_NET_RAW is needed)");
  return fd;
}

Result<> RawSender::announce(const Address& address, const std::string& interface) {
  // Protocol 0: this socket receives nothing.
  const Result<int> fd = opened(packet_fd_, AF_PACKET, SOCK_RAW, 0);
  if (!fd) return tl::unexpected<Error>(fd.error());
  ifreq ask{};
  std::memcpy(ask.ifr_name, interface.data(), std::min(interface.size(), sizeof ask.ifr_name - 1));
  if (::ioctl(*fd, SIOCGIFHWADDR, &ask) != 0) return system_failure("cannot announce on " + interface);
  if (ask.ifr_hwaddr.sa_family != ARPHRD_ETHER) return {};
  MacAddress own{};
  std::memcpy(own.data(), ask.ifr_hwaddr.sa_data, own.size());
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  to.sll_halen = 6;
  const auto send = [&](const Bytes& frame) -> Result<> {
    std::memcpy(to.sll_addr, frame.data(), 6);
    if (::sendto(*fd, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) >= 0) return {};
    if (errno == EAGAIN || errno == ENOBUFS) return {};
    return system_failure("cannot announce on " + interface);
  };
  if (address.family == Address::Family::V6) {
    to.sll_protocol = htons(ETH_P_IPV6);
    return send(neighbour_advertisement(address, own));
  }
  to.sll_protocol = htons(ETH_P_ARP);
  if (Result<> sent = send(gratuitous_arp(address, own, ArpKind::Request)); !sent) return sent;
  return send(gratuitous_arp(address, own, ArpKind::Reply));
}

Result<> RawSender::send(const TcpSegment& segment) {
  const Bytes packet = tcp_packet(segment);
  ssize_t sent = -1;
  if (segment.from.family == Address::Family::V4) {
    const Result<int> fd = opened(v4_fd_, AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (!fd) return tl::unexpected<Error>(fd.error());
    sockaddr_in to{};
    to.sin_family = AF_INET;
    std::memcpy(&to.sin_addr, segment.to.bytes.data(), 4);
    sent = ::sendto(*fd, packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  } else {
    const Result<int> fd = opened(v6_fd_, AF_INET6, SOCK_RAW, IPPROTO_RAW);
    if (!fd) return tl::unexpected<Error>(fd.error());
    sockaddr_in6 to{};  // a port would be refused here
    to.sin6_family = AF_INET6;
    std::memcpy(&to.sin6_addr, segment.to.bytes.data(), 16);
    sent = ::sendto(*fd, packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  if (sent >= 0 || errno == EAGAIN || errno == ENOBUFS) return {};
  return system_failure("cannot send to " + ctdb::to_string_with_port(segment.to));
}

}  // namespace tdbmesh::ipfailover
