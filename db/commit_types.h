#pragma once
// What the commit core asks for. Plain values.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/ids.h"
#include "db/base/time.h"
#include "db/commit_messages.h"
#include "db/store.h"

namespace tdbmesh {

// Number of one commit of a local client (or of the daemon itself), chosen by the caller; unique in this
// daemon's life.
enum class CommitId : std::uint64_t {};
[[nodiscard]] constexpr std::uint64_t number(CommitId c) { return static_cast<std::uint64_t>(c); }

struct SendCommit {
  Pnn to{};
  CommitMessage message;
  friend bool operator==(const SendCommit&, const SendCommit&) = default;
};

// Hand to the CommitWorker under this ticket, and report with on_durable().
struct SubmitChange {
  std::uint64_t ticket = 0;
  DurableChange change;
};

// The commit is over. 0: durable on all members. -1: refused, nothing was written. 2: a view change came in
// between; whether it was written is what the local sequence number says (the copy is settled by now, and every member
// of the new view will remember that it is).
struct CommitAnswer {
  CommitId id{};
  std::int32_t status = 0;
  std::string text;
  friend bool operator==(const CommitAnswer&, const CommitAnswer&) = default;
};

// A copy named in settle() is equal to `version` now, durably; or that did not work.
struct Settled {
  DatabaseId database{};
  CopyVersion version;
  friend bool operator==(const Settled&, const Settled&) = default;
};
struct SettleFailed {
  DatabaseId database{};
  std::string reason;
  friend bool operator==(const SettleFailed&, const SettleFailed&) = default;
};

// What the leader answered to ask_copies().
struct CopiesKnown {
  Pnn from{};
  Generation installed;
  std::vector<commit::Copies::Copy> copies;
};

// Tell the leader: a new view is needed. `peer` is the member that does not get on (itself: its store
// failed; the leader leaves it out with that reason), none: the same members will do.
struct CommitTrouble {
  std::optional<Pnn> peer;
  std::string reason;
  friend bool operator==(const CommitTrouble&, const CommitTrouble&) = default;
};

using CommitAction = std::variant<SendCommit, SubmitChange, CommitAnswer, Settled, SettleFailed, CopiesKnown, CommitTrouble>;
using CommitActions = std::vector<CommitAction>;

struct CommitSettings {
  Duration commit_limit = seconds(5);      // until a member that is not DURABLE is reported
  std::size_t batch_bytes = 1024 * 1024;   // of a copy, per message (at least one record)
  std::size_t batch_records = 4096;
  std::size_t history_commits = 4096;      // kept per database in memory, to send differences
  std::size_t history_bytes = 4u * 1024 * 1024;
  Duration pull_limit = seconds(2);        // without a batch until a fetch counts as failed
  Duration pull_retry = milliseconds(5);   // to ask again for a commit that is not durable at the source yet
  Duration pull_again = milliseconds(800); // to ask again because nothing came: the link may have lost it
};

// What a node held when it installed a view counts as of that view (control plane, section 2). Versions of
// different nodes are compared by this, and by nothing else. A copy without any commit (new, or in the place of a
// damaged one) is worth nothing, whatever was installed.
[[nodiscard]] constexpr CopyVersion effective_version(const CopyVersion& stored, Generation installed) {
  if (stored == CopyVersion{}) return stored;
  return {stored.generation < installed ? installed : stored.generation, stored.seqnum};
}

}  // namespace tdbmesh
