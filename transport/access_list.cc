#include "transport/access_list.h"

#include <fmt/format.h>

#include "transport/tcp_socket.h"

namespace tdbmesh {

std::map<Pnn, std::string> addresses_of_others(const std::vector<PeerAddress>& peers, Pnn self) {
  std::map<Pnn, std::string> others;
  for (const PeerAddress& peer : peers) {
    if (peer.pnn != self) others[peer.pnn] = canonical_address(peer.address).value_or(peer.address);
  }
  return others;
}

void AccessList::set(const std::vector<PeerAddress>& peers, Pnn self) {
  std::map<std::string, Pnn> fresh;
  for (auto& [pnn, address] : addresses_of_others(peers, self)) fresh[address] = pnn;
  const std::lock_guard lock(mutex_);
  peers_.swap(fresh);
}

std::optional<Pnn> AccessList::find(const std::string& address) const {
  const auto canonical = canonical_address(address);
  if (!canonical) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(*canonical);
  if (found == peers_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string> RejectionFilter::line(const Rejection& rejection, Instant now) {
  const std::string who = fmt::format("{} {}", rejection.outgoing ? "connection to" : "refused a connection from",
                                      rejection.address);
  return throttle_.line(who, fmt::format("{}: {}", who, rejection.reason), now);
}

}  // namespace tdbmesh
