#pragma once
// What can go wrong in the environment. Normal outcomes of the protocol are named alternatives of what a
// function returns, not errors; our own bugs stop the program (check.h).

#include <string>
#include <tl/expected.hpp>

namespace tdbmesh {

enum class Fault {
  Malformed,     // bytes that do not decode, a value out of range
  NotFound,      // no such file, database, record
  Exists,        // it is there already
  StoreFull,     // map or disk full: this one operation did nothing
  StoreCorrupt,  // a database that must not be used as it is
  Busy,          // somebody else holds it now
  Unreachable,   // peer or service gone
  Refused,       // not allowed in this state
  Io,            // everything else the operating system says
};

struct Error {
  Fault fault = Fault::Io;
  std::string context;  // for people: what was attempted and what to do, e.g. "cannot open X: no such file"
};

template <class T = void>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> failure(Fault fault, std::string context) {
  return tl::unexpected<Error>(Error{fault, std::move(context)});
}

// "CONTEXT: strerror(errno)". Call it before anything else can change errno.
[[nodiscard]] tl::unexpected<Error> system_failure(std::string context);

}  // namespace tdbmesh
