#pragma once
// How the pure parts of a node ask for an event run, and what they get back.
//
// An event is a name that operators know from CTDB. Running it means: every enabled executable
// `NN.name.script` is called with the event's name and arguments, in order of NN, until one fails. The shell
// (script_runner.h) does that; the cores only say what they want:
//
//   services.run_event(take_ip_event("eth0", "10.0.0.5", 24), [this](const EventResult& r) { ... });
//
// Promises: `done` is called exactly once, in a later turn of the node and on its thread, unless the node
// ends first. Runs happen one after the other in the order asked for; a monitor run gives way to any other
// event (its result is then Cancelled) and is refused, also as Cancelled, while others are under way. Where no
// scripts are configured every event succeeds at once. The caller must outlive the node's turn handling, as all
// parts of a node do.
//
// Arguments are plain words; addresses are text without a port. Pure; owns nothing.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "db/base/time.h"

namespace tdbmesh {

enum class EventKind : std::uint8_t {
  Init,               // the daemon begins; its socket does not answer yet
  Setup,              // its socket answers
  Startup,            // the first view is in use: services are started
  StartRecovery,      // a view change begins
  Recovered,          // a view came into use
  TakeIp,             // INTERFACE ADDRESS BITS: the address was put on the interface
  ReleaseIp,          // INTERFACE ADDRESS BITS: the address was taken off the interface
  UpdateIp,           // OLD-INTERFACE NEW-INTERFACE ADDRESS BITS: it changed its interface on this node
  StartIpReallocate,  // addresses begin to move, on whichever node
  IpReallocated,      // all addresses are where they should be, on every node, whether this one had a change or not
  Monitor,            // is all well here?
  Shutdown,           // the daemon ends: services are stopped
};

// "init", "setup", "startup", "startrecovery", "recovered", "takeip", ...
[[nodiscard]] std::string_view event_name(EventKind kind);

struct EventRequest {
  EventKind kind{};
  std::vector<std::string> arguments;
};

[[nodiscard]] EventRequest plain_event(EventKind kind);  // one without arguments
[[nodiscard]] EventRequest take_ip_event(const std::string& interface, const std::string& address, std::uint32_t bits);
[[nodiscard]] EventRequest release_ip_event(const std::string& interface, const std::string& address,
                                            std::uint32_t bits);
[[nodiscard]] EventRequest update_ip_event(const std::string& old_interface, const std::string& new_interface,
                                           const std::string& address, std::uint32_t bits);

// What CTDB calls an address without an interface.
inline constexpr std::string_view kNoInterface = "__none__";

struct EventResult {
  enum class Outcome : std::uint8_t {
    Ok,
    Failed,     // a script said no, or could not be run
    TimedOut,   // EventScriptTimeout was over; the script and all its children were killed
    Cancelled,  // a monitor run gave way, or the daemon ends
  };
  Outcome outcome = Outcome::Ok;
  std::int32_t status = 0;  // 0, the script's exit status, or a negative errno
  std::string script;       // the one that failed, "50.samba"; empty if none did
  std::string output;       // its output, bounded, without the last newline

  [[nodiscard]] bool ok() const { return outcome == Outcome::Ok; }
};

using EventDone = std::function<void(const EventResult&)>;

}  // namespace tdbmesh
