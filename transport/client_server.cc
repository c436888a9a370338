#include "transport/client_server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "db/base/check.h"
#include "transport/unix_address.h"

namespace tdbmesh {
namespace {

constexpr int kBacklog = 100;
constexpr std::size_t kReadSize = 256 * 1024;
// Per wakeup of a client or of the listening socket; level-triggered readiness brings us back, and the others
// get their turn in between.
constexpr int kReadsPerWakeup = 4;
constexpr int kAcceptsPerWakeup = 64;
constexpr std::size_t kWritesAtOnce = 64;  // elements of one gathering write
// Out of descriptors: the listening socket stays ready, and asking again at once would only burn the CPU.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

// Is the file at `path` a socket that nobody listens on?
Result<> check_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return system_failure(fmt::format("cannot look at '{}'", path));
  if (!S_ISSOCK(info.st_mode)) {
    return failure(Fault::Exists, fmt::format("'{}' exists and is not a socket: remove it", path));
  }
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (probe < 0) return system_failure("cannot create a socket");
  const int answer = connect(probe, plain(address), sizeof(address));
  const int why = errno;
  ::close(probe);
  if (answer != 0 && why == ECONNREFUSED) return {};
  return failure(Fault::Exists, fmt::format("another daemon listens on '{}': stop it first", path));
}

}  // namespace

Result<std::unique_ptr<ClientServer>> ClientServer::create(EventLoop& loop, std::string path,
                                                           ClientListener& listener, Limits limits) {
  std::unique_ptr<ClientServer> server(new ClientServer(loop, std::move(path), listener, limits));
  if (auto listening = server->listen(); !listening) return tl::unexpected(listening.error());
  return server;
}

ClientServer::ClientServer(EventLoop& loop, std::string path, ClientListener& listener, Limits limits)
    : loop_(loop),
      path_(std::move(path)),
      listener_(listener),
      limits_(limits),
      read_buffer_(kReadSize),
      hook_(loop.at_end_of_turn([this] { return end_of_turn(); })) {}

ClientServer::~ClientServer() {
  loop_.remove(hook_);
  loop_.cancel(accept_again_);
  for (auto& [id, client] : clients_) {
    loop_.remove(client->fd);
    ::close(client->fd);
  }
  if (listen_fd_ < 0) return;
  loop_.remove(listen_fd_);
  ::close(listen_fd_);
  struct stat info {};
  if (owns_file_ && lstat(path_.c_str(), &info) == 0 && info.st_dev == socket_device_ &&
      info.st_ino == socket_inode_) {
    unlink(path_.c_str());
  }
}

Result<> ClientServer::listen() {
  const auto address = unix_address(path_);
  if (!address) return tl::unexpected(address.error());
  listen_fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listen_fd_ < 0) return system_failure("cannot create a socket");
  // Before bind, so that the file never has a wider mode; after bind, because umask may have taken bits.
  if (fchmod(listen_fd_, 0600) != 0) return system_failure("cannot set the mode of a socket");
  if (bind(listen_fd_, plain(*address), sizeof(*address)) != 0) {
    if (errno != EADDRINUSE) return system_failure(fmt::format("cannot bind '{}'", path_));
    if (auto stale = check_stale(path_, *address); !stale) return stale;
    unlink(path_.c_str());
    if (bind(listen_fd_, plain(*address), sizeof(*address)) != 0) {
      return system_failure(fmt::format("cannot bind '{}'", path_));
    }
  }
  struct stat info {};
  if (chmod(path_.c_str(), 0600) != 0 || lstat(path_.c_str(), &info) != 0) {
    return system_failure(fmt::format("cannot set the mode of '{}'", path_));
  }
  socket_device_ = info.st_dev;
  socket_inode_ = info.st_ino;
  owns_file_ = true;
  if (::listen(listen_fd_, kBacklog) != 0) return system_failure(fmt::format("cannot listen on '{}'", path_));
  return loop_.add(listen_fd_, EPOLLIN, [this](std::uint32_t) { accept_clients(); });
}

void ClientServer::accept_clients() {
  for (int i = 0; i < kAcceptsPerWakeup; ++i) {
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) pause_accepting();
      return;
    }
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) peer.pid = 0;
    const ClientId id = next_id();
    if (!loop_.add(fd, EPOLLIN, [this, id](std::uint32_t ready) { on_ready(id, ready); })) {
      ::close(fd);
      pause_accepting();
      return;
    }
    auto client = std::make_unique<Client>();
    client->id = id;
    client->fd = fd;
    client->framer = ctdb::PacketFramer(limits_.packet_bytes);
    clients_.emplace(id, std::move(client));
    ++counters_.accepted;
    listener_.on_connect(id, peer.pid);
  }
}

void ClientServer::pause_accepting() {
  ++counters_.accept_pauses;
  loop_.modify(listen_fd_, 0);
  accept_again_ = loop_.after(kAcceptPause, [this] { loop_.modify(listen_fd_, EPOLLIN); });
}

ClientId ClientServer::next_id() {
  do {
    ++last_id_;
  } while (last_id_ == 0 || clients_.contains(ClientId{last_id_}));
  return ClientId{last_id_};
}

ClientServer::Client* ClientServer::find(ClientId id) {
  const auto found = clients_.find(id);
  return found == clients_.end() ? nullptr : found->second.get();
}

void ClientServer::on_ready(ClientId id, std::uint32_t ready) {
  Client* client = find(id);
  if (client == nullptr || client->closing) return;
  if ((ready & EPOLLOUT) != 0) flush(*client);
  // An error or a hang-up shows as the result of a read.
  if ((ready & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0 && !client->closing) read_from(*client);
}

void ClientServer::read_from(Client& client) {
  // A client that is closed by the listener meanwhile stays in memory until the end of the turn.
  for (int i = 0; i < kReadsPerWakeup && !client.closing; ++i) {
    const ssize_t count = recv(client.fd, read_buffer_.data(), read_buffer_.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) return begin_close(client);
    client.framer.push({read_buffer_.data(), static_cast<std::size_t>(count)});
    while (!client.closing) {
      const auto packet = client.framer.next();
      if (!packet) break;
      listener_.on_packet(client.id, *packet);
    }
    if (client.framer.broken() && !client.closing) {
      ++counters_.broken_streams;
      return begin_close(client);
    }
    if (static_cast<std::size_t>(count) < read_buffer_.size()) return;
  }
}

void ClientServer::send(ClientId id, Bytes packet) {
  TDBMESH_CHECK(!packet.empty());
  Client* client = find(id);
  if (client == nullptr || client->closing) return;
  if (client->output.size() >= limits_.queued_packets ||
      client->output_bytes + packet.size() > limits_.queued_bytes) {
    ++counters_.over_limit;
    return begin_close(*client);
  }
  client->output_bytes += packet.size();
  client->output.push_back(std::move(packet));
  if (client->waits_for_room || client->flush_pending) return;
  client->flush_pending = true;
  to_flush_.push_back(id);
}

void ClientServer::close(ClientId id) {
  Client* client = find(id);
  if (client == nullptr || client->closing) return;
  flush(*client);
  if (!client->closing) begin_close(*client);
}

std::size_t ClientServer::queued_bytes(ClientId id) const {
  const auto found = clients_.find(id);
  return found == clients_.end() ? 0 : found->second->output_bytes;
}

void ClientServer::flush(Client& client) {
  const bool had_output = !client.output.empty();
  while (!client.output.empty()) {
    std::array<iovec, kWritesAtOnce> parts;
    std::size_t used = 0;
    for (auto it = client.output.begin(); it != client.output.end() && used < parts.size(); ++it, ++used) {
      const std::size_t skip = used == 0 ? client.output_at : 0;
      parts[used] = {it->data() + skip, it->size() - skip};
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = used;
    const ssize_t count = sendmsg(client.fd, &message, MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return begin_close(client);
      break;
    }
    auto written = static_cast<std::size_t>(count);
    client.output_bytes -= written;
    while (written > 0) {
      const std::size_t left = client.output.front().size() - client.output_at;
      if (written < left) {
        client.output_at += written;
        break;
      }
      written -= left;
      client.output_at = 0;
      client.output.pop_front();
    }
  }
  client.waits_for_room = !client.output.empty();
  loop_.modify(client.fd, client.waits_for_room ? EPOLLIN | EPOLLOUT : EPOLLIN);
  if (had_output && client.output.empty() && !client.closing) listener_.on_drained(client.id);
}

void ClientServer::begin_close(Client& client) {
  if (client.closing) return;
  // Out of the loop at once (a hung-up descriptor would be ready for ever); the listener hears of it at the
  // end of the turn, when nobody is in the middle of something about this client.
  client.closing = true;
  loop_.remove(client.fd);
  ::close(client.fd);
  client.fd = -1;
  to_reap_.push_back(client.id);
}

// True if there is more to do at once.
bool ClientServer::end_of_turn() {
  if (to_flush_.empty() && to_reap_.empty()) return false;
  // What listeners send from on_drained or on_disconnect joins the lists of the next turn.
  const auto to_flush = std::exchange(to_flush_, {});
  for (const ClientId id : to_flush) {
    Client* client = find(id);
    if (client == nullptr || client->closing) continue;
    client->flush_pending = false;
    flush(*client);
  }
  const auto to_reap = std::exchange(to_reap_, {});
  for (const ClientId id : to_reap) {
    clients_.erase(id);
    listener_.on_disconnect(id);
  }
  return !to_flush_.empty() || !to_reap_.empty();
}

}  // namespace tdbmesh
