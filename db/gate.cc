#include "db/gate.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <ctime>
#include <new>

namespace tdbmesh {

namespace {

constexpr char kGateMagic[16] = {'t', 'd', 'b', 'm', 'e', 's', 'h', ' ', 'g', 'a', 't', 'e', '\n'};
constexpr std::uint32_t kGateFormat = 1;
constexpr std::size_t kGateSize = 4096;
constexpr std::chrono::milliseconds kSlice{50};

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

void futex_wake_all(const std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<const std::uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen, std::chrono::nanoseconds most) {
  const timespec wait{most.count() / 1'000'000'000, most.count() % 1'000'000'000};
  ::syscall(SYS_futex, reinterpret_cast<const std::uint32_t*>(&word), FUTEX_WAIT, seen, &wait, nullptr, 0);
}

}  // namespace

std::uint64_t gate_now() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

Result<std::unique_ptr<GateKeeper>> GateKeeper::open(const std::string& path) {
  std::unique_ptr<GateKeeper> gate(new GateKeeper);
  gate->fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (gate->fd_ < 0) return system_failure("cannot open " + path);
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(gate->fd_, F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return system_failure("cannot lock " + path);
    const auto other = GateView::open(path);
    return failure(Fault::Busy, fmt::format("another tdbmeshd (process {}) runs here: {} is locked",
                                            other ? (*other)->daemon_pid() : 0, path));
  }
  if (const int rc = ::posix_fallocate(gate->fd_, 0, kGateSize); rc != 0) {
    return failure(rc == ENOSPC ? Fault::StoreFull : Fault::Io, fmt::format("cannot allocate {}: {}", path, std::strerror(rc)));
  }
  void* map = ::mmap(nullptr, kGateSize, PROT_READ | PROT_WRITE, MAP_SHARED, gate->fd_, 0);
  if (map == MAP_FAILED) return system_failure("cannot map " + path);
  gate->file_ = static_cast<GateFile*>(map);
  // First closed, then recognisable: a client never sees a deadline of an earlier life through a new head.
  gate->close();
  gate->file_->generation = 0;
  gate->file_->daemon_pid = ::getpid();
  gate->file_->format = kGateFormat;
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(gate->file_->magic, kGateMagic, sizeof(kGateMagic));
  return gate;
}

GateKeeper::~GateKeeper() {
  if (file_ != nullptr) {
    close();
    file_->daemon_pid = 0;
    ::munmap(file_, kGateSize);
  }
  if (fd_ >= 0) ::close(fd_);  // frees the lock
}

void GateKeeper::set_open_until(std::uint64_t boot_ns, std::uint64_t generation) {
  const std::uint64_t now = gate_now();
  file_->generation.store(generation);
  const bool was_open = now < file_->open_until.exchange(boot_ns);
  if (was_open == (now < boot_ns)) return;
  file_->changes.fetch_add(1);
  futex_wake_all(file_->changes);
}

void GateKeeper::close() {
  file_->open_until.store(0);
  file_->changes.fetch_add(1);
}

struct GateView::Mapping {
  int fd = -1;
  const GateFile* file = nullptr;
  dev_t device = 0;
  ino_t inode = 0;
  ~Mapping() {
    if (file != nullptr) ::munmap(const_cast<GateFile*>(file), kGateSize);
    if (fd >= 0) ::close(fd);
  }
};

GateView::GateView(std::shared_ptr<const Mapping> mapping) : mapping_(std::move(mapping)), file_(mapping_->file) {}

Result<std::unique_ptr<GateView>> GateView::open(const std::string& path) {
  auto mapping = std::make_shared<Mapping>();
  mapping->fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (mapping->fd < 0) {
    if (errno == ENOENT) return failure(Fault::NotFound, "no gate at " + path + ": tdbmeshd has not been started here");
    return system_failure("cannot open " + path);
  }
  struct stat st {};
  if (::fstat(mapping->fd, &st) != 0) return system_failure("cannot stat " + path);
  if (!S_ISREG(st.st_mode) || st.st_size < static_cast<off_t>(kGateSize)) {
    return failure(Fault::StoreCorrupt, path + " is not a gate file");
  }
  mapping->device = st.st_dev;
  mapping->inode = st.st_ino;
  const void* map = ::mmap(nullptr, kGateSize, PROT_READ, MAP_SHARED, mapping->fd, 0);
  if (map == MAP_FAILED) return system_failure("cannot map " + path);
  mapping->file = static_cast<const GateFile*>(map);
  if (std::memcmp(mapping->file->magic, kGateMagic, sizeof(kGateMagic)) != 0 || mapping->file->format != kGateFormat) {
    return failure(Fault::StoreCorrupt, path + " is not a gate file of this version");
  }
  return std::unique_ptr<GateView>(new GateView(std::move(mapping)));
}

std::unique_ptr<GateView> GateView::another() const { return std::unique_ptr<GateView>(new GateView(mapping_)); }

bool GateView::is_at(const std::string& path) const {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && st.st_dev == mapping_->device && st.st_ino == mapping_->inode;
}

bool GateView::daemon_alive() const {
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(mapping_->fd, F_OFD_GETLK, &lock) != 0) return false;
  return lock.l_type != F_UNLCK;
}

bool GateView::wait_open(std::chrono::milliseconds timeout, const std::function<bool()>& stop) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const std::uint32_t seen = file_->changes.load();  // before the check, so that no opening is missed
    if (is_open()) return true;
    if (stop && stop()) return false;
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    futex_wait(file_->changes, seen, std::min<std::chrono::nanoseconds>(left, kSlice));
  }
}

Result<bool> close_gate_of(const std::string& path, int daemon_pid) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return system_failure("cannot open " + path);
  void* map = ::mmap(nullptr, kGateSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (map == MAP_FAILED) return system_failure("cannot map " + path);
  auto* file = static_cast<GateFile*>(map);
  // The next daemon writes its pid after it has closed the gate. Whatever it opens later differs from what was read
  // here before its pid was looked at, so the exchange below cannot hit it.
  std::uint64_t seen = file->open_until.load();
  const int pid = file->daemon_pid.load();
  const bool ours = pid == daemon_pid || pid == 0;
  if (ours && file->open_until.compare_exchange_strong(seen, 0)) file->changes.fetch_add(1);
  ::munmap(map, kGateSize);
  return ours;
}

}  // namespace tdbmesh
