#include "db/record.h"

#include <fmt/format.h>

namespace tdbmesh {

namespace {

constexpr std::size_t kEntryOverhead = 16;  // length, reqid, keylen, datalen

void put_header(ByteWriter& out, const RecordHeader& header) {
  out.put<std::uint64_t>(header.rsn).put<std::uint32_t>(number(header.dmaster)).put<std::uint32_t>(0);
  out.put<std::uint32_t>(header.flags).put<std::uint32_t>(0);
}

void put_entry(ByteWriter& out, const RecordEntry& entry) {
  const std::size_t data = kRecordHeaderSize + entry.value.size();
  out.put(static_cast<std::uint32_t>(kEntryOverhead + entry.key.size() + data)).put<std::uint32_t>(entry.reqid);
  out.put(static_cast<std::uint32_t>(entry.key.size())).put(static_cast<std::uint32_t>(data));
  out.put_bytes(entry.key);
  put_header(out, entry.header);
  out.put_bytes(entry.value);
}

}  // namespace

Bytes encode_header(const RecordHeader& header) {
  ByteWriter out;
  put_header(out, header);
  return std::move(out).take();
}

std::optional<RecordHeader> decode_header(BytesView stored) {
  if (stored.size() < kRecordHeaderSize) return std::nullopt;
  ByteReader in(stored);
  RecordHeader header;
  header.rsn = in.get<std::uint64_t>();
  header.dmaster = Pnn{in.get<std::uint32_t>()};
  in.skip(4);
  header.flags = in.get<std::uint32_t>();
  return header;
}

Bytes encode_entry(const RecordEntry& entry) {
  ByteWriter out;
  put_entry(out, entry);
  return std::move(out).take();
}

Bytes encode_buffer(const RecordBuffer& buffer) {
  ByteWriter out;
  out.put<std::uint32_t>(number(buffer.database)).put(static_cast<std::uint32_t>(buffer.entries.size()));
  for (const RecordEntry& entry : buffer.entries) put_entry(out, entry);
  return std::move(out).take();
}

Result<RecordBuffer> decode_buffer(BytesView bytes) {
  ByteReader in(bytes);
  RecordBuffer buffer;
  buffer.database = DatabaseId{in.get<std::uint32_t>()};
  const std::size_t count = in.get<std::uint32_t>();
  if (!in.ok()) return failure(Fault::Malformed, "record buffer: shorter than its head");
  // Each entry needs its overhead and a header: a count beyond that is a lie, found before memory is reserved.
  if (count > in.remaining() / (kEntryOverhead + kRecordHeaderSize)) {
    return failure(Fault::Malformed, fmt::format("record buffer: {} entries cannot fit into {} bytes", count, in.remaining()));
  }
  buffer.entries.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t length = in.get<std::uint32_t>();
    RecordEntry entry;
    entry.reqid = in.get<std::uint32_t>();
    const std::size_t key_size = in.get<std::uint32_t>();
    const std::size_t data_size = in.get<std::uint32_t>();
    if (!in.ok() || key_size == 0 || key_size > kMaxKeySize || data_size < kRecordHeaderSize ||
        data_size > kRecordHeaderSize + kMaxValueSize || length != kEntryOverhead + key_size + data_size) {
      return failure(Fault::Malformed, fmt::format("record buffer: entry {} has impossible lengths", i));
    }
    entry.key = in.get_bytes(key_size);
    const BytesView data = in.get_bytes(data_size);
    if (!in.ok()) return failure(Fault::Malformed, fmt::format("record buffer: entry {} is cut off", i));
    entry.header = *decode_header(data);
    entry.value = data.substr(kRecordHeaderSize);
    buffer.entries.push_back(std::move(entry));
  }
  if (in.remaining() != 0) return failure(Fault::Malformed, "record buffer: bytes after the last entry");
  return buffer;
}

std::optional<std::uint64_t> sequence_number_in(const RecordBuffer& buffer) {
  // Several entries for one key are allowed; the last one wins.
  std::optional<std::uint64_t> found;
  for (const RecordEntry& entry : buffer.entries) {
    if (entry.key != kSequenceNumberKey) continue;
    if (entry.value.size() == sizeof(std::uint64_t)) {
      found = ByteReader(entry.value).get<std::uint64_t>();
    } else {
      found = std::nullopt;
    }
  }
  return found;
}

}  // namespace tdbmesh
