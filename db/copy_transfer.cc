#include "db/copy_transfer.h"

#include <algorithm>
#include <iterator>

namespace tdbmesh {

namespace {

constexpr unsigned kMaxRestarts = 100;  // a source that changes faster than it is read

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

std::optional<std::vector<RecordEntry>> CommitHistory::between(const CopyVersion& have,
                                                               const CopyVersion& want) const {
  const auto from = std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) { return step.before == have; });
  if (from == steps_.end()) return std::nullopt;
  std::vector<RecordEntry> entries;
  for (auto step = from; step != steps_.end(); ++step) {
    entries.insert(entries.end(), step->entries.begin(), step->entries.end());
    if (step->after == want) return entries;
  }
  return std::nullopt;
}

commit::Body answer_pull(const Database& database, const CommitHistory& history, const commit::Pull& pull,
                         const CommitSettings& settings) {
  commit::PullData data;
  data.id = pull.id;
  data.position = pull.position;
  data.version = database.version();
  if (pull.position == 0) {
    if (auto missing = history.between(pull.have, data.version); missing && size_of(*missing) <= settings.batch_bytes) {
      data.difference = true;
      data.done = true;
      data.entries = std::move(*missing);
      return data;
    }
  }
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
  // A commit that became visible while the batch was read: the batch may hold half of it.
  if (database.version() != data.version) {
    data.version = {};
    data.entries.clear();
    data.done = false;
    data.next = 0;
    data.position = 0;
  }
  return data;
}

CopyFetch::CopyFetch(std::uint64_t id, Pnn from, const CopyVersion& have, const CopyVersion& want, Instant now)
    : id_(id), from_(from), have_(have), want_(want), last_progress_(now) {}

commit::Pull CopyFetch::first() const { return commit::Pull{id_, have_, 0}; }

std::optional<CopyFetch::Step> CopyFetch::on_data(Pnn from, const commit::PullData& data, Instant now) {
  if (from != from_ || data.id != id_) return std::nullopt;
  last_progress_ = now;
  const bool fits = data.position == position_ && (!version_ || *version_ == data.version);
  const bool changing = data.version == CopyVersion{} && !data.done;
  if (!fits || changing) {
    // The source went on: what was collected is of an older copy.
    if (++restarts_ > kMaxRestarts) return Failed{"the source's copy keeps changing"};
    version_.reset();
    position_ = 0;
    entries_.clear();
    return Ask{first()};
  }
  if (want_ != CopyVersion{} && data.version != want_) {
    return Failed{"the source has another version than the one to settle on"};
  }
  if (!data.done && data.next <= data.position) return Failed{"the source does not get on"};
  version_ = data.version;
  position_ = data.next;
  entries_.insert(entries_.end(), data.entries.begin(), data.entries.end());
  if (!data.done) return Ask{commit::Pull{id_, have_, position_}};
  DurableChange change;
  change.version = data.version;
  change.replace_all = !data.difference;
  change.entries = std::move(entries_);
  return Complete{std::move(change)};
}

}  // namespace tdbmesh
