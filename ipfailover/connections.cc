#include "ipfailover/connections.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "db/base/descriptor.h"

namespace tdbmesh::ipfailover {
namespace {

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

bool ends_on(const inet_diag_msg& found, const Address& address) {
  const auto* source = reinterpret_cast<const std::uint8_t*>(found.id.idiag_src);
  if (address.family == Address::Family::V4) {
    if (found.idiag_family == AF_INET) return std::memcmp(source, address.bytes.data(), 4) == 0;
    // A server that listens on [::] has its IPv4 connections as ::ffff:a.b.c.d.
    static constexpr std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    return std::memcmp(source, kMapped, 12) == 0 && std::memcmp(source + 12, address.bytes.data(), 4) == 0;
  }
  return found.idiag_family == AF_INET6 && std::memcmp(source, address.bytes.data(), 16) == 0;
}

Result<> find(int fd, std::uint8_t family, const Address& address, std::vector<inet_diag_msg>& out) {
  Request ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  ask.body.sdiag_family = family;
  ask.body.sdiag_protocol = IPPROTO_TCP;
  ask.body.idiag_states = ~(1u << TCP_LISTEN);
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
      if (ends_on(*found, address)) out.push_back(*found);
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

Result<std::size_t> destroy_connections(const Address& address) {
  const Descriptor socket = open_sock_diag();
  if (socket.get() < 0) return system_failure("cannot open a sock_diag socket");
  std::vector<inet_diag_msg> found;
  if (address.family == Address::Family::V4) {
    if (Result<> done = find(socket.get(), AF_INET, address, found); !done) return tl::unexpected<Error>(done.error());
  }
  if (Result<> done = find(socket.get(), AF_INET6, address, found); !done) return tl::unexpected<Error>(done.error());
  std::size_t ended = 0;
  for (const inet_diag_msg& connection : found) {
    const int code = destroy(socket.get(), connection);
    if (code == 0) ++ended;
    if (code == EOPNOTSUPP) {
      return failure(Fault::Refused, "this kernel cannot destroy connections (CONFIG_INET_DIAG_DESTROY): connections "
                                     "of moved addresses end only when their clients notice");
    }
    if (code == EPERM) return failure(Fault::Refused, "tdbmeshd may not destroy connections (CAP_NET_ADMIN is needed)");
    // ENOENT: it ended by itself meanwhile.
  }
  return ended;
}

}  // namespace tdbmesh::ipfailover
