#pragma once
// The TCP connections of clients to public addresses, known on every node, so that whoever takes an address can make
// its clients connect anew at once. Pure bookkeeping, bounded: kMaxConnectionsOfAddress an address, more are not kept.

#include <map>
#include <set>
#include <vector>

#include "ipfailover/public_address.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ipfailover {

class TickleLists {
 public:
  bool add(const ctdb::Connection& connection) {  // true: it was not known
    std::set<ctdb::Connection>& list = lists_[host_only(connection.server)];
    return list.size() < kMaxConnectionsOfAddress && list.insert(connection).second;
  }
  bool remove(const ctdb::Connection& connection) {  // true: it was known
    const auto at = lists_.find(host_only(connection.server));
    return at != lists_.end() && at->second.erase(connection) > 0;
  }
  // What the host of the address says replaces what was known. Connections to other addresses are left out.
  void replace(const Address& address, const std::vector<ctdb::Connection>& connections) {
    std::set<ctdb::Connection> list;
    for (const ctdb::Connection& c : connections) {
      if (host_only(c.server) == address && list.size() < kMaxConnectionsOfAddress) list.insert(c);
    }
    lists_[address] = std::move(list);
  }
  void clear(const Address& address) { lists_.erase(address); }
  [[nodiscard]] std::vector<ctdb::Connection> of(const Address& address) const {  // ascending
    const auto at = lists_.find(address);
    if (at == lists_.end()) return {};
    return {at->second.begin(), at->second.end()};
  }

 private:
  std::map<Address, std::set<ctdb::Connection>> lists_;
};

}  // namespace tdbmesh::ipfailover
