#pragma once
// Who owns the records of one volatile database, as one node sees it (record protocol, sections 1-7): this
// node as requester, as holder, and as lmaster of its slots. Pure: it touches only itself and the Database
// it was given, reads no clock, and returns what has to be done.
//
// Whoever calls it has filtered the messages already (RecordRouter does): generation equal to the installed
// one, sender a member, and while frozen only GRANT and COPY.
//
// Chain locks are only ever tried, and never held between two calls. Nothing here blocks, and no message
// waits behind another: what has to wait (for a lock, a pin, the gate) waits as state.
//
//   requester:   waiters --REQ--> out --GRANT--> arrival --(chain lock)--> own, waiters answered, pinned
//   holder:      own --FWD--> succ --(unpinned, chain lock)--> GRANT sent, frozen backup copy stays
//   lmaster:     see ownership_directory.h
//
// Invariants: at most one of succ per ownership and one of next per request; ownership is the stored
// dmaster (or an accepted GRANT that waits for the chain lock); a copy never equals the owner's rsn.

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "db/ownership_directory.h"
#include "db/ownership_outbox.h"
#include "db/ownership_types.h"
#include "db/store.h"
#include "db/view.h"

namespace tdbmesh {

class Ownership {
 public:
  // `database` must outlive it. `first_request`: request numbers start here; it must exceed every number
  // used for this database before in this daemon's life.
  Ownership(Pnn self, Database& database, record::RequestNumber first_request = 1, RecordSettings settings = {});

  // --- local clients. A NULL call is a Write, a FETCH (with or without header, read-only wanted or not) a
  // Read. Each call gets exactly one AnswerCall, however long that takes, unless client_gone() comes first.
  [[nodiscard]] RecordActions client_call(CallId call, BytesView key, record::Kind kind, Instant now);
  [[nodiscard]] RecordActions client_gone(CallId call, Instant now);
  // A client stored an empty value; the record is to be removed everywhere.
  [[nodiscard]] RecordActions schedule_deletion(BytesView key, Instant now);

  // --- other nodes (and, in line, this one).
  [[nodiscard]] RecordActions on_message(Pnn from, const RecordMessage& message, Instant now);

  // --- the node.
  [[nodiscard]] RecordActions chain_free(BytesView key, Instant now);
  [[nodiscard]] RecordActions gate_changed(bool open, Instant now);
  [[nodiscard]] RecordActions tick(Instant now);
  // When tick() wants to be called next; kNever if not at all.
  [[nodiscard]] Instant next_wake() const;

  // A view was accepted: nothing moves between nodes any more. With `continuity_broken` everything here is
  // dropped (waiting calls stay, clients that saw the old records must be cut by the caller); PREPARED may be
  // sent when emptied() says yes, tick() keeps trying.
  void prepare(const View& view, bool continuity_broken, Instant now);
  [[nodiscard]] bool emptied() const { return !must_empty_; }
  // The view accepted last is in force. Ignored if a newer one was accepted meanwhile.
  [[nodiscard]] RecordActions install(const View& view, Instant now);
  // Slots of the installed view whose directory is not complete yet (reported in PREPARED).
  [[nodiscard]] std::vector<std::uint32_t> incomplete_slots() const { return directory_.incomplete_slots(); }

  // --- leaving in order (ARCHITECTURE.md, "Leaving in order"). While it lasts no client is served and nothing
  // is asked for here, and every record that no other member has as new as this node is taken by one of them.
  // Ended by `on` = false, or by a view that takes this node in as new.
  [[nodiscard]] RecordActions drain(bool on, Instant now);
  // Nothing here is needed by anybody any more. May become false again while other nodes move records about.
  [[nodiscard]] bool drained() const;
  // Nobody is left to take anything: all others are leaving too.
  [[nodiscard]] bool drain_hopeless() const;

  // The operator changed something; holds from now on.
  void configure(const RecordSettings& settings) { settings_ = settings; }

  // --- properties of the database; they hold until it is detached.
  void set_readonly() { readonly_ = true; }
  void set_sticky() { sticky_ = true; }
  [[nodiscard]] bool readonly() const { return readonly_; }
  [[nodiscard]] bool sticky() const { return sticky_; }

  // Starts a vacuum run now (the `vacuum` of the operator; otherwise one runs every vacuum_interval).
  [[nodiscard]] RecordActions vacuum(Instant now);

  // --- introspection.
  [[nodiscard]] RecordWhereabouts where(BytesView key) const;
  [[nodiscard]] RecordCounters counters() const;
  [[nodiscard]] std::vector<HotKey> hot_keys(std::size_t most) const;
  [[nodiscard]] std::size_t waiting_calls() const { return calls_.size(); }
  // This node owns the record, stored or about to be.
  [[nodiscard]] bool owns(BytesView key) const;
  // The record or copy in the store, or a newer copy that the store had no room for.
  [[nodiscard]] std::optional<StoredRecord> stored(BytesView key) const;

 private:
  struct Waiter {
    CallId call{};
    record::Kind kind{};
    record::RequestNumber not_before = 0;  // a plain read of an older request is too old for this caller
  };
  struct Outstanding {
    record::RequestNumber q = 0;
    record::Kind kind{};
  };
  struct Successor {
    Pnn to{};
    record::RequestNumber q = 0;
  };
  // Ownership accepted, not yet in the store.
  struct Arrival {
    Rsn rsn = 0;
    bool migrated_with_data = false;
    Bytes value;
    bool store_failed = false;
  };
  struct ArrivedCopy {
    Pnn from{};
    record::RequestNumber q = 0;
    Rsn rsn = 0;
    bool delegated = false;
    Bytes value;
  };
  struct Pin {
    std::uint64_t locks = 0;  // client_locks() when the waiters were answered
    Instant until{};
    bool whole_time = false;  // sticky: not ended by use
  };
  struct PendingAnswer {
    Pnn to{};
    std::uint64_t round = 0;
  };
  struct Vacuum {
    std::uint8_t phase = 1;
    Rsn rsn = 0;
    std::set<Pnn> waiting;
  };
  // All that is going on about one key here; exists only while something is.
  struct KeyState {
    std::vector<Waiter> waiters;
    std::optional<Outstanding> out;
    std::optional<Arrival> arrival;
    std::optional<ArrivedCopy> copy;
    std::optional<Pin> pin;
    std::optional<Successor> succ;
    std::optional<Successor> next;
    std::vector<Successor> reads;
    std::set<Pnn> delegates;
    std::set<Pnn> revoking;          // delegates that have not answered REVOKE yet
    bool revoke_sent = false;
    std::optional<Pnn> revoked_for;  // REVOKED goes there as soon as the chain lock lets RO be cleared
    std::optional<PendingAnswer> answer;
    std::optional<Vacuum> vacuum;
    bool waiting_for_chain = false;
    bool marked = false;    // stands in marked_
    Instant retry_at = kNever;  // a failed store is tried again then
    Instant wake_at = kNever;   // its place in wakes_
    [[nodiscard]] bool idle() const;
  };
  using Keys = KeyTable<KeyState>;

  // ownership.cc
  RecordActions finish(Instant now);
  void dispatch(Pnn from, const record::Body& body);
  void advance(const Bytes& key, Instant now);
  KeyState& state_of(BytesView key);
  void mark(const Bytes& key, KeyState& state);
  void mark_all();
  void set_wake(const Bytes& key, KeyState& state, Instant at);
  bool lock_chain(const Bytes& key, KeyState& state);
  static void store_failed(KeyState& state, Instant now);
  void anomaly(std::optional<Pnn> peer, std::string reason);
  [[nodiscard]] bool frozen() const { return accepted_.generation > view_.generation; }
  [[nodiscard]] bool installed() const { return view_.contains(self_); }
  // Records may leave, be asked for, be read from elsewhere, be vacuumed.
  [[nodiscard]] bool may_move() const { return installed() && !frozen() && (gate_open_ || drain_); }
  [[nodiscard]] bool readable(BytesView key, std::optional<StoredRecord>& record);
  [[nodiscard]] bool owned_in_store(const std::optional<StoredRecord>& record) const;

  // ownership_requester.cc
  void on_grant(Pnn from, const record::Grant& grant);
  void on_copy(Pnn from, const record::Copy& copy);
  void begin_tenure(const Bytes& key, KeyState& state, record::RequestNumber q);
  void store_arrival(const Bytes& key, KeyState& state, Instant now);
  void use_copy(const Bytes& key, KeyState& state);
  void serve_waiters(const Bytes& key, KeyState& state, Instant now);
  void ask_for(const Bytes& key, KeyState& state);
  void note_arrival(const Bytes& key);
  [[nodiscard]] bool sticks(const Bytes& key, Instant now);
  void remember_deletion(const Bytes& key, Instant now);

  // ownership_holder.cc
  void on_forward(const record::Forward& forward);
  void forward_at_owner(KeyState& state, const record::Forward& forward);
  void on_query(Pnn from, const record::Query& query);
  void settle_pending_answer(const Bytes& key, KeyState& state, Instant now);
  void serve_reads(const Bytes& key, KeyState& state, Instant now);
  void hand_over(const Bytes& key, KeyState& state, Instant now);
  void look_at_pin(const Bytes& key, KeyState& state, Instant now);

  // ownership_unstored.cc
  void keep_unstored(const Bytes& key, StoredRecord backup, Instant now);
  void forget_unstored(BytesView key);
  [[nodiscard]] std::optional<StoredRecord> newest_here(BytesView key, std::optional<StoredRecord> in_store) const;
  void store_unstored(Instant now);

  // ownership_claims.cc
  void start_claims(Instant now);
  void continue_claims();
  void send_claims(const std::vector<record::ClaimEntry>& entries);
  [[nodiscard]] bool claims_slot(std::size_t slot) const;

  // ownership_delegations.cc
  void on_revoke(Pnn from, const record::Revoke& revoke);
  void on_revoked(Pnn from, const record::Revoked& revoked);
  void end_read_only_copy(const Bytes& key, KeyState& state, Instant now);
  bool clear_read_only(const Bytes& key, KeyState& state, Instant now);
  void revoke_if_wanted(const Bytes& key, KeyState& state, Instant now);
  bool delegate_to(const Bytes& key, KeyState& state, const Successor& reader, StoredRecord& record, Instant now);
  [[nodiscard]] static bool writer_waits(const KeyState& state);

  // ownership_leaving.cc
  void start_drain();
  void ask_who_keeps(Instant now);
  void on_leaving(Pnn from, const record::Leaving& leaving);
  void on_keeping(Pnn from, const record::Keeping& keeping);
  void take_over(const Bytes& key);
  void note_drain(const Bytes& key);
  [[nodiscard]] bool rsn_here(BytesView key, std::optional<Rsn>& rsn);
  [[nodiscard]] Pnn taker_of(BytesView key) const;

  // ownership_vacuum.cc
  void run_vacuum(Instant now);
  void start_vacuum(const Bytes& key);
  void continue_vacuum(const Bytes& key, KeyState& state);
  void on_tomb(Pnn from, const record::Tomb& tomb);
  void on_purge(Pnn from, const record::Purge& purge);
  void on_vacuum_ack(Pnn from, const record::VacuumAck& ack);
  bool bury(Pnn from, const record::VacuumEntry& entry);
  void remove_record(const Bytes& key, Rsn rsn);
  void give_up_vacuum(const Bytes& key, KeyState& state);
  void flush_vacuum();
  [[nodiscard]] bool at_rest(const KeyState& state) const;
  [[nodiscard]] std::set<Pnn> others() const;

  Pnn self_;
  Database& database_;
  RecordSettings settings_;
  View view_;      // installed
  View accepted_;  // newest accepted; equal to view_ unless frozen
  bool gate_open_ = false;
  bool readonly_ = false;
  bool sticky_ = false;
  bool must_empty_ = false;  // continuity was broken; the store is not empty yet
  Instant empty_again_at_ = kNever;
  record::RequestNumber next_request_;

  RecordOutbox outbox_;
  Directory directory_;
  Keys keys_;
  KeyTable<record::RequestNumber> tenures_;  // ten, of records that came in this generation
  std::map<CallId, Bytes> calls_;            // open calls -> key
  std::vector<Bytes> marked_;                // keys to look at before returning, in this order
  std::size_t next_marked_ = 0;
  std::set<std::pair<Instant, Bytes>> wakes_;
  KeyTable<StoredRecord> unstored_;          // backups that wait for room; none beside an owned record in the store
  Instant unstored_at_ = kNever;

  // Claims of this node to the lmasters of slots that changed hands.
  struct ClaimScan {
    ScanPosition at;
    bool every_slot = false;
  };
  std::optional<ClaimScan> claims_;
  bool claim_everything_ = true;  // the first scan of a database after it was attached
  Instant background_at_ = kNever;

  struct Drain {
    ScanPosition at;
    bool scanned = false;
    std::set<Bytes, std::less<>> left;  // records here that no other member is known to keep
    std::uint64_t round = 0;            // 0: none under way
    std::vector<record::LeavingEntry> asked;
    std::vector<bool> kept;
    std::set<Pnn> missing;              // have not answered yet
    std::set<Pnn> leaving;              // said that they leave too
    Instant next = Instant::min();      // next round
  };
  std::optional<Drain> drain_;
  std::uint64_t drain_rounds_ = 0;

  std::set<Bytes> deletions_;
  Instant vacuum_at_ = kNever;
  Bytes vacuum_from_;  // the run under way goes on behind it; empty: none is
  bool retry_vacuum_ = false;
  std::vector<record::VacuumEntry> tombs_;
  std::vector<record::VacuumEntry> purges_;

  KeyTable<std::uint32_t> plain_reads_;     // bounded
  KeyTable<std::uint64_t> arrivals_;        // bounded; hot keys
  std::uint64_t arrivals_since_halving_ = 0;
  KeyTable<Instant> sticky_until_;          // bounded
  RecordCounters counters_;
};

}  // namespace tdbmesh
