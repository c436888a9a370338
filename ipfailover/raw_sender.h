#pragma once
// Sends the packets of packets.h. Non-blocking: what the kernel has no room for is dropped, as packets may be.
// Threads: one at a time. Needs CAP_NET_RAW.

#include <string>

#include "db/base/result.h"
#include "ipfailover/packets.h"

namespace tdbmesh::ipfailover {

class RawSender {
 public:
  RawSender() = default;
  ~RawSender();
  RawSender(const RawSender&) = delete;
  RawSender& operator=(const RawSender&) = delete;

  // Tells the neighbours on `interface` that `address` is here: ARP request and reply, or a neighbour advertisement.
  // Interfaces without hardware addresses (lo, tunnels) need none: nothing is sent.
  [[nodiscard]] Result<> announce(const Address& address, const std::string& interface);
  // The source address need not be on this machine.
  [[nodiscard]] Result<> send(const TcpSegment& segment);

 private:
  [[nodiscard]] Result<int> opened(int& fd, int domain, int type, int protocol);
  int packet_fd_ = -1;
  int v4_fd_ = -1;
  int v6_fd_ = -1;
};

}  // namespace tdbmesh::ipfailover
