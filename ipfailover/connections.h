#pragma once
// TCP connections of this machine, by sock_diag. Blocking, thousands of connections take milliseconds: for the
// connection worker, not for the event loop. Any thread; every call has a socket of its own. Needs CAP_NET_ADMIN and
// a kernel with CONFIG_INET_DIAG_DESTROY (Linux 4.5; all of Debian's).

#include <cstddef>
#include <set>

#include "db/base/result.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

// Ends every connection whose own end is one of `addresses` (listening sockets stay): the processes that have them get
// ECONNABORTED, also those that come into being meanwhile. The peers get a RST where the kernel still lets one out (IPv4:
// while it has the address; IPv6: see NetlinkAddresses::mute). Returns how many. Refused: the kernel cannot do it, or we
// may not; as many as could be are ended all the same.
[[nodiscard]] Result<std::size_t> destroy_connections(const std::set<Address>& addresses);

}  // namespace tdbmesh::ipfailover
