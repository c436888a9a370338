#pragma once
// Traverses of a database for a client: every member sends the records that it holds, in batches that it is
// asked for one by one, so neither side ever keeps more than one batch per member; the client gets one
// message per record and an end marker. The members keep no memory of a traverse; a batch that was lost on its way is
// asked for again in the next view, which every loss brings about. Pure over Database::scan.

#include <functional>
#include <map>

#include "db/store.h"
#include "tools/daemon/node_services.h"

namespace tdbmesh {

class Traverses {
 public:
  using FindDatabase = std::function<Database*(DatabaseId)>;
  Traverses(NodeServices& services, FindDatabase find) : services_(services), find_(std::move(find)) {}

  struct Request {
    ClientId client{};
    DatabaseId database{};
    std::uint32_t reqid = 0;
    Srvid srvid{};
    bool with_empty = false;
    Instant deadline;
  };
  // The control has been answered before: the reply must be the first thing the client sees.
  void start(const Request& request);
  void client_gone(ClientId client);
  // A view was installed: nodes that are no longer members have nothing more to say, the others are asked again.
  void members_changed();
  void on_deadline(Instant now);
  [[nodiscard]] Instant next_deadline() const;

  void on_message(Pnn from, const RelayTraverse& message);
  void on_message(Pnn from, const RelayTraverseBatch& message);

  [[nodiscard]] std::uint64_t timeouts() const { return timeouts_; }

 private:
  struct Asked {
    Request request;
    std::map<Pnn, std::uint64_t> open;  // members that have more to send: where the batch begins that is asked for
  };

  void finish(std::uint64_t id);
  void ask(std::uint64_t id, const Asked& asked, Pnn member);

  NodeServices& services_;
  FindDatabase find_;
  std::uint64_t last_id_ = 0;
  std::map<std::uint64_t, Asked> asked_;
  std::uint64_t timeouts_ = 0;
};

// One record as the client gets it (client protocol sheet, 6.2); an empty key and no data is the end marker.
[[nodiscard]] Bytes traverse_entry(std::uint32_t reqid, const KeyedRecord* record);

}  // namespace tdbmesh
