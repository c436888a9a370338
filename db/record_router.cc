#include "db/record_router.h"

#include <algorithm>
#include <iterator>

#include "db/base/match.h"
#include "db/base/plants.h"

namespace tdbmesh {

namespace {

void append(RecordActions& to, RecordActions from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

RecordRouter::RecordRouter(Pnn self, RecordSettings settings) : self_(self), settings_(settings) {}

RecordActions RecordRouter::attach(Database& database, Instant now) {
  const DatabaseId id = database.id();
  if (databases_.contains(id)) return {};
  // Request numbers never repeat, so an answer to an earlier attachment fits nothing.
  const record::RequestNumber first = (++attachments_ << 40) + 1;
  auto& ownership = *(databases_[id] = std::make_unique<Ownership>(self_, database, first, settings_));
  RecordActions actions = ownership.gate_changed(gate_open_, now);
  if (!view_.generation.is_none()) {
    ownership.prepare(view_, false, now);
    append(actions, ownership.install(view_, now));
  }
  if (frozen()) ownership.prepare(accepted_, false, now);
  if (draining_) append(actions, ownership.drain(true, now));
  if (const auto waiting = unattached_.find(id); waiting != unattached_.end()) {
    std::deque<Parked> parked = std::move(waiting->second);
    unattached_.erase(waiting);
    for (Parked& message : parked) {
      parked_bytes_ -= message.bytes;
      message.bytes -= sizeof(Parked);
      append(actions, deliver(std::move(message), now));
    }
  }
  look_at_wakes();
  return actions;
}

RecordActions RecordRouter::after(const Ownership& ownership, RecordActions actions) {
  wake_ = std::min(wake_, ownership.next_wake());
  return actions;
}

void RecordRouter::look_at_wakes() {
  wake_ = kNever;
  for (const auto& [id, ownership] : databases_) wake_ = std::min(wake_, ownership->next_wake());
}

void RecordRouter::configure(const RecordSettings& settings) {
  settings_ = settings;
  for (auto& [id, ownership] : databases_) ownership->configure(settings);
}

void RecordRouter::detach(DatabaseId id) { databases_.erase(id); }

Ownership* RecordRouter::find(DatabaseId id) {
  const auto it = databases_.find(id);
  return it == databases_.end() ? nullptr : it->second.get();
}

const Ownership* RecordRouter::find(DatabaseId id) const {
  const auto it = databases_.find(id);
  return it == databases_.end() ? nullptr : it->second.get();
}

std::vector<DatabaseId> RecordRouter::attached() const {
  std::vector<DatabaseId> ids;
  for (const auto& [id, ownership] : databases_) ids.push_back(id);
  return ids;
}

RecordActions RecordRouter::client_call(DatabaseId id, CallId call, BytesView key, record::Kind kind, Instant now) {
  Ownership* ownership = find(id);
  return ownership == nullptr ? RecordActions{} : after(*ownership, ownership->client_call(call, key, kind, now));
}

RecordActions RecordRouter::client_gone(DatabaseId id, CallId call, Instant now) {
  Ownership* ownership = find(id);
  return ownership == nullptr ? RecordActions{} : after(*ownership, ownership->client_gone(call, now));
}

RecordActions RecordRouter::schedule_deletion(DatabaseId id, BytesView key, Instant now) {
  Ownership* ownership = find(id);
  return ownership == nullptr ? RecordActions{} : after(*ownership, ownership->schedule_deletion(key, now));
}

RecordActions RecordRouter::vacuum(DatabaseId id, Instant now) {
  Ownership* ownership = find(id);
  return ownership == nullptr ? RecordActions{} : after(*ownership, ownership->vacuum(now));
}

RecordActions RecordRouter::on_message(Pnn from, Incarnation incarnation, BytesView body, Instant now) {
  auto message = decode_record_message(body);
  if (!message) {
    ++counters_.dropped;
    ++counters_.anomalies;
    return {Bump{from, message.error().context}};
  }
  return deliver(Parked{from, incarnation, std::move(*message), body.size()}, now);
}

// The arrival filter, in the order of the protocol page.
RecordActions RecordRouter::deliver(Parked parked, Instant now) {
  const View& promised = frozen() ? accepted_ : view_;
  const Member* sender = promised.member(parked.from);
  const Generation g = parked.message.generation;
  const auto drop = [this]() -> RecordActions {
    ++counters_.dropped;
    return {};
  };
  if (sender == nullptr || sender->incarnation != parked.incarnation) {
    // A view this node has not heard of may know the sender, so what belongs to one is kept all the same.
    if (g <= promised.generation) return drop();
  }
  if (planted(Plant::AnswerBeforeInstall) && frozen() && g == promised.generation) {
    if (const auto* query = std::get_if<record::Query>(&parked.message.body)) {
      const Ownership* asked = find(parked.message.database);
      const RecordWhereabouts here = asked != nullptr ? asked->where(query->key) : RecordWhereabouts{};
      const auto rsn = here.stored ? std::optional<Rsn>(here.stored->rsn) : std::nullopt;
      return {SendRecord{parked.from, RecordMessage{g, parked.message.database,
                                                    record::Answer{query->key, query->round, here.own, rsn}}}};
    }
  }
  if (g > view_.generation) {
    if (g < promised.generation) return drop();
    return park(early_, std::move(parked));
  }
  const bool grant = std::holds_alternative<record::Grant>(parked.message.body);
  if (g < view_.generation && !planted(Plant::SkipGenerationCheck) && !(planted(Plant::AcceptOldGrant) && grant)) {
    return drop();
  }
  const record::Body& body = parked.message.body;
  if (frozen() && !std::holds_alternative<record::Grant>(body) && !std::holds_alternative<record::Copy>(body)) {
    return drop();
  }
  Ownership* ownership = find(parked.message.database);
  if (ownership == nullptr) return deliver_unattached(std::move(parked));
  return after(*ownership, ownership->on_message(parked.from, parked.message, now));
}

// A database that is not attached here is empty here: questions are answered so at once, because somebody
// waits for the answers of all members. What only its directory can handle waits for it.
RecordActions RecordRouter::deliver_unattached(Parked parked) {
  const Pnn from = parked.from;
  const RecordMessage& message = parked.message;
  const auto reply = [&](record::Body body) -> RecordActions {
    return {SendRecord{from, RecordMessage{message.generation, message.database, std::move(body)}}};
  };
  const auto acknowledge = [&](std::uint8_t phase, const std::vector<record::VacuumEntry>& entries) {
    record::VacuumAck ack{phase, {}};
    for (const record::VacuumEntry& entry : entries) ack.entries.push_back({entry.key, entry.rsn, true});
    return reply(std::move(ack));
  };
  if (const auto* query = std::get_if<record::Query>(&message.body)) {
    return reply(record::Answer{query->key, query->round, false, {}});
  }
  if (const auto* forward = std::get_if<record::Forward>(&message.body)) {
    return reply(record::Miss{forward->key, forward->to, forward->q, forward->kind});
  }
  if (const auto* revoke = std::get_if<record::Revoke>(&message.body)) return reply(record::Revoked{revoke->key});
  if (const auto* tomb = std::get_if<record::Tomb>(&message.body)) return acknowledge(1, tomb->entries);
  if (const auto* purge = std::get_if<record::Purge>(&message.body)) return acknowledge(2, purge->entries);
  if (const auto* leaving = std::get_if<record::Leaving>(&message.body)) {
    return reply(record::Keeping{leaving->round, false, std::vector<bool>(leaving->entries.size())});
  }
  if (std::holds_alternative<record::Request>(message.body) || std::holds_alternative<record::Claim>(message.body) ||
      std::holds_alternative<record::Gone>(message.body)) {
    return park(unattached_[message.database], std::move(parked));
  }
  // The rest answers something that a database detached meanwhile had asked.
  ++counters_.dropped;
  if (std::holds_alternative<record::Grant>(message.body)) return {Bump{from, "a record for a detached database"}};
  return {};
}

RecordActions RecordRouter::park(std::deque<Parked>& where, Parked parked) {
  // The bookkeeping of a parked message is counted too, so that many small ones are bounded as well.
  parked.bytes += sizeof(Parked);
  if (parked_bytes_ + parked.bytes > kMaxParkedBytes) {
    ++counters_.dropped;
    return {Bump{parked.from, "too many record messages wait for a view or a database"}};
  }
  parked_bytes_ += parked.bytes;
  where.push_back(std::move(parked));
  return {};
}

RecordActions RecordRouter::chain_free(DatabaseId id, BytesView key, Instant now) {
  Ownership* ownership = find(id);
  return ownership == nullptr ? RecordActions{} : after(*ownership, ownership->chain_free(key, now));
}

RecordActions RecordRouter::gate_changed(bool open, Instant now) {
  gate_open_ = open;
  RecordActions actions;
  for (auto& [id, ownership] : databases_) append(actions, ownership->gate_changed(open, now));
  look_at_wakes();
  return actions;
}

RecordActions RecordRouter::tick(Instant now) {
  RecordActions actions;
  for (auto& [id, ownership] : databases_) {
    if (ownership->next_wake() <= now) append(actions, ownership->tick(now));
  }
  look_at_wakes();
  return actions;
}

void RecordRouter::prepare(const View& view, bool continuity_broken, Instant now) {
  if (view.generation <= accepted_.generation) return;
  accepted_ = view;
  // A new life: what still arrives from the old one, even a grant, was for somebody else.
  if (continuity_broken) {
    view_ = View{};
    draining_ = false;
  }
  drop_parked_below(view.generation);
  for (auto& [id, ownership] : databases_) ownership->prepare(view, continuity_broken, now);
  look_at_wakes();
}

void RecordRouter::drop_parked_below(Generation generation) {
  const auto sweep = [&](std::deque<Parked>& parked) {
    std::erase_if(parked, [&](const Parked& message) {
      if (message.message.generation >= generation) return false;
      parked_bytes_ -= message.bytes;
      ++counters_.dropped;
      return true;
    });
  };
  sweep(early_);
  for (auto& [id, parked] : unattached_) sweep(parked);
  std::erase_if(unattached_, [](const auto& entry) { return entry.second.empty(); });
}

bool RecordRouter::emptied() const {
  return std::all_of(databases_.begin(), databases_.end(), [](const auto& entry) { return entry.second->emptied(); });
}

std::vector<std::uint32_t> RecordRouter::incomplete_slots() const {
  std::set<std::uint32_t> slots;
  for (const auto& [id, ownership] : databases_) {
    for (const std::uint32_t slot : ownership->incomplete_slots()) slots.insert(slot);
  }
  return {slots.begin(), slots.end()};
}

RecordActions RecordRouter::install(const View& view, Instant now) {
  if (view.generation < accepted_.generation || view.generation <= view_.generation) return {};
  view_ = view;
  accepted_ = view;
  RecordActions actions;
  for (auto& [id, ownership] : databases_) append(actions, ownership->install(view, now));
  look_at_wakes();
  std::deque<Parked> parked = std::move(early_);
  early_.clear();
  for (Parked& message : parked) {
    parked_bytes_ -= message.bytes;
    message.bytes -= sizeof(Parked);
    append(actions, deliver(std::move(message), now));
  }
  return actions;
}

RecordActions RecordRouter::drain(bool on, Instant now) {
  draining_ = on;
  RecordActions actions;
  for (auto& [id, ownership] : databases_) append(actions, ownership->drain(on, now));
  look_at_wakes();
  return actions;
}

bool RecordRouter::drained() const {
  return std::all_of(databases_.begin(), databases_.end(), [](const auto& entry) { return entry.second->drained(); });
}

bool RecordRouter::drain_hopeless() const {
  return std::any_of(databases_.begin(), databases_.end(),
                     [](const auto& entry) { return entry.second->drain_hopeless(); });
}

RecordCounters RecordRouter::counters() const {
  RecordCounters sum = counters_;
  for (const auto& [id, ownership] : databases_) sum += ownership->counters();
  return sum;
}

}  // namespace tdbmesh
