#pragma once
// The address of a unix socket, for bind and connect.

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "db/base/result.h"

namespace tdbmesh {

// Refused if the path is empty or longer than a socket's path may be (107 bytes).
[[nodiscard]] Result<sockaddr_un> unix_address(const std::string& path);

[[nodiscard]] inline const sockaddr* plain(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace tdbmesh
