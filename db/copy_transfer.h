#pragma once
// Fetching a whole copy, or what is missing of it, from another node: the puller asks batch by batch, the
// source answers from its store and remembers nothing. The version that every batch carries keeps the whole
// consistent: if it changes in between, the puller starts over. Pure.

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
  // All entries between the two versions, in order; nullopt if not known.
  [[nodiscard]] std::optional<std::vector<RecordEntry>> between(const CopyVersion& have,
                                                                const CopyVersion& want) const;

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

// The source's half: the answer to one PULL.
[[nodiscard]] commit::Body answer_pull(const Database& database, const CommitHistory& history,
                                       const commit::Pull& pull, const CommitSettings& settings);

// The puller's half: one copy being fetched.
class CopyFetch {
 public:
  // `want`: the version the source is known to have; a default one takes whatever it has.
  CopyFetch(std::uint64_t id, Pnn from, const CopyVersion& have, const CopyVersion& want, Instant now);

  [[nodiscard]] commit::Pull first() const;
  struct Ask { commit::Pull pull; };
  struct Complete { DurableChange change; };  // its database is left for the caller to set
  struct Failed { std::string reason; };
  using Step = std::variant<Ask, Complete, Failed>;
  // A batch from the source; nullopt if it is not for this fetch.
  [[nodiscard]] std::optional<Step> on_data(Pnn from, const commit::PullData& data, Instant now);

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] Pnn from() const { return from_; }
  [[nodiscard]] Instant last_progress() const { return last_progress_; }

 private:
  std::uint64_t id_;
  Pnn from_;
  CopyVersion have_;
  CopyVersion want_;
  std::optional<CopyVersion> version_;  // of the batches collected so far
  std::uint64_t position_ = 0;
  unsigned restarts_ = 0;
  std::vector<RecordEntry> entries_;
  Instant last_progress_;
};

}  // namespace tdbmesh
