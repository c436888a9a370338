#pragma once
// A process on a simulated machine that uses the cluster as Samba does: it attaches its databases through the
// daemon, speaks CTDB packets with it, and works in the node's store beneath it, under chain locks and the gate.
// It dies at random, when its daemon cuts it off and when it finds that its daemon is gone; then a new one begins.
//
// Derived: RecordClient (volatile databases), CommitClient (persistent ones), TalkClient (messages, traverses).

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/sim_node.h"
#include "transport/ctdb_wire.h"

namespace tdbmesh::sim {

class SimClient {
 public:
  SimClient(NodeCluster& cluster, SimNode& node) : cluster_(cluster), node_(node) {}
  virtual ~SimClient() = default;
  SimClient(const SimClient&) = delete;
  SimClient& operator=(const SimClient&) = delete;

  // A process begins after a while, if the machine is up.
  void begin(Duration after);
  void machine_died();
  void daemon_died();
  void packet_coming(ClientId id, Bytes packet);
  void closed_by_daemon(ClientId id);

  // From now on: does everything it can do once, then only waits. True when it is through.
  virtual void start_round() = 0;
  [[nodiscard]] virtual bool round_done() const = 0;
  [[nodiscard]] virtual std::string doing() const { return doing_; }

 protected:
  struct Wanted {
    std::string name;
    DatabaseKind kind = DatabaseKind::Volatile;
    bool readonly = false;
  };
  using Reply = std::function<void(const ctdb::Packet&)>;

  // All databases are attached.
  virtual void ready() = 0;
  // What is sent to a srvid that it registered.
  virtual void message(const ctdb::ReqMessage&) {}
  // The process is gone; chain locks are freed already.
  virtual void died() {}

  void want(Wanted database) { wanted_.push_back(std::move(database)); }
  [[nodiscard]] static DatabaseId id_of(const std::string& name);
  // Runs in this life of the process, later if the machine is frozen.
  void later(Duration delay, std::function<void()> what);
  [[nodiscard]] bool alive() const { return alive_; }
  [[nodiscard]] std::uint64_t process() const { return process_; }  // a number that no other process has
  // The process ends here, now. A new one begins later.
  void die(const char* why);
  void request(ctdb::Body body, Reply reply, std::uint32_t to = ctdb::kCurrentNode);
  // As the shim does with a closed gate. Dies if there is no daemon that could open it.
  void when_gate_open(std::function<void()> what);
  [[nodiscard]] bool gate_open() const;
  // nullptr: the database was replaced by a new life of the daemon; the process gives up.
  [[nodiscard]] MemoryDatabase* database(DatabaseId id);
  void lock(DatabaseId id, const Bytes& key, std::function<void()> locked);
  void unlock(DatabaseId id, const Bytes& key);
  Result<void> client_store(MemoryDatabase& db, const Bytes& key, const RecordHeader& header, const Bytes& value) {
    return db.client_store(key, process_, header, value);
  }
  [[nodiscard]] Random& random();
  void say(const std::string& text);

  NodeCluster& cluster_;
  SimNode& node_;
  std::string doing_ = "nothing";

 private:
  void when_awake(std::uint64_t life, std::function<void()> what);
  void connect();
  void attach(std::size_t index);

  std::vector<Wanted> wanted_;
  std::uint64_t life_ = 0;
  bool alive_ = false;
  std::uint64_t process_ = 0;
  std::uint64_t store_life_ = 0;
  ClientId connection_{};
  bool connection_lost_ = false;
  std::uint32_t last_reqid_ = 0;
  std::map<std::uint32_t, Reply> replies_;
  Instant newest_packet_{};
};

}  // namespace tdbmesh::sim
