#pragma once
// A relay between two TCP ends on loopback that a test can make swallow bytes or break connections: loss as
// a real network inflicts it, at a chosen moment.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>
#include <vector>

namespace tdbmesh {

class TcpRelay {
 public:
  // Listens at `at`, passes on to `to`, calling from `source`; all on `port`.
  TcpRelay(const std::string& at, const std::string& source, const std::string& to, std::uint16_t port)
      : source_(address(source, 0)), to_(address(to, port)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const sockaddr_in own = address(at, port);
    ok_ = bind(listener_, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0 && listen(listener_, 16) == 0;
    thread_ = std::thread([this] { run(); });
  }
  ~TcpRelay() {
    stopping_ = true;
    wake();
    thread_.join();
    for (const auto& pair : pairs_) close_pair(pair);
    close(listener_);
    close(wake_fd_);
  }
  TcpRelay(const TcpRelay&) = delete;
  TcpRelay& operator=(const TcpRelay&) = delete;

  // From now on bytes from the caller are read and thrown away, until the next cut().
  void swallow() { swallowing_ = true; }
  [[nodiscard]] std::size_t swallowed() const { return swallowed_; }
  // Connections passed on so far.
  [[nodiscard]] std::size_t accepted() const { return accepted_; }
  // Breaks all connections; new ones pass again.
  void cut() {
    cutting_ = true;
    wake();
  }

 private:
  struct Pair {
    int caller;
    int callee;
  };

  static sockaddr_in address(const std::string& host, std::uint16_t port) {
    sockaddr_in result{};
    result.sin_family = AF_INET;
    result.sin_port = htons(port);
    inet_pton(AF_INET, host.c_str(), &result.sin_addr);
    return result;
  }
  static void close_pair(const Pair& pair) {
    close(pair.caller);
    close(pair.callee);
  }
  void wake() {
    const std::uint64_t one = 1;
    (void)!write(wake_fd_, &one, sizeof one);
  }
  void accept_one() {
    const int caller = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (caller < 0) return;
    const int callee = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(callee, reinterpret_cast<const sockaddr*>(&source_), sizeof source_) != 0 ||
        connect(callee, reinterpret_cast<const sockaddr*>(&to_), sizeof to_) != 0) {
      close_pair({caller, callee});
      return;
    }
    pairs_.push_back({caller, callee});
    ++accepted_;
  }
  // False when the connection is over.
  bool pass(int from, int to, bool from_caller) {
    std::array<char, 65536> buffer;
    const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    if (from_caller && swallowing_) {
      swallowed_ += static_cast<std::size_t>(got);
      return true;
    }
    std::size_t done = 0;
    while (done < static_cast<std::size_t>(got)) {
      const ssize_t put = send(to, buffer.data() + done, static_cast<std::size_t>(got) - done, MSG_NOSIGNAL);
      if (put <= 0) return false;
      done += static_cast<std::size_t>(put);
    }
    return true;
  }
  void run() {
    while (!stopping_) {
      std::vector<pollfd> fds{{wake_fd_, POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        fds.push_back({pair.caller, POLLIN, 0});
        fds.push_back({pair.callee, POLLIN, 0});
      }
      poll(fds.data(), fds.size(), -1);
      if ((fds[0].revents & POLLIN) != 0) {
        std::uint64_t ignored = 0;
        (void)!read(wake_fd_, &ignored, sizeof ignored);
      }
      if (cutting_.exchange(false)) {
        swallowing_ = false;
        for (const Pair& pair : pairs_) close_pair(pair);
        pairs_.clear();
        continue;
      }
      std::size_t at = 2;
      for (auto pair = pairs_.begin(); pair != pairs_.end(); at += 2) {
        bool alive = true;
        if (fds[at].revents != 0) alive = pass(pair->caller, pair->callee, true);
        if (alive && fds[at + 1].revents != 0) alive = pass(pair->callee, pair->caller, false);
        if (alive) {
          ++pair;
          continue;
        }
        close_pair(*pair);
        pair = pairs_.erase(pair);
      }
      if ((fds[1].revents & POLLIN) != 0) accept_one();
    }
  }

  sockaddr_in source_;
  sockaddr_in to_;
  int listener_ = -1;
  int wake_fd_ = eventfd(0, EFD_CLOEXEC);
  bool ok_ = false;
  std::list<Pair> pairs_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> swallowing_{false};
  std::atomic<bool> cutting_{false};
  std::atomic<std::size_t> swallowed_{0};
  std::atomic<std::size_t> accepted_{0};
  std::thread thread_;
};

}  // namespace tdbmesh
