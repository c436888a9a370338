#include "ipfailover/event_requests.h"

namespace tdbmesh {

std::string_view event_name(EventKind kind) {
  switch (kind) {
    case EventKind::Init: return "init";
    case EventKind::Setup: return "setup";
    case EventKind::Startup: return "startup";
    case EventKind::StartRecovery: return "startrecovery";
    case EventKind::Recovered: return "recovered";
    case EventKind::TakeIp: return "takeip";
    case EventKind::ReleaseIp: return "releaseip";
    case EventKind::UpdateIp: return "updateip";
    case EventKind::StartIpReallocate: return "startipreallocate";
    case EventKind::IpReallocated: return "ipreallocated";
    case EventKind::Monitor: return "monitor";
    case EventKind::Shutdown: return "shutdown";
  }
  return "unknown";
}

EventRequest plain_event(EventKind kind) { return {kind, {}}; }

EventRequest take_ip_event(const std::string& interface, const std::string& address, std::uint32_t bits) {
  return {EventKind::TakeIp, {interface, address, std::to_string(bits)}};
}

EventRequest release_ip_event(const std::string& interface, const std::string& address, std::uint32_t bits) {
  return {EventKind::ReleaseIp, {interface, address, std::to_string(bits)}};
}

EventRequest update_ip_event(const std::string& old_interface, const std::string& new_interface,
                             const std::string& address, std::uint32_t bits) {
  return {EventKind::UpdateIp, {old_interface, new_interface, address, std::to_string(bits)}};
}

}  // namespace tdbmesh
