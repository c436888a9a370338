#pragma once
// The gate of a node: a shared-memory file (`<runtime>/gate`) with one deadline, "open until T" on
// CLOCK_BOOTTIME. The daemon's heartbeat thread renews it while the node holds its lease; when it lapses, because the
// daemon hangs, was killed or the node is cut off, shim operations on volatile data wait instead of using records
// that the rest of the cluster may have taken over. Nothing has to run for the gate to close.
//
// The daemon also holds a file lock (OFD) for its life, so a reader can tell "closed" from "nobody there".

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "db/base/result.h"

namespace tdbmesh {

struct GateFile {  // the mapped layout; private to gate.cc except for its size
  char magic[16];
  std::uint32_t format;
  std::atomic<std::uint32_t> changes;             // futex word: rises when the gate opens or closes
  std::atomic<std::uint64_t> open_until;          // ns of CLOCK_BOOTTIME; 0 = closed
  std::atomic<std::uint64_t> generation;          // client generation word of the view it is open for
  std::atomic<std::int32_t> daemon_pid;           // for people; 0 = none
};

// Nanoseconds of CLOCK_BOOTTIME, the gate's clock (comparable between processes of this boot).
[[nodiscard]] std::uint64_t gate_now();

// The daemon's side. One per node and runtime directory.
class GateKeeper {
 public:
  // Creates the file if needed, keeps its inode if it is there (clients have it mapped), closes the gate and
  // takes the daemon's lock. Busy: another daemon runs on this runtime directory (context has its pid).
  [[nodiscard]] static Result<std::unique_ptr<GateKeeper>> open(const std::string& path);
  ~GateKeeper();  // closes the gate, frees the lock
  GateKeeper(const GateKeeper&) = delete;
  GateKeeper& operator=(const GateKeeper&) = delete;

  // Any thread; lock-free; no allocation. Waiters are woken when a closed gate opens.
  void set_open_until(std::uint64_t boot_ns, std::uint64_t generation);
  void close();
  [[nodiscard]] bool is_open(std::uint64_t now) const { return now < file_->open_until.load(); }
  [[nodiscard]] std::uint64_t open_until() const { return file_->open_until.load(); }

 private:
  GateKeeper() = default;
  int fd_ = -1;
  GateFile* file_ = nullptr;
};

// The shim's side: read-only mapping. Stays valid over fork, and over a restart of the daemon. One
// thread per view; views of one gate share the mapping.
class GateView {
 public:
  // NotFound: no daemon ever ran here.
  [[nodiscard]] static Result<std::unique_ptr<GateView>> open(const std::string& path);
  [[nodiscard]] std::unique_ptr<GateView> another() const;  // a view for somebody else
  // Is this the file that is at `path` now?
  [[nodiscard]] bool is_at(const std::string& path) const;
  GateView(const GateView&) = delete;
  GateView& operator=(const GateView&) = delete;

  // A few nanoseconds if it was asked a moment ago, else a look at the clock.
  [[nodiscard]] bool is_open() const {
    const std::uint64_t until = file_->open_until.load();
#if defined(__x86_64__)
    // Reading the clock is a good part of a fetch. The time stamp counter tells whether the last look is recent: fewer
    // ticks than any processor counts in kGlance. (A counter that was set back, by a suspend, makes it look old.)
    const std::uint64_t ticks = __builtin_ia32_rdtsc();
    if (ticks - looked_at_ticks_ < kGlanceTicks && looked_at_ + kGlance < until) return true;
    looked_at_ = gate_now();
    looked_at_ticks_ = ticks;
    return looked_at_ < until;
#else
    return gate_now() < until;
#endif
  }
  // False: the gate was shut. True: it is open, or it lapsed and nobody has shut it yet; without a look at the clock.
  [[nodiscard]] bool is_not_shut() const { return file_->open_until.load() > looked_at_; }
  [[nodiscard]] std::uint64_t open_until() const { return file_->open_until.load(); }
  [[nodiscard]] std::uint64_t generation() const { return file_->generation.load(); }
  // Is a daemon's lock on the file? One system call.
  [[nodiscard]] bool daemon_alive() const;
  [[nodiscard]] int daemon_pid() const { return file_->daemon_pid.load(); }

  // Waits until the gate is open (true), or `stop` says so or `timeout` is over (false). Woken at once by an opening
  // gate; `stop` (may be empty) is asked at least every 50 ms and after each signal.
  bool wait_open(std::chrono::milliseconds timeout, const std::function<bool()>& stop = {}) const;

 private:
  struct Mapping;
  explicit GateView(std::shared_ptr<const Mapping> mapping);
  static constexpr std::uint64_t kGlance = 1'000'000;     // ns that the last look may be old, and is taken to be ...
  static constexpr std::uint64_t kGlanceTicks = 200'000;  // ... 40 us at 5 GHz, 1 ms at 200 MHz: always fewer
  std::shared_ptr<const Mapping> mapping_;
  const GateFile* file_;
  mutable std::uint64_t looked_at_ = 0;
  mutable std::uint64_t looked_at_ticks_ = 0;
};

// Closes the gate that a dead daemon left open. True: it is closed and no other daemon has it. False: another daemon
// than `daemon_pid` uses it by now, and it was left alone. For the supervisor.
[[nodiscard]] Result<bool> close_gate_of(const std::string& path, int daemon_pid);

}  // namespace tdbmesh
