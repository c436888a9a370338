#include "tests/sim/sim_client.h"

#include <algorithm>
#include <fmt/format.h>

#include "db/base/hash.h"
#include "tests/sim/node_cluster.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

Random& SimClient::random() { return cluster_.world().random(); }

DatabaseId SimClient::id_of(const std::string& name) { return database_id(name); }

void SimClient::say(const std::string& text) {
  cluster_.trace(node_.pnn(), fmt::format("client {}: {}", process_, text));
}

void SimClient::later(Duration delay, std::function<void()> what) {
  cluster_.world().after(delay, [this, life = life_, what = std::move(what)]() mutable {
    when_awake(life, std::move(what));
  });
}

void SimClient::when_awake(std::uint64_t life, std::function<void()> what) {
  if (life_ != life || !alive_) return;
  if (node_.frozen_until <= cluster_.world().now()) return what();
  cluster_.world().postpone(node_.frozen_until, [this, life, what = std::move(what)]() mutable {
    when_awake(life, std::move(what));
  });
}

void SimClient::begin(Duration after) {
  if (alive_) return;
  const std::uint64_t life = ++life_;
  cluster_.world().after(after, [this, life] {
    if (life_ != life || alive_) return;
    alive_ = true;
    process_ = cluster_.next_process();
    connect();
  });
}

void SimClient::die(const char* why) {
  if (!alive_) return;
  say(fmt::format("dies: {}", why));
  alive_ = false;
  for (const Wanted& wanted : wanted_) {
    if (MemoryDatabase* database = node_.store().memory().find(id_of(wanted.name))) {
      database->client_died(process_);
      node_.chain_released(database->id());
    }
  }
  if (connection_ != ClientId{}) node_.disconnect(std::exchange(connection_, ClientId{}));
  replies_.clear();
  died();
  begin(milliseconds(5) + random().up_to(milliseconds(100)));
}

void SimClient::machine_died() {
  if (!alive_) return;
  connection_ = ClientId{};
  die("with its machine");
  ++life_;  // nothing begins until the machine is up again: see begin()
}

// It notices at once if it waits for the daemon, or else when it wants something of it.
void SimClient::daemon_died() {
  connection_lost_ = true;
  connection_ = ClientId{};
  if (alive_ && !replies_.empty()) later(random().up_to(milliseconds(20)), [this] { die("no daemon"); });
}

void SimClient::closed_by_daemon(ClientId id) {
  if (!alive_ || connection_ != id) return;
  connection_ = ClientId{};
  connection_lost_ = true;
  later(random().up_to(milliseconds(5)), [this] { die("cut off"); });
}

void SimClient::packet_coming(ClientId id, Bytes packet) {
  const Instant due = cluster_.world().now() + Duration(20) + random().up_to(Duration(100));
  newest_packet_ = std::max(newest_packet_ + Duration(1), due);
  later(newest_packet_ - cluster_.world().now(), [this, id, packet = std::move(packet)] {
    if (connection_ != id) return;
    const auto decoded = ctdb::decode_packet(packet);
    if (!decoded) return cluster_.fail("a client got a packet that does not decode");
    if (const auto* came = std::get_if<ctdb::ReqMessage>(&decoded->body)) return message(*came);
    const auto reply = replies_.find(decoded->header.reqid);
    if (reply == replies_.end()) return;
    const Reply handle = std::move(reply->second);
    replies_.erase(reply);
    handle(*decoded);
  });
}

void SimClient::request(ctdb::Body body, Reply reply, std::uint32_t to) {
  if (connection_lost_ || connection_ == ClientId{}) return die("no daemon");
  ctdb::Packet packet;
  packet.header.destnode = to;
  packet.header.srcnode = number(node_.pnn());
  packet.header.reqid = ++last_reqid_;
  packet.body = std::move(body);
  if (reply) replies_[last_reqid_] = std::move(reply);
  node_.send_from_client(connection_, ctdb::encode_packet(packet, ctdb::Padding::None));
}

void SimClient::connect() {
  doing_ = "connecting";
  connection_lost_ = false;
  connection_ = node_.connect(*this, static_cast<std::int32_t>(process_));
  if (connection_ == ClientId{}) return later(milliseconds(20), [this] { connect(); });
  store_life_ = node_.store_life();
  attach(0);
}

void SimClient::attach(std::size_t index) {
  if (index == wanted_.size()) return ready();
  const Wanted& wanted = wanted_[index];
  doing_ = "attaching " + wanted.name;
  ctdb::ReqControl control;
  control.opcode = wanted.kind == DatabaseKind::Persistent ? ctdb::ControlOpcode::DbAttachPersistent
                                                           : ctdb::ControlOpcode::DbAttach;
  control.data = ctdb::encode_text(wanted.name);
  request(control, [this, index](const ctdb::Packet& packet) {
    const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
    if (reply == nullptr || reply->status != 0) {
      say("attach refused");
      return later(milliseconds(50) + random().up_to(milliseconds(100)), [this, index] { attach(index); });
    }
    cluster_.note_attached(id_of(wanted_[index].name));
    if (!wanted_[index].readonly) return attach(index + 1);
    ctdb::ReqControl set;
    set.opcode = ctdb::ControlOpcode::SetDbReadonly;
    set.data = ctdb::encode_u32(number(id_of(wanted_[index].name)));
    request(set, [this, index](const ctdb::Packet&) { attach(index + 1); });
  });
}

// ---- as through the shim --------------------------------------------------------------------------------

bool SimClient::gate_open() const { return cluster_.settings().plants.ignore_gate || node_.gate_is_open(); }

void SimClient::when_gate_open(std::function<void()> what) {
  if (gate_open()) return what();
  if (!node_.up() || node_.store_life() != store_life_) return die("nobody to open the gate");
  later(milliseconds(1) + random().up_to(milliseconds(2)),
        [this, what = std::move(what)]() mutable { when_gate_open(std::move(what)); });
}

MemoryDatabase* SimClient::database(DatabaseId id) {
  MemoryDatabase* found = node_.store_life() == store_life_ ? node_.store().memory().find(id) : nullptr;
  if (found == nullptr) die("its database was replaced");
  return found;
}

void SimClient::lock(DatabaseId id, const Bytes& key, std::function<void()> locked) {
  MemoryDatabase* db = database(id);
  if (db == nullptr) return;
  if (!db->client_try_lock(key, process_)) {
    return later(Duration(50) + random().up_to(Duration(300)),
                 [this, id, key, locked = std::move(locked)]() mutable { lock(id, key, std::move(locked)); });
  }
  if (gate_open()) return locked();
  unlock(id, key);
  when_gate_open([this, id, key, locked = std::move(locked)]() mutable { lock(id, key, std::move(locked)); });
}

void SimClient::unlock(DatabaseId id, const Bytes& key) {
  MemoryDatabase* db = database(id);
  if (db == nullptr) return;
  db->client_unlock(key, process_);
  node_.chain_released(id);
}

}  // namespace tdbmesh::sim
