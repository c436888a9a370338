#pragma once
// Whose addresses are let in, and how refusals are told.

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "db/base/ids.h"
#include "db/base/log_throttle.h"
#include "db/base/time.h"
#include "transport/peer_address.h"

namespace tdbmesh {

// All but `self`, each address in its one spelling.
[[nodiscard]] std::map<Pnn, std::string> addresses_of_others(const std::vector<PeerAddress>& peers, Pnn self);

// Addresses let in. From any thread.
class AccessList {
 public:
  void set(const std::vector<PeerAddress>& peers, Pnn self);
  // However the address is written.
  [[nodiscard]] std::optional<Pnn> find(const std::string& address) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Pnn> peers_;
};

struct Rejection {
  std::string address;  // "unknown" if it was gone before it could be asked
  std::string reason;
  bool outgoing = false;  // the other side refused us
};

// Lets one report per address and minute through. Not thread safe.
class RejectionFilter {
 public:
  // The line to log, or nullopt. It says how many were swallowed before it.
  std::optional<std::string> line(const Rejection& rejection, Instant now);

 private:
  LogThrottle throttle_;
};

}  // namespace tdbmesh
