// What hops between processes cost here when nothing is done with the packets: the floor under every row of tests/bench/run
// that crosses nodes. A relay stands for a daemon (one Unix socket for its client, TCP to the other relays, the same
// scheduling class), a client for bench_client. Each packet carries its own route; relays pass it on and look at nothing
// else: no encryption, no record, no store. tests/bench/floor starts them.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "transport/realtime.h"
#include "workload.h"

namespace tdbmesh::bench {
namespace {

constexpr std::uint16_t kPort = 4390;
constexpr std::size_t kPacketSize = 192;  // about what a record with its header, envelope and key has
constexpr std::size_t kLongestRoute = 8;

enum class Kind : std::uint8_t { Forth, Back, Granted };

struct Packet {
  Kind kind{};
  std::uint8_t at = 0;
  std::uint8_t hops = 0;
  std::array<std::uint8_t, kLongestRoute> route{};
  std::array<char, kPacketSize - 3 - kLongestRoute> rest{};
};
static_assert(sizeof(Packet) == kPacketSize);

Packet packet_for(Kind kind, const std::vector<std::uint32_t>& route) {
  Packet packet;
  packet.kind = kind;
  for (const std::uint32_t node : route) packet.route.at(packet.hops++) = static_cast<std::uint8_t>(node);
  return packet;
}

void send_whole(int fd, const Packet& packet) {
  const auto* data = reinterpret_cast<const char*>(&packet);
  for (std::size_t sent = 0; sent < kPacketSize;) {
    const ssize_t count = ::send(fd, data + sent, kPacketSize - sent, MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<std::size_t>(count);
    if (count < 0 && errno != EAGAIN && errno != EINTR) die(fmt::format("send: {}", std::strerror(errno)));
  }
}

// Packets out of a stream; false at its end.
class Incoming {
 public:
  template <class Use>
  bool read(int fd, Use use) {
    const ssize_t got = ::recv(fd, buffer_.data() + have_, buffer_.size() - have_, 0);
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    have_ += static_cast<std::size_t>(got);
    std::size_t used = 0;
    for (; have_ - used >= kPacketSize; used += kPacketSize) {
      Packet packet;
      std::memcpy(&packet, buffer_.data() + used, kPacketSize);
      use(packet);
    }
    std::memmove(buffer_.data(), buffer_.data() + used, have_ - used);
    have_ -= used;
    return true;
  }

 private:
  std::array<char, 64 * kPacketSize> buffer_{};
  std::size_t have_ = 0;
};

struct BareOptions {
  Options run;
  std::string socket;
  std::vector<std::string> addresses;
  std::uint32_t own = 0;
};

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die("the socket's path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

sockaddr_in tcp_address(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  if (inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1) die(text + " is no IPv4 address");
  return address;
}

template <class Address>
int listening(int family, const Address& address) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(fd, 64) != 0) {
    die(fmt::format("cannot listen: {}", std::strerror(errno)));
  }
  return fd;
}

// The other relays begin at the same time, so the first attempts may be too early.
template <class Address>
int connected(int family, const Address& address) {
  for (int attempt = 0; attempt < 2000; ++attempt) {
    const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    ::close(fd);
    usleep(5000);
  }
  die("nobody listens");
}

// Runs until its standard input ends.
class Relay {
 public:
  explicit Relay(const BareOptions& options) : own_(options.own), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    unix_ = listening(AF_UNIX, unix_address(options.socket));
    tcp_ = listening(AF_INET, tcp_address(options.addresses.at(own_)));
    for (const int fd : {unix_, tcp_, 0}) watch(fd);
    peers_.resize(options.addresses.size(), -1);
    for (std::size_t node = 0; node < peers_.size(); ++node) {
      if (node == own_) continue;
      peers_[node] = connected(AF_INET, tcp_address(options.addresses[node]));
      tune(peers_[node]);
    }
    fmt::print("ready\n");
    std::fflush(stdout);
    (void)become_realtime_loop();
  }

  void run() {
    for (std::array<epoll_event, 16> events;;) {
      const int ready = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < ready; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == 0) return;
        if (fd == unix_ || fd == tcp_) {
          const int accepted = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
          if (fd == unix_) client_ = accepted;
          if (fd == tcp_) tune(accepted);
          streams_[accepted];
          watch(accepted);
        } else if (!streams_[fd].read(fd, [this](Packet& packet) { pass_on(packet); })) {
          streams_.erase(fd);
          if (fd == client_) client_ = -1;
          ::close(fd);
        }
      }
    }
  }

 private:
  void watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    // Standard input may be a file, which cannot be watched and is at its end already.
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die(fmt::format("epoll: {}", std::strerror(errno)));
  }
  static void tune(int fd) {
    const int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  void pass_on(Packet& packet) const {
    while (packet.at < packet.hops && packet.route.at(packet.at) == own_) ++packet.at;
    if (packet.at < packet.hops) {
      send_whole(peers_.at(packet.route.at(packet.at++)), packet);
    } else if (client_ >= 0) {
      send_whole(client_, packet);
    }
  }

  std::uint32_t own_;
  int epoll_;
  int unix_ = -1;
  int tcp_ = -1;
  int client_ = -1;
  std::vector<int> peers_;
  std::map<int, Incoming> streams_;
};

// ---- the loads, each as the one of bench_client of this name ----

// `handle` takes each packet that comes in until the time is over.
template <class Handle>
void receive(int fd, const Run& run, Handle handle) {
  const timeval limit{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  Incoming incoming;
  while (!run.over() && incoming.read(fd, handle)) {
  }
}

void bare_message_ring(int fd, const BareOptions& options) {
  const std::uint32_t nodes = options.run.nodes;
  const auto onward = [&](Kind kind) {
    return packet_for(kind, {(options.own + (kind == Kind::Forth ? 1 : nodes - 1)) % nodes});
  };
  Run run(options.run);
  std::uint64_t received = 0;
  if (options.own == 0) {
    for (const Kind kind : {Kind::Forth, Kind::Back}) send_whole(fd, onward(kind));
  }
  receive(fd, run, [&](const Packet& packet) {
    ++received;
    send_whole(fd, onward(packet.kind));
  });
  run.count(received);
  run.report("msg", Pnn{options.own});
}

// A record that goes round: told by the node before (one message), it is asked for at its lmaster (node 0), which tells its
// holder (the node before), which grants it.
void bare_record_ring(int fd, const BareOptions& options) {
  const std::uint32_t nodes = options.run.nodes;
  const Packet next = packet_for(Kind::Forth, {(options.own + 1) % nodes});
  const Packet request = packet_for(Kind::Granted, {0, (options.own + nodes - 1) % nodes, options.own});
  Run run(options.run);
  std::uint64_t granted = 0;
  if (options.own == 0) send_whole(fd, next);
  receive(fd, run, [&](const Packet& packet) {
    if (packet.kind == Kind::Granted) ++granted;
    send_whole(fd, packet.kind == Kind::Granted ? next : request);
  });
  run.count(granted);
  run.report("ring", Pnn{options.own});
}

void bare_ping(int fd, const BareOptions& options) {
  const Packet there_and_back = packet_for(Kind::Forth, {options.run.node, options.own});
  Run run(options.run);
  auto before = Clock::now();
  send_whole(fd, there_and_back);
  receive(fd, run, [&](const Packet&) {
    const auto after = Clock::now();
    run.add(after - before);
    before = after;
    send_whole(fd, there_and_back);
  });
  run.report("ping", Pnn{options.own});
}

}  // namespace
}  // namespace tdbmesh::bench

int main(int argc, char** argv) {
  using namespace tdbmesh::bench;
  BareOptions options;
  CLI::App app("What hops between processes cost when nothing is done with the packets.");
  app.add_option("--socket", options.socket, "Unix socket of this node's relay")->required();
  app.add_option("--own", options.own, "number of this node");
  app.add_option("--nodes", options.run.nodes, "nodes that take part");
  app.add_option("--seconds", options.run.seconds, "how long to measure");
  app.add_flag("--wait", options.run.wait, "print \"ready\" and begin when a line is read");
  app.require_subcommand(1);
  CLI::App* relay = app.add_subcommand("relay", "pass packets on until standard input ends")->fallthrough();
  relay->add_option("--address", options.addresses, "of each node, in order")->required();
  app.add_subcommand("msg", "two messages go round in opposite directions")->fallthrough();
  app.add_subcommand("ring", "a record goes round")->fallthrough();
  app.add_subcommand("ping", "round trips")->fallthrough()->add_option("--node", options.run.node, "to this node");
  CLI11_PARSE(app, argc, argv);
  if (relay->parsed()) {
    Relay(options).run();
    return 0;
  }
  const int fd = connected(AF_UNIX, unix_address(options.socket));
  const std::string what = app.get_subcommands().front()->get_name();
  (what == "msg" ? bare_message_ring : what == "ring" ? bare_record_ring : bare_ping)(fd, options);
  return 0;
}
