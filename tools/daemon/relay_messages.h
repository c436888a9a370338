#pragma once
// What daemons say to each other on behalf of their clients: messages to srvids, controls to another node,
// databases that were attached, traverses. Packed as msgpack (relay_messages.cc), one array a message:
// [version, type, fields...].

#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/store.h"

namespace tdbmesh {

// A client's REQ_MESSAGE: delivered to every registration of `srvid` at the receiver. No answer.
struct RelayMessage {
  Srvid srvid{};
  Bytes data;
  friend bool operator==(const RelayMessage&, const RelayMessage&) = default;
};

// A client's control for another node, and its answer. `id` is the asking daemon's; 0 wants no answer.
struct RelayControl {
  std::uint64_t id = 0;
  std::uint32_t opcode = 0;
  std::uint64_t srvid = 0;
  std::uint32_t flags = 0;
  Bytes data;
  friend bool operator==(const RelayControl&, const RelayControl&) = default;
};
struct RelayControlReply {
  std::uint64_t id = 0;
  std::int32_t status = 0;
  Bytes data;
  Bytes error;
  friend bool operator==(const RelayControlReply&, const RelayControlReply&) = default;
};

// Databases that the sender has attached, in this view. `id` != 0 asks for an answer when the receiver has them too.
struct AttachedDatabase {
  std::string name;
  DatabaseKind kind = DatabaseKind::Volatile;
  bool readonly = false;
  bool sticky = false;
  friend bool operator==(const AttachedDatabase&, const AttachedDatabase&) = default;
};
struct RelayAttach {
  std::uint64_t id = 0;
  std::vector<AttachedDatabase> databases;
  Generation generation = {};
  friend bool operator==(const RelayAttach&, const RelayAttach&) = default;
};
struct RelayAttached {
  std::uint64_t id = 0;
  friend bool operator==(const RelayAttached&, const RelayAttached&) = default;
};

// To all members of the view of that generation: detach this volatile database. The answer says why not; empty: done.
struct RelayDetach {
  std::uint64_t id = 0;
  DatabaseId database{};
  Generation generation;
  friend bool operator==(const RelayDetach&, const RelayDetach&) = default;
};
struct RelayDetached {
  std::uint64_t id = 0;
  std::string refused;
  friend bool operator==(const RelayDetached&, const RelayDetached&) = default;
};

// A traverse: the asker asks each member for its records, batch by batch; the member remembers nothing between two
// batches, so memory stays bounded on both sides, and asking again for a batch that was lost does no harm.
struct RelayTraverse {
  std::uint64_t id = 0;
  DatabaseId database{};
  bool with_empty = false;
  std::uint64_t position = 0;  // 0: from the start
  friend bool operator==(const RelayTraverse&, const RelayTraverse&) = default;
};
struct RelayTraverseBatch {
  std::uint64_t id = 0;
  std::uint64_t position = 0;  // where it began
  std::uint64_t next = 0;      // where the next one begins
  bool done = false;           // there is none
  std::vector<KeyedRecord> records;
  friend bool operator==(const RelayTraverseBatch&, const RelayTraverseBatch&) = default;
};

// Something that the receiver of this has sent did not arrive here: the sender of a lost request does not see the gap
// itself. What it asked may have been answered or not.
struct RelayMissed {
  friend bool operator==(const RelayMissed&, const RelayMissed&) = default;
};

using RelayPayload = std::variant<RelayMessage, RelayControl, RelayControlReply, RelayAttach, RelayAttached, RelayTraverse,
                                  RelayTraverseBatch, RelayDetach, RelayDetached, RelayMissed>;

[[nodiscard]] Bytes encode_relay(const RelayPayload& payload);
[[nodiscard]] Result<RelayPayload> decode_relay(BytesView bytes);

}  // namespace tdbmesh
