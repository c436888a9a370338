#pragma once
// What control planes say to each other (MessageKind::Control). Plain structs; messages_codec.cc packs them.
// The sender's pnn and incarnation come from the authenticated link, never from the body.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "db/store.h"
#include "db/view.h"

namespace tdbmesh::recovery {

// Limits of what a peer may say.
inline constexpr std::size_t kMaxNodes = 256;
inline constexpr std::size_t kMaxChain = 64;
inline constexpr std::size_t kMaxDatabases = 4096;
inline constexpr std::size_t kMaxNameBytes = 255;
inline constexpr std::size_t kMaxText = 512;

// One node's copy of one persistent or replicated database.
struct CopyReport {
  DatabaseId db{};
  std::string name;
  DatabaseKind kind = DatabaseKind::Persistent;
  CopyVersion version;  // of its last commit, as stored
  friend bool operator==(const CopyReport&, const CopyReport&) = default;
};

// How long ago the sender last supported a node.
struct SupportAge {
  Pnn pnn{};
  Duration age{0};
  friend bool operator==(const SupportAge&, const SupportAge&) = default;
};

struct PreVote {  // "would you vote for me in this term?"
  std::uint64_t term = 0;
  Generation accepted;  // the candidate's newest accepted view
  bool fresh = false;
  friend bool operator==(const PreVote&, const PreVote&) = default;
};
struct PreVoted {
  std::uint64_t asked = 0;  // term asked for
  std::uint64_t term = 0;   // the answerer's own
  bool granted = false;
  std::optional<View> accepted;  // the answerer's, if newer than the candidate's: to be adopted
  friend bool operator==(const PreVoted&, const PreVoted&) = default;
};
struct Vote {
  std::uint64_t term = 0;
  Generation accepted;
  bool fresh = false;
  bool transfer = false;  // the leader handed over: do not protect it
  friend bool operator==(const Vote&, const Vote&) = default;
};
struct Voted {
  std::uint64_t asked = 0;
  std::uint64_t term = 0;
  bool granted = false;
  std::optional<View> accepted;
  friend bool operator==(const Voted&, const Voted&) = default;
};
struct AskView {  // "your heartbeat shows a newer accepted view: send it"
  friend bool operator==(const AskView&, const AskView&) = default;
};
struct AcceptedView {
  View view;
  friend bool operator==(const AcceptedView&, const AcceptedView&) = default;
};
struct Prepare {
  std::uint64_t term = 0;
  View view;
  friend bool operator==(const Prepare&, const Prepare&) = default;
};
struct Prepared {
  Generation generation;
  std::vector<SupportAge> ages;  // all configured nodes
  Generation installed;          // in use in this life
  Generation persisted_installed;
  bool fresh = false;            // was it without state before this: then it is no voter yet
  std::vector<CopyReport> copies;
  std::vector<std::uint32_t> incomplete_slots;
  NodeFlags flags = 0;
  std::vector<std::string> addresses;
  friend bool operator==(const Prepared&, const Prepared&) = default;
};
enum class PrepareRefusal : std::uint8_t {
  OldTerm,       // the leader is deposed: `term` is newer
  OldView,       // a newer view was accepted here: `accepted`
  OtherLife,     // not the incarnation listed
  NeedsJoin,     // records of the listed join are gone here: propose it as new
};
struct PrepareRefused {
  Generation generation;
  PrepareRefusal why = PrepareRefusal::OldTerm;
  std::uint64_t term = 0;
  Generation accepted;
  friend bool operator==(const PrepareRefused&, const PrepareRefused&) = default;
};
struct Settle {  // "your copy differs: fetch it from `source`, then answer Settled"
  Generation generation;
  DatabaseId db{};
  std::string name;
  DatabaseKind kind = DatabaseKind::Persistent;
  Pnn source{};
  CopyVersion version;  // of the source's copy
  friend bool operator==(const Settle&, const Settle&) = default;
};
struct Settled {
  Generation generation;
  DatabaseId db{};
  bool ok = false;
  std::string reason;
  friend bool operator==(const Settled&, const Settled&) = default;
};
struct Install {
  std::uint64_t term = 0;
  Generation generation;
  friend bool operator==(const Install&, const Install&) = default;
};
struct Installed {
  Generation generation;
  std::vector<std::string> addresses;
  friend bool operator==(const Installed&, const Installed&) = default;
};
struct Join {
  std::uint64_t config_epoch = 0;
  std::uint64_t file_digest = 0;
  std::uint32_t version = 0;
  friend bool operator==(const Join&, const Join&) = default;
};
struct JoinRefused {
  std::string reason;
  friend bool operator==(const JoinRefused&, const JoinRefused&) = default;
};
struct Transfer {  // leader -> successor: stand at once, without pre-vote
  std::uint64_t term = 0;
  friend bool operator==(const Transfer&, const Transfer&) = default;
};
struct Bump {  // member -> leader: a new view is needed (record protocol), perhaps without `failed`
  Generation generation;
  std::string reason;
  Pnn failed = kNoPnn;
  friend bool operator==(const Bump&, const Bump&) = default;
};
struct Retired {  // gate closed, addresses dropped, leaving or stopping: no fence wait needed
  Generation installed;
  bool leaving = false;  // the daemon ends
  friend bool operator==(const Retired&, const Retired&) = default;
};
struct Fenced {  // a supervisor on behalf of a dead daemon: its gate is closed, its addresses are dropped
  Pnn pnn{};
  Incarnation incarnation = 0;
  friend bool operator==(const Fenced&, const Fenced&) = default;
};

using Message = std::variant<PreVote, PreVoted, Vote, Voted, AskView, AcceptedView, Prepare, Prepared, PrepareRefused,
                             Settle, Settled, Install, Installed, Join, JoinRefused, Transfer, Bump, Retired, Fenced>;

[[nodiscard]] Bytes encode(const Message& message);
[[nodiscard]] Result<Message> decode_message(BytesView bytes);
[[nodiscard]] std::string describe(const Message& message);  // for traces

}  // namespace tdbmesh::recovery
