#include "tests/sim/visitor_client.h"

#include <fmt/format.h>

#include "tests/sim/node_cluster.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

namespace {

const std::string kName = "visitors.tdb";

const std::vector<Bytes>& keys() {
  static const std::vector<Bytes> all{"guest 0", "guest 1", "guest 2"};
  return all;
}

Bytes written_at(Instant when) {
  ByteWriter out;
  out.put(when.time_since_epoch().count());
  return std::move(out).take();
}

}  // namespace

// ---- visitors -------------------------------------------------------------------------------------------

VisitorClient::VisitorClient(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) {
  want({kName, DatabaseKind::Volatile, false});
}

DatabaseId VisitorClient::the_database() { return id_of(kName); }

void VisitorClient::start_round() {
  in_round_ = true;
  round_ = keys();
}

void VisitorClient::ready() {
  MemoryDatabase* db = database(the_database());
  if (db == nullptr) return;
  epoch_ = db->epoch();
  next();
}

void VisitorClient::next() {
  doing_ = "waiting at visitors.tdb";
  later(random().up_to(milliseconds(in_round_ ? 5 : 40)), [this] {
    if (in_round_ && round_.empty()) return next();
    if (!in_round_ && random().chance(60)) return die("its visit is over");
    visit(in_round_ ? round_.back() : keys()[random().below(keys().size())]);
  });
}

void VisitorClient::visit(const Bytes& key) {
  doing_ = fmt::format("visiting {}", key);
  lock(the_database(), key, [this, key] {
    MemoryDatabase* db = database(the_database());
    if (db == nullptr) return;
    if (db->epoch() != epoch_) return die("its database was emptied or detached");  // as the shim says by the epoch
    const auto found = db->fetch(key);
    if (!found || !*found || (*found)->header.dmaster != node_.pnn()) {
      unlock(the_database(), key);
      ctdb::ReqCall call;
      call.flags = ctdb::kCallImmediateMigration;
      call.database = the_database();
      call.key = key;
      return request(call, [this, key](const ctdb::Packet& packet) {
        if (std::holds_alternative<ctdb::ReplyCall>(packet.body)) return visit(key);
        if (node_.store().memory().find(the_database()) == nullptr) return die("its database was detached");
        later(milliseconds(10), [this, key] { visit(key); });
      });
    }
    if (!(*found)->value.empty()) {
      const Instant when{Duration(ByteReader((*found)->value).get<Duration::rep>())};
      if (when < cluster_.detached_since()) {
        return cluster_.fail(fmt::format("node {}: '{}' was written before its database was detached and is there again",
                                         number(node_.pnn()), key));
      }
    }
    const auto stored = client_store(*db, key, (*found)->header, written_at(cluster_.world().now()));
    unlock(the_database(), key);
    if (stored && in_round_ && !round_.empty() && round_.back() == key) round_.pop_back();
    next();
  });
}

// ---- the operator ---------------------------------------------------------------------------------------

void OperatorClient::start_round() { in_round_ = true; }

void OperatorClient::next() {
  doing_ = detached_ ? "letting clients in" : "detaching visitors.tdb";
  if (shut_out_) {
    return allow(true, 0, [this] {
      shut_out_ = false;
      next();
    });
  }
  const Duration pause = in_round_ ? milliseconds(100) : milliseconds(500) + random().up_to(seconds(4));
  later(pause, [this] {
    if (in_round_ && detached_) return next();
    shut_out_ = true;
    allow(false, 0, [this] { detach(); });
  });
}

void OperatorClient::ask(ctdb::ReqControl control, Reply reply, std::uint32_t to) {
  const std::uint64_t asked = ++asked_;
  later(seconds(5), [this, asked] {
    if (asked_ == asked) die("no answer in time");
  });
  request(
      std::move(control),
      [this, reply = std::move(reply)](const ctdb::Packet& packet) {
        ++asked_;
        reply(packet);
      },
      to);
}

void OperatorClient::allow(bool attach, std::uint32_t node, std::function<void()> then) {
  if (node == cluster_.settings().nodes) return then();
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::SetTunable;
  control.data = ctdb::encode(ctdb::SetTunable{attach ? 1u : 0u, "AllowClientDBAttach"});
  ask(
      control,
      [this, attach, node, then = std::move(then)](const ctdb::Packet& packet) mutable {
        const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
        if (reply != nullptr && reply->status == 0) return allow(attach, node + 1, std::move(then));
        // Not there: it will allow it when it comes back. It is asked again all the same, for it may only be cut off.
        if (!attach) return next();
        later(milliseconds(200), [this, node, then = std::move(then)]() mutable { allow(true, node, std::move(then)); });
      },
      node);
}

void OperatorClient::detach() {
  const Instant asked = cluster_.world().now();
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::DbDetach;
  control.data = ctdb::encode_u32(number(VisitorClient::the_database()));
  ask(control, [this, asked](const ctdb::Packet& packet) {
    const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
    const bool done = reply != nullptr && reply->status == 0;
    say(done ? "detached visitors.tdb" : "detach refused: " + (reply == nullptr ? std::string() : std::string(reply->error)));
    if (done) {
      cluster_.note_detached(asked);
      detached_ = in_round_;
    }
    next();
  });
}

}  // namespace tdbmesh::sim
