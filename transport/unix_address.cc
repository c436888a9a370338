#include "transport/unix_address.h"

#include <cstring>

#include <fmt/format.h>

namespace tdbmesh {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return failure(Fault::Refused, fmt::format("socket path '{}' is empty or longer than {} bytes", path,
                                               sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace tdbmesh
