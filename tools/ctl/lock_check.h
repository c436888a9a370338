#pragma once
// `lock check`: does a file system's fcntl lock keep nodes from each other, and how long does a dead node
// keep it? What is concluded from what was seen; cmd_lock.cc does the looking. Pure.
//
// Whoever holds the lock writes a sign of life beside it all the time. So another node that is refused knows
// by whom, and from when on the holder was dead; and one that is granted the lock while signs keep coming
// knows that the lock is worth nothing.
//
//   Trying --granted--> Verifying --no more signs--> Holding --a sign of somebody else--> Finished (Lost)
//      |                    |   `--signs go on--> Finished (Worthless)
//      `--refused--> Waiting --granted--> Verifying --no more signs--> Finished (Excludes)

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "db/base/time.h"

namespace tdbmesh::ctl {

struct Mount {
  std::string point;
  std::string type;
  std::string options;  // of the mount and of the file system, comma separated
};
// The mount that `path` (absolute, resolved) lies on, from the text of /proc/self/mountinfo.
[[nodiscard]] std::optional<Mount> mount_of(std::string_view mountinfo, std::string_view path);
// What is known to be wrong with locks on such a mount, and what to do; empty if nothing is.
[[nodiscard]] std::string mount_warning(const Mount& mount);
// Why fcntl may have failed so on a file system of this type.
[[nodiscard]] std::string explain_lock_error(int error, const std::string& type);

struct LockSign {
  std::string host;
  std::uint32_t pid = 0;
  std::uint64_t life = 0;   // a number of this run's own: pids come again
  std::uint64_t beats = 0;  // grows with every sign
  bool released = false;    // the last one: it let go in order
  Duration written{0};      // by the writer's own clock; 0: it does not say
  [[nodiscard]] bool same_holder(const LockSign& o) const {
    return host == o.host && pid == o.pid && life == o.life;
  }
};
inline constexpr std::size_t kLockSignBytes = 192;  // always so long: no reader depends on a cached size
[[nodiscard]] std::string encode(const LockSign& sign);
[[nodiscard]] std::optional<LockSign> decode_lock_sign(std::string_view bytes);

enum class LockVerdict {
  None,       // not yet
  Holds,      // it was granted and nothing contradicted
  Excludes,   // refused while another held it, free when that one was gone
  StillHeld,  // refused all the time
  Worthless,  // granted while another holds it
  Lost,       // somebody else has it, though this process never let go
  Failed,     // locks do not work here at all
};
[[nodiscard]] std::string_view word(LockVerdict verdict);
[[nodiscard]] inline bool is_good(LockVerdict v) {
  return v == LockVerdict::Holds || v == LockVerdict::Excludes;
}

// After a grant signs of the former holder are watched for so long before it counts as gone.
inline constexpr Duration kLockVerify = milliseconds(1500);
// A file system that is silent for so long is worth a line.
inline constexpr Duration kLockSilence = seconds(2);

struct LockFindings {
  LockVerdict verdict = LockVerdict::None;
  std::optional<LockSign> other;         // who holds it, or held it last
  std::optional<Duration> refusal_took;  // how long the first refusal took
  std::optional<Duration> free_after;    // from the holder's last sign of life until the lock was granted
  Duration longest_silence{0};           // of the file system
};

class LockCheck {
 public:
  LockCheck(LockSign self, Instant now) : self_(std::move(self)), heard_(now) {}

  // Each returns what is to be said now: a line without its newline, or nothing.
  std::string on_sign(const std::optional<LockSign>& sign,
                      Instant now);  // what stands beside the lock; before each try
  std::string on_refused(Duration took, Instant now);
  std::string on_granted(Instant now);
  std::string on_tick(Instant now);  // nothing came from the file system
  std::string on_failed(const std::string& why);
  std::string on_end(Instant now);  // the time is over, or the operator ends it

  [[nodiscard]] bool holding() const { return phase_ == Phase::Holding; }  // signs are to be written
  [[nodiscard]] bool finished() const { return phase_ == Phase::Finished; }
  [[nodiscard]] const LockFindings& findings() const { return found_; }

 private:
  enum class Phase { Trying, Waiting, Verifying, Holding, Finished };
  std::string finish(LockVerdict verdict, std::string line);
  std::string verified(Instant now);
  void heard(Instant now);
  [[nodiscard]] std::string name(const LockSign& sign) const;
  // When the other wrote this sign, by the own clock. After a silence of the file system it is read much later than it was
  // written, by a holder that may be long dead.
  [[nodiscard]] Instant time_of(const LockSign& sign, Instant now);

  LockSign self_;
  Phase phase_ = Phase::Trying;
  LockFindings found_;
  Instant heard_;             // of the file system
  Duration last_silence_{0};  // before it was heard last
  Duration told_silence_{0};
  Instant last_sign_ = Instant::min();  // when the other wrote its newest sign
  std::optional<Duration> nearest_;     // least time from its writing a sign (its clock) to our reading it (ours)
  Instant granted_{};
  std::uint64_t beats_at_grant_ = 0;
};

}  // namespace tdbmesh::ctl
