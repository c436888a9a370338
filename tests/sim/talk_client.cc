#include "tests/sim/talk_client.h"

#include <fmt/format.h>

#include "tests/sim/node_cluster.h"
#include "tests/sim/record_client.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::sim {

namespace {

constexpr Srvid kTraversed{0xA100000000000001u};

Srvid srvid_of(Pnn pnn) { return Srvid{0xA200000000000000u + number(pnn)}; }

}  // namespace

TalkClient::TalkClient(NodeCluster& cluster, SimNode& node) : SimClient(cluster, node) {
  want({RecordClient::counters(), DatabaseKind::Volatile, false});
}

void TalkClient::start_round() {
  in_round_ = true;
  for (std::uint32_t i = 0; i < cluster_.settings().nodes; ++i) {
    if (cluster_.settings().is_witness(Pnn{i})) continue;  // nobody talks there
    if (cluster_.to_be_served(Pnn{i})) waiting_for_.insert(Pnn{i});
  }
}

void TalkClient::died() {
  traversing_ = false;
  newest_.clear();  // whoever comes next has heard nothing
}

void TalkClient::ready() {
  doing_ = "registering";
  for (const Srvid srvid : {srvid_of(node_.pnn()), kTraversed}) {
    ctdb::ReqControl control;
    control.opcode = ctdb::ControlOpcode::RegisterSrvid;
    control.srvid = srvid;
    request(control, [this, srvid](const ctdb::Packet&) {
      if (srvid == kTraversed) talk();
    });
    if (!alive()) return;
  }
}

// ---- messages -------------------------------------------------------------------------------------------

void TalkClient::talk() {
  doing_ = fmt::format("talking; not heard: {}", waiting_for_.size());
  later(milliseconds(20) + random().up_to(milliseconds(40)), [this] {
    if (!traversing_ && (last_ ? !last_done_ : !in_round_ && random().chance(8))) traverse();
    for (std::uint32_t i = 0; i < cluster_.settings().nodes && alive(); ++i) {
      if (in_round_ || random().chance(2)) send(Pnn{i});
    }
    if (alive()) talk();
  });
}

void TalkClient::send(Pnn to) {
  ctdb::ReqMessage message;
  message.srvid = srvid_of(to);
  ByteWriter data;
  data.put(number(to)).put(number(node_.pnn())).put(process()).put(++number_);
  message.data = std::move(data).take();
  request(message, nullptr, number(to));
}

void TalkClient::message(const ctdb::ReqMessage& message) {
  if (message.srvid == srvid_of(node_.pnn())) return heard(message.data);
  if (message.srvid != kTraversed) return cluster_.fail("a client got a message that it did not register for");
  if (!traversing_) return;  // of one that was given up
  const auto record = ctdb::decode<ctdb::TraverseRecord>(message.data);
  if (!record) return cluster_.fail("a record of a traverse does not decode");
  if (record->reqid != traverse_) return;
  if (record->is_end()) return traversed();
  const BytesView value = BytesView(record->data).substr(std::min<std::size_t>(record->data.size(), kRecordHeaderSize));
  const bool fresh = records_.emplace(record->key, RecordClient::version_of(value)).second;
  if (judging_ && !fresh) cluster_.fail(fmt::format("a traverse in quiet times showed '{}' twice", record->key));
}

void TalkClient::heard(BytesView data) {
  ByteReader in(data);
  const Pnn to{in.get<std::uint32_t>()};
  const Pnn from{in.get<std::uint32_t>()};
  const auto sender = in.get<std::uint64_t>();
  const auto sent = in.get<std::uint64_t>();
  if (to != node_.pnn()) return cluster_.fail(fmt::format("a message for node {} came to node {}", number(to), number(node_.pnn())));
  auto& newest = newest_[sender];
  if (sent <= newest) {
    return cluster_.fail(fmt::format("node {}: message {} of process {} came after message {}", number(node_.pnn()), sent,
                                     sender, newest));
  }
  newest = sent;
  waiting_for_.erase(from);
}

// ---- traverses ------------------------------------------------------------------------------------------

void TalkClient::start_last_traverse() {
  last_ = true;
}

void TalkClient::traverse() {
  traversing_ = true;
  judging_ = last_;
  records_.clear();
  ctdb::TraverseStart start;
  start.database = id_of(RecordClient::counters());
  start.reqid = ++traverse_;
  start.srvid = kTraversed;
  ctdb::ReqControl control;
  control.opcode = ctdb::ControlOpcode::TraverseStart;
  control.data = ctdb::encode(start);
  request(control, [this](const ctdb::Packet& packet) {
    const auto* reply = std::get_if<ctdb::ReplyControl>(&packet.body);
    if (reply == nullptr || reply->status != 0) traversing_ = false;
  });
}

void TalkClient::traversed() {
  traversing_ = false;
  ++cluster_.counts().traverses;
  if (judging_) {
    // Nobody writes any more. That is not to say that nobody is lost any more: a silence that began under the faults may
    // end a membership after them, and what only that node had seen goes with it. So the promise is that of every read.
    for (const GhostLog::Key& key : RecordClient::all_keys()) {
      if (key.first != id_of(RecordClient::counters())) continue;
      const GhostLog& ghost = cluster_.ghost();
      const auto found = records_.find(key.second);
      const std::string wrong = ghost.judge(key, ghost.floor(key), found == records_.end() ? 0 : found->second);
      if (!wrong.empty()) cluster_.fail("a traverse in quiet times: " + wrong);
    }
    last_done_ = true;
  }
}

}  // namespace tdbmesh::sim
