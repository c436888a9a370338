// tdbmesh-lock-helper FILE PNN: holds an fcntl lock on FILE for its parent, and keeps the register of the cluster
// lock in it. tdbmesh-lock-helper --register FILE PNN: only the register, for a lock that is held otherwise.
// cluster_lock_keeper.h has the protocol. It ends, and so releases, when its stdin ends, on SIGTERM,
// or when its parent dies. A process of its own, because any call on a cluster file system may hang.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "recovery/persisted_state.h"

namespace {

using tdbmesh::recovery::kStateSlotBytes;
constexpr std::uint32_t kMaxSlots = 256;
constexpr unsigned kLockSeconds = 5;

void say(char status) { (void)!::write(1, &status, 1); }

void on_alarm(int) {
  say('2');
  ::_exit(2);
}

bool read_all(void* to, std::size_t count) {
  char* at = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = ::read(0, at, count);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    count -= static_cast<std::size_t>(got);
  }
  return true;
}

bool write_all(int fd, const std::string& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

// The lock covers the first bytes; slots follow, one per pnn.
off_t slot_at(std::uint32_t pnn) { return static_cast<off_t>(kStateSlotBytes) * (static_cast<off_t>(pnn) + 1); }

bool write_slot(int fd, std::uint32_t pnn, const std::string& slot) {
  std::size_t done = 0;
  while (done < slot.size()) {
    const ssize_t wrote = ::pwrite(fd, slot.data() + done, slot.size() - done, slot_at(pnn) + static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return ::fsync(fd) == 0;
}

bool answer(int fd) {
  struct stat now {};
  if (::fstat(fd, &now) != 0) return false;
  std::string slots;
  std::uint32_t count = 0;
  const auto put = [&slots](std::uint32_t value) { slots.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (std::uint32_t pnn = 0; pnn < kMaxSlots && slot_at(pnn) < now.st_size; ++pnn) {
    std::string slot(kStateSlotBytes, '\0');
    const ssize_t got = ::pread(fd, slot.data(), slot.size(), slot_at(pnn));
    if (got < 0) return false;
    slot.resize(static_cast<std::size_t>(got));
    if (slot.find_first_not_of('\0') == std::string::npos) continue;
    put(pnn);
    put(static_cast<std::uint32_t>(slot.size()));
    slots += slot;
    ++count;
  }
  return write_all(1, std::string(reinterpret_cast<const char*>(&count), sizeof count) + slots);
}

}  // namespace

int main(int argc, char** argv) {
  const bool register_only = argc == 4 && std::strcmp(argv[1], "--register") == 0;
  if (argc != 3 && !register_only) {
    const char usage[] = "usage: tdbmesh-lock-helper [--register] FILE PNN\n";
    (void)!::write(2, usage, sizeof usage - 1);
    say('3');
    return 1;
  }
  if (register_only) ++argv;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() == 1) return 1;  // the parent was gone before
  const auto pnn = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));
  ::signal(SIGALRM, on_alarm);
  ::alarm(kLockSeconds);
  const int fd = ::open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || pnn >= kMaxSlots) {
    say('3');
    return 1;
  }
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 1;
  if (!register_only && ::fcntl(fd, F_SETLK, &lock) != 0) {
    say(errno == EACCES || errno == EAGAIN ? '1' : '3');
    return 1;
  }
  ::alarm(0);
  say('0');
  for (;;) {
    std::uint32_t length = 0;
    if (!read_all(&length, sizeof length)) return 0;  // the parent let go, or is gone
    if (length > kStateSlotBytes) return 1;
    std::string slot(length, '\0');
    if (!read_all(slot.data(), length)) return 0;
    // Losing the register is losing the lock: ending says so.
    if (length != 0 && !write_slot(fd, pnn, slot)) return 1;
    if (!answer(fd)) return 1;
  }
}
