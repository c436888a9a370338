#include "db/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tdbmesh {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "tdbmesh: internal check failed at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace tdbmesh
