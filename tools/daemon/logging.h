#pragma once
// The daemon's log: lines like CTDB's, to a file, syslog or stderr.
//
//   2026/11/23 17:40:53.123456 tdbmeshd[4711]: text
//
// Control characters in a text are shown as '?', so that no foreign bytes forge lines. Every member may be
// called from any thread. A line that cannot be written is lost; logging never fails its caller.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "db/base/result.h"

namespace tdbmesh {

enum class LogLevel;  // tools/daemon/node_environment.h

// CTDB's number of a level: 0 ERROR, 1 WARNING, 3 NOTICE, 5 INFO, 10 DEBUG; and the name of a number, as
// `ctdb getdebug` prints it.
[[nodiscard]] std::int32_t debug_level_of(LogLevel level);
[[nodiscard]] std::string_view debug_level_name(std::int32_t level);

class Log {
 public:
  // `location` as Config::log_location has it. The directory of a file is created if only the last part of it
  // is missing.
  [[nodiscard]] static Result<std::unique_ptr<Log>> open(const std::string& location, std::int32_t debug_level,
                                                         const std::string& program = "tdbmeshd");
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void write(LogLevel level, const std::string& text);
  void set_debug_level(std::int32_t level) { debug_level_ = level; }
  [[nodiscard]] std::int32_t debug_level() const { return debug_level_; }
  // After the file was moved away (SIGHUP). On failure the old one is written on.
  [[nodiscard]] Result<> reopen();

 private:
  struct Sink;
  Log(std::string location, std::string program, std::int32_t debug_level);
  [[nodiscard]] Result<std::shared_ptr<Sink>> make_sink() const;

  std::string location_;
  std::string program_;
  std::atomic<std::int32_t> debug_level_;
  std::mutex mutex_;
  std::shared_ptr<Sink> sink_;  // guarded by mutex_
};

}  // namespace tdbmesh
