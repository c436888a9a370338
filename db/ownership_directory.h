#pragma once
// The lmaster's half of the record protocol: where the records of this node's slots are. In memory only; a
// new lmaster rebuilds it from the members' claims, and until a slot is complete asks all members whenever
// it does not know.
//
//   (no entry) = absent in a complete slot, unknown otherwise
//   At(tail, tq)   tail is the newest designated holder, by its request tq; tq 0: only a hint
//   Orphan         there are copies, nobody is known to own one
//   Settling       all members have been asked; requests queue
//
// Every write request makes its requester the new tail at once, so requests of a key are served in the
// order in which they came, and each tenure has exactly one successor.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "db/key_table.h"
#include "db/ownership_outbox.h"
#include "db/ownership_types.h"
#include "db/view.h"

namespace tdbmesh {

class Directory {
 public:
  Directory(Pnn self, RecordOutbox& outbox, std::uint64_t key_seed)
      : self_(self), outbox_(outbox), key_seed_(key_seed) {}

  void on_request(Pnn from, const record::Request& request);
  void on_miss(Pnn from, const record::Miss& miss);
  void on_answer(Pnn from, const record::Answer& answer);
  void on_claim(Pnn from, const record::Claim& claim);
  void on_gone(Pnn from, const record::Gone& gone);

  // Keeps what is still true of the slots that stayed here without interruption, as hints, and forgets the rest.
  void install(const View& view);
  void clear();
  // Settles up to `most` entries nobody asked for (orphans, records that a removed node had).
  void settle_in_background(std::size_t most);
  [[nodiscard]] bool has_background_work() const { return !background_.empty(); }
  [[nodiscard]] std::vector<std::uint32_t> incomplete_slots() const;

  struct Located {
    std::string state;
    std::optional<Pnn> tail;
  };
  [[nodiscard]] Located where(BytesView key) const;
  [[nodiscard]] std::size_t entries() const;
  [[nodiscard]] const RecordCounters& counters() const { return counters_; }

 private:
  struct Waiting {
    Pnn from{};
    record::RequestNumber q = 0;
    record::Kind kind{};
  };
  struct Tail {
    Pnn pnn{};
    record::RequestNumber q = 0;
  };
  struct Had {
    bool own = false;
    std::optional<Rsn> rsn;
  };
  struct Settling {
    std::uint64_t round = 0;
    std::optional<Waiting> head;  // none: a background settle
    std::map<Pnn, Had> answers;
    std::deque<Waiting> queue;
  };
  struct Entry {
    std::optional<Tail> tail;            // At, or Settling with a chain behind the head
    std::unique_ptr<Settling> settling;  // neither: Orphan
    std::vector<Pnn> touched;            // tails, hints, adopters since the last settle; ascending
  };
  struct SlotState {
    Generation since;  // the tag
    bool complete = false;
    Rsn high_water = 0;
    KeyTable<Entry> entries;
  };

  SlotState* slot(BytesView key);  // nullptr: another node's
  void not_mine(Pnn from);
  void route(const Bytes& key, const Waiting& waiting);
  void start_settle(const Bytes& key, Entry& entry, std::optional<Waiting> head);
  void finish_settle(const Bytes& key, SlotState& state, Entry& entry);
  void forward(const Bytes& key, Entry& entry, const Waiting& waiting);
  void grant_fresh(const Bytes& key, const SlotState& state, const Waiting& waiting);
  void check_complete();
  static void touch(Entry& entry, Pnn pnn);

  Pnn self_;
  RecordOutbox& outbox_;
  std::uint64_t key_seed_;
  View view_;
  std::map<std::uint32_t, SlotState> slots_;  // those whose lmaster this node is
  std::set<Pnn> claimed_;                     // members whose claims of the changed slots are all in
  std::set<Pnn> claimed_everything_;          // ... of all slots
  std::deque<Bytes> background_;
  std::uint64_t round_ = 0;
  RecordCounters counters_;
};

}  // namespace tdbmesh
