#pragma once
// Lets one line per key and interval into a log and counts the others, so that whoever causes lines from outside cannot
// fill it. Remembers at most 1024 keys; further ones are swallowed until old ones have expired. Not thread safe.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "db/base/time.h"

namespace tdbmesh {

class LogThrottle {
 public:
  explicit LogThrottle(Duration interval = std::chrono::minutes(1)) : interval_(interval) {}
  // nullopt: keep quiet. Otherwise log, and so many of this key were kept quiet before.
  std::optional<std::uint64_t> pass(const std::string& key, Instant now);
  // The line to log, which says how many were kept quiet before it, or nullopt.
  std::optional<std::string> line(const std::string& key, std::string text, Instant now);

 private:
  struct Seen {
    Instant logged{};
    std::uint64_t swallowed = 0;
  };
  Duration interval_;
  std::map<std::string, Seen> seen_;
};

}  // namespace tdbmesh
