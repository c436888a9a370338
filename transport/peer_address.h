#pragma once
// Where a node is: its line in the `nodes` file.

#include <string>

#include "db/base/ids.h"

namespace tdbmesh {

struct PeerAddress {
  Pnn pnn = kNoPnn;
  std::string address;  // numeric IPv4 or IPv6
  friend bool operator==(const PeerAddress&, const PeerAddress&) = default;
};

}  // namespace tdbmesh
