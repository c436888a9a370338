#include "db/base/log_throttle.h"

#include <utility>

namespace tdbmesh {
namespace {

constexpr std::size_t kMostKeys = 1024;

}  // namespace

std::optional<std::uint64_t> LogThrottle::pass(const std::string& key, Instant now) {
  if (seen_.size() >= kMostKeys && !seen_.contains(key)) {
    std::erase_if(seen_, [&](const auto& entry) { return now - entry.second.logged >= interval_; });
    if (seen_.size() >= kMostKeys) return std::nullopt;
  }
  const auto [entry, added] = seen_.try_emplace(key);
  Seen& seen = entry->second;
  if (!added && now - seen.logged < interval_) {
    ++seen.swallowed;
    return std::nullopt;
  }
  return std::exchange(seen, Seen{now, 0}).swallowed;
}

std::optional<std::string> LogThrottle::line(const std::string& key, std::string text, Instant now) {
  const auto swallowed = pass(key, now);
  if (!swallowed) return std::nullopt;
  if (*swallowed > 0) text += " (" + std::to_string(*swallowed) + " more since the last report)";
  return text;
}

}  // namespace tdbmesh
