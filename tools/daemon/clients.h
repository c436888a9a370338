#pragma once
// The client processes of this node and what they registered for: srvids (several registrations of one
// srvid are legal, each gets a copy), notifications sent when a client goes away, pids as the socket told
// them. Pure bookkeeping; all iteration orders are fixed.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "transport/client_id.h"

namespace tdbmesh {

class Clients {
 public:
  struct Notification {
    Srvid srvid{};
    Bytes data;
  };

  void connect(ClientId client, std::int32_t pid);
  // Forgets the client; what it wanted to be told to everybody when it goes.
  std::vector<Notification> disconnect(ClientId client);

  void register_srvid(ClientId client, Srvid srvid);
  // Removes one registration; false if there was none.
  bool deregister_srvid(ClientId client, Srvid srvid);
  // One entry per registration, in the order in which they were made; those for "all srvids" come last.
  [[nodiscard]] std::vector<ClientId> receivers(Srvid srvid) const;

  // False if this connection has one for the srvid already / has none.
  bool register_notify(ClientId client, Srvid srvid, BytesView data);
  bool deregister_notify(ClientId client, Srvid srvid);

  [[nodiscard]] std::size_t count() const { return clients_.size(); }
  [[nodiscard]] bool connected(ClientId client) const { return clients_.contains(client); }
  [[nodiscard]] std::optional<std::int32_t> pid_of(ClientId client) const;
  [[nodiscard]] std::vector<ClientId> with_pid(std::int32_t pid) const;
  // Some connection of `pid` has registered `srvid`.
  [[nodiscard]] bool pid_has_srvid(std::int32_t pid, Srvid srvid) const;
  // From now on the client may hold what databases promised it: locks, transactions, what it read.
  void uses_databases(ClientId client);
  [[nodiscard]] std::vector<ClientId> database_users() const;

 private:
  struct Client {
    std::int32_t pid = 0;
    bool uses_databases = false;
    std::map<Srvid, std::uint32_t> srvids;  // with the number of registrations
    std::map<Srvid, Bytes> notifications;
  };
  std::map<ClientId, Client> clients_;
  std::map<Srvid, std::vector<ClientId>> by_srvid_;
  std::map<std::int32_t, std::vector<ClientId>> by_pid_;
};

}  // namespace tdbmesh
