#include "tools/daemon/remote_controls.h"

#include <algorithm>

namespace tdbmesh {

std::uint64_t RemoteControls::add(Pnn to, const ReplyTo& reply, Instant deadline) {
  const std::uint64_t id = ++last_id_;
  pending_.emplace(id, Pending{id, to, reply, deadline, std::nullopt});
  return id;
}

void RemoteControls::add_until_left_out(Pnn to, const ReplyTo& reply, Instant deadline, RelayControl& question) {
  question.id = add(to, reply, deadline);
  pending_.at(question.id).until_left_out = question;
}

std::optional<RemoteControls::Pending> RemoteControls::answered(std::uint64_t id, Pnn from) {
  const auto at = pending_.find(id);
  if (at == pending_.end() || at->second.to != from) return std::nullopt;
  const Pending found = at->second;
  pending_.erase(at);
  return found;
}

std::vector<RemoteControls::Pending> RemoteControls::lost(Pnn node) {
  std::vector<Pending> ended;
  std::erase_if(pending_, [&](const auto& entry) {
    if (entry.second.to != node || entry.second.until_left_out) return false;
    ended.push_back(entry.second);
    return true;
  });
  return ended;
}

std::vector<RemoteControls::Pending> RemoteControls::left_out(const std::vector<Pnn>& members) {
  std::vector<Pending> ended;
  std::erase_if(pending_, [&](const auto& entry) {
    if (!entry.second.until_left_out || std::ranges::find(members, entry.second.to) != members.end()) return false;
    ended.push_back(entry.second);
    return true;
  });
  return ended;
}

std::vector<RelayControl> RemoteControls::to_ask_again(Pnn node) const {
  std::vector<RelayControl> questions;
  for (const auto& [id, control] : pending_) {
    if (control.to == node && control.until_left_out) questions.push_back(*control.until_left_out);
  }
  return questions;
}

std::vector<RemoteControls::Pending> RemoteControls::expired(Instant now) {
  std::vector<Pending> ended;
  std::erase_if(pending_, [&](const auto& entry) {
    if (entry.second.deadline > now) return false;
    ended.push_back(entry.second);
    return true;
  });
  return ended;
}

void RemoteControls::client_gone(ClientId client) {
  std::erase_if(pending_, [&](const auto& entry) { return entry.second.reply.client == client; });
}

Instant RemoteControls::next_deadline() const {
  Instant next = kNever;
  for (const auto& [id, control] : pending_) next = std::min(next, control.deadline);
  return next;
}

}  // namespace tdbmesh
