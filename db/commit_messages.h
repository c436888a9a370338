#pragma once
// What nodes say to each other about persistent and replicated databases: commits (control plane, section 7)
// and copies fetched from each other. Plain structs in one variant, and their msgpack form.
//
// Limits: a commit or a batch of a copy holds at most kMaxCommitEntries records; keys and values are bounded
// as everywhere. decode_commit_message() answers Malformed to anything else and never allocates more than the
// bytes that are there justify.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/record.h"
#include "db/store.h"

namespace tdbmesh {

inline constexpr std::size_t kMaxCommitEntries = 1u << 20;
inline constexpr std::size_t kMaxCopies = 4096;

namespace commit {

// COMMIT_REQUEST, origin -> sequencer. With `replace_all` every record is removed first. A commit without a
// sequence number (`seqnum` 0) gets the next one.
struct Request {
  std::uint64_t id = 0;  // the origin's
  bool replace_all = false;
  std::uint64_t seqnum = 0;
  std::vector<RecordEntry> entries;
  friend bool operator==(const Request&, const Request&) = default;
};

// COMMIT_WRITE, sequencer -> all members (itself in line).
struct Write {
  std::uint64_t seqnum = 0;
  bool replace_all = false;
  std::vector<RecordEntry> entries;
  friend bool operator==(const Write&, const Write&) = default;
};

// DURABLE, member -> sequencer.
struct Durable {
  std::uint64_t seqnum = 0;
  friend bool operator==(const Durable&, const Durable&) = default;
};

// COMMIT_DONE, sequencer -> origin: durable on all members (status 0), or refused before anything was
// written anywhere (status -1).
struct Done {
  std::uint64_t id = 0;
  std::int32_t status = 0;
  std::string text;
  friend bool operator==(const Done&, const Done&) = default;
};

// PULL: give me what follows `have`, or the next batch of your whole copy.
struct Pull {
  std::uint64_t id = 0;  // the puller's, one per copy fetched
  CopyVersion have;
  std::uint64_t position = 0;  // of the whole copy; 0: the commits after `have`, or the start if they are not known
  friend bool operator==(const Pull&, const Pull&) = default;
};

// PULL_DATA. Difference: the commits between `have` and `version`; `done`: there are no more. Otherwise a batch of the
// whole copy, read while commits may go on: it has at least all commits up to `version` and perhaps some up to
// `visible`, so whoever puts the batches together adds the commits after the first batch's `version`, unless the last
// one's `visible` is still the same.
struct PullData {
  std::uint64_t id = 0;
  CopyVersion version;
  CopyVersion visible;
  bool difference = false;
  bool done = false;
  std::uint64_t position = 0;  // where this batch began
  std::uint64_t next = 0;
  std::vector<RecordEntry> entries;
  friend bool operator==(const PullData&, const PullData&) = default;
};

// Answer to PULL for a database that is not attached there.
struct PullRefused {
  std::uint64_t id = 0;
  std::string reason;
  friend bool operator==(const PullRefused&, const PullRefused&) = default;
};

// ASK_COPIES, to the leader before joining: which copies are there?
struct AskCopies {
  friend bool operator==(const AskCopies&, const AskCopies&) = default;
};

// COPIES: all persistent and replicated databases here. `installed`: the view in use here; none: the sender is in no
// view, and its copies say nothing.
struct Copies {
  struct Copy {
    DatabaseId database{};
    std::string name;
    DatabaseKind kind = DatabaseKind::Persistent;
    CopyVersion version;
    friend bool operator==(const Copy&, const Copy&) = default;
  };
  Generation installed;
  std::vector<Copy> copies;
  friend bool operator==(const Copies&, const Copies&) = default;
};

// To all members, by a node with commits that a view change cut off: do you have this view in use, durably? INSTALLED is
// the answer, given when it is so. The generation of the message says which view.
struct AskInstalled {
  friend bool operator==(const AskInstalled&, const AskInstalled&) = default;
};
struct Installed {
  friend bool operator==(const Installed&, const Installed&) = default;
};

using Body = std::variant<Request, Write, Durable, Done, Pull, PullData, PullRefused, AskCopies, Copies, AskInstalled,
                          Installed>;

}  // namespace commit

struct CommitMessage {
  Generation generation;  // installed at the sender; PULL and its answers: of no meaning to the receiver
  DatabaseId database{};
  commit::Body body;
  friend bool operator==(const CommitMessage&, const CommitMessage&) = default;
};

[[nodiscard]] Bytes encode_commit_message(const CommitMessage& message);
[[nodiscard]] Result<CommitMessage> decode_commit_message(BytesView bytes);
[[nodiscard]] std::string_view name_of(const commit::Body& body);

}  // namespace tdbmesh
