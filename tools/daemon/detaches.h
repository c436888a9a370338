#pragma once
// Detaching a volatile database from the whole cluster: the node that was asked tells all members, each detaches it and
// says so, and a new view ends it, so that nothing said about the old database can meet a new one of the same name.
// Answered when that view is installed. A view change in between, or a member that refuses, fails the request; members
// that have not detached it then bring it back to the others with the view. Pure.

#include <functional>
#include <map>
#include <set>
#include <string>

#include "tools/daemon/databases.h"
#include "tools/daemon/node_services.h"

namespace tdbmesh {

class Detaches {
 public:
  // Detaches here, or says why not.
  using DetachHere = std::function<std::string(DatabaseId)>;
  // The newest installed view, if it is in use and none is on its way.
  using ServedView = std::function<const View*()>;
  // A new view with the same members, for this reason.
  using Renew = std::function<void(std::string reason)>;
  Detaches(NodeServices& services, DetachHere detach_here, ServedView view, Renew renew)
      : services_(services), detach_here_(std::move(detach_here)), view_(std::move(view)), renew_(std::move(renew)) {}

  // `name`: for people. `deadline`: when the request counts as failed.
  void request(const ReplyTo& reply, DatabaseId id, const std::string& name, Instant deadline);

  void on_message(Pnn from, const RelayDetach& message);
  void on_message(Pnn from, const RelayDetached& message);
  void view_installed();
  void client_gone(ClientId client);
  void on_deadline(Instant now);
  [[nodiscard]] Instant next_deadline() const;

 private:
  struct Pending {
    ReplyTo reply;
    std::string name;
    std::set<Pnn> missing;
    std::string refused;  // by the first member that did, and why
    Instant deadline;
  };

  NodeServices& services_;
  DetachHere detach_here_;
  ServedView view_;
  Renew renew_;
  std::map<std::uint64_t, Pending> pending_;
  std::uint64_t last_id_ = 0;
};

}  // namespace tdbmesh
