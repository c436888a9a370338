#include "db/heap_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>

#include "db/base/check.h"

namespace tdbmesh {

namespace {

constexpr char kHeapMagic[16] = {'t', 'd', 'b', 'm', 'e', 's', 'h', ' ', 'h', 'e', 'a', 'p', '\n'};
constexpr std::uint32_t kHeapFormat = 3;
constexpr std::uint64_t kRedoAt = 20480;  // the head is before them
constexpr std::uint64_t kChainsAt = kRedoAt + kRedoSlots * sizeof(RedoSlot);
constexpr std::uint64_t kSpan = std::uint64_t{64} << 30;          // of addresses; the file is as long as it needs to be
constexpr std::uint64_t kSmallestStep = 256 * 1024;               // the file grows in steps from here ...
constexpr std::uint64_t kLargestStep = 16 * 1024 * 1024;          // ... to here
constexpr std::uint64_t kSmallestCarving = 4096;                  // blocks are carved for so many bytes at once ...
constexpr std::uint64_t kLargestCarving = 64 * 1024;
constexpr unsigned kSmallClasses = 31;                            // 64, 96, ... 1024
constexpr unsigned kStepsPerDoubling = 8;                         // and from there on

std::uint64_t blocks_at(std::uint32_t chain_count) { return kChainsAt + std::uint64_t{chain_count} * sizeof(HeapChain); }

// A processor's free blocks, class by class: tag << 36 | BlockRef. What it gives back is in its cache, so it gets that again;
// only who has none of a class looks at the others'.
struct alignas(64) FreeLists {
  std::atomic<std::uint64_t> of_class[kClasses];
};
constexpr unsigned kFreeLists = 8;

Result<void> allocate_range(int fd, std::uint64_t from, std::uint64_t to, const std::string& what) {
  int rc = 0;
  do {
    // Not posix_fallocate: where the file system cannot do it, that writes into the file beside other writers.
    rc = ::fallocate(fd, 0, static_cast<off_t>(from), static_cast<off_t>(to - from)) == 0 ? 0 : errno;
  } while (rc == EINTR);
  if (rc == 0) return {};
  const bool full = rc == ENOSPC || rc == EDQUOT || rc == EFBIG;
  return failure(full ? Fault::StoreFull : Fault::Io, fmt::format("{}: no room for {} more bytes: {}", what, to - from, std::strerror(rc)));
}

}  // namespace

struct HeapFile::Head {
  char magic[16];
  std::uint32_t format;
  std::uint32_t chain_count;
  std::uint64_t identity;
  std::uint64_t hash_seed;
  std::uint64_t hash_mask;
  alignas(64) std::atomic<std::uint64_t> top;
  std::atomic<std::uint64_t> allocated;
  FreeLists free[kFreeLists];
};

unsigned record_class(std::uint64_t bytes) {
  if (bytes <= 64) return 0;
  if (bytes <= 1024) return static_cast<unsigned>((bytes - 64 + 31) / 32);
  const unsigned doubling = static_cast<unsigned>(std::bit_width(bytes - 1)) - 1;  // 2^doubling < bytes <= 2^(doubling + 1)
  const std::uint64_t base = std::uint64_t{1} << doubling;
  const std::uint64_t step = base / kStepsPerDoubling;
  const auto steps = static_cast<unsigned>((bytes - base + step - 1) / step);
  return kSmallClasses + (doubling - 10) * kStepsPerDoubling + steps - 1;
}

std::uint64_t class_size(unsigned block_class) {
  if (block_class < kSmallClasses) return 64 + 32 * std::uint64_t{block_class};
  if (block_class >= kFirstTableClass) return sizeof(Block) + (std::uint64_t{64} << (block_class - kFirstTableClass));
  const unsigned k = block_class - kSmallClasses;
  const std::uint64_t base = std::uint64_t{1} << (10 + k / kStepsPerDoubling);
  return base + (k % kStepsPerDoubling + 1) * (base / kStepsPerDoubling);
}

Result<void> HeapFile::create(const std::string& data_dir, const AnchorSettings& settings) {
  static_assert(sizeof(Head) <= kRedoAt && kRedoAt % 4096 == 0 && kChainsAt % 4096 == 0);
  if (::mkdir(data_dir.c_str(), 0700) != 0) return system_failure("cannot create " + data_dir);
  const std::string path = path_in(data_dir);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return system_failure("cannot create " + path);
  const std::uint64_t size = blocks_at(settings.chain_count);
  Result<void> made = allocate_range(fd, 0, size, path);
  if (made) {
    void* map = ::mmap(nullptr, sizeof(Head), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
      made = system_failure("cannot map " + path);
    } else {
      Head* head = new (map) Head{};
      head->format = kHeapFormat;
      head->chain_count = settings.chain_count;
      head->identity = settings.identity;
      head->hash_seed = settings.hash_seed;
      head->hash_mask = settings.hash_mask;
      head->top = size;
      head->allocated = size;
      std::memcpy(head->magic, kHeapMagic, sizeof(kHeapMagic));
      ::munmap(map, sizeof(Head));
    }
  }
  ::close(fd);
  return made;
}

Result<std::unique_ptr<HeapFile>> HeapFile::open(const Anchor& anchor, bool read_only) {
  std::unique_ptr<HeapFile> heap(new HeapFile(anchor));
  heap->read_only_ = read_only;
  const std::string path = path_in(anchor.data_dir());
  const auto corrupt = [&](const char* what) { return failure(Fault::StoreCorrupt, fmt::format("{}: {} {}", anchor.path(), path, what)); };
  heap->fd_ = ::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (heap->fd_ < 0 && errno == ENOENT) return corrupt("is missing");
  if (heap->fd_ < 0) return system_failure("cannot open " + path);
  // Read, not looked at through the map: many a process opens databases that it never uses.
  alignas(Head) char first[offsetof(Head, free)] = {};
  if (::pread(heap->fd_, first, sizeof(first), 0) != static_cast<ssize_t>(sizeof(first))) return corrupt("is cut off");
  const auto& head = *reinterpret_cast<const Head*>(first);
  if (std::memcmp(head.magic, kHeapMagic, sizeof(kHeapMagic)) != 0 || head.format != kHeapFormat) return corrupt("is not a heap of this version");
  if (head.identity != anchor.settings().identity || head.hash_seed != anchor.settings().hash_seed ||
      head.hash_mask != anchor.settings().hash_mask || head.chain_count != anchor.chain_count()) {
    return corrupt("belongs to another anchor");
  }
  // The size comes after the head was read: others may be growing it.
  struct stat st {};
  if (::fstat(heap->fd_, &st) != 0) return system_failure("cannot stat " + path);
  const auto size = static_cast<std::uint64_t>(st.st_size);
  if (size < blocks_at(anchor.chain_count()) || head.top.load() > size || head.allocated.load() > size) return corrupt("is cut off");
  void* map = ::mmap(nullptr, kSpan, read_only ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, heap->fd_, 0);
  if (map == MAP_FAILED) return system_failure("cannot map " + path);
  ::madvise(map, kSpan, MADV_DONTDUMP);
  heap->base_ = static_cast<char*>(map);
  heap->head_ = static_cast<Head*>(map);
  heap->redo_ = reinterpret_cast<RedoSlot*>(heap->base_ + kRedoAt);
  heap->chains_ = reinterpret_cast<HeapChain*>(heap->base_ + kChainsAt);
  heap->first_block_ = blocks_at(anchor.chain_count());
  return heap;
}

HeapFile::~HeapFile() {
  if (base_ != nullptr) ::munmap(base_, kSpan);
  if (fd_ >= 0) ::close(fd_);
}

std::uint64_t HeapFile::size() const { return head_->allocated.load(); }
std::uint64_t HeapFile::top() const { return head_->top.load(); }

Result<BlockRef> HeapFile::allocate(unsigned block_class, const StopWaiting& stop) {
  const unsigned own = this_processor();
  for (unsigned n = 0; n < kFreeLists; ++n) {
    std::atomic<std::uint64_t>& list = head_->free[(own + n) % kFreeLists].of_class[block_class];
    std::uint64_t seen = list.load(std::memory_order_acquire);
    while ((seen & kRefMask) != 0) {
      const BlockRef ref = seen & kRefMask;
      // If somebody else takes the block meanwhile this is stale, but then the tag has moved on.
      const BlockRef next = at(ref).next.load(std::memory_order_relaxed);
      const std::uint64_t rest = (((seen >> kRefBits) + 1) << kRefBits) | next;
      if (list.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire)) return ref;
    }
  }
  return carve(block_class, stop);
}

void HeapFile::release(BlockRef ref) {
  Block& block = at(ref);
  const unsigned block_class = class_of_stamp(block.stamp.load(std::memory_order_relaxed));
  std::atomic<std::uint64_t>& list = head_->free[this_processor() % kFreeLists].of_class[block_class];
  std::uint64_t seen = list.load(std::memory_order_relaxed);
  do {
    block.next.store(seen & kRefMask, std::memory_order_relaxed);
  } while (!list.compare_exchange_weak(seen, (((seen >> kRefBits) + 1) << kRefBits) | ref, std::memory_order_acq_rel,
                                       std::memory_order_relaxed));
}

std::string HeapFile::check_free(const std::function<bool(BlockRef)>& good) const {
  for (unsigned i = 0; i < kFreeLists * kClasses; ++i) {
    const unsigned n = i % kClasses;
    for (BlockRef ref = head_->free[i / kClasses].of_class[n].load() & kRefMask; ref != 0; ref = at(ref).next.load()) {
      if (ref * kBlockUnit < first_block_ || ref * kBlockUnit + class_size(n) > top()) return fmt::format("free block {:#x}: not in the file", ref);
      const std::uint64_t stamp = at(ref).stamp.load();
      if (class_of_stamp(stamp) != n || (stamp & kStampWriting) != 0) return fmt::format("free block {:#x}: of another size", ref);
      if (!good(ref)) return fmt::format("free block {:#x}: in use, or free twice", ref);
    }
  }
  return {};
}

Result<void> HeapFile::make_room(std::uint64_t end, const StopWaiting& stop) {
  if (end <= head_->allocated.load()) return {};
  if (end > kSpan) return failure(Fault::StoreFull, fmt::format("{}: the database has reached its limit of {} bytes", anchor_.path(), kSpan));
  // One at a time: a fallocate that fails takes back what another one has just got in the same range.
  if (!lock_shared_mutex(anchor_.shared().resize_mutex, stop)) {
    return failure(Fault::Busy, anchor_.path() + ": another process is growing it");
  }
  Result<void> done;
  if (const std::uint64_t have = head_->allocated.load(); end > have) {
    const std::uint64_t step = std::clamp(have / 8, kSmallestStep, kLargestStep);
    // A whole step if there is room, else exactly what is needed.
    for (std::uint64_t to : {std::max(end, have + step), end}) {
      to = (to + 4095) / 4096 * 4096;
      done = allocate_range(fd_, have, to, anchor_.path());
      if (done) head_->allocated.store(to);
      if (done) break;
    }
  }
  unlock_shared_mutex(anchor_.shared().resize_mutex);
  return done;
}

Result<BlockRef> HeapFile::carve(unsigned block_class, const StopWaiting& stop) {
  const std::uint64_t size = class_size(block_class);
  std::uint64_t top = head_->top.load();
  std::uint64_t count = std::max<std::uint64_t>(1, std::clamp(top / 64, kSmallestCarving, kLargestCarving) / size);
  for (;;) {
    auto room = make_room(top + count * size, stop);
    if (!room && count > 1) {
      count = 1;
      room = make_room(top + size, stop);
    }
    if (!room) return tl::unexpected(room.error());
    if (head_->top.compare_exchange_strong(top, top + count * size)) break;
  }
  const BlockRef first = top / kBlockUnit;
  const BlockRef stride = size / kBlockUnit;
  for (std::uint64_t i = 0; i < count; ++i) {
    at(first + i * stride).stamp.store(block_class, std::memory_order_relaxed);
  }
  for (std::uint64_t i = count; i-- > 1;) release(first + i * stride);
  return first;
}

}  // namespace tdbmesh
