#include "db/copy_transfer.h"

#include <algorithm>
#include <iterator>

namespace tdbmesh {

namespace {

constexpr unsigned kMaxRestarts = 10;  // a source whose commits are forgotten faster than its copy is read

std::size_t size_of(const std::vector<RecordEntry>& entries) {
  std::size_t bytes = 0;
  for (const RecordEntry& entry : entries) bytes += entry.key.size() + entry.value.size() + 64;
  return bytes;
}

}  // namespace

void CommitHistory::add(const CopyVersion& before, const CopyVersion& after, std::vector<RecordEntry> entries,
                        const CommitSettings& settings) {
  if (!steps_.empty() && steps_.back().after != before) clear();
  const std::size_t bytes = size_of(entries);
  steps_.push_back(Step{before, after, std::move(entries), bytes});
  bytes_ += bytes;
  while (!steps_.empty() && (steps_.size() > settings.history_commits || bytes_ > settings.history_bytes)) {
    bytes_ -= steps_.front().bytes;
    steps_.pop_front();
  }
}

void CommitHistory::clear() {
  steps_.clear();
  bytes_ = 0;
}

std::optional<CommitHistory::Following> CommitHistory::after(const CopyVersion& have, std::size_t most_bytes) const {
  const auto from = std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) { return step.before == have; });
  if (from == steps_.end()) return std::nullopt;
  Following following;
  std::size_t bytes = 0;
  for (auto step = from; step != steps_.end(); ++step) {
    bytes += step->bytes;
    if (step != from && bytes > most_bytes) break;
    following.entries.insert(following.entries.end(), step->entries.begin(), step->entries.end());
    following.version = step->after;
  }
  return following;
}

commit::Body answer_pull(const Database& database, const CopyVersion& durable, const CommitHistory& history,
                         const commit::Pull& pull, const CommitSettings& settings) {
  commit::PullData data;
  data.id = pull.id;
  data.position = pull.position;
  if (pull.position == 0) {
    std::optional<CommitHistory::Following> following;
    if (pull.have == durable) {
      following = CommitHistory::Following{durable, {}};
    } else {
      following = history.after(pull.have, settings.batch_bytes);
    }
    if (following) {
      data.difference = true;
      data.version = following->version;
      data.visible = database.version();
      data.done = data.version == data.visible;
      data.entries = std::move(following->entries);
      return data;
    }
  }
  data.version = durable;
  ScanPosition at{pull.position};
  std::size_t bytes = 0;
  while (!data.done && bytes < settings.batch_bytes && data.entries.size() < settings.batch_records) {
    // One record at a time near the limit would be slow, a big batch could overshoot: small batches.
    const auto batch = database.scan(at, 16);
    if (!batch) return commit::PullRefused{pull.id, batch.error().context};
    for (const KeyedRecord& found : batch->records) {
      bytes += found.key.size() + found.record.value.size() + 64;
      data.entries.push_back(RecordEntry{0, found.key, found.record.header, found.record.value});
    }
    at = batch->next;
    data.done = batch->done;
  }
  data.next = at.at;
  data.visible = database.version();  // after the reading: what may be in this batch
  return data;
}

CopyFetch::CopyFetch(std::uint64_t id, Pnn from, const CopyVersion& have, const CopyVersion& want, Instant now)
    : id_(id), from_(from), have_(have), want_(want), last_progress_(now) {}

commit::Pull CopyFetch::next() const { return commit::Pull{id_, staged_.value_or(have_), position_}; }

std::optional<CopyFetch::Step> CopyFetch::on_data(Pnn from, commit::PullData data, const CommitSettings& settings,
                                                  Instant now) {
  if (from != from_ || data.id != id_ || writing_ || data.position != position_) return std::nullopt;
  if (position_ > 0 && data.difference) return std::nullopt;  // not what was asked
  retry_at_ = kNever;
  bytes_ += size_of(data.entries);
  return data.difference ? difference(std::move(data), settings, now) : batch(std::move(data));
}

CopyFetch::Step CopyFetch::difference(commit::PullData data, const CommitSettings& settings, Instant now) {
  const CopyVersion base = staged_.value_or(have_);
  if (!data.done && data.version == base) {
    // A commit that is visible there and not durable yet: the parts set aside may hold some of it.
    retry_at_ = now + settings.pull_retry;
    return Wait{};
  }
  if (data.done && want_ != CopyVersion{} && data.version != want_) {
    return Failed{"the source has another version than the one to settle on"};
  }
  if (staged_) staged_ = data.version;
  return write(std::move(data.entries), data.version, data.done);
}

CopyFetch::Step CopyFetch::batch(commit::PullData data) {
  if (data.position == 0) {
    // The commits after `have` are not known there (any more): from the start.
    if (staged_ && ++restarts_ > kMaxRestarts) return Failed{"the source's copy changes faster than it is read"};
    staged_ = data.version;
    first_part_ = true;
  }
  if (!data.done && data.next <= data.position) return Failed{"the source does not get on"};
  position_ = data.done ? 0 : data.next;
  const bool complete = data.done && data.visible == *staged_;
  if (complete && want_ != CopyVersion{} && *staged_ != want_) {
    return Failed{"the source has another version than the one to settle on"};
  }
  return write(std::move(data.entries), *staged_, complete);
}

CopyFetch::Step CopyFetch::write(std::vector<RecordEntry> entries, const CopyVersion& version, bool complete) {
  using Part = DurableChange::Part;
  DurableChange change;
  change.version = version;
  change.entries = std::move(entries);
  change.replace_all = staged_.has_value();
  if (!staged_) {
    have_ = version;  // each chunk of a difference is a copy of its own
  } else if (first_part_) {
    change.part = complete ? Part::All : Part::First;
  } else {
    change.part = complete ? Part::Last : Part::More;
  }
  first_part_ = false;
  writing_ = true;
  complete_ = complete;
  return Write{std::move(change)};
}

bool CopyFetch::written(Instant now) {
  writing_ = false;
  last_progress_ = now;
  return complete_;
}

}  // namespace tdbmesh
