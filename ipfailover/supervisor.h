#pragma once
// The supervisor: a small real-time process beside the daemon that alone touches public addresses, so that an address
// stands in the kernel only while the daemon lives and its gate is open.
//
//   * It carries out what the daemon asks (supervisor_messages.h), and looks at the gate before and after each address
//     it adds: a daemon that was frozen between its decision and now adds nothing.
//   * Addresses are added with a kernel lifetime of a second or two, renewed while the gate is open. When every process
//     of the node is dead or frozen, the kernel still takes them away.
//   * When the gate lapses (the daemon hangs, is stopped, the node is cut off) it removes all of them, at the moment of
//     the lapse.
//   * When the daemon ends, however it ends, it closes the gate, removes the addresses and tells every peer FENCED on a
//     connection of its own to the heartbeat port, so that nobody waits for the lease of a dead daemon.
//
// It is started by the daemon and not the other way round: to systemd and to the operator the daemon stays the main
// process. A pidfd tells the supervisor of its end as well as being its parent would. It ignores SIGTERM, SIGINT and
// SIGHUP (what ends a whole control group ends the daemon, and then the supervisor has work to do) and ends itself when
// that is done. If it dies, the daemon starts another one.
//
// Single-threaded; everything it does takes microseconds to a few milliseconds.

#include <sys/types.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "db/base/time.h"
#include "db/gate.h"
#include "ipfailover/netlink_addresses.h"
#include "ipfailover/raw_sender.h"
#include "ipfailover/supervisor_messages.h"

namespace tdbmesh::ipfailover::supervisor {

class Supervisor {
 public:
  // `socket`: to the daemon, owned from here on. Fails if the daemon has ended already or there is no netlink.
  [[nodiscard]] static Result<std::unique_ptr<Supervisor>> create(int socket, pid_t daemon);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Until the daemon has ended and everything is said.
  void run();

 private:
  struct Held {
    std::uint8_t prefix = 32;
    std::string interface;
    std::string renewal_error;  // the last one, so that it is told once
  };
  struct Announcement {
    Address address;
    std::string interface;
    bool only_while_held = true;
  };
  using Addresses = std::map<Address, std::vector<KernelAddress>>;

  Supervisor(int socket, int pidfd, int timer, std::unique_ptr<NetlinkAddresses> addresses)
      : socket_(socket), pidfd_(pidfd), timer_(timer), addresses_(std::move(addresses)) {}

  [[nodiscard]] bool read_commands();  // false: the daemon has closed its end
  void carry_out(Setup& m);
  void carry_out(Configure& m);
  void carry_out(Take& m);
  void carry_out(Release& m);
  void carry_out(DropAll& m);
  void carry_out(Announce& m);
  void carry_out(Ping& m);

  [[nodiscard]] bool gate_open() const;
  void look_at_gate(Instant now);
  void renew(Instant now);
  void announce_due(Instant now);
  void announce_now(const Announcement& what);
  void schedule(Instant now);
  // Removes what is configured or held and in the kernel; returns what was there.
  std::vector<Address> drop_all(std::string& error);
  [[nodiscard]] const Addresses& in_kernel();  // read at most once per wake-up
  [[nodiscard]] std::string remove(const Address& address);
  std::vector<Result<>> remove(const std::vector<KernelAddress>& places);  // silently: see NetlinkAddresses::mute
  void unmute_due(Instant now);
  void daemon_ended();
  void tell_peers();
  void end_connections(const std::set<Address>& of);
  void report(const Report& report);
  void flush_reports();

  int socket_;
  int pidfd_;
  int timer_;
  std::unique_ptr<NetlinkAddresses> addresses_;
  RawSender sender_;
  Setup setup_;
  std::unique_ptr<GateView> gate_;
  std::vector<PublicAddress> configured_;
  std::map<Address, Held> held_;
  std::multimap<Instant, Announcement> announcements_;
  std::map<Address, Instant> muted_;  // removed of late; until when
  std::optional<Addresses> in_kernel_;
  std::string list_error_;  // of the newest look; empty: it worked
  std::deque<Bytes> reports_;
  Instant last_open_until_{};  // deadline of the gate while addresses were last known to be covered by it
  Instant next_renewal_ = kNever;
  bool announce_failed_ = false;
};

}  // namespace tdbmesh::ipfailover::supervisor
