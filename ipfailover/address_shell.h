#pragma once
// AddressKernel (address_kernel.h) of a real machine. Addresses are the supervisor's (supervisor.h), which this starts
// and watches: one that dies or no longer answers is killed and replaced, and the new one takes over what is held.
// Connections are the connection worker's. What changes behind our back (an operator's `ip addr`, a cable) a netlink
// socket tells.
//
// Threads: the event loop's. Events come from the loop, never from inside a call.

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ipfailover/address_kernel.h"
#include "ipfailover/connection_worker.h"
#include "ipfailover/netlink_addresses.h"
#include "ipfailover/supervisor_messages.h"
#include "transport/event_loop.h"

namespace tdbmesh::ipfailover {

// How often and when an address that was taken is announced besides at once.
[[nodiscard]] std::vector<Duration> default_announcements();

struct AddressShellSettings {
  supervisor::Setup setup;      // announce_after as default_announcements(), unless somebody knows better
  std::string supervisor_path;  // the program
  bool realtime = true;
  std::function<void(const KernelEvent&)> on_event;
  std::function<void(bool warning, const std::string& text)> log;
};

class AddressShell final : public AddressKernel {
 public:
  // Starts the supervisor. NotFound: its program is not there.
  [[nodiscard]] static Result<std::unique_ptr<AddressShell>> create(EventLoop& loop, AddressShellSettings settings);
  ~AddressShell() override;  // the supervisor then drops what is held, and ends when this process does

  // The nodes file was read anew: whom the supervisor tells.
  void set_peers(const std::vector<PeerAddress>& peers);

  // AddressKernel
  void configure(const std::vector<PublicAddress>& addresses) override;
  void take(const TakeCommand& command) override;
  void release(KernelTicket ticket, const Address& address) override;
  void drop_all(KernelTicket ticket) override;
  // Nothing to do: the supervisor reads the gate itself, which is the lease.
  void renew(Instant) override {}
  void announce(const Address& address, const std::string& interface) override;
  void send_tickles(const std::vector<ctdb::Connection>& connections) override { worker_.tickle(connections); }
  void kill_connections(const Address& address) override { worker_.kill(address); }

  // For tests and the log.
  [[nodiscard]] pid_t supervisor_pid() const { return pid_; }

 private:
  enum class State { Taking, Held, Releasing };
  struct Known {
    State state = State::Taking;
    supervisor::AddressOnInterface where;
    KernelTicket ticket = 0;
  };

  AddressShell(EventLoop& loop, AddressShellSettings settings);
  [[nodiscard]] Result<> start_supervisor();
  void stop_watching_supervisor();
  void supervisor_gone(const std::string& why);
  void check_supervisor();
  void send(const supervisor::Command& command);
  void flush();
  void on_supervisor();
  void on_report(const supervisor::Report& report);
  void vanished(const Address& address, const std::string& why);
  void emit(KernelEvent event);
  void held_changed();
  [[nodiscard]] Result<> watch_kernel();
  void plan_rescan();
  void rescan();
  [[nodiscard]] bool interface_up(const std::string& name) const;

  EventLoop& loop_;
  AddressShellSettings settings_;
  // Guards tasks left in the loop. Before worker_, whose report takes hold of it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  ConnectionWorker worker_;
  std::unique_ptr<NetlinkAddresses> addresses_;
  pid_t pid_ = -1;
  int socket_ = -1;
  int monitor_ = -1;
  int query_ = -1;
  std::deque<Bytes> outgoing_;
  std::deque<supervisor::Command> unanswered_;  // with tickets, in order; sent again to a new supervisor
  std::map<Address, Known> known_;
  std::vector<PublicAddress> configured_;
  std::map<std::string, bool> interfaces_;
  std::set<Address> appeared_;
  bool rescan_planned_ = false;
  std::uint64_t pings_ = 0;
  std::uint64_t pongs_ = 0;
  Instant ping_sent_{};
  bool start_failed_ = false;
};

}  // namespace tdbmesh::ipfailover
