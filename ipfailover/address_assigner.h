#pragma once
// The leader's side of takeover: who shall have which address, and in which order that comes about. Pure: no clock, no
// I/O; every event appends to `out` what its owner has to do. One per node; it works only while that node leads a view
// that all members have installed and has heard what each of them holds in that view.
//
// Rules (README.md says why):
//  * An address is Free, Taking, Held or Releasing. TAKE only for a free one; a free one is one that no member reported,
//    or whose owner said RELEASED, TAKEFAILED or LOST in this generation. Members that are gone were fenced before the
//    view was installed.
//  * Two members that both report an address: the one that was in without interruption keeps it, the other releases it.
//  * Before the first TAKE or RELEASE all members hear that a run starts, and after the last one who hosts what. Nobody
//    waits for what their scripts make of the former.
//  * Each TAKE and RELEASE has the next number of its address. A LOST with a lower number than the last TAKE is older
//    than that TAKE and is ignored.
//  * No RELEASED within Timing::release_limit: LeaveOut{owner}; the view without it frees the address.
//  * A node that failed to take an address is passed over for it for 0.2 s, 0.4 s ... 30 s.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "db/base/node_flags.h"
#include "db/base/time.h"
#include "db/view.h"
#include "ipfailover/allocation.h"
#include "ipfailover/takeover_messages.h"

namespace tdbmesh::ipfailover {

struct SendTakeover {  // may be to oneself
  Pnn to{};
  TakeoverMessage message;
};
struct LeaveOut {  // recovery::ControlPlane::report_member
  Pnn pnn{};
  std::string reason;
};
struct RunEnded {  // start_run(token) is done: nothing is on its way any more
  std::uint64_t token = 0;
};
struct AssignerLog {
  bool warning = false;
  std::string text;
};
// What was decided about an address and why, for `tdbmesh why ip`.
struct AssignerDecision {
  Address address;
  std::string text;
};
using AssignerAction = std::variant<SendTakeover, LeaveOut, RunEnded, AssignerLog, AssignerDecision>;
using AssignerActions = std::vector<AssignerAction>;

struct AssignerSettings {  // of the leader: its tunables and files
  Policy policy = Policy::Lcp2;
  bool no_failback = false;
  bool host_on_all_disabled = false;  // NoIPHostOnAllDisabled = 0: when no node is healthy, unhealthy ones host
  std::size_t configured_nodes = 0;
  std::map<Address, Pnn> homes;
  friend bool operator==(const AssignerSettings&, const AssignerSettings&) = default;
};

class AddressAssigner {
 public:
  AddressAssigner(Pnn self, Duration release_limit) : self_(self), release_limit_(release_limit) {}

  // This node leads this view, which it has just installed: reports may come in.
  void begin(const View& view);
  // It does not lead any more, or a newer view is being prepared. Whatever was under way is the next leader's.
  void stop();
  // ViewInstalledByAll for the view of begin().
  void all_installed(Generation generation, Instant now, AssignerActions& out);
  // HostReport, AddressTaken, TakeFailed, AddressReleased, AddressLost, MoveWish.
  void on_message(Pnn from, const TakeoverMessage& message, Instant now, AssignerActions& out);
  // In every turn: cheap when nothing changed.
  void update(const AssignerSettings& settings, Instant now, AssignerActions& out);
  // `ipreallocate`: pins end, the policy is applied anew; RunEnded{token} follows. False: not working now.
  bool start_run(std::uint64_t token, Instant now, AssignerActions& out);
  void tick(Instant now, AssignerActions& out);
  [[nodiscard]] Instant next_wake() const;
  [[nodiscard]] bool working() const { return generation_ && installed_by_all_ && missing_.empty(); }

  struct TestHooks {  // planted bugs; never set in production
    bool no_wait_for_released = false;
    bool ignore_numbers = false;
  };
  void set_test_hooks(const TestHooks& hooks) { hooks_ = hooks; }

 private:
  enum class Phase { Free, Taking, Held, Releasing };
  struct Item {
    Phase phase = Phase::Free;
    Pnn owner = kNoPnn;  // while not Free
    std::uint64_t number = 0;
    Instant deadline = kNever;  // Releasing
    Pnn pin = kNoPnn;
    bool blamed = false;
    std::string why_free = "no node reported that it has it";  // while Free, or on the way there
    bool told_nobody = false;                                  // that no node can host it
  };
  struct Penalty {
    Instant until{};
    Duration wait{0};
  };
  struct Wish {
    Pnn from{};
    std::uint64_t id = 0;
    Address address;
    Pnn to = kNoPnn;
  };

  void on_report(Pnn from, const HostReport& report, Instant now, AssignerActions& out);
  void begin_from_reports(AssignerActions& out);
  void decide(Instant now, AssignerActions& out);
  void settle(Instant now, AssignerActions& out);
  void say_that_a_run_starts(AssignerActions& out);
  void send_release(const Address& address, Item& item, Instant now, AssignerActions& out);
  void send_take(const Address& address, Item& item, Pnn to, AssignerActions& out);
  void penalise(const Address& address, Pnn node, Instant now);
  void answer_wishes(Instant now, AssignerActions& out, bool settled);
  [[nodiscard]] AllocationInput allocation_input(Instant now) const;
  [[nodiscard]] std::vector<Pnn> eligible() const;
  // Why the node may not host the address now; empty: it may.
  [[nodiscard]] std::string objection(const Address& address, Pnn node, Instant now) const;
  [[nodiscard]] std::string why_moved(const Address& address, const Item& item, Pnn wanted, Instant now) const;
  void tell_nobody(const Address& address, Item& item, Instant now, AssignerActions& out) const;
  [[nodiscard]] Item* item_of(Pnn from, Generation generation, const Address& address);

  Pnn self_;
  Duration release_limit_;
  std::optional<Generation> generation_;
  bool installed_by_all_ = false;
  std::map<Pnn, Generation> joins_;  // members
  std::set<Pnn> missing_;            // whose report is not in
  std::map<Pnn, HostReport> reports_;
  std::map<Address, Item> items_;
  std::map<std::pair<Address, Pnn>, Penalty> penalties_;
  AssignerSettings settings_;
  std::vector<Wish> wishes_;
  std::vector<std::uint64_t> runs_;
  std::vector<HostTable::Entry> told_;  // newest table sent
  bool told_once_ = false;
  bool dirty_ = false;
  bool run_started_ = false;  // RunStarts was sent, no table yet
  TestHooks hooks_;
};

}  // namespace tdbmesh::ipfailover
