#pragma once
// Is this process a client of the node's daemon? Samba's processes are, and their life hangs on that connection.

#include <string>

namespace tdbmesh::shim {

// One of this process's sockets is connected to the unix socket that is bound to `path`, or was when that was closed.
[[nodiscard]] bool connected_to(const std::string& path);

}  // namespace tdbmesh::shim
