#include "transport/access_list.h"

#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

TEST(AccessList, FindsAnAddressHoweverItIsWritten) {
  AccessList list;
  list.set({{Pnn{0}, "10.0.0.1"}, {Pnn{1}, "fd00::0:2"}}, Pnn{0});
  EXPECT_EQ(list.find("fd00:0::2"), Pnn{1});
  EXPECT_EQ(list.find("10.0.0.1"), std::nullopt) << "its own";
  EXPECT_EQ(list.find("10.0.0.3"), std::nullopt);
  EXPECT_EQ(list.find("nonsense"), std::nullopt);
}

TEST(RejectionFilter, SaysOnceAMinuteWhoWasRefusedAndHowOften) {
  RejectionFilter filter;
  const Instant start{seconds(1000)};
  EXPECT_EQ(filter.line({"10.9.9.9", "not in the nodes file"}, start), "refused a connection from 10.9.9.9: not in the nodes file");
  EXPECT_EQ(filter.line({"10.9.9.9", "another reason"}, start + seconds(30)), std::nullopt);
  EXPECT_EQ(filter.line({"10.9.9.9", "wrong key", true}, start + seconds(30)), "connection to 10.9.9.9: wrong key")
      << "the other direction is another matter";
  EXPECT_EQ(filter.line({"10.9.9.9", "bad key"}, start + seconds(60)),
            "refused a connection from 10.9.9.9: bad key (1 more since the last report)");
}

}  // namespace
}  // namespace tdbmesh
