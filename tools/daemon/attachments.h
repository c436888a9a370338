#pragma once
// Attaching databases: a client's request is answered when every member of the view has the database, so
// that the first record message about it finds it everywhere. While there is no view the request is held,
// and refused when that lasts. After each view change the members tell each other all they have. A member that cannot
// open a database confirms nothing, tries on, and has itself left out when that lasts.
//
// A database that was detached stays so until the next view, whoever asks for it: until then what others still say may
// be about the old one.

#include <functional>
#include <map>
#include <set>
#include <vector>

#include "tools/daemon/databases.h"
#include "tools/daemon/node_services.h"

namespace tdbmesh {

class Attachments {
 public:
  // `opened` is told of each database that is new on this node.
  using Opened = std::function<void(Databases::Attached&)>;
  // `attached` is told of each client that is about to learn that its database is there.
  using ClientAttached = std::function<void(ClientId)>;
  // `installed` tells the generation of the view in use.
  Attachments(NodeServices& services, Databases& databases, Opened opened, ClientAttached attached,
              std::function<Generation()> installed)
      : services_(services),
        databases_(databases),
        opened_(std::move(opened)),
        attached_(std::move(attached)),
        installed_(std::move(installed)) {}

  // `usable`: the node serves. Otherwise the request is held until a view is installed or serve_held(), at most
  // until `deadline`.
  void request(const ReplyTo& reply, const std::string& name, DatabaseKind kind, bool usable, Instant deadline);
  // Opens a database without a client: found on disk at start, or settled from another node.
  Result<Databases::Attached*> open(const std::string& name, DatabaseKind kind);

  void on_message(Pnn from, const RelayAttach& message);
  void on_message(Pnn from, const RelayAttached& message);
  // A property (readonly, sticky) of a database changed here: tell the others.
  void announce(DatabaseId id);

  // This database was detached here.
  void detached(DatabaseId id);

  void view_installed();
  // The node serves again, in the same view: what was held goes on.
  void serve_held();
  void client_gone(ClientId client);
  void on_deadline(Instant now);
  // Requests that are held fail now: there will be no view soon.
  void refuse_held(const std::string& why);
  [[nodiscard]] Instant next_deadline() const;

 private:
  struct Held {
    ReplyTo reply;
    std::string name;
    DatabaseKind kind{};
    Instant deadline;
  };
  // A database that some members have not confirmed yet.
  struct Unconfirmed {
    std::uint64_t round = 0;  // of the announcement they confirm
    std::set<Pnn> missing;
    std::vector<ReplyTo> replies;
  };
  // Another member has these, and waits for this one's word in its round (0: it does not).
  struct Owed {
    Pnn to{};
    RelayAttach what;
    Instant since;
  };
  // What is still to be opened; empty: all is, and confirmed.
  [[nodiscard]] std::string open_for(const Owed& owed);
  void attach(const Held& request);
  void confirm(DatabaseId id);
  void succeed(const ReplyTo& reply, DatabaseId id);
  [[nodiscard]] std::set<Pnn> others() const;

  NodeServices& services_;
  Databases& databases_;
  Opened opened_;
  ClientAttached attached_;
  std::function<Generation()> installed_;
  std::vector<Held> held_;
  std::map<DatabaseId, Unconfirmed> unconfirmed_;
  std::vector<Owed> owed_;
  Instant try_again_ = kNever;
  std::map<DatabaseId, Generation> buried_;  // detached in this view
  std::uint64_t last_round_ = 0;
};

// What a successful attach answers.
[[nodiscard]] Bytes encode_database_id(DatabaseId id);

}  // namespace tdbmesh
