#pragma once
// The unix socket at which Samba and the ctdb tool speak to the daemon: accepts connections, cuts their bytes
// into packets, queues what is sent to them. It knows nothing of what packets say. Everything happens in the
// event loop's thread.
//
// A client whose stream cannot be followed (see PacketFramer), who closes, or who lets more than the limit
// pile up unread is disconnected; none of that touches the others.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/result.h"
#include "transport/client_id.h"
#include "transport/ctdb_wire.h"
#include "transport/event_loop.h"

namespace tdbmesh {

class ClientListener {
 public:
  virtual ~ClientListener() = default;
  // `pid` is the peer's process as the kernel knows it, at the time of the connect; 0 if unknown.
  virtual void on_connect(ClientId client, std::int32_t pid) = 0;
  // A whole packet of right magic and version (decode it with ctdb::decode_packet). The view ends with the call.
  virtual void on_packet(ClientId client, BytesView packet) = 0;
  // Once for every on_connect, whoever ended the connection; no packet of this client follows. Not called
  // from inside send() or close(), and not when the server itself is destroyed.
  virtual void on_disconnect(ClientId client) = 0;
  // All that was queued for `client` has been handed to the kernel: a sender of much can go on.
  virtual void on_drained(ClientId client) { (void)client; }
};

class ClientServer {
 public:
  struct Limits {
    std::size_t packet_bytes = ctdb::kMaxPacketSize;            // of one packet that comes in
    std::size_t queued_packets = 1'000'000;                     // CTDB's MaxQueueDropMsg
    std::size_t queued_bytes = std::size_t{1024} * 1024 * 1024;  // unread, per client
  };

  // Since the start; for statistics and for a log line now and then.
  struct Counters {
    std::uint64_t accepted = 0;
    std::uint64_t broken_streams = 0;   // disconnected for a length that cannot be, or over packet_bytes
    std::uint64_t over_limit = 0;       // disconnected for what they left unread
    std::uint64_t accept_pauses = 0;    // times that the process was out of descriptors or memory
  };

  // Listens at `path` (mode 0600, at most 107 bytes). A socket file that nobody answers on is replaced;
  // Fault::Exists if somebody does or if it is no socket. `loop` and `listener` must outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<ClientServer>> create(EventLoop& loop, std::string path,
                                                                    ClientListener& listener, Limits limits);
  [[nodiscard]] static Result<std::unique_ptr<ClientServer>> create(EventLoop& loop, std::string path,
                                                                    ClientListener& listener) {
    return create(loop, std::move(path), listener, Limits{});
  }
  // Closes all connections and removes the socket file, if it is still ours.
  ~ClientServer();
  ClientServer(const ClientServer&) = delete;
  ClientServer& operator=(const ClientServer&) = delete;

  // Queues an encoded packet; it leaves at the end of the loop's turn, with everything else that the turn
  // queued for the client. To a client that is gone: nothing happens. Over a limit the client is disconnected.
  void send(ClientId client, Bytes packet);
  // Disconnects; what is queued is tried once and then dropped.
  void close(ClientId client);

  void set_queued_packets_limit(std::size_t packets) { limits_.queued_packets = packets; }
  // 0 for a client that is gone.
  [[nodiscard]] std::size_t queued_bytes(ClientId client) const;
  [[nodiscard]] std::size_t client_count() const { return clients_.size(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  struct Client {
    ClientId id{};
    int fd = -1;
    ctdb::PacketFramer framer;
    std::deque<Bytes> output;
    std::size_t output_at = 0;     // bytes of output.front() that were written
    std::size_t output_bytes = 0;  // not yet written
    bool flush_pending = false;    // is in to_flush_
    bool waits_for_room = false;   // the kernel's buffer is full: EPOLLOUT is on
    bool closing = false;          // is in to_reap_; nothing more is read or queued
  };

  ClientServer(EventLoop& loop, std::string path, ClientListener& listener, Limits limits);
  [[nodiscard]] Result<> listen();
  void accept_clients();
  void pause_accepting();
  void on_ready(ClientId id, std::uint32_t ready);
  void read_from(Client& client);
  void flush(Client& client);
  void begin_close(Client& client);
  [[nodiscard]] bool end_of_turn();
  [[nodiscard]] Client* find(ClientId id);
  [[nodiscard]] ClientId next_id();

  EventLoop& loop_;
  std::string path_;
  ClientListener& listener_;
  Limits limits_;
  Counters counters_;
  int listen_fd_ = -1;
  std::uint64_t socket_device_ = 0;  // of the file that we made
  std::uint64_t socket_inode_ = 0;
  bool owns_file_ = false;
  EventLoop::Timer accept_again_;
  std::uint32_t last_id_ = 0;
  std::map<ClientId, std::unique_ptr<Client>> clients_;
  std::vector<ClientId> to_flush_;
  std::vector<ClientId> to_reap_;
  std::vector<char> read_buffer_;
  EventLoop::Hook hook_;
};

}  // namespace tdbmesh
