#include "db/base/log_throttle.h"

#include <string>

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

TEST(LogThrottle, LetsOneLinePerKeyAndIntervalThrough) {
  LogThrottle throttle(seconds(60));
  const Instant start{seconds(1000)};
  EXPECT_EQ(throttle.pass("a", start), 0u);
  EXPECT_EQ(throttle.pass("a", start + seconds(1)), std::nullopt);
  EXPECT_EQ(throttle.pass("b", start + seconds(1)), 0u);
  EXPECT_EQ(throttle.pass("a", start + seconds(59)), std::nullopt);
  EXPECT_EQ(throttle.pass("a", start + seconds(60)), 2u);
}

TEST(LogThrottle, RemembersABoundedNumberOfKeys) {
  LogThrottle throttle(seconds(60));
  const Instant start{seconds(1000)};
  for (int i = 0; i < 1024; ++i) EXPECT_TRUE(throttle.pass(std::to_string(i), start));
  EXPECT_FALSE(throttle.pass("one more", start));
  EXPECT_TRUE(throttle.pass("one more", start + seconds(61)));
}

}  // namespace
}  // namespace tdbmesh
