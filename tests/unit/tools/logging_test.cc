#include "tools/daemon/logging.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"
#include "tools/daemon/node_environment.h"

namespace tdbmesh {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

class LogFile : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<Log> open(std::int32_t level = 3) const {
    auto log = Log::open("file:" + path_, level);
    EXPECT_TRUE(log) << log.error().context;
    return std::move(*log);
  }
  [[nodiscard]] static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  TempDir directory_;
  std::string path_ = directory_ / "logs/log.tdbmesh";
};

TEST_F(LogFile, HasLinesLikeCtdbs) {
  open()->write(LogLevel::Notice, "hello");
  EXPECT_THAT(read(path_),
              MatchesRegex("[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6} tdbmeshd\\[[0-9]+\\]: hello\n"));
}

TEST_F(LogFile, HoldsWhatTheLevelLetsThrough) {
  const auto log = open(3);
  log->write(LogLevel::Info, "too much");
  log->set_debug_level(10);
  log->write(LogLevel::Debug, "wanted now");
  EXPECT_THAT(read(path_), Not(HasSubstr("too much")));
  EXPECT_THAT(read(path_), HasSubstr("wanted now"));
}

TEST_F(LogFile, IsStartedAnewAfterItWasMovedAway) {
  const auto log = open();
  log->write(LogLevel::Error, "old");
  std::filesystem::rename(path_, path_ + ".1");
  ASSERT_TRUE(log->reopen());
  log->write(LogLevel::Error, "new");
  EXPECT_THAT(read(path_ + ".1"), HasSubstr("old"));
  EXPECT_THAT(read(path_), HasSubstr("new"));
}

TEST_F(LogFile, ShowsNoForgedLinesAndNoFormats) {
  open()->write(LogLevel::Error, "evil\n2026/01/01 forged {} %s");
  EXPECT_THAT(read(path_), HasSubstr("evil?2026/01/01 forged {} %s\n"));
}

TEST(LogLocation, ThatIsNoneIsRefused) { EXPECT_EQ(Log::open("nowhere", 3).error().fault, Fault::Malformed); }

}  // namespace
}  // namespace tdbmesh
