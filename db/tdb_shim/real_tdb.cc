#include "db/tdb_shim/real_tdb.h"

#include <dlfcn.h>

#include <cerrno>

namespace tdbmesh::shim {
namespace {

void* find(const char* name) {
  if (void* next = dlsym(RTLD_NEXT, name); next != nullptr) return next;
  // Never closed: the handles of the process point into it. RTLD_LOCAL, so that nothing else changes.
  static void* const library = dlopen("libtdb.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  return library == nullptr ? nullptr : dlsym(library, name);
}

RealTdb look_up() {
  const int saved = errno;
  RealTdb table;
#define TDBMESH_FIND(name) table.name = reinterpret_cast<decltype(table.name)>(find(#name));
  TDBMESH_INTERPOSED(TDBMESH_FIND)
#undef TDBMESH_FIND
  errno = saved;
  return table;
}

}  // namespace

const RealTdb& real() {
  static const RealTdb table = look_up();
  return table;
}

}  // namespace tdbmesh::shim
