#pragma once
// The node's side of takeover: what this node may host, what its kernel has, and what it answers the leader. Pure: no
// clock, no I/O; every event appends to `out` what its owner has to do, in order.
//
//  * A TAKE is accepted iff its generation is the installed and the newest accepted one, the gate is open, nothing is
//    being dropped, and no higher number was seen for the address. A RELEASE is always carried out.
//  * Own continuity broken, the gate lapsed, start: everything is dropped (drop()). Until the kernel says that it is done
//    the node goes on reporting what it had as held.
//  * What the kernel may have is reported as held, never as free; what is gone unasked is said (LOST).
//  * A take that failed is followed by a release, and TAKEFAILED is said only when the kernel confirmed that.
//
// Each kernel command has a ticket; of an address only the newest command counts.

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "db/base/time.h"
#include "db/view.h"
#include "ipfailover/address_kernel.h"
#include "ipfailover/allocation.h"
#include "ipfailover/takeover_messages.h"

namespace tdbmesh::ipfailover {

struct SayToLeader {  // to the leader of the installed view; may be this node
  TakeoverMessage message;
};
struct KernelConfigure {
  std::vector<PublicAddress> addresses;
};
struct KernelTake {  // AddressKernel::take; the owner adds the lease
  KernelTicket ticket = 0;
  Address address;
  std::uint8_t prefix = 0;
  std::string interface;
};
struct KernelRelease {
  KernelTicket ticket = 0;
  Address address;
};
struct KernelDropAll {
  KernelTicket ticket = 0;
};
// The address answers here from now on: tickles, event `takeip`, TAKE_IP to clients. Moved: only the interface changed
// (event `updateip`).
struct Hosted {
  PublicAddress what;
  std::string interface;
  std::string before;  // the interface it stood on; empty: it is new here
};
// It answers here no more: event `releaseip`, RELEASE_IP to clients.
struct Unhosted {
  PublicAddress what;
  std::string interface;
};
// The leader says that addresses begin to move: event `startipreallocate`, START_IPREALLOCATE to clients.
struct ReallocationStarts {};
// The leader says that all is settled: event `ipreallocated`, IPREALLOCATED to clients.
struct Reallocated {};
struct HolderLog {
  bool warning = false;
  std::string text;
};
using HolderAction = std::variant<SayToLeader, KernelConfigure, KernelTake, KernelRelease, KernelDropAll, Hosted, Unhosted,
                                  ReallocationStarts, Reallocated, HolderLog>;
using HolderActions = std::vector<HolderAction>;

class AddressHolder {
 public:
  explicit AddressHolder(std::vector<PublicAddress> addresses);

  // First: configures the kernel and drops what is there.
  void start(HolderActions& out);
  // A newer view was accepted: no TAKE until one is installed.
  void prepare() {
    quiet_ = true;
    early_.clear();
  }
  // A view with this node in it is in use. Reports to its leader.
  void install(Generation generation, HolderActions& out);
  // A TAKE that came before the gate opened waits for it, for at most a second (a newcomer's gate opens with the next
  // heartbeats).
  void gate_opened(HolderActions& out);
  // Continuity broken, gate lapsed, leaving: everything goes now.
  void drop(const std::string& why, HolderActions& out);
  // TakeAddress, ReleaseAddress, RunStarts, HostTable from the leader of the installed view.
  void on_message(const TakeoverMessage& message, bool gate_open, HolderActions& out);
  void on_kernel(const KernelEvent& event, HolderActions& out);
  void tick(Instant now, HolderActions& out);  // what failed is tried again
  [[nodiscard]] Instant next_wake() const { return early_.empty() ? retry_at_ : std::min(retry_at_, early_until_); }

  // ---- the operator ----
  void set_no_takeover(bool no_takeover, HolderActions& out);
  void set_flags(NodeFlags flags, HolderActions& out);  // of this node; reported at once
  // Takes nothing more and asks to be relieved of what it has; empty() says when.
  void set_leaving(bool leaving, HolderActions& out);
  // addip, delip, reloadips. What is no longer listed is released by the leader first.
  void reconfigure(std::vector<PublicAddress> addresses, HolderActions& out);
  // setifacelink: what the operator says of a link, until the kernel says something new.
  bool set_link(const std::string& interface, bool up, HolderActions& out);

  // ---- what others may know ----
  [[nodiscard]] std::vector<PublicAddress> configured() const;  // in order of address
  [[nodiscard]] const PublicAddress* find(const Address& address) const;
  // Interface on which it stands; empty: not here. (What is on its way in or out is not here.)
  [[nodiscard]] std::string interface_of(const Address& address) const;
  [[nodiscard]] bool hosts(const Address& address) const { return !interface_of(address).empty(); }
  [[nodiscard]] bool available(const PublicAddress& address) const;
  [[nodiscard]] bool link_up(const std::string& interface) const;
  [[nodiscard]] std::map<std::string, std::uint32_t> interfaces() const;  // with the number of addresses on it
  [[nodiscard]] bool empty() const;  // the kernel has no public address, none is on its way
  // drop() has been called and the kernel has not confirmed it yet.
  [[nodiscard]] bool dropping() const { return dropping_ != 0 || drop_again_; }
  // Who hosts what, as the leader last said; kNoPnn if nobody does or it is not known.
  [[nodiscard]] Pnn host_of(const Address& address) const;
  [[nodiscard]] bool leaving() const { return leaving_; }

  struct TestHooks {  // planted bugs; never set in production
    bool keep_on_drop = false;
    bool any_generation = false;
  };
  void set_test_hooks(const TestHooks& hooks) { hooks_ = hooks; }

 private:
  enum class Doing { Nothing, Taking, Releasing };
  struct Item {
    PublicAddress what;
    bool listed = true;          // still configured
    Doing doing = Doing::Nothing;
    bool in_kernel = false;      // may be there
    std::string interface;       // where it is or goes
    std::string stood_on;        // hosted: where clients were told that it is
    KernelTicket ticket = 0;
    std::uint64_t number = 0;    // highest seen in this generation
    bool claimed = false;        // the leader of this generation believes that it is here
    std::uint64_t owed_release = 0;  // number of the RELEASE to be answered
    std::uint64_t owed_failure = 0;  // number of the TAKE that failed
    std::string reason;
    bool retry = false;
  };

  void report(HolderActions& out);
  void on_take(const TakeAddress& take, bool gate_open, HolderActions& out);
  void on_release(const ReleaseAddress& release, HolderActions& out);
  void command_release(Item& item, HolderActions& out);
  void command_take(Item& item, const std::string& interface, HolderActions& out);
  void gone(Item& item, const std::string& why, HolderActions& out);
  void on_links(HolderActions& out);
  void forget_unlisted(HolderActions& out);
  [[nodiscard]] std::string choose_interface(const Item& item) const;

  std::map<Address, Item> items_;
  std::map<std::string, bool> links_;
  std::map<Address, Pnn> table_;
  std::optional<Generation> generation_;
  bool quiet_ = true;
  bool no_takeover_ = false;
  NodeFlags flags_ = 0;
  bool leaving_ = false;
  KernelTicket last_ticket_ = 0;
  KernelTicket dropping_ = 0;  // 0: not
  bool drop_again_ = false;
  Instant retry_at_ = kNever;
  bool retry_wanted_ = false;
  std::map<Address, TakeAddress> early_;
  Instant early_until_ = Instant::min();  // min: to be set in the next tick
  TestHooks hooks_;
};

}  // namespace tdbmesh::ipfailover
