#include "db/base/result.h"

#include <cerrno>
#include <system_error>

namespace tdbmesh {

tl::unexpected<Error> system_failure(std::string context) {
  const int code = errno;
  Fault fault = Fault::Io;
  if (code == ENOENT) fault = Fault::NotFound;
  if (code == EEXIST) fault = Fault::Exists;
  if (code == ENOSPC || code == EDQUOT) fault = Fault::StoreFull;
  if (code == EACCES || code == EPERM) fault = Fault::Refused;
  return failure(fault, std::move(context) + ": " + std::generic_category().message(code));
}

}  // namespace tdbmesh
