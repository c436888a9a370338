#include "tools/daemon/attachments.h"

#include <algorithm>

#include "db/base/hash.h"

namespace tdbmesh {

namespace {
constexpr Duration kTryAgain = milliseconds(300);
constexpr Duration kPatience = seconds(3);  // with a store that opens nothing
}  // namespace

std::set<Pnn> Attachments::others() const {
  std::set<Pnn> all;
  for (const Pnn member : services_.members()) {
    if (member != services_.self()) all.insert(member);
  }
  return all;
}

void Attachments::request(const ReplyTo& reply, const std::string& name, DatabaseKind kind, bool usable,
                          Instant deadline) {
  const Held request{reply, name, kind, deadline};
  if (usable) {
    attach(request);
  } else {
    held_.push_back(request);
  }
}

Result<Databases::Attached*> Attachments::open(const std::string& name, DatabaseKind kind) {
  Result<Databases::AttachResult> result = databases_.attach(name, kind);
  if (!result) return tl::unexpected<Error>(result.error());
  if (result->created) opened_(*result->attached);
  return result->attached;
}

void Attachments::attach(const Held& request) {
  if (buried_.contains(database_id(request.name))) return held_.push_back(request);
  const bool known = databases_.find(database_id(request.name)) != nullptr;
  const Result<Databases::Attached*> attached = open(request.name, request.kind);
  if (!attached) return services_.reply(request.reply, -1, {}, attached.error().context);
  const DatabaseId id = (*attached)->database->id();
  const auto waiting = unconfirmed_.find(id);
  if (waiting != unconfirmed_.end()) {
    waiting->second.replies.push_back(request.reply);
    return;
  }
  if (known) return succeed(request.reply, id);
  Unconfirmed& entry = unconfirmed_[id];
  entry.round = ++last_round_;
  entry.missing = others();
  entry.replies.push_back(request.reply);
  for (const Pnn member : entry.missing) {
    services_.send_relay(member, RelayAttach{entry.round, {(*attached)->description()}, installed_()});
  }
  if (entry.missing.empty()) confirm(id);
}

void Attachments::succeed(const ReplyTo& reply, DatabaseId id) {
  if (reply.client != ClientId{}) attached_(reply.client);
  services_.reply(reply, 0, encode_database_id(id));
}

void Attachments::confirm(DatabaseId id) {
  const auto at = unconfirmed_.find(id);
  const std::vector<ReplyTo> replies = std::move(at->second.replies);
  unconfirmed_.erase(at);
  for (const ReplyTo& reply : replies) succeed(reply, id);
}

void Attachments::announce(DatabaseId id) {
  const Databases::Attached* attached = databases_.find(id);
  if (attached == nullptr) return;
  for (const Pnn member : others()) services_.send_relay(member, RelayAttach{0, {attached->description()}, installed_()});
}

void Attachments::on_message(Pnn from, const RelayAttach& message) {
  Owed owed{from, message, services_.now()};
  if (open_for(owed).empty()) return;
  owed_.push_back(std::move(owed));
  try_again_ = std::min(try_again_, services_.now() + kTryAgain);
}

std::string Attachments::open_for(const Owed& owed) {
  for (const AttachedDatabase& wanted : owed.what.databases) {
    // Said in this view it is about the old one, and comes again with the next view if it is not; else it has to wait
    // for that view here.
    if (const auto buried = buried_.find(database_id(wanted.name)); buried != buried_.end()) {
      return owed.what.generation <= buried->second ? std::string() : "database " + wanted.name + " was just detached";
    }
    const Result<Databases::Attached*> attached = open(wanted.name, wanted.kind);
    if (!attached) return "database " + wanted.name + " cannot be opened: " + attached.error().context;
    const bool changed = ((*attached)->readonly != wanted.readonly && wanted.readonly) ||
                         ((*attached)->sticky != wanted.sticky && wanted.sticky);
    (*attached)->readonly |= wanted.readonly;
    (*attached)->sticky |= wanted.sticky;
    if (changed) opened_(**attached);
  }
  if (owed.what.id != 0) services_.send_relay(owed.to, RelayAttached{owed.what.id});
  return {};
}

void Attachments::on_message(Pnn from, const RelayAttached& message) {
  std::vector<DatabaseId> confirmed;
  for (auto& [id, entry] : unconfirmed_) {
    if (entry.round != message.id) continue;
    entry.missing.erase(from);
    if (entry.missing.empty()) confirmed.push_back(id);
  }
  for (const DatabaseId id : confirmed) confirm(id);
}

void Attachments::detached(DatabaseId id) {
  buried_[id] = installed_();
  const auto waiting = unconfirmed_.find(id);
  if (waiting == unconfirmed_.end()) return;
  for (const ReplyTo& reply : waiting->second.replies) services_.reply(reply, -1, {}, "the database was detached");
  unconfirmed_.erase(waiting);
}

void Attachments::view_installed() {
  buried_.clear();
  if (!owed_.empty()) try_again_ = services_.now();
  // One announcement of everything; whoever waits for a confirmation now waits for this one's.
  const std::uint64_t round = ++last_round_;
  const std::set<Pnn> members = others();
  const std::vector<AttachedDatabase> all = databases_.descriptions();
  for (const Pnn member : members) services_.send_relay(member, RelayAttach{round, all, installed_()});
  std::vector<DatabaseId> confirmed;
  for (auto& [id, entry] : unconfirmed_) {
    entry.round = round;
    entry.missing = members;
    if (members.empty()) confirmed.push_back(id);
  }
  for (const DatabaseId id : confirmed) confirm(id);
  serve_held();
}

void Attachments::serve_held() {
  const std::vector<Held> held = std::move(held_);
  held_.clear();
  for (const Held& request : held) attach(request);
}

void Attachments::client_gone(ClientId client) {
  std::erase_if(held_, [&](const Held& h) { return h.reply.client == client; });
  for (auto& [id, entry] : unconfirmed_) {
    std::erase_if(entry.replies, [&](const ReplyTo& r) { return r.client == client; });
  }
}

void Attachments::on_deadline(Instant now) {
  std::vector<ReplyTo> late;
  std::erase_if(held_, [&](const Held& h) {
    if (h.deadline > now) return false;
    late.push_back(h.reply);
    return true;
  });
  for (const ReplyTo& reply : late) services_.reply(reply, -1, {}, "the cluster did not come up in time");
  if (try_again_ > now) return;
  try_again_ = kNever;
  for (const Owed& owed : std::exchange(owed_, {})) {
    const std::string trouble = open_for(owed);
    if (trouble.empty()) continue;
    owed_.push_back(owed);
    try_again_ = now + kTryAgain;
    if (now < owed.since + kPatience) continue;
    owed_.back().since = now;
    services_.leave_out(services_.self(), trouble);
  }
}

void Attachments::refuse_held(const std::string& why) {
  const std::vector<Held> held = std::move(held_);
  held_.clear();
  for (const Held& request : held) services_.reply(request.reply, -1, {}, why);
}

Instant Attachments::next_deadline() const {
  Instant next = try_again_;
  for (const Held& h : held_) next = std::min(next, h.deadline);
  return next;
}

Bytes encode_database_id(DatabaseId id) {
  ByteWriter w;
  w.put(number(id));
  return std::move(w).take();
}

}  // namespace tdbmesh
