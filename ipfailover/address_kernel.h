#pragma once
// What the pure side (takeover.h, tools/daemon/node_addresses.cc) asks of the operating system, and what it is told.
// The daemon implements AddressKernel with rtnetlink, raw sockets and the supervisor; the simulator with a fake
// network in which two owners of one address are a found bug.
//
// Contract
//  * One thread: the event loop's. No call blocks; none calls back into the caller. What happened arrives later as a
//    KernelEvent through Node::on_kernel(), in the order in which it happened.
//  * Commands about one address are carried out in the order given; different addresses do not wait for each other.
//  * `ticket` is chosen by the caller and returned in the event that ends the command. Each command with a ticket is
//    ended by exactly one event, also when it failed or was overtaken by drop_all().
//  * Times are boot-time instants (db/base/time.h).
//  * Addresses are host_only(): port 0, scope 0.
//
// Safety, which the shell owes without being asked
//  * An address stands in the kernel with a lifetime that ends soon after the last renew(). It is added with a lifetime
//    in the first place: there is no moment in which a frozen daemon leaves it behind for ever.
//  * take() is refused (Taken with an error) when the lease given with it or by the last renew() is over by the time
//    the shell gets to it: a process that was paused between decision and netlink adds nothing.
//  * When the gate lapses or the daemon dies, the supervisor deletes all public addresses within Timing::drop_allowance
//    (A), whatever the loop does; the loop then hears Vanished for each.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "db/base/time.h"
#include "ipfailover/public_address.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ipfailover {

using KernelTicket = std::uint64_t;  // never 0

// ---- commands ------------------------------------------------------------------------------------------

struct TakeCommand {
  KernelTicket ticket = 0;
  Address address;
  std::uint8_t prefix = 32;
  std::string interface;
  Instant lease_until{};  // the gate as the decider saw it; nothing may be added after it (see renew)
};

class AddressKernel {
 public:
  virtual ~AddressKernel() = default;

  // What this node may host, from public_addresses (and again after addip, delip, reloadips). The shell watches
  // these interfaces and addresses; an address that is not in the list is never touched again, except that one which
  // is held must have been released by the caller before. Answered by one InterfaceState per interface named.
  virtual void configure(const std::vector<PublicAddress>& addresses) = 0;

  // Adds the address to the interface, with a kernel lifetime, without duplicate address detection; then announces it
  // as announce() does. Already there with the same interface and prefix: success. On another interface: moved.
  // -> Taken when the kernel has it (announcing goes on by itself).
  virtual void take(const TakeCommand& command) = 0;

  // Deletes the address from whatever interface has it and destroys the TCP connections that end on it, without a
  // word to the peers (the next owner tickles them). Other addresses of the interface stay (secondaries too).
  // -> Released when the kernel has it no more. Not there: success at once.
  virtual void release(KernelTicket ticket, const Address& address) = 0;

  // Deletes every configured address that the kernel has, whoever put it there: at start, when own continuity is
  // broken, before the daemon ends. Takes that are under way or queued end with an error. -> Dropped.
  virtual void drop_all(KernelTicket ticket) = 0;

  // The lease (gate) now runs to `lease_until`: kernel lifetimes of all addresses held are prolonged to cover it.
  // Called in every turn in which it moved; the shell does at most as many netlink calls as the lifetimes' whole
  // seconds need. A lease that is over is not prolonged: the supervisor drops, the kernel forgets.
  virtual void renew(Instant lease_until) = 0;

  // Tells the neighbours where the address is: gratuitous ARP request and reply / unsolicited neighbour advertisement,
  // repeated as configured in the shell. No event. Not held here: the shell sends it all the same if `interface` is
  // one of its own (`ctdb gratarp`).
  virtual void announce(const Address& address, const std::string& interface) = 0;

  // For each connection a TCP ACK from the server's address and port to the client's, four times 1.1 s apart (CTDB:
  // three times): the client's answer is met by a RST and it connects anew at once. Stops for an address that is
  // released. No event; connections whose server is not held here are ignored.
  virtual void send_tickles(const std::vector<ctdb::Connection>& connections) = 0;

  // Destroys the TCP connections of this machine that end on the address (SOCK_DESTROY). No event.
  virtual void kill_connections(const Address& address) = 0;
};

// ---- events --------------------------------------------------------------------------------------------

struct Taken {
  KernelTicket ticket = 0;
  Address address;
  std::string error;  // empty: the kernel has it. For people: what failed and what to do
  friend bool operator==(const Taken&, const Taken&) = default;
};
struct Released {
  KernelTicket ticket = 0;
  Address address;
  std::string error;  // empty: the kernel has it no more
  friend bool operator==(const Released&, const Released&) = default;
};
struct Dropped {
  KernelTicket ticket = 0;
  std::vector<Address> found;  // what was there
  std::string error;           // something may still be there: this node must not report itself free
  friend bool operator==(const Dropped&, const Dropped&) = default;
};
// The kernel lost an address that was taken: its lifetime passed, the supervisor dropped it, an operator or a
// vanishing interface removed it. The caller takes it again if it is still its own.
struct Vanished {
  Address address;
  std::string why;
  friend bool operator==(const Vanished&, const Vanished&) = default;
};
// A configured address stands in the kernel although it was not taken (an operator's `ip addr add`). The caller
// releases it.
struct Appeared {
  Address address;
  std::string interface;
  friend bool operator==(const Appeared&, const Appeared&) = default;
};
// Link state of an interface named in configure(): after configure() and at each change. Absent: up = false.
struct InterfaceState {
  std::string interface;
  bool up = false;
  friend bool operator==(const InterfaceState&, const InterfaceState&) = default;
};

using KernelEvent = std::variant<Taken, Released, Dropped, Vanished, Appeared, InterfaceState>;

// ---- how the Node gets it ------------------------------------------------------------------------------
//   NodeEnvironment::address_kernel()  -> AddressKernel*   nullptr: this process hosts no addresses (a witness, tests)
//   Node::on_kernel(const KernelEvent&)                    one turn of the loop each, or several in one turn
// Node::start() calls configure() and drop_all() first, so what is found at start is gone before anything is taken.
// recovery::DropAddresses becomes drop_all(); CloseGate precedes it. The gate itself (gate word, supervisor's timer)
// is the heartbeat thread's business and does not pass through here.

}  // namespace tdbmesh::ipfailover
