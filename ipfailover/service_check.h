#pragma once
// One built-in check of a service, as the operator wrote it. Pure.
//
//   [checks]
//     NAME = tcp ADDRESS:PORT               somebody accepts connections
//     NAME = unix PATH                      ... at a unix socket
//     NAME = http ADDRESS:PORT/PATH         the answer to a GET is 1xx to 4xx (a 5xx, or none, is a failure)
//     NAME = smb ADDRESS:PORT               an SMB2 negotiation succeeds
//     NAME = exec /PROGRAM [ARGUMENT...]    it exits with 0
//   each followed by any of  every=SECONDS (1)  limit=SECONDS (5)  fails=TIMES (1)
//
// ADDRESS is numeric; IPv6 in [ ]. Seconds may have a fraction. A check that fails `fails` times in a row makes the
// node unhealthy; one success makes it good again.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/base/result.h"
#include "db/base/time.h"

namespace tdbmesh {

struct ServiceCheck {
  enum class Kind { Tcp, Unix, Http, Smb, Exec };
  std::string name;
  Kind kind{};
  std::string address;  // tcp, http, smb: numeric
  std::uint16_t port = 0;
  std::string path;     // unix: socket; http: path; exec: program
  std::vector<std::string> arguments;
  Duration every = seconds(1);
  Duration limit = seconds(5);
  std::uint32_t fails = 1;
};

[[nodiscard]] Result<ServiceCheck> parse_check(const std::string& name, std::string_view text);

// What an smb check sends, and whether an answer (so far) is a negotiation that succeeded: nullopt while it is too
// short to say.
[[nodiscard]] std::string smb_negotiate_request();
[[nodiscard]] std::optional<bool> smb_negotiate_succeeded(std::string_view answer);
[[nodiscard]] std::string http_request(const ServiceCheck& check);
// nullopt while the status line is not complete; 0 if it is none.
[[nodiscard]] std::optional<int> http_status(std::string_view answer);

}  // namespace tdbmesh
