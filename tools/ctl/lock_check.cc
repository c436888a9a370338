#include "tools/ctl/lock_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

namespace tdbmesh::ctl {
namespace {

constexpr std::string_view kMagic = "tdbmesh-lock-check";
constexpr auto kLocalTypes = std::to_array<std::string_view>(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "overlay", "zfs", "f2fs", "vfat", "squashfs"});

bool has_option(const std::string& options, std::string_view wanted) {
  std::istringstream in(options);
  for (std::string option; std::getline(in, option, ',');) {
    if (option == wanted) return true;
  }
  return false;
}

// mountinfo writes blanks and the like as \040.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string seconds_text(Duration d) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(d).count());
}

}  // namespace

std::optional<Mount> mount_of(std::string_view mountinfo, std::string_view path) {
  std::optional<Mount> best;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    // id parent dev root POINT OPTIONS [tags...] - TYPE source SUPER-OPTIONS
    std::istringstream in(line);
    std::string skipped, point, options, type, source, more;
    if (!(in >> skipped >> skipped >> skipped >> skipped >> point >> options)) continue;
    while (in >> skipped && skipped != "-") {
    }
    if (!(in >> type >> source)) continue;
    in >> more;
    point = unescaped(point);
    const bool under =
        point == "/" || path == point || (path.starts_with(point) && path[point.size()] == '/');
    // of two mounts on one place the later one is seen
    if (under && (!best || point.size() >= best->point.size()))
      best = Mount{point, type, options + "," + more};
  }
  return best;
}

std::string mount_warning(const Mount& mount) {
  if (std::find(kLocalTypes.begin(), kLocalTypes.end(), mount.type) != kLocalTypes.end()) {
    return fmt::format(
        "{} is a local file system ({}): no other node sees a lock on it; is the cluster file system "
        "mounted?",
        mount.point, mount.type);
  }
  if (mount.type == "lustre" && has_option(mount.options, "localflock")) {
    return "Lustre is mounted with localflock: locks hold on this node only; mount it with -o flock";
  }
  if (mount.type == "lustre" && !has_option(mount.options, "flock")) {
    return "Lustre may be mounted without -o flock, then fcntl locks fail or hold on this node only; mount "
           "it with -o flock";
  }
  if (mount.type == "nfs" &&
      (has_option(mount.options, "nolock") || has_option(mount.options, "local_lock=all") ||
       has_option(mount.options, "local_lock=posix"))) {
    return "NFS is mounted with nolock or local_lock: locks hold on this node only; mount it without";
  }
  if (mount.type == "ocfs2" && !has_option(mount.options, "cluster_stack=pcmk")) {
    return "OCFS2 has fcntl locks between nodes only with a userspace cluster stack, not with o2cb; see "
           "/sys/fs/ocfs2/cluster_stack";
  }
  if (mount.type == "gfs2" && has_option(mount.options, "localflocks")) {
    return "GFS2 is mounted with localflocks: locks hold on this node only; mount it without";
  }
  if (mount.type == "cifs" && has_option(mount.options, "nobrl")) {
    return "SMB is mounted with nobrl: locks hold on this node only; mount it without";
  }
  return {};
}

std::string explain_lock_error(int error, const std::string& type) {
  const bool unsupported = error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
  std::string hint;
  if (unsupported && type == "lustre") {
    hint = "mount Lustre with -o flock";
  } else if (error == ENOLCK && type.starts_with("nfs")) {
    hint = "is the lock service reachable (rpc.statd with NFSv3), the server out of its grace period?";
  } else if (error == ENOTCONN || error == EIO || error == ESTALE) {
    hint = "the file system has lost its servers, or lost its state; mount it anew";
  } else if (unsupported) {
    hint = "this file system has no fcntl locks here; the cluster lock cannot live on it";
  }
  return std::string(std::strerror(error)) + (hint.empty() ? "" : ": " + hint);
}

std::string encode(const LockSign& sign) {
  std::string text = fmt::format("{} {} {} {} {} {} {}\n", kMagic, sign.host.substr(0, 64), sign.pid, sign.life,
                                 sign.beats, sign.released ? "released" : "holds", sign.written.count());
  text.resize(kLockSignBytes, '\0');
  return text;
}

std::optional<LockSign> decode_lock_sign(std::string_view bytes) {
  const auto end = bytes.find('\n');
  if (end == std::string_view::npos || end > kLockSignBytes) return std::nullopt;
  std::istringstream in{std::string(bytes.substr(0, end))};
  std::string magic, state;
  LockSign sign;
  if (!(in >> magic >> sign.host >> sign.pid >> sign.life >> sign.beats >> state) || magic != kMagic)
    return std::nullopt;
  if (state != "holds" && state != "released") return std::nullopt;
  sign.released = state == "released";
  std::int64_t written = 0;
  if (in >> written && written > 0) sign.written = Duration(written);
  return sign;
}

std::string_view word(LockVerdict verdict) {
  switch (verdict) {
    case LockVerdict::None:
      return "none";
    case LockVerdict::Holds:
      return "holds";
    case LockVerdict::Excludes:
      return "excludes";
    case LockVerdict::StillHeld:
      return "still held";
    case LockVerdict::Worthless:
      return "worthless";
    case LockVerdict::Lost:
      return "lost";
    case LockVerdict::Failed:
      return "failed";
  }
  return "?";
}

std::string LockCheck::name(const LockSign& sign) const {
  return fmt::format("{} (process {}{})", sign.host, sign.pid,
                     sign.host == self_.host ? ", on this node" : "");
}

std::string LockCheck::finish(LockVerdict verdict, std::string line) {
  phase_ = Phase::Finished;
  found_.verdict = verdict;
  return line;
}

void LockCheck::heard(Instant now) {
  last_silence_ = now - heard_;
  found_.longest_silence = std::max(found_.longest_silence, last_silence_);
  heard_ = now;
  told_silence_ = Duration(0);
}

Instant LockCheck::time_of(const LockSign& sign, Instant now) {
  if (sign.written == Duration(0)) return now;
  const Instant written{sign.written};
  if (!found_.other || !found_.other->same_holder(sign)) nearest_.reset();
  nearest_ = std::min(nearest_.value_or(Duration::max()), Duration(now - written));
  return written + *nearest_;
}

std::string LockCheck::on_sign(const std::optional<LockSign>& sign, Instant now) {
  if (finished()) return {};
  heard(now);
  const bool foreign = sign && !sign->same_holder(self_);
  if (phase_ == Phase::Holding) {
    const bool left_behind =
        foreign && found_.other && sign->same_holder(*found_.other) && sign->beats == found_.other->beats;
    if (!foreign || left_behind) return {};
    found_.other = sign;
    if (last_silence_ >= kLockVerify) {
      return finish(LockVerdict::Lost, fmt::format("LOST: {} has the lock now. This node got no answer from "
                                                   "the file system for {}; if it was cut off or stood "
                                                   "still, that is as it should be",
                                                   name(*sign), seconds_text(last_silence_)));
    }
    return finish(LockVerdict::Lost, fmt::format("NOT FIT: {} was given the lock while this process holds "
                                                 "it: the file system does not keep nodes from each other",
                                                 name(*sign)));
  }
  std::string said;
  if (foreign) {
    // What was named with the refusal may have been left behind by an earlier run.
    const bool news = !found_.other || !found_.other->same_holder(*sign);
    if (phase_ == Phase::Waiting && news) said = fmt::format("{} holds it", name(*sign));
    const bool moved =
        !found_.other || !found_.other->same_holder(*sign) || found_.other->beats != sign->beats;
    if (moved) last_sign_ = time_of(*sign, now);
    found_.other = sign;
  }
  if (phase_ != Phase::Verifying) return said;
  if (foreign && !sign->released && sign->beats != beats_at_grant_ && last_sign_ > granted_) {
    return finish(LockVerdict::Worthless,
                  fmt::format("NOT FIT: the lock was given to this process while {} holds it and lives: the "
                              "file system does not keep nodes "
                              "from each other",
                              name(*sign)));
  }
  if (!foreign || sign->released || now - granted_ >= kLockVerify) return verified(now);
  return {};
}

std::string LockCheck::on_refused(Duration took, Instant now) {
  if (finished()) return {};
  heard(now);
  if (phase_ != Phase::Trying) return {};
  phase_ = Phase::Waiting;
  found_.refusal_took = took;
  last_sign_ = std::max(last_sign_, now);
  if (!found_.other || found_.other->released) {
    return "refused, as it should be: another process holds the lock. Waiting until it is free ...";
  }
  return fmt::format(
      "refused within {:.1f} ms, as it should be: {} holds the lock. End it there (or cut that node off) to "
      "see "
      "how long it takes until the lock is free ...",
      std::chrono::duration<double, std::milli>(took).count(), name(*found_.other));
}

std::string LockCheck::on_granted(Instant now) {
  if (phase_ != Phase::Trying && phase_ != Phase::Waiting) return {};
  heard(now);
  granted_ = now;
  phase_ = Phase::Verifying;
  beats_at_grant_ = found_.other ? found_.other->beats : 0;
  return {};  // on_sign() comes next and decides
}

std::string LockCheck::verified(Instant) {
  if (!found_.refusal_took) {
    phase_ = Phase::Holding;
    found_.verdict = LockVerdict::Holds;
    return "this process holds the lock; now run the same command on another node. If that one holds it too, "
           "the two do not "
           "see the same file";
  }
  found_.free_after = granted_ - last_sign_;
  if (!found_.other) return finish(LockVerdict::Excludes, "the lock is free and was granted");
  return finish(
      LockVerdict::Excludes,
      fmt::format("GOOD: granted {} after {} {}{}", seconds_text(*found_.free_after), name(*found_.other),
                  found_.other->released ? "let go in order" : "gave its last sign of life",
                  found_.longest_silence >= kLockSilence
                      ? fmt::format("; the file system answered nothing for {} of it",
                                    seconds_text(found_.longest_silence))
                      : ""));
}

std::string LockCheck::on_tick(Instant now) {
  const Duration silent = now - heard_;
  if (finished() || silent < kLockSilence) return {};
  found_.longest_silence = std::max(found_.longest_silence, silent);
  if (told_silence_ > Duration(0) && silent - told_silence_ < seconds(10)) return {};
  told_silence_ = silent;
  return fmt::format("the file system has not answered for {}", seconds_text(silent));
}

std::string LockCheck::on_failed(const std::string& why) {
  if (finished()) return {};
  return finish(LockVerdict::Failed, "FAILED: " + why);
}

std::string LockCheck::on_end(Instant now) {
  switch (phase_) {
    case Phase::Finished:
      return {};
    case Phase::Holding:
      return finish(LockVerdict::Holds, "released; nobody else was given the lock meanwhile");
    case Phase::Verifying:
      return finish(LockVerdict::None, "ended before the result was sure; try again");
    case Phase::Waiting:
      return finish(LockVerdict::StillHeld,
                    found_.other
                        ? fmt::format("the lock is still held: the last sign of life of {} is {} old",
                                      name(*found_.other), seconds_text(now - last_sign_))
                        : "the lock is still held");
    case Phase::Trying:
      break;
  }
  return finish(LockVerdict::Failed,
                fmt::format("FAILED: the file system has not answered for {}", seconds_text(now - heard_)));
}

}  // namespace tdbmesh::ctl
