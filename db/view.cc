#include "db/view.h"

#include "db/base/check.h"
#include "db/base/hash.h"

namespace tdbmesh {

std::size_t View::slot_of(BytesView key) const {
  TDBMESH_CHECK(!vnnmap.empty());
  return ctdb_hash(key) % vnnmap.size();
}

}  // namespace tdbmesh
