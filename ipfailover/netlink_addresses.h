#pragma once
// Addresses of this machine's interfaces, by rtnetlink. Thin and blocking (a call is some 20 us per address); for the
// supervisor and for tests, never for the event loop.
//
// Written on the bare netlink socket: many addresses go out in one system call, which is what makes a drop of a whole
// node's addresses fit into its few milliseconds.
//
// Threads: one at a time. Needs CAP_NET_ADMIN for everything that changes something (Fault::Refused without).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/result.h"
#include "ipfailover/public_address.h"

namespace tdbmesh::ipfailover {

// An address as the kernel has it.
struct KernelAddress {
  Address address;
  std::uint8_t prefix = 0;
  int interface_index = 0;
  std::string interface;
  std::uint8_t scope = 0;
  std::uint32_t flags = 0;                   // IFA_F_...
  std::optional<std::uint32_t> valid_seconds;  // what is left of its lifetime; none: it stays
  friend bool operator==(const KernelAddress&, const KernelAddress&) = default;
};

// What put() is to do for one address.
struct AddressToPut {
  Address address;
  std::uint8_t prefix = 32;
  std::string interface;
};

class NetlinkAddresses {
 public:
  [[nodiscard]] static Result<std::unique_ptr<NetlinkAddresses>> open();
  ~NetlinkAddresses();
  NetlinkAddresses(const NetlinkAddresses&) = delete;
  NetlinkAddresses& operator=(const NetlinkAddresses&) = delete;

  // Adds the address or prolongs the one that is there; usable when it returns (IPv6: no duplicate address detection, and
  // waits for the kernel, which receives for a new address only some time after it has said yes; 20 ms at most).
  // The kernel itself removes it `lifetime` seconds later (0: never). It keeps time in jiffies and looks once a second,
  // so it is gone between lifetime - 0.25 s and lifetime + 1 s. NotFound: no such interface.
  [[nodiscard]] Result<> put(const AddressToPut& address, std::uint32_t lifetime);
  // Many at once, without that wait: to prolong them. One result for each, in order.
  [[nodiscard]] std::vector<Result<>> put(const std::vector<AddressToPut>& addresses, std::uint32_t lifetime);

  // Removes exactly these. What is not there counts as removed. When the kernel takes secondary addresses of the same
  // network along (promote_secondaries off), those are put back as they were. One result for each, in order.
  [[nodiscard]] std::vector<Result<>> remove(const std::vector<KernelAddress>& addresses);

  // From now on nothing leaves this machine with one of these as its source, until unmute(): by a routing rule for each, so
  // that neither a retransmission nor the RST of a connection that is destroyed goes out beside the next owner. IPv6 alone
  // needs it; an IPv4 kernel sends from no address that it does not have. Where the kernel knows no such rules nothing is
  // done.
  void mute(const std::vector<KernelAddress>& addresses);
  void unmute(const std::vector<Address>& addresses);  // also of what is not muted

  // All addresses of all interfaces.
  [[nodiscard]] Result<std::vector<KernelAddress>> list();

  // So that removing a primary address keeps the others of its network. False: not allowed here.
  static bool promote_secondaries(const std::string& interface);

 private:
  explicit NetlinkAddresses(int fd) : fd_(fd) {}
  // Sends requests and waits for the answer to each; 0 or an errno value.
  std::vector<int> transact(std::vector<Bytes>& requests);
  // Does the kernel route to the address as to one of its own?
  bool receives_for(const Address& address);

  int fd_;
  std::uint32_t sequence_ = 0;
};

// ---- shared with the link monitor ------------------------------------------------------------------------
// One RTM_NEWADDR or RTM_DELADDR message; none if it is not about an IPv4 or IPv6 address.
[[nodiscard]] std::optional<KernelAddress> parse_address_message(const void* nlmsghdr);

}  // namespace tdbmesh::ipfailover
