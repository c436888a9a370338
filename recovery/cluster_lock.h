#pragma once
// The cluster lock as a vote of a two-node cluster. A lock has no memory, so it gets one: a register beside it,
// one slot per node, written by the holder only. With the slot it remembers as a voter does: the term it voted
// in, the accepted view, and whether a gate rests on it (`in use`). Pure; the processes are cluster_lock_keeper.h.
//
//   Idle --want--> Starting --'0'--> Reading (all slots) --> Writing (own slot, claim = max+1) --> Held
//     ^               |                                         | a newer claim is there             | probe each
//     +-- retry -------+<----------------------------------------+<--- helper gone ------------------+ 0.5 s
//
// A lease of the lock counts from the begin of the last probe that succeeded, + kLockLease. Whoever takes over
// while the other's slot says `in use` waits k kLockLease + A from acquiring, whatever the file system did.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "db/view.h"
#include "transport/timing.h"

namespace tdbmesh::recovery {

inline constexpr Duration kLockLease = seconds(2);
inline constexpr Duration kLockProbe = milliseconds(500);
inline constexpr Duration kLockRetry = seconds(1);
// Who is refused while the other node lets go, or is given up by the file system, has it soon after: the wait for the next
// attempt is an eighth of the time since the first refusal, within these bounds.
inline constexpr Duration kLockFirstRetry = milliseconds(20);
// A refused attempt of a foreign helper may leave something behind that refuses the next ones: Debian's
// ctdb_etcd_lock queues in etcd and leaves its entry there for 9 s. Tried each second, it would stand behind
// our own leftovers for ever. So after a few refusals in a row such a helper rests for longer than that.
inline constexpr int kForeignRefusals = 3;
inline constexpr Duration kForeignRest = seconds(10);
// A helper that has not said whether it holds the lock, or a register that does not answer, for so long: the lock
// is given up and tried again. Generous, because a helper may be a script that asks others over the network.
inline constexpr Duration kLockPatience = seconds(15);
// A node that leaves in order lets go of the lock and stays, as a voter, until the other one serves by it; at most so long.
inline constexpr Duration kLockHandOver = seconds(2);

// What the lock remembers for its holder, beside the claim.
struct LockRecord {
  std::uint64_t term = 0;
  std::optional<View> accepted;
  bool in_use = false;  // the holder's gate rests on the lock
  friend bool operator==(const LockRecord&, const LockRecord&) = default;
};

// The state of the lock for the control plane.
struct LockStatus {
  bool held = false;                     // with the register written and read back
  Instant lease_until = Instant::min();  // the vote counts until then
  Instant wait_until = Instant::min();   // the other node's gate may rest on the lock until then
  LockRecord written;                    // durably in the own slot
  std::optional<View> newest;            // newest accepted view in the other slots: to be adopted
  std::uint64_t highest_term = 0;        // in the other slots
  std::string text;                      // for people: why it is not held
};

struct LockSlot {
  std::uint64_t claim = 0;
  LockRecord record;
  friend bool operator==(const LockSlot&, const LockSlot&) = default;
};
// A slot on disk has kStateSlotBytes (persisted_state.h); its claim is the slot's sequence. Empty or damaged
// slots read as nothing.
[[nodiscard]] Result<Bytes> encode(const LockSlot& slot);
[[nodiscard]] std::optional<LockSlot> decode_lock_slot(BytesView slot);

struct StartHelper {};  // answer on_helper() with its status byte, on_helper_gone() when it ends
struct StopHelper {};
struct ReadRegister {};                 // answer on_register()
struct WriteRegister { Bytes own_slot; };  // write durably, then read all: answer on_register()
using LockAction = std::variant<StartHelper, StopHelper, ReadRegister, WriteRegister>;
using LockActions = std::vector<LockAction>;

// Phases of ClusterLock.
struct LockIdle {
  Instant retry_at = Instant::min();
};
struct LockStarting {
  Instant since{};
};
struct LockReading {
  Instant since{};
};
struct LockWriting {
  LockRecord record;
  Instant begin{};
};
struct LockHeld {
  Instant probe_at{};
};

struct LockHelper {
  bool has_register = true;  // false: it knows only held or not held; its being alive is the probe
  bool foreign = false;      // a !COMMAND: what it leaves behind is not known
};

class ClusterLock {
 public:
  ClusterLock(Pnn self, const Timing& timing, const LockHelper& helper)
      : self_(self), timing_(timing), helper_(helper) {}

  void want(const LockRecord& record, Instant now, LockActions& out);
  void release(Instant now, LockActions& out);
  void on_tick(Instant now, LockActions& out);
  void on_helper(char status, Instant now, LockActions& out);
  void on_helper_gone(Instant now, LockActions& out);
  void on_register(const std::map<Pnn, Bytes>& slots, Instant now, LockActions& out);

  [[nodiscard]] LockStatus status() const { return status_; }
  [[nodiscard]] Instant next_wake() const;

 private:
  void write(Instant now, LockActions& out);
  void give_up(std::string why, Instant now, LockActions& out);
  void refused(Instant now, LockActions& out);
  // Since when the helper or the register owes an answer; kNever if neither does.
  [[nodiscard]] Instant owed_since() const;
  [[nodiscard]] bool idle() const { return std::holds_alternative<LockIdle>(phase_); }

  Pnn self_;
  Timing timing_;
  LockHelper helper_;
  std::variant<LockIdle, LockStarting, LockReading, LockWriting, LockHeld> phase_;
  bool wanted_ = false;
  int refusals_ = 0;  // in a row
  Instant refused_since_ = kNever;
  LockRecord record_;
  std::uint64_t claim_ = 0;
  Instant acquired_{};
  LockStatus status_;
};

}  // namespace tdbmesh::recovery
