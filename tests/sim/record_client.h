#pragma once
// Works on a few hot keys of volatile databases: increments, deletes, reads. See GhostLog for what is checked.

#include <deque>

#include "tests/sim/ghost_log.h"
#include "tests/sim/sim_client.h"

namespace tdbmesh::sim {

class RecordClient final : public SimClient {
 public:
  RecordClient(NodeCluster& cluster, SimNode& node);
  void start_round() override;
  [[nodiscard]] bool round_done() const override { return in_round_ && round_.empty(); }

  // After its round: deletes every record.
  void delete_all();
  // The database of counters, and the version that a value in it carries.
  [[nodiscard]] static const std::string& counters();
  // All records that there may be, for the checkers.
  [[nodiscard]] static const std::vector<GhostLog::Key>& all_keys();
  // The version that a stored value carries; 0 for an empty one.
  [[nodiscard]] static GhostLog::Version version_of(BytesView value);

 private:
  enum class Wish { Write, Delete, Read };
  struct Task {
    GhostLog::Key key;
    Wish wish{};
  };

  void ready() override { next(); }
  void next();
  void finished();
  void write(const Task& task);
  void locked(const Task& task);
  void store(const Task& task, const RecordHeader& header, const Bytes& value, GhostLog::Version based_on);
  void read(const Task& task);
  void ask(const Task& task, std::uint32_t flags, ctdb::CallId callid, Reply reply);
  [[nodiscard]] bool sees(const Task& task, const GhostLog::Floor& floor, GhostLog::Version version, const char* how);

  bool in_round_ = false;
  std::deque<Task> round_;
};

}  // namespace tdbmesh::sim
