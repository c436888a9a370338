#pragma once
// Whole packets recorded between the real Samba 4.17.12, its ctdb tool and its daemon: what our codec must
// read, and write again byte for byte.

#include <string>
#include <string_view>
#include <vector>

#include "db/base/bytes.h"
#include "transport/ctdb_wire.h"

namespace tdbmesh::ctdb {

struct CapturedPacket {
  std::string name;
  Padding padding = Padding::None;  // how its sender pads
  Bytes bytes;
};

[[nodiscard]] const std::vector<CapturedPacket>& captured_packets();
[[nodiscard]] const Bytes& captured(std::string_view name);  // stops the program if there is none

}  // namespace tdbmesh::ctdb
