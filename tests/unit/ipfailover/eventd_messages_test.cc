#include "ipfailover/eventd_messages.h"

#include <gtest/gtest.h>

namespace tdbmesh::eventd {
namespace {

Request run_request() { return {7, Command::Run, "legacy", "takeip", "eth0 10.0.0.1 24", 30, 1}; }

EventRecord some_record() {
  return {3, {{"10.ok", 100.25, 101.5, 0, ""}, {"30.bad", 101.5, 102, 3, "worse\n"}}};
}

TEST(EventdMessages, RequestsComeBackAsTheyWere) {
  const auto back = decode_request(encode_request(run_request()));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->reqid, 7U);
  EXPECT_EQ(back->component, "legacy");
  EXPECT_EQ(back->name, "takeip");
  EXPECT_EQ(back->arguments, "eth0 10.0.0.1 24");
  EXPECT_EQ(back->timeout, 30U);
  EXPECT_EQ(back->flags, 1U);
}

TEST(EventdMessages, AStatusComesBackAsItWas) {
  const EventRecord record = some_record();
  const auto back = decode_reply(encode_reply(1, Command::Status, 0, &record));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->record.summary, 3);
  ASSERT_EQ(back->record.scripts.size(), 2U);
  EXPECT_EQ(back->record.scripts[1].output, "worse\n");
  EXPECT_DOUBLE_EQ(back->record.scripts[0].began, 100.25);
}

TEST(EventdMessages, NothingThatIsCutShortOrTooLongDecodes) {
  const EventRecord record = some_record();
  for (Bytes whole : {encode_request(run_request()), encode_reply(1, Command::Status, 0, &record)}) {
    const bool request = decode_request(whole).has_value();
    for (std::size_t length = 0; length < whole.size(); ++length) {
      Bytes cut = whole.substr(0, length);
      EXPECT_FALSE(request ? decode_request(cut).has_value() : decode_reply(cut).has_value());
      // Also when the packet's own length agrees.
      if (length >= 4) {
        const auto said = static_cast<std::uint32_t>(length);
        std::memcpy(cut.data(), &said, sizeof(said));
        EXPECT_FALSE(request ? decode_request(cut).has_value() : decode_reply(cut).has_value()) << length;
      }
    }
    whole += 'x';
    EXPECT_FALSE(request ? decode_request(whole).has_value() : decode_reply(whole).has_value());
  }
}

}  // namespace
}  // namespace tdbmesh::eventd
