#pragma once
// A simulated cluster of whole nodes: the production Node on every machine, its clients, faults, and the
// checkers, which look at all nodes at once after every event.
//
//  I1  at most one member of the newest installed view, with an open gate, holds a record as dmaster
//  I2  one leader per term, one content per generation
//  I3  an acknowledged commit is in the copy of every member, from its answer on; one that was found absent after a
//      view change (status 2) in none
//  I4, I5  what clients see of records: ghost_log.h
//      ... also when a node leaves in order: what it knew is known to another one by then
//  I6  no gate is open outside the newest view
//  ... and nobody is called dead, or left out of a view, who is heard in time and has done nothing
//  I7  a public address answers from one machine at most (address_checks.h)
//  I8  once faults stop: one leader, all members, gates open, each client gets at each record, copies equal. Where one direction
//      of a link stays cut for good: all but one node, always the same, and no view change any more

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/ghost_log.h"
#include "tests/sim/silence_log.h"
#include "tests/sim/sim_lock.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/world.h"

namespace tdbmesh::sim {

struct ClusterSettings {
  std::size_t nodes = 3;
  Timing timing;
  bool lock = false;               // two nodes: the cluster lock is the third vote
  bool witness = false;            // the last node only votes: it leads nothing, keeps no directory, has no clients, no address
  std::vector<std::string> only_faults;  // kinds; empty: all that fit
  bool lock_only_at_node_0 = false;  // the nodes' configurations differ
  Duration vacuum_interval = milliseconds(300);
  std::size_t vacuum_batch = 1000;
  std::size_t record_clients = 3;  // per node
  std::size_t commit_clients = 1;
  std::size_t talk_clients = 1;
  bool asking = false;             // clients that ask other daemons all the time
  bool judge_silence = true;       // who is called dead or left out must have given a reason
  bool change_nodes = false;       // a node is taken out of the nodes file and put back, under load
  bool visitors = false;           // a database that clients attach and an operator detaches
  bool lasting_cut = false;        // when the faults stop, one direction of one link stays cut; three nodes and more
  std::size_t addresses = 0;       // public addresses, every node may host each
  bool store_faults = true;
  bool trace = false;
  // Planted bugs beneath the node; those in its cores: plants.h.
  struct Plants {
    bool forget_vote = false;       // a start knows nothing of the vote that was on its disk
    bool forget_accepted = false;   // ... nor of the view it had accepted
    bool ignore_gate = false;       // clients work although the gate is closed
    bool lie_about_disk = false;    // the last node says "durable" of what it never writes
    bool hide_attached = false;     // what a node attached is not told to the others
    bool swallow_gaps = false;      // lost messages go unnoticed
    bool hide_missed = false;       // ... by who sent them
    RecordTestHooks records;
    bool keep_addresses = false;    // a node that lost its place or its lease does not drop its addresses
    bool no_supervisor = false;     // ... and nobody else drops them
    bool no_wait_for_released = false;  // the leader gives an address away before its owner said RELEASED
    bool ignore_numbers = false;    // an answer to an older TAKE or RELEASE counts for the newest
    bool any_generation = false;    // a TAKE of an older view is carried out
  } plants;
  [[nodiscard]] bool is_witness(Pnn pnn) const { return witness && number(pnn) + 1 == nodes; }
};

class NodeCluster {
 public:
  NodeCluster(std::uint64_t seed, ClusterSettings settings);
  ~NodeCluster();

  // Faults about once a second for so long, then none. False as soon as a checker objects: see violation().
  bool run_with_faults(Duration how_long);
  // No more faults: all must be well within the first bound, and every client through with all records and
  // databases within the second.
  bool run_until_well(Duration well_within, Duration round_within);
  [[nodiscard]] static std::vector<std::string> fault_kinds();

  // ---- for scenarios: single faults, and time in between ----
  // Runs until then, or until it is so. With a condition: whether it came about.
  bool run_for(Duration most, const std::function<bool()>& until);
  [[nodiscard]] bool well() { return why_not_well().empty(); }
  [[nodiscard]] SimNode* leader();
  void kill_daemon(SimNode& node, Duration restart_after);
  void power_off(SimNode& node, Duration restart_after);
  void isolate(SimNode& node, bool cut);
  void partition(std::uint64_t side, bool cut);  // bit n of `side`: where node n is
  void set_quality(SimNode& node, std::uint32_t loss_percent, Duration delay_most);
  void set_stopped(SimNode& node, bool stopped);
  // From node `from` to node `to` nothing arrives any more, until all links are healed.
  void cut_for_good(SimNode& from, SimNode& to);
  void heal_all_links();
  // False for the one that pays for a lasting cut: all others are well without it.
  [[nodiscard]] bool to_be_served(Pnn pnn) const;
  // Its line of the nodes file is commented out (its daemon ends for good), or comes back; all others reload.
  void set_listed(SimNode& node, bool listed);

  [[nodiscard]] const std::string& violation() const { return violation_; }
  // The last steps before the violation, one per line.
  [[nodiscard]] std::string recent() const;
  struct Counts {
    std::uint64_t views = 0;
    std::uint64_t leaders = 0;
    std::map<std::string, std::uint64_t> faults;  // by kind
    std::uint64_t operations = 0;  // on records, by clients
    std::uint64_t commits = 0;
    std::uint64_t leaves = 0;  // in order, with everything handed over
    std::uint64_t traverses = 0;
    std::uint64_t detaches = 0;
    Duration to_well{0};
    Duration round{0};
  };
  [[nodiscard]] Counts& counts() { return counts_; }

  // ---- for nodes and clients ----
  [[nodiscard]] World& world() { return world_; }
  [[nodiscard]] SimNetwork& network() { return network_; }
  [[nodiscard]] SimLock& lock() { return lock_; }
  [[nodiscard]] GhostLog& ghost() { return ghost_; }
  [[nodiscard]] SilenceLog& silence() { return silence_; }
  [[nodiscard]] const ClusterSettings& settings() const { return settings_; }
  [[nodiscard]] SimNode& node(Pnn pnn) { return *nodes_[number(pnn)]; }
  void fail(const std::string& what);
  void trace(Pnn pnn, const std::string& what);
  void trace_message(Pnn from, Pnn to, MessageKind kind, BytesView body);
  void stores_changed() { stores_changed_ = true; }
  [[nodiscard]] bool unlisted(Pnn pnn) const { return unlisted_ == pnn; }
  [[nodiscard]] std::uint64_t file_number() const { return file_number_; }
  void note_leader(SimNode& node);
  void note_accepted(SimNode& node, const View& view);
  void note_installed(SimNode& node, const View& view);
  void note_proposed(SimNode& leader, const View& view);
  void check_called_dead(SimNode& by);
  void node_exited(SimNode& node);
  // The node says that it has handed over everything, and is about to leave.
  void note_drained(SimNode& node);
  // A client was told that this database is attached. When the view has stood for a while all members must have it.
  void note_attached(DatabaseId database);
  // The visitors' database was detached, as a client asked for at this time.
  void note_detached(Instant asked) {
    ++counts_.detaches;
    detached_since_ = asked;
  }
  [[nodiscard]] Instant detached_since() const { return detached_since_; }
  [[nodiscard]] ClientId next_client() { return ClientId{++last_client_}; }
  [[nodiscard]] std::uint64_t next_process() { return ++last_process_; }
  [[nodiscard]] std::uint64_t next_commit() { return ++last_commit_; }
  void commit_acknowledged(SimNode& node, DatabaseId database, const Bytes& commit);
  // Cut off by a view change, not there afterwards, and not tried again: it must not appear any more.
  void commit_is_absent(DatabaseId database, const Bytes& commit) { absent_.emplace_back(database, commit); }
  // The lock that stands for g_lock. Freed by a holder that died during a commit it is unclean: that commit
  // may still come to its end.
  [[nodiscard]] bool take_database_lock(DatabaseId database);
  void free_database_lock(DatabaseId database, bool commit_under_way);
  [[nodiscard]] bool database_lock_unclean(DatabaseId database) const { return unclean_.contains(database); }
  void database_lock_is_clean(DatabaseId database) { unclean_.erase(database); }

 private:
  // node_cluster.cc
  void check();
  void add_clients(SimNode& node);
  void check_owners();
  void check_witness(const SimNode& witness);
  void check_addresses();
  void check_gates();
  [[nodiscard]] bool in_good_standing(const Member& member);
  [[nodiscard]] bool undisturbed(SimNode& node, const View& others);
  void check_copy(SimNode& node, const char* when);
  void check_absent(SimNode& node);
  void check_copies_equal();
  void check_settled();
  [[nodiscard]] std::vector<SimNode*> served();
  [[nodiscard]] std::string why_not_well();
  [[nodiscard]] std::string why_round_not_done();

  // node_faults.cc
  struct Fault;
  [[nodiscard]] static const std::vector<Fault>& fault_table();
  void choose_faults();
  void fault();
  void fault_power_off(SimNode& node);
  void fault_disk_lost(SimNode& node);
  void fault_kill(SimNode& node);
  void fault_pause(SimNode& node);
  void fault_long_pause(SimNode& node);
  void fault_stall(SimNode& node);
  void fault_freeze(SimNode& node);
  void fault_stop(SimNode& node);
  void fault_ban(SimNode& node);
  void fault_recover(SimNode& node);
  void fault_shut_down(SimNode& node);
  void fault_cut_one_way(SimNode& node);
  void fault_cut_both_ways(SimNode& node);
  void fault_isolate(SimNode& node);
  void fault_isolate_shortly(SimNode& node);
  void fault_partition(SimNode& node);
  void fault_flap(SimNode& node);
  void fault_loss(SimNode& node);
  void fault_break_connection(SimNode& node);
  void fault_connect_twice(SimNode& node);
  void fault_slow_disk(SimNode& node);
  void fault_hanging_disk(SimNode& node);
  void fault_store_full(SimNode& node);
  void fault_store_failing(SimNode& node);
  void fault_lock_cut(SimNode& node);
  void fault_nodes_file(SimNode& node);
  void reload_everywhere();
  void fault_lock_lost(SimNode& node);
  void fault_lock_stuck(SimNode& node);
  void fault_all_die(SimNode& node);
  void fault_rolling_restart(SimNode& node);
  void heal();
  [[nodiscard]] bool votes(const SimNode& node) const;
  void cut_to_another(SimNode& node, bool both);
  void later_unless_healed(Duration delay, std::function<void()> what);
  [[nodiscard]] Duration for_a_while();
  [[nodiscard]] Duration until_restart();

  World world_;
  ClusterSettings settings_;
  SimNetwork network_;
  SimLock lock_;
  GhostLog ghost_;
  SilenceLog silence_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::string violation_;
  std::deque<std::string> recent_;
  Counts counts_;
  bool faults_on_ = false;
  std::vector<const Fault*> chosen_;
  std::uint64_t weights_ = 0;
  std::optional<Pnn> unlisted_;     // not in the nodes file
  std::uint64_t file_number_ = 0;   // how often that was changed
  std::optional<std::pair<Pnn, Pnn>> lasting_cut_;  // from, to
  std::optional<Pnn> disk_lost_;  // until that node is a member again
  bool stores_changed_ = false;
  std::map<std::uint64_t, std::pair<Pnn, Incarnation>> leaders_;  // by term
  std::map<Generation, View> contents_;
  std::optional<View> newest_;
  Generation proposed_;
  Instant detached_since_ = Instant::min();
  std::uint32_t last_client_ = 0;
  std::uint64_t last_process_ = 0;
  std::uint64_t last_commit_ = 0;
  std::vector<std::pair<DatabaseId, Bytes>> absent_;
  std::set<DatabaseId> locked_;
  std::set<DatabaseId> unclean_;
};

}  // namespace tdbmesh::sim
