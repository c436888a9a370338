#pragma once
// Who is in charge: the composition of membership, election, quorum and view changes for one node. Pure and
// deterministic: it reads no clock, does no I/O and keeps no reference to anything outside. Every event method
// appends to `out` what the owner has to do, in order. The rules and why they are so: recovery/README.md.
//
// The owner (tools/daemon/node, or the simulator) keeps these promises:
//  * One thread. In each turn of its loop it first calls on_tick() with a fresh snapshot of the heartbeat core
//    (also when the heartbeat thread says that something changed, and when next_wake() is due), then hands in
//    messages and other events of that turn with the same `now`.
//  * Actions are carried out in order, at once. SetSupport, CloseGate, PermitGate and Announce go straight
//    to the heartbeat core. Nothing is ever waited for: what takes time is answered by an event later.
//  * Persist: the bytes are written durably by a worker; on_persisted(ticket) says that this and all older ones
//    are durable. A crash loses what was not reported; nothing here relies on it before.
//  * Send never reaches oneself; messages to oneself are handled inside.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/time.h"
#include "db/view.h"
#include "recovery/cluster_lock.h"
#include "recovery/messages.h"
#include "recovery/persisted_state.h"
#include "transport/heartbeat_core.h"
#include "transport/timing.h"

namespace tdbmesh::recovery {

// ---- actions -------------------------------------------------------------------------------------------

struct SendControl {  // MessageKind::Control
  Pnn to{};
  Bytes bytes;
};
struct Persist {
  Bytes state;  // encode(PersistedState)
  std::uint64_t ticket = 0;
};
struct SetSupport {  // HeartbeatCore::set_support
  SupportTable table;
};
struct SetVoters {  // HeartbeatCore::set_voters
  VoterRule rule;
};
struct Announce {  // HeartbeatCore::set_announcement
  Announcement said;
};
struct CloseGate {};   // HeartbeatCore::close_gate, and the shared-memory gate word at once
struct PermitGate {};  // HeartbeatCore::permit_gate: the lease may open the gate from now on
// Own continuity is broken: delete all public addresses from the kernel now (no answer needed).
struct DropAddresses {};
// Empty volatile and replicated databases, forget all record state; answer on_volatile_dropped(). Not given if
// nothing was installed since the last time.
struct DropVolatile {
  std::uint64_t ticket = 0;
};
// A view was accepted (or adopted: then this node may not be in it). Stop migrations and persistent writes,
// refuse everything older than the view's generation from nodes that are not in it (record-protocol 4). Clients
// go on with the records they own.
struct PrepareView {
  View view;
  bool continuity_broken = false;  // this node comes in as new, or is out: its record state ends here
};
// Report all persistent and replicated copies as they are once no write is under way: on_copies(generation).
struct AskCopies {
  Generation generation;
};
// This node's copy differs: fetch the whole copy (or what is missing) from `source`, durably; create the
// database if it is not there. Answer on_settled(). Given once per generation and database. A Settle of an older
// generation that is still running may be abandoned.
struct SettleCopy {
  Settle what;
};
// Before this node asks to join: bring the persistent copies near to those of `source`, a member, while commits go
// on there; what is left is settled in the view change, whose length then does not depend on the databases' size. Answer
// on_caught_up(), also if it did not work. A PrepareView ends it without an answer.
struct CatchUp {
  Pnn source{};
};
// The view is in use: records and commits resume in it (record-protocol 4, "install").
struct InstallView {
  View view;
};
struct BecameLeader {
  std::uint64_t term = 0;
};
struct LostLeader {
  std::string why;
};
// This node leads and every member reported INSTALLED for this view, with the addresses it holds: addresses
// may be assigned, RECONFIGURE be sent.
struct ViewInstalledByAll {
  View view;
  std::map<Pnn, std::vector<std::string>> addresses;
};
struct LeaderChanged {  // as seen from here; kNoPnn: none
  Pnn leader = kNoPnn;
};
// Cluster lock (two nodes): hold it with this record in its register / let it go (ClusterLock::want, release).
// Given again when the record changes. Answer each change of ClusterLock::status() with on_lock().
struct LockTry {
  LockRecord record;
};
struct LockRelease {};
struct LogLine {
  enum class Level { Debug, Info, Warning, Error } level = Level::Info;
  std::string text;
};
// begin_shutdown() is complete: the daemon may end, nobody needs to wait for its fence.
struct ShutdownReady {};

using Action = std::variant<SendControl, Persist, SetSupport, SetVoters, Announce, CloseGate, PermitGate, DropAddresses,
                            DropVolatile, PrepareView, AskCopies, SettleCopy, CatchUp, InstallView, BecameLeader, LostLeader,
                            ViewInstalledByAll, LeaderChanged, LockTry, LockRelease, LogLine, ShutdownReady>;
using Actions = std::vector<Action>;
[[nodiscard]] std::string describe(const Action& action);  // for traces

// ---- events with content -------------------------------------------------------------------------------

struct ControlPlaneConfig {
  Pnn self{};
  ClusterConfig cluster;        // from the files; where a view was accepted before, its configuration rules
                                // and becomes that of the files step by step (reconfiguration.h)
  Timing timing;
  std::uint32_t capabilities = kCapabilityLeader | kCapabilityLmaster;
  bool start_stopped = false;   // begin with the STOPPED flag
  bool start_disabled = false;
  std::uint32_t version = 1;    // protocol version: nodes of another one are not admitted
  std::uint64_t seed = 0;       // of the election jitter
  // A cluster lock is configured. Where it is no vote (quorum.h), the leader of a running view holds it all the same,
  // so that an old CTDB that was left running shows; nothing ever waits for it.
  bool advisory_lock = false;
  std::string lock_name;        // as configured; for people
  bool flap_guard = true;       // nodes that come and go are admitted with a growing delay
};

class ControlPlane {
 public:
  // `state` is what was durable when the daemon started, with `incarnation` already raised by 1 and durable.
  // start() must follow at once.
  ControlPlane(ControlPlaneConfig config, PersistedState state);
  ~ControlPlane();
  ControlPlane(ControlPlane&&) noexcept;
  ControlPlane& operator=(ControlPlane&&) noexcept;

  // First actions: support table, voters, announcement, the gate stays closed, addresses are dropped.
  // The owner has emptied volatile databases before.
  void start(Instant now, Actions& out);

  // ---- events ----
  void on_tick(const HeartbeatTable& table, Instant now, Actions& out);
  void on_message(Pnn from, Incarnation incarnation, BytesView bytes, Instant now, Actions& out);
  void on_persisted(std::uint64_t ticket, Instant now, Actions& out);
  void on_copies(Generation asked, std::vector<CopyReport> copies, std::vector<std::uint32_t> incomplete_slots,
                 Instant now, Actions& out);
  void on_volatile_dropped(std::uint64_t ticket, Instant now, Actions& out);
  void on_settled(Generation generation, DatabaseId db, bool ok, std::string reason, Instant now, Actions& out);
  void on_caught_up(Pnn source, Instant now, Actions& out);
  void on_link_gap(Pnn peer, Instant now, Actions& out);  // data messages from it are missing: BUMP
  void on_link_reset(Pnn peer, Incarnation incarnation, Instant now, Actions& out);  // a hint that its daemon died
  void on_fenced(Pnn pnn, Incarnation incarnation, Instant now, Actions& out);
  void on_lock(const LockStatus& status, Instant now, Actions& out);
  void request_bump(std::string reason, Instant now, Actions& out);  // from the records
  // A member's store failed or a commit was not durable in time: it is left out for a while, with this reason
  // (if it is the leader, it hands over and is left out by the next one). May be this node itself.
  void report_member(Pnn pnn, std::string reason, Instant now, Actions& out);
  void request_recovery(Instant now, Actions& out);  // operator: a new view although nothing changed
  void begin_shutdown(Instant now, Actions& out);    // ShutdownReady follows, at the latest after timing.fence(),
                                                     // or kLockHandOver if the other node needs the lock for it

  // The nodes file was read anew (`reloadnodes`). The leader takes the configuration there step by step, as soon as
  // all reachable nodes of the file have the same one. Nothing happens, and the reason is returned, if it must not
  // be taken up.
  std::string set_files(const ClusterConfig& files, Instant now, Actions& out);

  // ---- what the operator and the node's checks set; announced at once ----
  // Own flags among unhealthy, disabled, stopped, banned. Stopping or banning leaves the view in order.
  void set_flags(NodeFlags flags, Instant now, Actions& out);
  void set_capabilities(std::uint32_t capabilities, Instant now, Actions& out);
  void set_addresses(std::vector<std::string> held, Instant now, Actions& out);

  // ---- what others may know ----
  [[nodiscard]] Instant next_wake() const;
  // How many events there were: whatever is asked about below changes with one of them only.
  [[nodiscard]] std::uint64_t events() const;
  [[nodiscard]] const View* installed_view() const;  // in use now; null outside
  [[nodiscard]] const View* accepted_view() const;   // newest accepted; may be newer than the installed one
  // The generation of the installed view is durable. Until then no persistent write of that view may be
  // reported durable to others (control-plane 2).
  [[nodiscard]] bool installed_durable() const;
  [[nodiscard]] Pnn leader() const;                  // kNoPnn if none is known
  [[nodiscard]] bool leading() const;
  [[nodiscard]] std::uint64_t term() const;
  [[nodiscard]] bool in_recovery() const;            // no view in use, or a view change under way here
  [[nodiscard]] NodeFlags own_flags() const;
  [[nodiscard]] const ClusterConfig& cluster() const;  // agreed
  [[nodiscard]] const ClusterConfig& files() const;    // of the nodes file, as read last
  [[nodiscard]] Incarnation incarnation() const;
  // Flags of any configured node as seen from here, DISCONNECTED included.
  [[nodiscard]] NodeFlags flags_of(Pnn pnn) const;
  // Why another node counts as DISCONNECTED here; empty if it does not.
  [[nodiscard]] std::string why_disconnected(Pnn pnn) const;
  [[nodiscard]] std::uint32_t capabilities_of(Pnn pnn) const;
  // Why this node, or the cluster, does not serve fully; one line each, nothing when all is well.
  [[nodiscard]] std::vector<std::string> status_reasons(Instant now) const;
  // The cluster lock as this node sees it, for people: "held by this node", "not held by this node", "awaited for
  // 3.2 s: WHY"; empty if none is configured.
  [[nodiscard]] std::string lock_state(Instant now) const;
  // Newest state, for tests and the simulator's checkers.
  [[nodiscard]] const PersistedState& state() const;

  struct TestHooks {  // planted bugs; never set in production
    bool skip_fence = false;
    bool forget_vote = false;
    bool skip_carriers = false;
    bool jump_configuration = false;  // all voters at once, without asking the old ones [ce 17]
  };
  void set_test_hooks(const TestHooks& hooks);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tdbmesh::recovery
