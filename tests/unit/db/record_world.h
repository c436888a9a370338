#pragma once
// A small cluster for the record protocol alone: whole RecordRouters over the store in memory, FIFO links,
// clients that work as Samba does (chain lock, look, store, or ask the daemon and try again), and a leader that
// knows everything and does view changes step by step, so that anything can happen in between. One seed, one
// run. Checks after every step; a violation is kept as text and ends the run.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "db/base/random.h"
#include "db/memory_store.h"
#include "db/record_router.h"

namespace tdbmesh::test {

// Rules left out on purpose (numbers: counterexamples of the protocol page). The world notices each; what is rarer than
// once in thousands of runs is held by an example, see tests/sim/README.md.
enum class Plant {
  None,
  InstallWithoutLeases,    // 1
  OldGrantAccepted,        // 2
  MajorityOfAnswers,       // 4
  ForwardWithoutAfter,     // 7
  KeepsRecordsOnReturn,    // 10
  LossWithoutView,         // 11
  MigratedFlagLost,        // 21
  RevokeSkipped,           // 23
  LeaverForgetsCopies,     // 27
  LeaverDoesNotAsk,        // 28
  UnstoredLeavesNoBackup,  // 29
};

struct WorldOptions {
  std::uint64_t seed = 1;
  unsigned nodes = 3;
  unsigned keys = 2;
  unsigned clients = 2;  // per node
  unsigned steps = 600;
  bool crashes = true;
  bool view_changes = true;
  bool losses = true;
  bool vacuum = true;
  bool readonly = true;
  bool full_stores = true;  // stores have no room for a while
  bool leaves = true;   // nodes leave in order now and then
  unsigned leave_every = 250;  // steps, on average
  Plant plant = Plant::None;
  bool trace = false;
};

class RecordWorld {
 public:
  explicit RecordWorld(const WorldOptions& options);
  // Runs faults for `steps`, then without faults until everybody has finished. Empty: all went well.
  std::string run();
  [[nodiscard]] RecordCounters counters() const;
  [[nodiscard]] std::uint64_t operations() const { return operations_; }
  [[nodiscard]] std::uint64_t left_in_order() const { return left_in_order_; }

 private:
  enum class Doing { Idle, WantLock, Locked, Waiting, WaitingRead };
  struct Client {
    Doing doing = Doing::Idle;
    bool remove = false;
    std::size_t key = 0;
    CallId call{};
    std::uint64_t floor = 0;  // newest version when the read began
  };
  struct Node {
    Pnn pnn{};
    bool alive = false;
    Incarnation incarnation = 0;
    std::uint64_t continuity = 0;  // changes whenever its records are dropped
    Generation join;
    bool gate = false;
    bool leaving = false;  // drains
    bool left = false;     // ... is done with it, and is left out of the next view
    bool removed = false;  // left out of a view that is in force; its records count no more
    std::unique_ptr<MemoryStore> store;
    MemoryDatabase* database = nullptr;
    std::unique_ptr<RecordRouter> router;
    View accepted;
    View installed;
    std::vector<Client> clients;
    std::set<std::pair<Bytes, Bytes>> chain_waits;
    std::map<std::size_t, std::pair<Rsn, Bytes>> seen;  // what the store held after the last step
  };
  struct Packet {
    Incarnation incarnation = 0;
    Bytes body;
    std::uint64_t version = 0;  // of a GRANT: what it carries
  };
  // One version of one key; it counts as long as a node that ever had it was not interrupted since.
  struct Version {
    bool removed = false;
    bool permanent = false;  // a vacuum finished with it
    std::set<std::pair<unsigned, std::uint64_t>> had;
  };
  struct Change {
    View view;
    std::set<Pnn> to_prepare;
    std::set<Pnn> prepared;
    std::set<Pnn> to_install;
    std::set<std::uint32_t> incomplete;
    bool installing = false;
  };

  void step(bool faults);
  void boot(Node& node);
  void crash(Node& node);
  void perform(Node& node, RecordActions actions);
  void deliver(unsigned from, unsigned to);
  void client_step(Node& node, std::size_t index);
  void client_work(Node& node, Client& client, std::size_t index);
  void start_read(Node& node, Client& client);
  void answer(Node& node, const AnswerCall& answer);
  void cut_clients(Node& node);
  void want_view(bool same_members);
  void control_step();
  void prepare(Node& node);
  void try_install();
  void set_gate(Node& node, bool open);
  void observe();
  void leave(Node& node);
  void look_at_leavers();
  void check_owners();
  void fail(std::string what);
  template <class... Args>
  void note(const char* format, Args... args);
  [[nodiscard]] Bytes key(std::size_t index) const { return "key" + std::to_string(index); }
  [[nodiscard]] std::size_t index_of(BytesView key) const;
  [[nodiscard]] std::uint64_t version_of(std::size_t key, BytesView value) const;
  [[nodiscard]] std::uint64_t newest(std::size_t key, std::uint64_t below = ~0ull,
                                     std::optional<Pnn> without = {}) const;
  void check_seen(const Node& node, std::size_t key, BytesView value, std::uint64_t floor, bool exact,
                  std::string_view what);
  void tamper(unsigned from, unsigned to, Bytes body);
  [[nodiscard]] bool settled() const;

  WorldOptions options_;
  Random random_;
  Instant now_{};
  std::vector<Node> nodes_;
  std::map<std::pair<unsigned, unsigned>, std::deque<Packet>> links_;
  std::optional<Change> change_;
  View newest_accepted_;
  View newest_installed_;
  std::uint32_t serial_ = 0;
  bool want_view_ = true;
  std::uint64_t next_call_ = 1;
  std::map<std::size_t, std::vector<Version>> versions_;  // index 0: never written
  std::vector<std::set<std::pair<unsigned, std::uint64_t>>> owners_before_;
  std::uint64_t operations_ = 0;
  std::uint64_t left_in_order_ = 0;
  std::string failure_;
  std::string trace_;
};

}  // namespace tdbmesh::test
