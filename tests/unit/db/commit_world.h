#pragma once
// A small cluster for persistent commits alone: Commits over the store in memory, FIFO links, a disk that may
// finish any time, clients that try again as Samba does, and a leader that changes views as the control plane
// prescribes (prepare, quiet, settle to the best effective version, install). One seed, one run.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "db/base/random.h"
#include "db/commits.h"
#include "db/memory_store.h"

namespace tdbmesh::test {

enum class CommitPlant {
  None,
  MajorityDurable,        // done when a majority is durable
  VersionsBeforeQuiet,    // a write under way is not counted in PREPARED
  HighestSeqnumWins,      // generations ignored when copies are compared
  NoSettle,               // views installed with different copies
  FailureDuringChange,    // the client is told "failed" at PREPARE
};

class CommitWorld {
 public:
  CommitWorld(std::uint64_t seed, CommitPlant plant);
  std::string run(unsigned steps);
  [[nodiscard]] std::size_t acknowledged() const { return acknowledged_.size(); }
  [[nodiscard]] std::uint64_t cut() const { return cut_; }
  [[nodiscard]] std::uint64_t settles() const { return settles_; }
  [[nodiscard]] std::uint64_t catch_ups() const { return catch_ups_; }

 private:
  struct Client {
    bool waiting = false;
    CommitId id{};
    std::string content;
  };
  struct Node {
    Pnn pnn{};
    bool alive = false;
    Incarnation incarnation = 0;
    Generation join;
    Generation installed;  // persisted
    MemoryStore store;
    MemoryDatabase* database = nullptr;
    std::unique_ptr<Commits> commits;
    View view;
    View accepted;
    Client client;
  };
  struct Packet {
    Incarnation incarnation = 0;
    Bytes body;
  };
  struct Change {
    View view;
    std::set<Pnn> to_prepare;
    std::set<Pnn> to_report;
    std::map<Pnn, CopyVersion> stored;
    std::map<Pnn, CopyVersion> effective;
    bool settling = false;
    std::set<Pnn> to_settle;
    std::set<Pnn> to_install;
    bool installing = false;
  };

  void boot(Node& node);
  void crash(Node& node);
  void perform(Node& node, CommitActions actions);
  void client_step(Node& node);
  void answered(Node& node, const CommitAnswer& answer);
  void propose();
  void control_step();
  void settle_step();
  void catch_up_step();
  void install_step();
  void step(bool faults);
  void check_member(const Node& node, std::string_view when);
  void fail(std::string what);
  [[nodiscard]] static bool has(const Node& node, const std::string& content);

  std::uint64_t seed_;
  CommitPlant plant_;
  Random random_;
  Instant now_{};
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<std::pair<unsigned, unsigned>, std::deque<Packet>> links_;
  std::optional<Change> change_;
  View newest_;
  std::uint32_t serial_ = 0;
  bool want_view_ = true;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_content_ = 1;
  std::set<std::string> acknowledged_;
  std::uint64_t cut_ = 0;
  std::uint64_t settles_ = 0;
  std::uint64_t catch_ups_ = 0;
  std::string failure_;
};

}  // namespace tdbmesh::test
