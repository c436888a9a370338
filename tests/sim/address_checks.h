#pragma once
// Public addresses in the simulated cluster: a machine's kernel with its supervisor (SimKernel), and the checkers.
//
//  I7  an address answers from at most one machine, and from none whose lease ended more than A ago
//  I8  once faults stop every address answers somewhere
//
// The kernel of a machine outlives its daemon. The supervisor is the worst that is promised: it drops what stands there
// only when the lease has been over for the whole allowance A, and of a machine that slept A after it woke; only who is
// told that a node is fenced may rely on its addresses being gone already. A frozen
// machine answers nobody and is not looked at until it wakes.

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "db/base/random.h"
#include "db/base/time.h"
#include "ipfailover/address_kernel.h"
#include "tools/daemon/node_config.h"

namespace tdbmesh::sim {

class SimKernel final : public ipfailover::AddressKernel {
 public:
  struct Hooks {
    std::function<Instant()> local;               // the machine's clock
    std::function<Instant()> lease_until;         // its gate
    // Runs after a delay in this life of the daemon, or never.
    std::function<void(Duration, std::function<void()>)> later;
    std::function<void(const ipfailover::KernelEvent&)> tell;  // in a turn of the node
    std::function<std::uint64_t(std::uint64_t)> random;        // below
  };
  SimKernel(Hooks hooks, Duration allowance) : hooks_(std::move(hooks)), allowance_(allowance) {}

  void configure(const std::vector<ipfailover::PublicAddress>& addresses) override;
  void take(const ipfailover::TakeCommand& command) override;
  void release(ipfailover::KernelTicket ticket, const ipfailover::Address& address) override;
  void drop_all(ipfailover::KernelTicket ticket) override;
  void renew(Instant) override {}
  void announce(const ipfailover::Address&, const std::string&) override {}
  void send_tickles(const std::vector<ctdb::Connection>&) override {}
  void kill_connections(const ipfailover::Address&) override {}

  // What the supervisor does by now. `awake_since`: of the machine.
  void supervise(Instant awake_since);
  void machine_died() { there_.clear(); }
  void dropped_before_fenced() { if (!no_supervisor) there_.clear(); }
  void daemon_started() { queue_.clear(); busy_ = false; }
  [[nodiscard]] const std::map<ipfailover::Address, std::string>& there() const { return there_; }
  bool no_supervisor = false;  // planted: a fenced machine keeps its addresses

 private:
  void enqueue(std::function<void()> what);
  void next();

  Hooks hooks_;
  Duration allowance_;
  std::vector<ipfailover::PublicAddress> configured_;
  std::map<ipfailover::Address, std::string> there_;
  std::deque<std::function<void()>> queue_;
  bool busy_ = false;
  Instant lease_ended_ = Instant::min();
  bool lease_open_ = false;
};

// `count` addresses in two networks, every third one IPv6.
[[nodiscard]] std::vector<ConfiguredAddress> sim_addresses(std::size_t count);

struct AddressView {  // of one machine
  Pnn pnn{};
  bool frozen = false;
  const SimKernel* kernel = nullptr;
};
// What is wrong with I7 now; empty if nothing is.
[[nodiscard]] std::string two_owners(const std::vector<AddressView>& machines);
// Which addresses nobody hosts.
[[nodiscard]] std::string not_hosted(const std::vector<ConfiguredAddress>& all, const std::vector<AddressView>& machines);

}  // namespace tdbmesh::sim
