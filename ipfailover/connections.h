#pragma once
// TCP connections of this machine, by sock_diag. Blocking, thousands of connections take milliseconds: for the
// connection worker, not for the event loop. Any thread; every call has a socket of its own. Needs CAP_NET_ADMIN and
// a kernel with CONFIG_INET_DIAG_DESTROY (Linux 4.5; all of Debian's).

#include <cstddef>
#include <vector>

#include "db/base/result.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

// Ends every connection whose own end is `address` (listening sockets stay): the processes that have them get
// ECONNABORTED. While the address is on the machine the peers get a RST, afterwards they hear nothing. Returns how
// many. Refused: the kernel cannot do it, or we may not.
[[nodiscard]] Result<std::size_t> destroy_connections(const Address& address);

}  // namespace tdbmesh::ipfailover
