#pragma once
// What the record cores are asked for and what they ask for in return. Plain values.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/time.h"
#include "db/record.h"
#include "db/record_messages.h"

namespace tdbmesh {

// Number of one call of a local client, chosen by whoever owns the clients; unique on this node while the
// call is open.
enum class CallId : std::uint64_t {};
[[nodiscard]] constexpr std::uint64_t number(CallId c) { return static_cast<std::uint64_t>(c); }

// Send this to another node (never to oneself).
struct SendRecord {
  Pnn to{};
  RecordMessage message;
  friend bool operator==(const SendRecord&, const SendRecord&) = default;
};

// The call is answered; its id is free. Status 0: for a write the local store now holds the record with
// dmaster = own pnn and no read-only flags; for a read `header` and `value` are the answer (an absent record
// has an empty value). Status -1: the local store failed (full), the text says so.
struct AnswerCall {
  CallId call{};
  std::int32_t status = 0;
  RecordHeader header;
  Bytes value;
  std::string text;
  friend bool operator==(const AnswerCall&, const AnswerCall&) = default;
};

// The chain of this key is taken. Call chain_free() once when it may be free again; the daemon may or may
// not hold the chain during that call.
struct WaitChain {
  DatabaseId database{};
  Bytes key;
  friend bool operator==(const WaitChain&, const WaitChain&) = default;
};

// Ask the leader for a new view with the same members: record messages may be lost, or the bookkeeping does
// not fit together.
struct Bump {
  std::optional<Pnn> peer;
  std::string reason;
  friend bool operator==(const Bump&, const Bump&) = default;
};

using RecordAction = std::variant<SendRecord, AnswerCall, WaitChain, Bump>;
using RecordActions = std::vector<RecordAction>;

// Rules left out on purpose, so that tests can show that they are needed and that the checkers would notice.
// Never set in production. Numbers: tests/sim/README.md.
struct RecordTestHooks {
  bool leaving_hands_over_owned_only = false;  // 27: copies of the leaver that nobody else has are forgotten
  bool leaving_does_not_ask = false;           // 28: gone as soon as the grants are sent
  bool unstored_leaves_no_backup = false;      // 29: what the store had no room for is handed on and forgotten
};

struct RecordSettings {
  std::uint64_t key_seed = 0;                  // of the tables by record name; fixed for a life, not to be guessed
  Duration pin_limit = milliseconds(20);       // a granted record stays at least until used, or this long
  Duration pin_poll = std::chrono::microseconds(250);  // how often a pinned record that is wanted is looked at
  Duration sticky_pindown = milliseconds(200);  // STICKY databases: a hot record stays this long
  std::uint32_t sticky_hops = 50;               // ... hot: arrived this often lately
  Duration sticky_duration = seconds(600);      // ... and for so long, then it has to become hot anew
  std::uint32_t plain_reads = 3;                // after so many remote reads in a row ask for the record itself
  Duration vacuum_interval = seconds(10);
  Duration background_interval = milliseconds(20);  // between batches of claims and of background settles
  std::size_t claim_batch = 512;                // records looked at per step of the claim scan
  std::size_t background_batch = 64;            // orphans settled per step
  std::size_t vacuum_batch = 1000;              // deletions begun at a time; batches follow at background_interval
  std::size_t drain_batch = 2048;               // records of a leaving node asked about at a time
  Duration drain_interval = milliseconds(3);    // ... asked again about those that nobody has yet
  RecordTestHooks hooks;
};

struct RecordCounters {
  std::uint64_t calls = 0;            // of local clients
  std::uint64_t calls_local = 0;      // ... answered without asking anybody
  std::uint64_t grants_in = 0;        // records that came here
  std::uint64_t handed_over = 0;      // records that left
  std::uint64_t reads_in = 0;         // answers to remote reads
  std::uint64_t reads_out = 0;        // remote reads served
  std::uint64_t forwards = 0;         // as lmaster
  std::uint64_t misses = 0;           // hints that were wrong, as lmaster
  std::uint64_t settles = 0;          // questions to all members, as lmaster
  std::uint64_t adopted = 0;          // copies that became the record
  std::uint64_t claims_in = 0;        // records claimed at this lmaster
  std::uint64_t delegations = 0;      // read-only copies given
  std::uint64_t revocations = 0;
  std::uint64_t vacuumed = 0;         // records removed everywhere
  std::uint64_t dropped = 0;          // messages refused by the arrival filter
  std::uint64_t anomalies = 0;        // messages that fitted nothing: bugs, each gave a Bump

  RecordCounters& operator+=(const RecordCounters& other);
};

// A record that arrived here often lately.
struct HotKey {
  Bytes key;
  std::uint64_t arrivals = 0;
  friend bool operator==(const HotKey&, const HotKey&) = default;
};

// What this node knows about one key.
struct RecordWhereabouts {
  bool own = false;
  bool read_only_copy = false;
  bool pinned = false;
  std::optional<RecordHeader> stored;  // own copy's header
  std::size_t waiting_calls = 0;
  std::vector<Pnn> delegates;
  std::optional<Pnn> successor;
  Pnn lmaster = kNoPnn;
  // Only on the lmaster: "absent", "unknown", "orphan", "at", "settling"; empty elsewhere.
  std::string directory;
  std::optional<Pnn> tail;  // newest designated holder
};

}  // namespace tdbmesh
