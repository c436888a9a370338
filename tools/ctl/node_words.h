#pragma once
// The words for a node's flags. Pure.

#include <string>

#include "db/base/node_flags.h"

namespace tdbmesh::ctl {

// Of the tool alone, never on the wire: a node that this one only heard of.
inline constexpr NodeFlags kFlagUnknown = 0x40;

// "OK", "DISCONNECTED|UNHEALTHY|INACTIVE", ...
[[nodiscard]] std::string flags_text(NodeFlags flags);

}  // namespace tdbmesh::ctl
