#pragma once
// A network namespace for a test program of its own, with two Ethernet ends joined to each other. Needs root.

#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace tdbmesh {

inline bool shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

// Moves this process (which must have one thread) into a new namespace with lo, eth0 and eth1. Empty: done;
// otherwise why not.
inline std::string enter_private_network() {
  if (::geteuid() != 0) return "needs root";
  if (::unshare(CLONE_NEWNET) != 0) return "cannot make a network namespace";
  if (!shell("ip link set lo up && ip link add eth0 type veth peer name eth1 && ip link set eth0 up && "
             "ip link set eth1 up")) {
    return "cannot make interfaces (is iproute2 installed?)";
  }
  return {};
}

}  // namespace tdbmesh
