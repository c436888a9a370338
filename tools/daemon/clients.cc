#include "tools/daemon/clients.h"

#include <algorithm>

namespace tdbmesh {
namespace {

constexpr Srvid kAllSrvids{0xFFFFFFFFFFFFFFFFu};

// Takes one occurrence of `client` out of the list under `key`, and the list when it is empty.
template <class Key>
void remove_one(std::map<Key, std::vector<ClientId>>& lists, Key key, ClientId client) {
  const auto list = lists.find(key);
  if (list == lists.end()) return;
  const auto at = std::find(list->second.begin(), list->second.end(), client);
  if (at != list->second.end()) list->second.erase(at);
  if (list->second.empty()) lists.erase(list);
}

}  // namespace

void Clients::connect(ClientId client, std::int32_t pid) {
  clients_[client].pid = pid;
  by_pid_[pid].push_back(client);
}

std::vector<Clients::Notification> Clients::disconnect(ClientId client) {
  std::vector<Notification> last_words;
  const auto at = clients_.find(client);
  if (at == clients_.end()) return last_words;
  for (const auto& [srvid, times] : at->second.srvids) {
    for (std::uint32_t i = 0; i < times; ++i) remove_one(by_srvid_, srvid, client);
  }
  for (auto& [srvid, data] : at->second.notifications) last_words.push_back({srvid, std::move(data)});
  remove_one(by_pid_, at->second.pid, client);
  clients_.erase(at);
  return last_words;
}

void Clients::register_srvid(ClientId client, Srvid srvid) {
  const auto at = clients_.find(client);
  if (at == clients_.end()) return;
  ++at->second.srvids[srvid];
  by_srvid_[srvid].push_back(client);
}

bool Clients::deregister_srvid(ClientId client, Srvid srvid) {
  const auto at = clients_.find(client);
  if (at == clients_.end()) return false;
  const auto mine = at->second.srvids.find(srvid);
  if (mine == at->second.srvids.end()) return false;
  if (--mine->second == 0) at->second.srvids.erase(mine);
  remove_one(by_srvid_, srvid, client);
  return true;
}

std::vector<ClientId> Clients::receivers(Srvid srvid) const {
  std::vector<ClientId> found;
  if (const auto list = by_srvid_.find(srvid); list != by_srvid_.end()) found = list->second;
  if (srvid != kAllSrvids) {
    if (const auto list = by_srvid_.find(kAllSrvids); list != by_srvid_.end()) {
      found.insert(found.end(), list->second.begin(), list->second.end());
    }
  }
  return found;
}

bool Clients::register_notify(ClientId client, Srvid srvid, BytesView data) {
  const auto at = clients_.find(client);
  return at != clients_.end() && at->second.notifications.emplace(srvid, Bytes(data)).second;
}

bool Clients::deregister_notify(ClientId client, Srvid srvid) {
  const auto at = clients_.find(client);
  return at != clients_.end() && at->second.notifications.erase(srvid) == 1;
}

std::optional<std::int32_t> Clients::pid_of(ClientId client) const {
  const auto at = clients_.find(client);
  if (at == clients_.end()) return std::nullopt;
  return at->second.pid;
}

std::vector<ClientId> Clients::with_pid(std::int32_t pid) const {
  const auto list = by_pid_.find(pid);
  return list == by_pid_.end() ? std::vector<ClientId>{} : list->second;
}

bool Clients::pid_has_srvid(std::int32_t pid, Srvid srvid) const {
  for (const ClientId client : with_pid(pid)) {
    if (clients_.at(client).srvids.contains(srvid)) return true;
  }
  return false;
}

void Clients::uses_databases(ClientId client) {
  if (const auto at = clients_.find(client); at != clients_.end()) at->second.uses_databases = true;
}

std::vector<ClientId> Clients::database_users() const {
  std::vector<ClientId> users;
  for (const auto& [client, what] : clients_) {
    if (what.uses_databases) users.push_back(client);
  }
  return users;
}

}  // namespace tdbmesh
