#include "tools/daemon/logging.h"

#include <sys/stat.h>
#include <syslog.h>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>

#include "tools/daemon/node_environment.h"

namespace tdbmesh {
namespace {

constexpr std::size_t kMostText = 16 * 1024;  // of one line

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::Error: return spdlog::level::err;
    case LogLevel::Warning: return spdlog::level::warn;
    case LogLevel::Notice: return spdlog::level::info;
    case LogLevel::Info: return spdlog::level::info;
    case LogLevel::Debug: return spdlog::level::debug;
  }
  return spdlog::level::info;
}

std::string printable(const std::string& text) {
  std::string line = text.substr(0, kMostText);
  for (char& c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  return line;
}

}  // namespace

struct Log::Sink {
  explicit Sink(spdlog::sink_ptr sink) : logger("tdbmesh", std::move(sink)) {
    logger.set_level(spdlog::level::trace);
    logger.flush_on(spdlog::level::trace);
    // A full disk must not throw, and not fill stderr either.
    logger.set_error_handler([](const std::string&) {});
  }
  spdlog::logger logger;
};

std::int32_t debug_level_of(LogLevel level) {
  switch (level) {
    case LogLevel::Error: return 0;
    case LogLevel::Warning: return 1;
    case LogLevel::Notice: return 3;
    case LogLevel::Info: return 5;
    case LogLevel::Debug: return 10;
  }
  return 3;
}

std::string_view debug_level_name(std::int32_t level) {
  if (level <= 0) return "ERROR";
  if (level <= 2) return "WARNING";
  if (level <= 4) return "NOTICE";
  if (level <= 9) return "INFO";
  return "DEBUG";
}

Log::Log(std::string location, std::string program, std::int32_t debug_level)
    : location_(std::move(location)), program_(std::move(program)), debug_level_(debug_level) {}
Log::~Log() = default;

Result<std::unique_ptr<Log>> Log::open(const std::string& location, std::int32_t debug_level,
                                       const std::string& program) {
  std::unique_ptr<Log> log(new Log(location, program, debug_level));
  if (auto opened = log->reopen(); !opened) return tl::unexpected(opened.error());
  return log;
}

Result<std::shared_ptr<Log::Sink>> Log::make_sink() const {
  const std::string pattern = "%Y/%m/%d %H:%M:%S.%f " + program_ + "[%P]: %v";
  try {
    if (location_ == "syslog") {
      auto sink = std::make_shared<Sink>(
          std::make_shared<spdlog::sinks::syslog_sink_mt>(program_, LOG_PID, LOG_DAEMON, true));
      sink->logger.set_pattern("%v");
      return sink;
    }
    spdlog::sink_ptr to;
    if (location_ == "stderr") {
      to = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else if (location_.starts_with("file:/")) {
      const std::string path = location_.substr(5);
      const std::string directory = path.substr(0, path.rfind('/'));
      if (!directory.empty()) ::mkdir(directory.c_str(), 0755);
      to = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path, false);
    } else {
      return failure(Fault::Malformed, "log location '" + location_ + "' is not file:/PATH, syslog or stderr");
    }
    auto sink = std::make_shared<Sink>(std::move(to));
    sink->logger.set_pattern(pattern);
    return sink;
  } catch (const spdlog::spdlog_ex& error) {
    return failure(Fault::Io, "cannot log to " + location_ + ": " + error.what());
  }
}

Result<> Log::reopen() {
  auto sink = make_sink();
  if (!sink) return tl::unexpected(sink.error());
  const std::lock_guard lock(mutex_);
  sink_ = std::move(*sink);
  return {};
}

void Log::write(LogLevel level, const std::string& text) {
  if (debug_level_of(level) > debug_level_) return;
  std::shared_ptr<Sink> sink;
  {
    const std::lock_guard lock(mutex_);
    sink = sink_;
  }
  sink->logger.log(spdlog_level(level), printable(text));
}

}  // namespace tdbmesh
