#include "db/incoming_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "db/base/descriptor.h"

namespace tdbmesh {

namespace {

// False: the end of the file before `size` bytes, or an error.
bool read_whole(int fd, char* to, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::read(fd, to, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace

Result<void> IncomingFile::append(const std::vector<RecordEntry>& batch, bool anew) {
  const Descriptor file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (anew ? O_TRUNC : 0), 0600));
  if (file.get() < 0) return system_failure(path_);
  const Bytes body = encode_buffer(RecordBuffer{DatabaseId{}, batch});
  Bytes framed = ByteWriter().put(static_cast<std::uint64_t>(body.size())).put_bytes(body).bytes();
  for (BytesView left = framed; !left.empty();) {
    const ssize_t put = ::write(file.get(), left.data(), left.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_failure(path_);
    left.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<std::uint64_t> IncomingFile::size() const {
  struct stat st {};
  if (::stat(path_.c_str(), &st) != 0) return system_failure(path_);
  return static_cast<std::uint64_t>(st.st_size);
}

Result<void> IncomingFile::for_each(const std::function<Result<void>(const std::vector<RecordEntry>&)>& use) const {
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return system_failure(path_);
  auto left = size();
  if (!left) return tl::unexpected(left.error());
  while (*left > 0) {
    std::uint64_t length = 0;
    if (*left < sizeof(length) || !read_whole(file.get(), reinterpret_cast<char*>(&length), sizeof(length)) ||
        length > *left - sizeof(length)) {
      return failure(Fault::StoreCorrupt, path_ + " was cut short");
    }
    Bytes body(length, '\0');
    if (!read_whole(file.get(), body.data(), body.size())) return failure(Fault::StoreCorrupt, path_ + " was cut short");
    *left -= sizeof(length) + length;
    const auto batch = decode_buffer(body);
    if (!batch) return tl::unexpected(batch.error());
    if (auto used = use(batch->entries); !used) return used;
  }
  return {};
}

void IncomingFile::remove() { ::unlink(path_.c_str()); }

}  // namespace tdbmesh
