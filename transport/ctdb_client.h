#pragma once
// A small blocking client of the daemon's socket, for our tools. One connection, one thread. It also works
// with CTDB's own daemon.
//
// Faults: Unreachable = nobody listens, or the connection ended (then every later call says so);
// Busy = the timeout passed (the connection stays usable, a late reply is thrown away); Malformed = a reply
// that does not decode. A status other than 0 is no fault: it is part of the reply.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "transport/ctdb_wire.h"

namespace tdbmesh::ctdb {

inline constexpr Duration kDefaultTimeout = std::chrono::seconds(10);
inline constexpr Duration kForever = Duration::max();

class Client {
 public:
  // Connects; sends nothing yet. The error's text names the path and says what to do.
  [[nodiscard]] static Result<Client> connect(const std::string& path);
  ~Client();
  Client(Client&& other) noexcept;
  Client& operator=(Client&& other) noexcept;

  struct ControlOptions {
    Srvid srvid{};            // the header's argument: a srvid, or a database id for some controls
    std::uint32_t flags = 0;  // without kControlNoReply, see control_no_reply()
  };
  // Sends one control and waits for its reply. Messages that come in meanwhile are kept for wait_message().
  [[nodiscard]] Result<ReplyControl> control(ControlOpcode opcode, std::uint32_t destnode, BytesView data = {},
                                             Duration timeout = kDefaultTimeout) {
    return control(opcode, destnode, data, timeout, ControlOptions{});
  }
  [[nodiscard]] Result<ReplyControl> control(ControlOpcode opcode, std::uint32_t destnode, BytesView data,
                                             Duration timeout, ControlOptions options);
  // The same control to several nodes at once; the answers in the order of `destnodes`, `timeout` for all.
  [[nodiscard]] std::vector<Result<ReplyControl>> control_many(ControlOpcode opcode,
                                                               const std::vector<std::uint32_t>& destnodes,
                                                               BytesView data = {},
                                                               Duration timeout = kDefaultTimeout);
  // Any destination, broadcasts too; nobody answers.
  [[nodiscard]] Result<> control_no_reply(ControlOpcode opcode, std::uint32_t destnode, BytesView data = {},
                                          Srvid srvid = Srvid{});

  // Asks the local daemon for a record: see CallId and kCall... A ReplyError is a failure (Refused).
  [[nodiscard]] Result<ReplyCall> call(DatabaseId database, BytesView key, CallId callid, std::uint32_t flags,
                                       Duration timeout = kDefaultTimeout);

  [[nodiscard]] Result<> send_message(std::uint32_t destnode, Srvid srvid, BytesView data);
  // Refused if the daemon says no. Messages to `srvid` come through wait_message() from now on.
  [[nodiscard]] Result<> register_srvid(Srvid srvid, Duration timeout = kDefaultTimeout);
  [[nodiscard]] Result<> deregister_srvid(Srvid srvid, Duration timeout = kDefaultTimeout);
  // The next message to `srvid`, or to any if none is given; oldest first.
  [[nodiscard]] Result<ReqMessage> wait_message(std::optional<Srvid> srvid, Duration timeout = kDefaultTimeout);

  // The local node's number. Asked once, then remembered; used as source of what is sent afterwards.
  [[nodiscard]] Result<Pnn> pnn(Duration timeout = kDefaultTimeout);

  enum class DatabaseType { Volatile, Persistent, Replicated };
  struct Attached {
    DatabaseId id{};
    std::string path;            // of the anchor file
    std::int32_t open_flags = 0;  // for tdb_open
  };
  // Attaches `name` on the local node and asks where it is: attach, path, open flags. Refused, with the
  // daemon's words, if one of the three is answered with a status other than 0.
  [[nodiscard]] Result<Attached> attach(const std::string& name, DatabaseType type,
                                        Duration timeout = kDefaultTimeout);

  // One control whose status must be 0: Refused ("NAME failed on node N: status S, TEXT") otherwise.
  [[nodiscard]] Result<Bytes> control_data(ControlOpcode opcode, std::uint32_t destnode, BytesView data = {},
                                           Duration timeout = kDefaultTimeout) {
    return control_data(opcode, destnode, data, timeout, ControlOptions{});
  }
  [[nodiscard]] Result<Bytes> control_data(ControlOpcode opcode, std::uint32_t destnode, BytesView data,
                                           Duration timeout, ControlOptions options);

  // For poll(2). Readable does not mean that a message is there; messages kept meanwhile do not show.
  [[nodiscard]] int fd() const { return fd_; }

 private:
  Client(int fd, std::string path);
  [[nodiscard]] std::uint32_t take_reqid();
  [[nodiscard]] Result<> send(Body body, std::uint32_t destnode, std::uint32_t reqid);
  [[nodiscard]] Result<std::uint32_t> request(Body body, std::uint32_t destnode);
  [[nodiscard]] Result<Packet> wait_reply(std::uint32_t reqid, Instant deadline);
  [[nodiscard]] Result<ReplyControl> wait_control(std::uint32_t reqid, Instant deadline);
  // Reads packets until `done` or the deadline; replies go to replies_, messages to messages_.
  template <class Done>
  [[nodiscard]] Result<> read_until(Instant deadline, Done done);
  void take(Packet packet);
  tl::unexpected<Error> lost(const std::string& why);  // closes

  int fd_ = -1;
  std::string path_;
  std::uint32_t next_reqid_ = 1;
  std::optional<Pnn> pnn_;
  PacketFramer framer_;
  std::map<std::uint32_t, std::optional<Packet>> replies_;  // by reqid; a null one is awaited
  std::deque<ReqMessage> messages_;
};

}  // namespace tdbmesh::ctdb
