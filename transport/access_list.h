#pragma once
// Whose addresses are let in, and how refusals are told.

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "db/base/ids.h"
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

// Lets one report per address and minute through, and bounds what it remembers. Not thread safe.
class RejectionFilter {
 public:
  // The line to log, or nullopt. Counts what it swallows and says so in the next line.
  std::optional<std::string> line(const Rejection& rejection, Instant now);

 private:
  struct Seen {
    Instant logged{};
    std::uint64_t swallowed = 0;
  };
  std::map<std::string, Seen> seen_;
};

}  // namespace tdbmesh
