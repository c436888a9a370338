// Packets of clients: calls, messages, controls.

#include <fmt/format.h>

#include "db/base/match.h"
#include "tools/daemon/node.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {

void Node::on_client_connect(ClientId client, std::int32_t pid) { clients_.connect(client, pid); }

void Node::on_client_packet(ClientId client, BytesView bytes) {
  ++statistics_.client_packets_recv;
  Result<ctdb::Packet> packet = ctdb::decode_packet(bytes);
  if (!packet) {
    const std::int32_t pid = clients_.pid_of(client).value_or(0);
    const auto line = undecodable_.line(
        std::to_string(pid), fmt::format("a packet of process {} is dropped: {}", pid, packet.error().context), now_);
    if (line) env_.log(LogLevel::Warning, *line);
    return;
  }
  std::visit(Match{
                 [&](ctdb::ReqCall& call) {
                   ++statistics_.client.req_call;
                   handle_call(client, packet->header, std::move(call));
                 },
                 [&](ctdb::ReqMessage& message) {
                   ++statistics_.client.req_message;
                   handle_message(packet->header, message);
                 },
                 [&](ctdb::ReqControl& control) {
                   ++statistics_.client.req_control;
                   handle_control(client, packet->header, control);
                 },
                 [&](ctdb::ReqTunnel&) { ++statistics_.client.req_tunnel; },
                 [](auto&) {},  // what only daemons send is ignored
             },
             packet->body);
}

void Node::on_client_gone(ClientId client) {
  std::vector<CallId> open;
  for (const auto& [id, call] : calls_) {
    if (call.client == client) open.push_back(id);
  }
  for (const CallId id : open) {
    const DatabaseId database = calls_.at(id).database;
    calls_.erase(id);
    run(records_.client_gone(database, id, now_));
  }
  std::erase_if(commit_replies_, [&](const auto& entry) { return entry.second.client == client; });
  commits_.client_gone(number(client));
  attachments_.client_gone(client);
  remote_controls_.client_gone(client);
  traverses_.client_gone(client);
  detaches_.client_gone(client);
  addresses_.on_client_gone(client);
  for (const Clients::Notification& last_word : clients_.disconnect(client)) {
    for (const Pnn peer : connected()) send_message(peer, last_word.srvid, last_word.data);
  }
}

// ---- calls ----

void Node::handle_call(ClientId client, const ctdb::Header& header, ctdb::ReqCall call) {
  ++statistics_.total_calls;
  clients_.uses_databases(client);
  Database* database = databases_.database(call.database);
  if (database == nullptr || call.key.empty() || call.key.size() > kMaxKeySize) {
    return fail_call(client, header, fmt::format("no database {} is attached", to_string(call.database)));
  }
  using enum ctdb::CallId;
  if (call.callid != Null && call.callid != Fetch && call.callid != FetchWithHeader) {
    return reply_to_call(client, header, Null, {}, {});
  }
  if (database->kind() != DatabaseKind::Volatile) {
    // A full copy: nothing migrates, every node has the record.
    const Result<std::optional<StoredRecord>> found = database->fetch(call.key);
    if (!found) return fail_call(client, header, found.error().context);
    const StoredRecord record = found->value_or(StoredRecord{});
    return reply_to_call(client, header, call.callid, record.header, record.value);
  }
  const CallId id{++last_call_};
  calls_.emplace(id, OpenCall{client, header, call.callid, call.database, now_});
  statistics_.pending_calls = static_cast<std::uint32_t>(calls_.size());
  // The caller of NULL looks at the record in the local store afterwards, so it must come here, even where a
  // read-only copy would do; a FETCH only wants the value. Unless the database counts its changes: then Samba keeps
  // the value for as long as this node's count stays (brlock.tdb), and only an owner's count rises when a record that
  // it has is about to change elsewhere. A copy would leave smbd blind to new locks until the next SeqnumInterval.
  const bool counted = database->seqnum_enabled();
  const record::Kind kind = call.callid == Null || counted ? record::Kind::Write : record::Kind::Read;
  run(records_.client_call(call.database, id, call.key, kind, now_));
}

void Node::reply_to_call(ClientId client, const ctdb::Header& header, ctdb::CallId callid, const RecordHeader& record,
                         BytesView value) {
  ctdb::ReplyCall body;
  if (callid == ctdb::CallId::FetchWithHeader) body.data = encode_header(record);
  if (callid != ctdb::CallId::Null) body.data += value;
  send_packet(client, ctdb::encode_packet({ctdb::reply_header(header, self(), generation_for_clients()), std::move(body)}));
}

void Node::fail_call(ClientId client, const ctdb::Header& header, std::string text) {
  ctdb::ReplyError body;
  body.status = -1;
  body.text = std::move(text);
  send_packet(client, ctdb::encode_packet({ctdb::reply_header(header, self(), generation_for_clients()), std::move(body)}));
}

void Node::send_packet(ClientId client, Bytes packet) {
  ++statistics_.client_packets_sent;
  env_.send_to_client(client, std::move(packet));
}

// ---- messages ----

void Node::handle_message(const ctdb::Header& header, const ctdb::ReqMessage& message) {
  if (header.destnode == ctdb::kCurrentNode) return deliver(message.srvid, message.data);
  if (!ctdb::is_broadcast(header.destnode)) return send_message(Pnn{header.destnode}, message.srvid, message.data);
  for (const Pnn peer : connected()) {
    if (header.destnode == ctdb::kBroadcastActive && (control_.flags_of(peer) & kFlagsInactive) != 0) continue;
    send_message(peer, message.srvid, message.data);
  }
}

void Node::deliver(Srvid srvid, BytesView data) {
  if (handle_daemon_message(srvid, data)) return;
  const std::vector<ClientId> receivers = clients_.receivers(srvid);
  if (receivers.empty()) return;
  const Bytes packet = ctdb::encode_message(self(), generation_for_clients(), srvid, data);
  for (const ClientId client : receivers) send_packet(client, packet);
}

// Messages that the daemon itself listens for. True: no client gets it.
bool Node::handle_daemon_message(Srvid srvid, BytesView data) {
  if (srvid == ctdb::kSrvidTakeoverRun) {
    if (const auto asked = ctdb::decode<ctdb::SrvidMessage>(data)) addresses_.takeover_run(*asked);
    return true;
  }
  if (srvid == ctdb::kSrvidDisableTakeoverRuns || srvid == ctdb::kSrvidDisableRecoveries) {
    // A view change is never put off: it is what keeps the cluster serving. The tool only needs the answers.
    const auto asked = ctdb::decode<ctdb::DisableMessage>(data);
    if (asked) answer_on_srvid(asked->pnn, asked->srvid, static_cast<std::int32_t>(number(self())));
    return true;
  }
  if (srvid == ctdb::kSrvidRebalanceNode || srvid == ctdb::kSrvidDisableIpCheck) return true;
  return restore_.push(srvid, data);
}

void Node::answer_on_srvid(Pnn to, Srvid srvid, std::int32_t value) {
  if (srvid != Srvid{}) send_message(to, srvid, ctdb::encode_i32(value));
}

// ---- controls ----

void Node::handle_control(ClientId client, const ctdb::Header& header, const ctdb::ReqControl& control) {
  ControlRequest request;
  request.opcode = control.opcode;
  request.srvid = control.srvid;
  request.flags = control.flags;
  request.data = control.data;
  request.client = client;
  request.reply.client = client;
  request.reply.reqid = header.reqid;
  request.reply.wanted = (control.flags & ctdb::kControlNoReply) == 0;

  if (header.destnode == ctdb::kCurrentNode || header.destnode == number(self())) return run_control(request);

  RelayControl relay;
  relay.opcode = static_cast<std::uint32_t>(control.opcode);
  relay.srvid = number(control.srvid);
  relay.flags = control.flags;
  relay.data = control.data;
  if (ctdb::is_broadcast(header.destnode)) {
    if (request.reply.wanted) {
      env_.log(LogLevel::Warning, fmt::format("control {} to all nodes must not want a reply: dropped",
                                              ctdb::to_string(control.opcode)));
      return;
    }
    for (const Pnn peer : connected()) {
      if (header.destnode == ctdb::kBroadcastActive && (control_.flags_of(peer) & kFlagsInactive) != 0) continue;
      if (peer == self()) {
        run_control(request);
      } else {
        send_relay(peer, relay);
      }
    }
    return;
  }
  const Pnn to{header.destnode};
  const bool asks_for_a_process =
      control.opcode == ctdb::ControlOpcode::CheckPidSrvid || control.opcode == ctdb::ControlOpcode::ProcessExists;
  const bool until_left_out = asks_for_a_process && is_member(to);
  if (!until_left_out) {
    if (!is_connected(to)) return reply(request.reply, -1, {}, "ctdb_control to disconnected node");
    const auto peer = connected_peers_.find(to);
    const bool deaf = peer != connected_peers_.end() && peer->second.deaf;
    if (deaf) return reply(request.reply, -1, {}, "ctdb_control to a node that does not hear this one");
  }
  if (request.reply.wanted) {
    const Instant deadline = now_ + seconds(tunables_[ctdb::Tunable::ControlTimeout]);
    if (until_left_out) {
      remote_controls_.add_until_left_out(to, request.reply, deadline, relay);
    } else {
      relay.id = remote_controls_.add(to, request.reply, deadline);
    }
  }
  send_relay(to, relay);
}

void Node::run_control(const ControlRequest& request) {
  const auto handler = controls_.find(request.opcode);
  if (handler == controls_.end()) return reply(request.reply, -1, {}, {});
  handler->second(parts_, request);
}

void Node::reply(const ReplyTo& to, std::int32_t status, Bytes data, std::string error) {
  if (!to.wanted) return;
  if (to.client == ClientId{}) {
    if (to.id != 0) send_relay(to.node, RelayControlReply{to.id, status, std::move(data), std::move(error)});
    return;
  }
  ctdb::ReplyControl body;
  body.status = status;
  body.data = std::move(data);
  body.error = std::move(error);
  ctdb::Header request;
  request.reqid = to.reqid;
  send_packet(to.client, ctdb::encode_packet({ctdb::reply_header(request, self(), generation_for_clients()), std::move(body)}));
}

}  // namespace tdbmesh
