#include "tools/daemon/detaches.h"

#include <algorithm>
#include <utility>

#include "db/view.h"

namespace tdbmesh {

void Detaches::request(const ReplyTo& reply, DatabaseId id, const std::string& name, Instant deadline) {
  const View* view = view_();
  if (view == nullptr) return services_.reply(reply, -1, {}, "no view is in use: see `tdbmesh status -v`");
  const std::uint64_t round = ++last_id_;
  Pending& pending = pending_[round];
  pending.reply = reply;
  pending.name = name;
  pending.deadline = deadline;
  for (const Member& member : view->members) pending.missing.insert(member.pnn);
  for (const Member& member : view->members) services_.send_relay(member.pnn, RelayDetach{round, id, view->generation});
}

void Detaches::on_message(Pnn from, const RelayDetach& message) {
  const View* view = view_();
  const bool same = view != nullptr && view->generation == message.generation;
  services_.send_relay(from, RelayDetached{message.id, same ? detach_here_(message.database) : "a view change came in between"});
}

void Detaches::on_message(Pnn from, const RelayDetached& message) {
  const auto at = pending_.find(message.id);
  if (at == pending_.end() || at->second.missing.erase(from) == 0) return;
  Pending& pending = at->second;
  if (!message.refused.empty() && pending.refused.empty()) {
    pending.refused = "node " + to_string(from) + ": " + message.refused;
  }
  if (pending.missing.empty()) renew_("database " + pending.name + " was detached");
}

void Detaches::view_installed() {
  const auto ended = std::exchange(pending_, {});
  for (const auto& [id, pending] : ended) {
    if (!pending.missing.empty()) {
      services_.reply(pending.reply, -1, {}, "a view change came in between; detach " + pending.name + " again");
    } else if (!pending.refused.empty()) {
      services_.reply(pending.reply, -1, {}, pending.refused);
    } else {
      services_.reply(pending.reply, 0);
    }
  }
}

void Detaches::client_gone(ClientId client) {
  for (auto& [id, pending] : pending_) {
    if (pending.reply.client == client) pending.reply.wanted = false;
  }
}

void Detaches::on_deadline(Instant now) {
  std::erase_if(pending_, [&](const auto& entry) {
    if (entry.second.deadline > now) return false;
    services_.reply(entry.second.reply, -1, {}, "detaching " + entry.second.name + " took too long");
    return true;
  });
}

Instant Detaches::next_deadline() const {
  Instant next = kNever;
  for (const auto& [id, pending] : pending_) next = std::min(next, pending.deadline);
  return next;
}

}  // namespace tdbmesh
