#pragma once
// Fetching a copy, or the commits that are missing, from another node, while commits there go on. The puller asks batch
// by batch and writes each one before it asks for the next, so neither side ever holds more than a batch; the source
// answers from its store and remembers nothing. Pure.
//
//   the source knows the commits after `have`:  they come in chunks, each a durable change of its own
//   it does not:   its records come in batches (parts of one change); the commits that happened meanwhile follow,
//                  and with them the copy is exactly that of one version. Until then the old copy stays as it is.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "db/commit_types.h"

namespace tdbmesh {

// The last few commits of one database, so that a copy that is only a little behind needs only those.
class CommitHistory {
 public:
  // `after` followed `before` by `entries`.
  void add(const CopyVersion& before, const CopyVersion& after, std::vector<RecordEntry> entries,
           const CommitSettings& settings);
  void clear();
  // The commits that follow `have`, in order, whole ones, at most `most_bytes` (but at least one); nullopt if they are
  // not known.
  struct Following {
    CopyVersion version;  // after them
    std::vector<RecordEntry> entries;
  };
  [[nodiscard]] std::optional<Following> after(const CopyVersion& have, std::size_t most_bytes) const;

 private:
  struct Step {
    CopyVersion before;
    CopyVersion after;
    std::vector<RecordEntry> entries;
    std::size_t bytes = 0;
  };
  std::deque<Step> steps_;
  std::size_t bytes_ = 0;
};

// The source's half: the answer to one PULL. `durable`: version of the newest commit that the history has; the
// database may show a newer one that is being written.
[[nodiscard]] commit::Body answer_pull(const Database& database, const CopyVersion& durable, const CommitHistory& history,
                                       const commit::Pull& pull, const CommitSettings& settings);

// The puller's half: one copy being fetched.
class CopyFetch {
 public:
  // `want`: the version the source is known to have; a default one takes whatever it has.
  CopyFetch(std::uint64_t id, Pnn from, const CopyVersion& have, const CopyVersion& want, Instant now);

  // What to ask now: first, after written(), and when retry_at() has come; tell asked() then. Asking twice does no harm:
  // an answer to what is known already is not taken, or brings the same commits once more.
  [[nodiscard]] commit::Pull next() const;
  void asked(Instant again) { retry_at_ = again; }

  // Write it (its database is left for the caller to set), then call written().
  struct Write {
    DurableChange change;
  };
  struct Failed {
    std::string reason;
  };
  struct Wait {};  // ask again at retry_at()
  using Step = std::variant<Write, Wait, Failed>;
  // An answer of the source; nullopt if it is not for this fetch, or not what was asked.
  [[nodiscard]] std::optional<Step> on_data(Pnn from, commit::PullData data, const CommitSettings& settings, Instant now);
  // The write is durable. True: the copy is complete. False: send next().
  [[nodiscard]] bool written(Instant now);

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] Pnn from() const { return from_; }
  [[nodiscard]] bool writing() const { return writing_; }
  [[nodiscard]] Instant last_progress() const { return last_progress_; }
  [[nodiscard]] Instant retry_at() const { return retry_at_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // of records received
  [[nodiscard]] bool whole() const { return staged_.has_value(); }

 private:
  [[nodiscard]] Step difference(commit::PullData data, const CommitSettings& settings, Instant now);
  [[nodiscard]] Step batch(commit::PullData data);
  [[nodiscard]] Step write(std::vector<RecordEntry> entries, const CopyVersion& version, bool complete);

  std::uint64_t id_;
  Pnn from_;
  CopyVersion have_;
  CopyVersion want_;
  std::optional<CopyVersion> staged_;  // the parts set aside stand for at least this version
  bool first_part_ = false;
  std::uint64_t position_ = 0;
  bool writing_ = false;
  bool complete_ = false;
  unsigned restarts_ = 0;
  std::uint64_t bytes_ = 0;
  Instant last_progress_;
  Instant retry_at_ = kNever;
};

}  // namespace tdbmesh
