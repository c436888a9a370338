#include "transport/ctdb_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "transport/ctdb_payloads.h"
#include "transport/unix_address.h"

namespace tdbmesh::ctdb {
namespace {

Instant deadline_after(Duration timeout) {
  const Instant now = boot_time_now();
  return timeout >= kNever - now ? kNever : now + timeout;
}

// For poll(): -1 waits for ever; rounded up, so that the deadline has passed when poll gives up.
int poll_timeout(Instant deadline) {
  if (deadline == kNever) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - boot_time_now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

std::string with_error(const ReplyControl& reply) {
  return reply.error.empty() ? fmt::format("status {}", reply.status)
                             : fmt::format("status {}, {}", reply.status, reply.error);
}

std::string node_name(std::uint32_t destnode) {
  return destnode == kCurrentNode ? std::string("the local node") : fmt::format("node {}", destnode);
}

}  // namespace

Result<Client> Client::connect(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return tl::unexpected(address.error());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return system_failure("cannot create a socket");
  if (::connect(fd, plain(*address), sizeof(*address)) != 0) {
    const int why = errno;
    ::close(fd);
    if (why == ENOENT || why == ECONNREFUSED) {
      return failure(Fault::Unreachable,
                     fmt::format("nobody listens on {}: is tdbmeshd running on this host?", path));
    }
    errno = why;
    auto error = system_failure(fmt::format("cannot connect to {}", path));
    if (why == EACCES || why == EPERM) error.value().context += " (the daemon serves root only)";
    return error;
  }
  return Client(fd, path);
}

Client::Client(int fd, std::string path) : fd_(fd), path_(std::move(path)), framer_(UINT32_MAX) {}

Client::~Client() {
  if (fd_ >= 0) ::close(fd_);
}

Client::Client(Client&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      next_reqid_(other.next_reqid_),
      pnn_(other.pnn_),
      framer_(std::move(other.framer_)),
      replies_(std::move(other.replies_)),
      messages_(std::move(other.messages_)) {}

Client& Client::operator=(Client&& other) noexcept {
  if (this == &other) return *this;
  if (fd_ >= 0) ::close(fd_);
  fd_ = std::exchange(other.fd_, -1);
  path_ = std::move(other.path_);
  next_reqid_ = other.next_reqid_;
  pnn_ = other.pnn_;
  framer_ = std::move(other.framer_);
  replies_ = std::move(other.replies_);
  messages_ = std::move(other.messages_);
  return *this;
}

tl::unexpected<Error> Client::lost(const std::string& why) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  return failure(Fault::Unreachable, fmt::format("connection to {} lost: {}", path_, why));
}

std::uint32_t Client::take_reqid() {
  const std::uint32_t reqid = next_reqid_;
  next_reqid_ = next_reqid_ == UINT32_MAX ? 1 : next_reqid_ + 1;
  return reqid;
}

Result<> Client::send(Body body, std::uint32_t destnode, std::uint32_t reqid) {
  if (fd_ < 0) return failure(Fault::Unreachable, fmt::format("not connected to {}", path_));
  Packet packet;
  packet.header = Header{.generation = 0,
                         .destnode = destnode,
                         .srcnode = pnn_ ? number(*pnn_) : kUnknownPnn,
                         .reqid = reqid};
  packet.body = std::move(body);
  const Bytes bytes = encode_packet(packet, Padding::Tool);
  BytesView rest = bytes;
  while (!rest.empty()) {
    const ssize_t count = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return lost(std::strerror(errno));
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

void Client::take(Packet packet) {
  if (auto* message = std::get_if<ReqMessage>(&packet.body)) {
    messages_.push_back(std::move(*message));
    return;
  }
  // A reply that nobody waits for any more came after its timeout.
  const auto awaited = replies_.find(packet.header.reqid);
  if (awaited != replies_.end()) awaited->second = std::move(packet);
}

template <class Done>
Result<> Client::read_until(Instant deadline, Done done) {
  std::array<char, 16 * 1024> buffer;
  while (!done()) {
    if (fd_ < 0) return failure(Fault::Unreachable, fmt::format("not connected to {}", path_));
    pollfd waiting{fd_, POLLIN, 0};
    const int ready = poll(&waiting, 1, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) return lost(std::strerror(errno));
    if (ready <= 0) {
      if (boot_time_now() < deadline) continue;
      return failure(Fault::Busy, fmt::format("no answer from {} in time", path_));
    }
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return lost(std::strerror(errno));
    if (count == 0) return lost("closed by the daemon");
    framer_.push({buffer.data(), static_cast<std::size_t>(count)});
    while (const auto bytes = framer_.next()) {
      auto packet = decode_packet(*bytes);
      if (!packet) {
        (void)lost("malformed packet");
        return tl::unexpected(packet.error());
      }
      take(std::move(*packet));
    }
    if (framer_.broken()) return lost("malformed packet length");
  }
  return {};
}

Result<Packet> Client::wait_reply(std::uint32_t reqid, Instant deadline) {
  auto arrived = read_until(deadline, [&] { return replies_.at(reqid).has_value(); });
  auto reply = std::move(replies_.extract(reqid).mapped());
  if (!arrived) return tl::unexpected(arrived.error());
  return std::move(*reply);
}

Result<ReplyControl> Client::wait_control(std::uint32_t reqid, Instant deadline) {
  auto reply = wait_reply(reqid, deadline);
  if (!reply) return tl::unexpected(reply.error());
  if (auto* body = std::get_if<ReplyControl>(&reply->body)) return std::move(*body);
  return failure(Fault::Malformed, "a control was answered with a packet of another kind");
}

Result<std::uint32_t> Client::request(Body body, std::uint32_t destnode) {
  const std::uint32_t reqid = take_reqid();
  if (auto sent = send(std::move(body), destnode, reqid); !sent) return tl::unexpected(sent.error());
  replies_.emplace(reqid, std::nullopt);
  return reqid;
}

Result<ReplyControl> Client::control(ControlOpcode opcode, std::uint32_t destnode, BytesView data,
                                     Duration timeout, ControlOptions options) {
  ReqControl body{.opcode = opcode, .srvid = options.srvid, .flags = options.flags, .data = Bytes(data)};
  const auto reqid = request(std::move(body), destnode);
  if (!reqid) return tl::unexpected(reqid.error());
  return wait_control(*reqid, deadline_after(timeout));
}

std::vector<Result<ReplyControl>> Client::control_many(ControlOpcode opcode,
                                                       const std::vector<std::uint32_t>& destnodes,
                                                       BytesView data, Duration timeout) {
  const Instant deadline = deadline_after(timeout);
  std::vector<Result<std::uint32_t>> reqids;
  reqids.reserve(destnodes.size());
  for (const std::uint32_t destnode : destnodes) {
    reqids.push_back(request(ReqControl{.opcode = opcode, .data = Bytes(data)}, destnode));
  }
  std::vector<Result<ReplyControl>> replies;
  replies.reserve(reqids.size());
  for (const auto& reqid : reqids) {
    replies.push_back(reqid ? wait_control(*reqid, deadline) : tl::unexpected(reqid.error()));
  }
  return replies;
}

Result<> Client::control_no_reply(ControlOpcode opcode, std::uint32_t destnode, BytesView data, Srvid srvid) {
  ReqControl body{.opcode = opcode, .srvid = srvid, .flags = kControlNoReply, .data = Bytes(data)};
  return send(std::move(body), destnode, take_reqid());
}

Result<Bytes> Client::control_data(ControlOpcode opcode, std::uint32_t destnode, BytesView data,
                                   Duration timeout, ControlOptions options) {
  auto reply = control(opcode, destnode, data, timeout, options);
  if (!reply) return tl::unexpected(reply.error());
  if (reply->status != 0) {
    return failure(Fault::Refused, fmt::format("{} failed on {}: {}", to_string(opcode), node_name(destnode),
                                               with_error(*reply)));
  }
  return std::move(reply->data);
}

Result<ReplyCall> Client::call(DatabaseId database, BytesView key, CallId callid, std::uint32_t flags,
                               Duration timeout) {
  ReqCall body{.flags = flags, .database = database, .callid = callid, .key = Bytes(key),
               .calldata = {}};
  const auto reqid = request(std::move(body), kCurrentNode);
  if (!reqid) return tl::unexpected(reqid.error());
  auto reply = wait_reply(*reqid, deadline_after(timeout));
  if (!reply) return tl::unexpected(reply.error());
  if (auto* good = std::get_if<ReplyCall>(&reply->body)) return std::move(*good);
  if (auto* bad = std::get_if<ReplyError>(&reply->body)) {
    return failure(Fault::Refused, fmt::format("the daemon refused the record: status {}, {}", bad->status,
                                               bad->text));
  }
  return failure(Fault::Malformed, "a call was answered with a packet of another kind");
}

Result<> Client::send_message(std::uint32_t destnode, Srvid srvid, BytesView data) {
  return send(ReqMessage{.srvid = srvid, .data = Bytes(data)}, destnode, 0);
}

Result<> Client::register_srvid(Srvid srvid, Duration timeout) {
  return control_data(ControlOpcode::RegisterSrvid, kCurrentNode, {}, timeout, {.srvid = srvid})
      .map([](const Bytes&) {});
}

Result<> Client::deregister_srvid(Srvid srvid, Duration timeout) {
  return control_data(ControlOpcode::DeregisterSrvid, kCurrentNode, {}, timeout, {.srvid = srvid})
      .map([](const Bytes&) {});
}

Result<ReqMessage> Client::wait_message(std::optional<Srvid> srvid, Duration timeout) {
  const auto oldest = [&] {
    return std::find_if(messages_.begin(), messages_.end(),
                        [&](const ReqMessage& m) { return !srvid || m.srvid == *srvid; });
  };
  auto arrived = read_until(deadline_after(timeout), [&] { return oldest() != messages_.end(); });
  if (!arrived) return tl::unexpected(arrived.error());
  const auto found = oldest();
  ReqMessage message = std::move(*found);
  messages_.erase(found);
  return message;
}

Result<Pnn> Client::pnn(Duration timeout) {
  if (pnn_) return *pnn_;
  auto reply = control(ControlOpcode::GetPnn, kCurrentNode, {}, timeout);
  if (!reply) return tl::unexpected(reply.error());
  if (reply->status < 0) return failure(Fault::Refused, fmt::format("GET_PNN failed: {}", with_error(*reply)));
  pnn_ = Pnn{static_cast<std::uint32_t>(reply->status)};
  return *pnn_;
}

Result<Client::Attached> Client::attach(const std::string& name, DatabaseType type, Duration timeout) {
  const std::array opcodes{ControlOpcode::DbAttach, ControlOpcode::DbAttachPersistent,
                           ControlOpcode::DbAttachReplicated};
  const auto opcode = opcodes[static_cast<std::size_t>(type)];
  Attached attached;
  auto id = control_data(opcode, kCurrentNode, encode_text(name), timeout).and_then(decode_u32);
  if (!id) return tl::unexpected(id.error());
  attached.id = DatabaseId{*id};
  auto path = control_data(ControlOpcode::GetDbPath, kCurrentNode, encode_u32(*id), timeout).and_then(decode_text);
  if (!path) return tl::unexpected(path.error());
  attached.path = std::move(*path);
  auto flags = control_data(ControlOpcode::DbOpenFlags, kCurrentNode, encode_u32(*id), timeout).and_then(decode_i32);
  if (!flags) return tl::unexpected(flags.error());
  attached.open_flags = *flags;
  return attached;
}

}  // namespace tdbmesh::ctdb
