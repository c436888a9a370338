#pragma once
// What nodes say to each other about volatile records (record protocol, section 2): plain structs in one
// variant, and their msgpack form. Every message belongs to one generation and one database; who sent it is
// known from the connection, never from the message.
//
// Limits: a key is 1..kMaxKeySize bytes, a value at most kMaxValueSize, a batch at most kMaxRecordBatch
// entries. decode_record_message() answers Malformed to anything else and never allocates more than the
// bytes that are there justify.

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"

namespace tdbmesh {

inline constexpr std::size_t kMaxRecordBatch = 4096;

namespace record {

// Number of a request: unique per node, database and generation; never 0.
using RequestNumber = std::uint64_t;

enum class Kind : std::uint8_t { Write = 0, Read = 1 };

// REQ, requester -> lmaster: make me owner, or let me read.
struct Request {
  Bytes key;
  RequestNumber q = 0;
  Kind kind = Kind::Write;
  friend bool operator==(const Request&, const Request&) = default;
};

// FWD, lmaster -> holder: hand over to `to` (or let it read) for its request q, following tenure `after`
// (0: only if you own it now). With `adopt`: become the owner first, provided your copy has that very rsn.
struct Forward {
  Bytes key;
  Pnn to{};
  RequestNumber q = 0;
  Kind kind = Kind::Write;
  RequestNumber after = 0;
  std::optional<Rsn> adopt;
  friend bool operator==(const Forward&, const Forward&) = default;
};

// GRANT, holder or lmaster -> requester: you own it now.
struct Grant {
  Bytes key;
  RequestNumber q = 0;
  Rsn rsn = 0;
  bool migrated_with_data = false;  // M: another node may have a copy
  Bytes value;
  friend bool operator==(const Grant&, const Grant&) = default;
};

// COPY, holder or lmaster -> requester: the answer to a read. Delegated: you may keep it as read-only copy.
struct Copy {
  Bytes key;
  RequestNumber q = 0;
  Rsn rsn = 0;
  bool delegated = false;
  Bytes value;
  friend bool operator==(const Copy&, const Copy&) = default;
};

// MISS, holder -> lmaster: I neither own it nor wait for that tenure.
struct Miss {
  Bytes key;
  Pnn to{};
  RequestNumber q = 0;
  Kind kind = Kind::Write;
  friend bool operator==(const Miss&, const Miss&) = default;
};

// QUERY, lmaster -> all members: what do you have? It also ends a read-only copy.
struct Query {
  Bytes key;
  std::uint64_t round = 0;
  friend bool operator==(const Query&, const Query&) = default;
};

// ANSWER to QUERY. rsn: of the owned record or of the copy; none if there is nothing.
struct Answer {
  Bytes key;
  std::uint64_t round = 0;
  bool own = false;
  std::optional<Rsn> rsn;
  friend bool operator==(const Answer&, const Answer&) = default;
};

struct ClaimEntry {
  Bytes key;
  bool own = false;
  Rsn rsn = 0;
  friend bool operator==(const ClaimEntry&, const ClaimEntry&) = default;
};

// CLAIM, member -> new lmaster: what I have in your slots. `last`: that was all. `every_slot`: the scan
// covered all of your slots, not only those that changed hands in this generation (a database attached here
// in this generation).
struct Claim {
  std::vector<ClaimEntry> entries;
  bool last = false;
  bool every_slot = false;
  friend bool operator==(const Claim&, const Claim&) = default;
};

// REVOKE, owner -> delegate, and its answer REVOKED: the read-only copy ends.
struct Revoke {
  Bytes key;
  friend bool operator==(const Revoke&, const Revoke&) = default;
};
struct Revoked {
  Bytes key;
  friend bool operator==(const Revoked&, const Revoked&) = default;
};

struct VacuumEntry {
  Bytes key;
  Rsn rsn = 0;
  friend bool operator==(const VacuumEntry&, const VacuumEntry&) = default;
};

// TOMB, owner -> all other members: copies older than rsn become empty. PURGE: copies up to rsn go.
struct Tomb {
  std::vector<VacuumEntry> entries;
  friend bool operator==(const Tomb&, const Tomb&) = default;
};
struct Purge {
  std::vector<VacuumEntry> entries;
  friend bool operator==(const Purge&, const Purge&) = default;
};

struct VacuumAckEntry {
  Bytes key;
  Rsn rsn = 0;
  bool ok = false;  // false: busy, try another time
  friend bool operator==(const VacuumAckEntry&, const VacuumAckEntry&) = default;
};

// VACACK, member -> owner. Phase 1 answers TOMB, phase 2 PURGE.
struct VacuumAck {
  std::uint8_t phase = 1;
  std::vector<VacuumAckEntry> entries;
  friend bool operator==(const VacuumAck&, const VacuumAck&) = default;
};

// GONE, former owner -> lmaster: the record is removed here; drop the entry.
struct Gone {
  Bytes key;
  Rsn rsn = 0;
  friend bool operator==(const Gone&, const Gone&) = default;
};

// LEAVING, a member that wants to leave -> all others: does anybody have these records as new as I have them?
// Who does not, and is named as the taker, asks the lmaster for the record as if a client wanted to write it.
struct LeavingEntry {
  Bytes key;
  Rsn rsn = 0;
  Pnn taker = kNoPnn;
  friend bool operator==(const LeavingEntry&, const LeavingEntry&) = default;
};
struct Leaving {
  std::uint64_t round = 0;
  std::vector<LeavingEntry> entries;
  friend bool operator==(const Leaving&, const Leaving&) = default;
};

// KEEPING, the answer: one flag per entry. Who is about to leave itself keeps nothing.
struct Keeping {
  std::uint64_t round = 0;
  bool leaving = false;
  std::vector<bool> kept;
  friend bool operator==(const Keeping&, const Keeping&) = default;
};

using Body = std::variant<Request, Forward, Grant, Copy, Miss, Query, Answer, Claim, Revoke, Revoked, Tomb,
                          Purge, VacuumAck, Gone, Leaving, Keeping>;

}  // namespace record

struct RecordMessage {
  Generation generation;
  DatabaseId database{};
  record::Body body;
  friend bool operator==(const RecordMessage&, const RecordMessage&) = default;
};

[[nodiscard]] Bytes encode_record_message(const RecordMessage& message);
[[nodiscard]] Result<RecordMessage> decode_record_message(BytesView bytes);
// "REQ", "FWD", ...: for counters and logs.
[[nodiscard]] std::string_view name_of(const record::Body& body);

}  // namespace tdbmesh
