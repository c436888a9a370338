#include "ipfailover/connections.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "db/base/descriptor.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr std::size_t kMostLooks = 5;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Descriptor open_sock_diag() {
  Descriptor fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  const timeval patience{2, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const int one = 1;
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  return fd;
}

Address own_end(const inet_diag_msg& found) {
  const auto* source = reinterpret_cast<const std::uint8_t*>(found.id.idiag_src);
  // A server that listens on [::] has its IPv4 connections as ::ffff:a.b.c.d.
  static constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  const bool mapped = found.idiag_family == AF_INET6 && std::memcmp(source, kMapped.data(), kMapped.size()) == 0;
  Address address;
  address.family = found.idiag_family == AF_INET || mapped ? Address::Family::V4 : Address::Family::V6;
  std::memcpy(address.bytes.data(), mapped ? source + kMapped.size() : source, address.family == Address::Family::V4 ? 4 : 16);
  return address;
}

Result<> find(int fd, std::uint8_t family, const std::set<Address>& addresses, std::vector<inet_diag_msg>& out) {
  Request ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  ask.body.sdiag_family = family;
  ask.body.sdiag_protocol = IPPROTO_TCP;
  ask.body.idiag_states = ~(1u << TCP_LISTEN | 1u << TCP_TIME_WAIT);  // neither says anything by itself
  if (::send(fd, &ask, sizeof ask, 0) < 0) return system_failure("cannot ask for the TCP connections");
  alignas(nlmsghdr) char buffer[64 * 1024];
  while (true) {
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failure("cannot read the TCP connections");
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR) {
        errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        return system_failure("cannot read the TCP connections");
      }
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
      const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      if (addresses.contains(own_end(*found))) out.push_back(*found);
    }
  }
}

// 0 or an errno value.
int destroy(int fd, const inet_diag_msg& connection) {
  Request ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DESTROY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  ask.body.sdiag_family = connection.idiag_family;
  ask.body.sdiag_protocol = IPPROTO_TCP;
  ask.body.id = connection.id;
  if (::send(fd, &ask, sizeof ask, 0) < 0) return errno;
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
  if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) return got < 0 ? errno : EIO;
  return -static_cast<const nlmsgerr*>(NLMSG_DATA(reinterpret_cast<nlmsghdr*>(buffer)))->error;
}

}  // namespace

Result<std::size_t> destroy_connections(const std::set<Address>& addresses) {
  const Descriptor socket = open_sock_diag();
  if (socket.get() < 0) return system_failure("cannot open a sock_diag socket");
  std::size_t ended = 0;
  int refused = 0;
  // Again, until nothing is left to end: a dump misses what came into being beside it.
  for (std::size_t before = 1, look = 0; look < kMostLooks && before > 0; ++look) {
    std::vector<inet_diag_msg> found;
    for (const auto family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
      if (Result<> done = find(socket.get(), family, addresses, found); !done) return tl::unexpected<Error>(done.error());
    }
    before = 0;
    for (const inet_diag_msg& connection : found) {
      const int code = destroy(socket.get(), connection);
      if (code == 0) ++before;
      // What is left of a connection that both ends have closed, which kernels before 6.5 keep: it says nothing by itself.
      if (code == EOPNOTSUPP && connection.idiag_state == TCP_FIN_WAIT2) continue;
      if (code == EOPNOTSUPP || code == EPERM) refused = code;  // ENOENT: it ended by itself meanwhile
    }
    ended += before;
  }
  if (refused == EOPNOTSUPP) {
    return failure(Fault::Refused, "this kernel cannot destroy connections (CONFIG_INET_DIAG_DESTROY): connections "
                                   "of moved addresses end only when their clients notice");
  }
  if (refused == EPERM) return failure(Fault::Refused, "tdbmeshd may not destroy connections (CAP_NET_ADMIN is needed)");
  return ended;
}

}  // namespace tdbmesh::ipfailover
