#pragma once
// The event daemon's protocol, as Debian's `ctdb event` and `ctdb scriptstatus` speak it: packets on a stream,
// native byte order, no padding.
//
//   packet  u32 length (of all of it)  u32 version = 0  u32 reqid  body
//   text    u32 length with the NUL, bytes; length 0 for none
//   time    i64 seconds  i64 microseconds
//
//   request  u32 command, then  1 RUN     text component  text event  text arguments  u32 timeout  u32 flags (1: all)
//                               2 STATUS  text component  text event
//                               3 SCRIPT  text component  text script  u32 action (0 disable, 1 enable)
//   reply    u32 command  i32 result, and for a STATUS with result 0: i32 summary  i32 count, then each script:
//            text name  time begin  time end  i32 result  text output
//
// Results are positive errno numbers. Pure.

#include <optional>
#include <string>

#include "db/base/bytes.h"
#include "db/base/result.h"
#include "ipfailover/script_runner.h"

namespace tdbmesh::eventd {

inline constexpr std::uint32_t kVersion = 0;
inline constexpr std::size_t kHeaderBytes = 12;
inline constexpr std::size_t kMaxRequest = 64 * 1024;

enum class Command : std::uint32_t { Run = 1, Status = 2, Script = 3 };

struct Request {
  std::uint32_t reqid = 0;
  Command command{};
  std::string component;
  std::string name;       // event, or script
  std::string arguments;  // RUN: words with blanks between them
  std::uint32_t timeout = 0;
  std::uint32_t flags = 0;  // RUN: 1 = all; SCRIPT: the action
};

// A whole packet, its length field included.
[[nodiscard]] Result<Request> decode_request(BytesView packet);
[[nodiscard]] Bytes encode_request(const Request& request);
[[nodiscard]] Bytes encode_reply(std::uint32_t reqid, Command command, std::int32_t result,
                                 const EventRecord* record = nullptr);
struct Reply {
  std::uint32_t reqid = 0;
  Command command{};
  std::int32_t result = 0;
  EventRecord record;
};
[[nodiscard]] Result<Reply> decode_reply(BytesView packet);

}  // namespace tdbmesh::eventd
