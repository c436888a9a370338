#pragma once
// How views and lists travel in the messages and in the persisted state. For the codec files of this room.

#include "db/base/pack.h"
#include "db/view.h"

namespace tdbmesh::recovery {

void pack_view(Packer& out, const View& view);
[[nodiscard]] View unpack_view(Unpacker& in);  // fails `in` if members or links are not in ascending order

void pack_pnns(Packer& out, const std::vector<Pnn>& pnns);
[[nodiscard]] std::vector<Pnn> unpack_pnns(Unpacker& in);

// Opens an array that must have exactly `count` values.
void expect_array(Unpacker& in, std::size_t count);

}  // namespace tdbmesh::recovery
