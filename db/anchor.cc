#include "db/anchor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libgen.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstring>
#include <fstream>
#include <new>

#include "db/base/hash.h"
#include "db/chain_locks.h"

namespace tdbmesh {

namespace {

constexpr std::size_t kSharedOffset = 4096;
constexpr std::size_t kChainsOffset = 8192;
constexpr off_t kTdbActiveByte = 4;  // whoever opens a TDB "clear if first" empties the file if this byte is not locked
constexpr std::uint32_t kMaxChainCount = 1u << 20;
constexpr int kOpenFlags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

// Page 0: constant after creation.
struct AnchorHead {
  char magic[sizeof(kAnchorMagic)];
  std::uint32_t format;
  std::uint32_t mutex_size;  // of the C library that laid out the lock table
  std::uint64_t file_size;
  std::uint32_t database_id;
  std::uint32_t kind;
  std::uint32_t pnn;
  std::uint32_t chain_count;
  std::uint64_t identity;
  std::uint64_t hash_seed;
  std::uint64_t hash_mask;
  char boot_id[40];
  char name[256];
  char data_dir[1024];
  char gate_path[1024];
  std::uint32_t checksum;  // of everything before it; last
};
static_assert(sizeof(AnchorHead) <= kSharedOffset);
static_assert(sizeof(AnchorShared) <= kChainsOffset - kSharedOffset);

std::uint32_t checksum_of(const AnchorHead& head) {
  return ctdb_hash(BytesView(reinterpret_cast<const char*>(&head), offsetof(AnchorHead, checksum)));
}

const std::string& boot_id() {
  static const std::string id = [] {
    std::string text;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> text;
    return text.substr(0, 36);
  }();
  return id;
}

template <std::size_t N>
bool put_text(char (&field)[N], const std::string& text) {
  if (text.size() >= N || text.find('\0') != std::string::npos) return false;
  std::memcpy(field, text.data(), text.size());
  return true;
}

template <std::size_t N>
bool terminated(const char (&field)[N]) {
  return std::memchr(field, '\0', N) != nullptr;
}

std::size_t file_size_for(std::uint32_t chain_count) {
  return kChainsOffset + std::size_t{chain_count} * sizeof(ChainEntry);
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> sync_directory(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return system_failure("cannot open directory " + dir);
  const int rc = ::fsync(fd);
  const auto error = system_failure("cannot sync directory " + dir);
  ::close(fd);
  if (rc != 0) return error;
  return {};
}

// Fills a new file, already of its full size and mapped at `map`.
Result<void> lay_out(void* map, const AnchorSettings& settings) {
  auto* head = static_cast<AnchorHead*>(map);
  std::memcpy(head->magic, kAnchorMagic, sizeof(head->magic));
  head->format = kAnchorFormat;
  head->mutex_size = sizeof(pthread_mutex_t);
  head->file_size = file_size_for(settings.chain_count);
  head->database_id = number(database_id(settings.name));
  head->kind = static_cast<std::uint32_t>(settings.kind);
  head->pnn = number(settings.pnn);
  head->chain_count = settings.chain_count;
  head->identity = settings.identity;
  head->hash_seed = settings.hash_seed;
  head->hash_mask = settings.hash_mask;
  if (!put_text(head->boot_id, boot_id()) || !put_text(head->name, settings.name) ||
      !put_text(head->data_dir, settings.data_dir) || !put_text(head->gate_path, settings.gate_path)) {
    return failure(Fault::Malformed, fmt::format("database '{}': a name or path is too long", settings.name));
  }
  head->checksum = checksum_of(*head);

  auto* shared = new (static_cast<char*>(map) + kSharedOffset) AnchorShared{};
  shared->epoch = settings.epoch;
  shared->map_size = settings.map_size;
  shared->heap_contents = 1;
  shared->seqnum = settings.seqnum;
  init_shared_mutex(shared->all_mutex);
  init_shared_mutex(shared->writer_mutex);
  init_shared_mutex(shared->resize_mutex);
  auto* chains = reinterpret_cast<ChainEntry*>(static_cast<char*>(map) + kChainsOffset);
  for (std::uint32_t i = 0; i < settings.chain_count; ++i) init_shared_mutex(chains[i].mutex);
  return {};
}

Result<void> write_new_file(const std::string& path, const AnchorSettings& settings) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return system_failure("cannot create " + path);
  const std::size_t size = file_size_for(settings.chain_count);
  Result<void> result;
  // Real blocks, so that nobody ever gets a SIGBUS from the lock table on a full disk.
  if (const int rc = ::posix_fallocate(fd, 0, static_cast<off_t>(size)); rc != 0) {
    result = failure(rc == ENOSPC ? Fault::StoreFull : Fault::Io,
                     fmt::format("cannot allocate {} bytes for {}: {}", size, path, std::strerror(rc)));
  } else if (void* map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); map == MAP_FAILED) {
    result = system_failure("cannot map " + path);
  } else {
    result = lay_out(map, settings);
    if (result && ::msync(map, size, MS_SYNC) != 0) result = system_failure("cannot sync " + path);
    ::munmap(map, size);
    if (result && ::fsync(fd) != 0) result = system_failure("cannot sync " + path);
  }
  ::close(fd);
  return result;
}

}  // namespace

Result<void> Anchor::create(const std::string& path, const AnchorSettings& settings) {
  if (settings.name.empty() || settings.name.find('/') != std::string::npos || settings.chain_count == 0 ||
      settings.chain_count > kMaxChainCount || (settings.chain_count & (settings.chain_count - 1)) != 0) {
    return failure(Fault::Malformed, fmt::format("database name '{}' or its chain count is not allowed", settings.name));
  }
  const std::string temporary = fmt::format("{}.new-{}", path, ::getpid());
  ::unlink(temporary.c_str());
  if (auto written = write_new_file(temporary, settings); !written) {
    ::unlink(temporary.c_str());
    return written;
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const auto error = system_failure("cannot put " + path + " in place");
    ::unlink(temporary.c_str());
    return error;
  }
  return sync_directory(directory_of(path));
}

bool Anchor::is_anchor(int fd) {
  char magic[sizeof(kAnchorMagic)];
  return ::pread(fd, magic, sizeof(magic), 0) == static_cast<ssize_t>(sizeof(magic)) &&
         std::memcmp(magic, kAnchorMagic, sizeof(magic)) == 0;
}

bool Anchor::is_anchor(const std::string& path) { return AnchorFile::open(path).has_value(); }

std::optional<AnchorFile> AnchorFile::open(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) return std::nullopt;
  int fd = ::open(path.c_str(), O_RDWR | kOpenFlags);
  const bool writable = fd >= 0;
  if (!writable) fd = ::open(path.c_str(), O_RDONLY | kOpenFlags);
  if (fd < 0) return std::nullopt;
  AnchorFile file;
  const bool is = Anchor::is_anchor(fd);
  if (is && writable) {
    file.fd_ = fd;
  } else {
    ::close(fd);
  }
  return is ? std::optional(std::move(file)) : std::nullopt;
}

AnchorFile::~AnchorFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<Anchor>> Anchor::open(const std::string& path, ForBoot boot, AnchorFile file) {
  std::unique_ptr<Anchor> anchor(new Anchor);
  anchor->path_ = path;
  anchor->fd_ = file.take();
  if (anchor->fd_ < 0) anchor->fd_ = ::open(path.c_str(), O_RDWR | kOpenFlags);
  if (anchor->fd_ < 0) {
    if (errno == ENOENT) return failure(Fault::NotFound, "no database at " + path);
    return system_failure("cannot open " + path);
  }
  struct stat st {};
  if (::fstat(anchor->fd_, &st) != 0) return system_failure("cannot stat " + path);
  anchor->device_ = st.st_dev;
  anchor->inode_ = st.st_ino;
  // Read, not looked at through the map: many a process opens twenty databases and uses three.
  alignas(AnchorShared) char first[kSharedOffset + sizeof(AnchorShared)] = {};
  const ssize_t got = S_ISREG(st.st_mode) ? ::pread(anchor->fd_, first, sizeof(first), 0) : 0;
  const auto& head = *reinterpret_cast<const AnchorHead*>(first);
  const auto& shared = *reinterpret_cast<const AnchorShared*>(first + kSharedOffset);
  if (got < static_cast<ssize_t>(sizeof(head.magic)) || std::memcmp(head.magic, kAnchorMagic, sizeof(head.magic)) != 0) {
    const bool tdb = got > 9 && std::memcmp(&head, "TDB file\n", 9) == 0;
    return failure(Fault::Refused, path + (tdb ? " is a TDB file, not a database of tdbmesh" : " is not a database of tdbmesh"));
  }
  if (head.format != kAnchorFormat || head.mutex_size != sizeof(pthread_mutex_t)) {
    return failure(Fault::StoreCorrupt, fmt::format("{} has format {}, this program knows {}: same version everywhere?", path,
                                                    head.format, kAnchorFormat));
  }
  if (got != static_cast<ssize_t>(sizeof(first)) || head.checksum != checksum_of(head) || !terminated(head.name) ||
      !terminated(head.data_dir) || !terminated(head.gate_path) || !terminated(head.boot_id) || head.kind > 2 ||
      head.chain_count == 0 || head.chain_count > kMaxChainCount || (head.chain_count & (head.chain_count - 1)) != 0 ||
      head.file_size != file_size_for(head.chain_count) || st.st_size != static_cast<off_t>(head.file_size) ||
      number(database_id(head.name)) != head.database_id) {
    return failure(Fault::StoreCorrupt, path + " is damaged");
  }
  // A program without the shim that follows the flags of a volatile database would truncate the file under
  // everybody before it looks at the magic. An OFD lock: it lives as long as this open file, in forked children too.
  struct flock active {};
  active.l_type = F_RDLCK;
  active.l_whence = SEEK_SET;
  active.l_start = kTdbActiveByte;
  active.l_len = 1;
  if (::fcntl(anchor->fd_, F_OFD_SETLK, &active) != 0) return system_failure("cannot lock " + path);
  anchor->from_this_boot_ = boot_id() == head.boot_id;
  if (boot == ForBoot::This && !anchor->from_this_boot_) {
    return failure(Fault::Refused, path + " is from before the last boot: start tdbmeshd first");
  }
  anchor->map_length_ = head.file_size;
  anchor->map_ = ::mmap(nullptr, anchor->map_length_, PROT_READ | PROT_WRITE, MAP_SHARED, anchor->fd_, 0);
  if (anchor->map_ == MAP_FAILED) {
    anchor->map_ = nullptr;
    return system_failure("cannot map " + path);
  }
  char* base = static_cast<char*>(anchor->map_);
  anchor->shared_ = reinterpret_cast<AnchorShared*>(base + kSharedOffset);
  anchor->chains_ = reinterpret_cast<ChainEntry*>(base + kChainsOffset);
  anchor->id_ = DatabaseId{head.database_id};
  AnchorSettings& s = anchor->settings_;
  s.name = head.name;
  s.kind = static_cast<DatabaseKind>(head.kind);
  s.pnn = Pnn{head.pnn};
  s.data_dir = head.data_dir;
  s.gate_path = head.gate_path;
  s.identity = head.identity;
  s.hash_seed = head.hash_seed;
  s.hash_mask = head.hash_mask;
  s.chain_count = head.chain_count;
  s.epoch = shared.epoch.load();
  s.seqnum = shared.seqnum.load();
  s.map_size = shared.map_size.load();
  return anchor;
}

Anchor::~Anchor() {
  if (map_ != nullptr) ::munmap(map_, map_length_);
  if (fd_ >= 0) ::close(fd_);
}

std::string Anchor::data_dir() const {
  const auto slash = settings_.data_dir.rfind('/');
  const std::string base = slash == std::string::npos ? settings_.data_dir : settings_.data_dir.substr(slash + 1);
  const std::string beside = directory_of(path_) + "/" + base;
  const char* const file = settings_.kind == DatabaseKind::Volatile ? "/heap" : "/data.mdb";
  return ::access((beside + file).c_str(), F_OK) == 0 ? beside : settings_.data_dir;
}

}  // namespace tdbmesh
