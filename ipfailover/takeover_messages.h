#pragma once
// What the leader's assigner and the nodes' holders say to each other (MessageKind::Address). Plain structs;
// takeover_messages.cc packs them. The sender comes from the authenticated link, never from the body.
//
// Every message names the generation of the view in which it was said; one of another generation is ignored. `number`
// is the assignment number of the address within that generation: it grows with each TAKE and RELEASE, so a late TAKE
// never undoes a RELEASE. Nothing is sent twice; what is lost shows as a gap, which asks for a new view.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/result.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

inline constexpr std::size_t kMaxNetworkName = 1200;
inline constexpr std::size_t kMaxReason = 512;

// node -> leader: what it may host and what its kernel may have. The first one of a generation starts the assigner;
// later ones (an interface went down, addip, reloadips, leaving) change what it may host, `held` then means nothing.
struct HostReport {
  struct Entry {
    Address address;
    std::string network;     // network_name()
    bool available = false;  // an interface of it is up
    bool held = false;       // in the kernel, or on its way in or out
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  Generation generation;
  bool no_takeover = false;  // tunable NoIPTakeover
  bool leaving = false;      // takes nothing more and wants to lose what it has: stop, ban, shutdown
  // Its own flags (node_flags.h). Heartbeats carry them too, but later: this way a takeover run that is asked for after
  // `disable` knows of it.
  NodeFlags flags = 0;
  std::vector<Entry> entries;
  friend bool operator==(const HostReport&, const HostReport&) = default;
};

struct TakeAddress {  // leader -> node
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  friend bool operator==(const TakeAddress&, const TakeAddress&) = default;
};
struct AddressTaken {  // node -> leader: the kernel has it
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  friend bool operator==(const AddressTaken&, const AddressTaken&) = default;
};
struct TakeFailed {  // node -> leader: the kernel does not have it
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  std::string reason;
  friend bool operator==(const TakeFailed&, const TakeFailed&) = default;
};
struct ReleaseAddress {  // leader -> node
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  friend bool operator==(const ReleaseAddress&, const ReleaseAddress&) = default;
};
struct AddressReleased {  // node -> leader: the kernel has it no more. Only this frees an address
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  friend bool operator==(const AddressReleased&, const AddressReleased&) = default;
};
struct AddressLost {  // node -> leader: it was held and is gone unasked. `number`: highest one seen for it
  Generation generation;
  Address address;
  std::uint64_t number = 0;
  std::string reason;
  friend bool operator==(const AddressLost&, const AddressLost&) = default;
};
struct HostTable {  // leader -> all: nothing is on its way any more, and this is who hosts what
  struct Entry {
    Address address;
    Pnn host = kNoPnn;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  Generation generation;
  std::vector<Entry> entries;
  friend bool operator==(const HostTable&, const HostTable&) = default;
};
struct RunStarts {  // leader -> all: addresses begin to move. A HostTable follows
  Generation generation;
  friend bool operator==(const RunStarts&, const RunStarts&) = default;
};
struct MoveWish {  // node -> leader: the operator wants the address there (`moveip`)
  Generation generation;
  std::uint64_t id = 0;
  Address address;
  Pnn to = kNoPnn;
  friend bool operator==(const MoveWish&, const MoveWish&) = default;
};
struct MoveAnswer {  // leader -> node
  Generation generation;
  std::uint64_t id = 0;
  std::string error;  // empty: done
  friend bool operator==(const MoveAnswer&, const MoveAnswer&) = default;
};

using TakeoverMessage = std::variant<HostReport, TakeAddress, AddressTaken, TakeFailed, ReleaseAddress, AddressReleased,
                                     AddressLost, HostTable, MoveWish, MoveAnswer, RunStarts>;

[[nodiscard]] Bytes encode(const TakeoverMessage& message);
[[nodiscard]] Result<TakeoverMessage> decode_takeover_message(BytesView bytes);
[[nodiscard]] std::string describe(const TakeoverMessage& message);  // for traces
[[nodiscard]] Generation generation_of(const TakeoverMessage& message);

}  // namespace tdbmesh::ipfailover
