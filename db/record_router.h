#pragma once
// All volatile databases of one node behind one door: it owns an Ownership per attached database, filters
// what arrives (record protocol, section 3: sender, generation, frozen), keeps what is for a generation not
// installed yet or for a database not attached yet, and answers for databases that are not attached what an
// empty one would. Pure; called from the event loop only.
//
// Limits: at most kMaxParkedBytes wait. What does not fit is dropped, and a Bump asks for the new view that
// repairs it.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "db/ownership.h"

namespace tdbmesh {

inline constexpr std::size_t kMaxParkedBytes = 64u * 1024 * 1024;

class RecordRouter {
 public:
  explicit RecordRouter(Pnn self, RecordSettings settings = {});

  // A volatile database, empty, was attached here / is about to be detached (its calls are forgotten).
  // `database` must outlive detach().
  [[nodiscard]] RecordActions attach(Database& database, Instant now);
  void detach(DatabaseId id);
  // For all databases, now and later.
  void configure(const RecordSettings& settings);
  // nullptr if not attached. For set_readonly, set_sticky, where, counters, hot_keys.
  [[nodiscard]] Ownership* find(DatabaseId id);
  [[nodiscard]] const Ownership* find(DatabaseId id) const;
  [[nodiscard]] std::vector<DatabaseId> attached() const;

  // `call` must be unused; the database attached (otherwise no actions, false).
  [[nodiscard]] RecordActions client_call(DatabaseId id, CallId call, BytesView key, record::Kind kind, Instant now);
  [[nodiscard]] RecordActions client_gone(DatabaseId id, CallId call, Instant now);
  [[nodiscard]] RecordActions schedule_deletion(DatabaseId id, BytesView key, Instant now);
  [[nodiscard]] RecordActions vacuum(DatabaseId id, Instant now);

  // A body of MessageKind::Record. `incarnation`: the sender's, from its connection. Malformed bytes are
  // counted and give a Bump naming the peer.
  [[nodiscard]] RecordActions on_message(Pnn from, Incarnation incarnation, BytesView body, Instant now);

  [[nodiscard]] RecordActions chain_free(DatabaseId id, BytesView key, Instant now);
  [[nodiscard]] RecordActions gate_changed(bool open, Instant now);
  [[nodiscard]] RecordActions tick(Instant now);
  [[nodiscard]] Instant next_wake() const { return wake_; }

  // The view was accepted (persisted by the caller afterwards). Older than one accepted before: ignored.
  // PREPARED may be sent when emptied() says yes.
  void prepare(const View& view, bool continuity_broken, Instant now);
  [[nodiscard]] bool emptied() const;
  // For PREPARED: slots whose directory is incomplete in some database.
  [[nodiscard]] std::vector<std::uint32_t> incomplete_slots() const;
  [[nodiscard]] RecordActions install(const View& view, Instant now);

  // Leaving in order: Ownership::drain of all databases, also of those attached meanwhile.
  [[nodiscard]] RecordActions drain(bool on, Instant now);
  [[nodiscard]] bool drained() const;
  [[nodiscard]] bool drain_hopeless() const;

  [[nodiscard]] RecordCounters counters() const;  // sum over the databases, and what the filter dropped

 private:
  struct Parked {
    Pnn from{};
    Incarnation incarnation = 0;
    RecordMessage message;
    std::size_t bytes = 0;
  };

  // Passes on what a database's ownership did; it may want to be woken now.
  [[nodiscard]] RecordActions after(const Ownership& ownership, RecordActions actions);
  void look_at_wakes();
  [[nodiscard]] RecordActions deliver(Parked parked, Instant now);
  [[nodiscard]] RecordActions deliver_unattached(Parked parked);
  [[nodiscard]] RecordActions park(std::deque<Parked>& where, Parked parked);
  void drop_parked_below(Generation generation);
  [[nodiscard]] bool frozen() const { return accepted_.generation > view_.generation; }

  Pnn self_;
  RecordSettings settings_;
  View view_;
  View accepted_;
  bool gate_open_ = false;
  bool draining_ = false;
  std::map<DatabaseId, std::unique_ptr<Ownership>> databases_;
  std::deque<Parked> early_;                              // for a generation not installed yet
  std::map<DatabaseId, std::deque<Parked>> unattached_;   // for a database not attached yet
  std::size_t parked_bytes_ = 0;
  std::uint64_t attachments_ = 0;
  Instant wake_ = kNever;  // no database wants to be woken earlier; not asked of all of them in every turn
  RecordCounters counters_;
};

}  // namespace tdbmesh
