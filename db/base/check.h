#pragma once
// TDBMESH_CHECK states what our own code guarantees. If it does not hold, going on would risk data: print
// where, and abort, in release builds too. Restart plus recovery is the safe path. Never use it for input.

namespace tdbmesh {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

#define TDBMESH_CHECK(condition) \
  do {                           \
    if (!(condition)) ::tdbmesh::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
