#include <fmt/format.h>

#include "tools/dbtool/transfer_file.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::dbtool {
namespace {

constexpr std::uint64_t kVersion = 3;
constexpr std::size_t kNameSize = 64;
constexpr std::size_t kHeadSize = 5 * 8 + kNameSize;
constexpr std::size_t kBufferSize = 100'000;  // a buffer is closed when it has reached this size

tl::unexpected<Error> malformed(std::string what) { return failure(Fault::Malformed, std::move(what)); }

}  // namespace

bool is_backup(BytesView bytes) {
  // No magic: a small version number in front of a terminated name has to do.
  ByteReader in(bytes);
  const auto version = in.get<std::uint64_t>();
  in.skip(32);
  const BytesView name = in.get_bytes(kNameSize);
  return in.ok() && version >= 1 && version < 256 && name.front() != '\0' && name.find('\0') != BytesView::npos;
}

Result<TransferFile> decode_backup(BytesView bytes) {
  if (!is_backup(bytes)) return malformed("not a file of ctdb backupdb");
  ByteReader in(bytes);
  if (const auto version = in.get<std::uint64_t>(); version != kVersion) {
    return failure(Fault::Refused, fmt::format("a backup of version {}; only version {} is known", version, kVersion));
  }
  TransferFile file;
  file.time = in.get<std::int64_t>();
  const auto flags = in.get<std::uint64_t>();
  const auto buffers = in.get<std::uint64_t>();
  const auto records = in.get<std::uint64_t>();
  const BytesView name = in.get_bytes(kNameSize);
  file.name = name.substr(0, name.find('\0'));
  file.replicated = (flags & ctdb::kDatabaseReplicated) != 0;
  file.is_volatile = (flags & (ctdb::kDatabasePersistent | ctdb::kDatabaseReplicated)) == 0;
  for (std::uint64_t i = 0; i < buffers; ++i) {
    const auto id = in.get<std::uint32_t>();  // whatever was in CTDB's memory; not used
    const auto count = in.get<std::uint32_t>();
    const auto length = in.get<std::uint64_t>();
    const BytesView data = in.get_bytes(length);
    if (!in.ok()) return malformed(fmt::format("cut off in buffer {} of {}", i + 1, buffers));
    auto buffer = decode_buffer(ByteWriter().put(id).put(count).put_bytes(data).bytes());
    if (!buffer) return malformed(fmt::format("buffer {}: {}", i + 1, buffer.error().context));
    for (RecordEntry& entry : buffer->entries) file.entries.push_back(std::move(entry));
  }
  if (in.remaining() != 0) return malformed(fmt::format("{} bytes behind the last buffer", in.remaining()));
  if (file.entries.size() != records) {
    return malformed(fmt::format("{} records, but its head says {}", file.entries.size(), records));
  }
  return file;
}

Bytes encode_backup(const TransferFile& file) {
  Bytes body;
  std::uint64_t buffers = 0;
  std::uint32_t count = 0;
  Bytes data;
  const auto close_buffer = [&] {
    if (count == 0) return;
    body += ByteWriter().put(std::uint32_t{0}).put(count).put(std::uint64_t{data.size()}).put_bytes(data).bytes();
    ++buffers;
    count = 0;
    data.clear();
  };
  for (const RecordEntry& entry : file.entries) {
    data += encode_entry(entry);
    ++count;
    if (data.size() >= kBufferSize) close_buffer();
  }
  close_buffer();
  const std::string name = file.name.substr(0, kNameSize - 1);
  const std::uint64_t flags = file.is_volatile ? 0 : file.replicated ? ctdb::kDatabaseReplicated : ctdb::kDatabasePersistent;
  ByteWriter head;
  head.put(kVersion).put(file.time).put(flags).put(buffers).put(std::uint64_t{file.entries.size()});
  head.put_bytes(name).put_zeros(kNameSize - name.size());
  return std::move(head).take() + body;
}

std::string database_of_path(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string file = slash == std::string::npos ? path : path.substr(slash + 1);
  const auto dot = file.rfind('.');
  if (dot == std::string::npos || dot == 0) return {};
  const std::string end = file.substr(dot + 1);
  if (!end.empty() && end.find_first_not_of("0123456789") == std::string::npos) return file.substr(0, dot);
  return end == "tdb" ? file : std::string();
}

}  // namespace tdbmesh::dbtool
