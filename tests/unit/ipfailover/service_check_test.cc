#include "ipfailover/service_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

TEST(ServiceCheck, EveryKindIsUnderstood) {
  const auto tcp = parse_check("a", "tcp [::1]:445 every=0.5 limit=2 fails=3");
  ASSERT_TRUE(tcp) << tcp.error().context;
  EXPECT_EQ(tcp->address, "::1");
  EXPECT_EQ(tcp->port, 445);
  EXPECT_EQ(tcp->every, milliseconds(500));
  EXPECT_EQ(tcp->limit, seconds(2));
  EXPECT_EQ(tcp->fails, 3U);
  const auto http = parse_check("a", "http 10.0.0.1:80/status?x");
  ASSERT_TRUE(http) << http.error().context;
  EXPECT_EQ(http->path, "/status?x");
  const auto exec = parse_check("a", "exec /bin/true one every=no two");
  ASSERT_TRUE(exec) << exec.error().context;
  EXPECT_THAT(exec->arguments, testing::ElementsAre("one", "every=no", "two")) << "only the end is for options";
  EXPECT_TRUE(parse_check("a", "unix /run/x"));
  EXPECT_TRUE(parse_check("a", "smb 127.0.0.1:445"));
}

TEST(ServiceCheck, WhatIsWrongIsRefused) {
  for (const char* text : {"", "tcp", "tcp host:80", "tcp 1.2.3.4", "tcp 1.2.3.4:0", "tcp 1.2.3.4:70000", "tcp 1.2.3.4:80/x",
                           "unix relative", "exec true", "udp 1.2.3.4:80", "tcp 1.2.3.4:80 every=0", "tcp 1.2.3.4:80 more",
                           "tcp 1.2.3.4:80 fails=0", "tcp 1.2.3.4:80 limit=nan"}) {
    EXPECT_FALSE(parse_check("a", text)) << text;
  }
}

TEST(ServiceCheck, AnHttpAnswerIsJudgedByItsStatusLine) {
  EXPECT_EQ(http_status("HTTP/1.1 200 OK\r\n"), 200);
  EXPECT_EQ(http_status("HTTP/1.0 503"), 503);
  EXPECT_EQ(http_status("HTTP/1.1"), std::nullopt);
  EXPECT_EQ(http_status("SSH-2.0"), 0);
  EXPECT_EQ(http_status("HTTP/1.1 2x0"), 0);
}

TEST(ServiceCheck, AnSmbAnswerIsJudgedByItsHeader) {
  std::string answer = smb_negotiate_request();
  EXPECT_EQ(answer.size(), 4U + 64 + 36 + 4);
  EXPECT_EQ(smb_negotiate_succeeded(answer.substr(0, 10)), std::nullopt);
  EXPECT_EQ(smb_negotiate_succeeded(answer), true);
  answer[4 + 8] = 1;
  EXPECT_EQ(smb_negotiate_succeeded(answer), false);
  EXPECT_EQ(smb_negotiate_succeeded(std::string(40, 'x')), false);
}

}  // namespace
}  // namespace tdbmesh
