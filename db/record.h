#pragma once
// What a record is: CTDB's 24-byte ltdb header in front of every value, and the marshalled record buffers
// in which records travel (client protocol sheet, 3.2 and 8.11). Pure; native byte order, as clients use.

#include <cstdint>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"

namespace tdbmesh {

inline constexpr std::uint32_t kRecordMigratedWithData = 0x00010000;   // M: another node may have a copy
inline constexpr std::uint32_t kRecordVacuumMigrated = 0x00020000;     // transient, never stored
inline constexpr std::uint32_t kRecordAutomatic = 0x00040000;          // transient, never stored
inline constexpr std::uint32_t kRecordHaveDelegations = 0x01000000;    // DEL: others hold read-only copies
inline constexpr std::uint32_t kRecordReadOnlyCopy = 0x02000000;       // RO: a delegated copy
inline constexpr std::uint32_t kRecordRevoking = 0x04000000;
inline constexpr std::uint32_t kRecordRevokeComplete = 0x08000000;

inline constexpr std::size_t kRecordHeaderSize = 24;
inline constexpr std::size_t kMaxKeySize = 64 * 1024;
inline constexpr std::size_t kMaxValueSize = 64 * 1024 * 1024;

// The sequence number of a persistent database is an ordinary record under this key, NUL included.
inline constexpr BytesView kSequenceNumberKey{"__db_sequence_number__\0", 23};

struct RecordHeader {
  Rsn rsn = 0;
  Pnn dmaster{0};
  std::uint32_t flags = 0;
  friend bool operator==(const RecordHeader&, const RecordHeader&) = default;
};

struct StoredRecord {
  RecordHeader header;
  Bytes value;
  friend bool operator==(const StoredRecord&, const StoredRecord&) = default;
};

[[nodiscard]] Bytes encode_header(const RecordHeader& header);
// nullopt if shorter than a header: such a record counts as absent.
[[nodiscard]] std::optional<RecordHeader> decode_header(BytesView stored);

// One entry of a record buffer. `data` is header + value as stored (an empty value deletes).
struct RecordEntry {
  std::uint32_t reqid = 0;
  Bytes key;
  RecordHeader header;
  Bytes value;
  friend bool operator==(const RecordEntry&, const RecordEntry&) = default;
};

struct RecordBuffer {
  DatabaseId database{};
  std::vector<RecordEntry> entries;
};

[[nodiscard]] Bytes encode_entry(const RecordEntry& entry);
[[nodiscard]] Bytes encode_buffer(const RecordBuffer& buffer);
// Malformed if a count or length does not fit into what is there, a key is empty or too long, or an entry's
// data is shorter than a header.
[[nodiscard]] Result<RecordBuffer> decode_buffer(BytesView bytes);

// The value of the sequence number record in `buffer`, if it has one (8 bytes, native u64).
[[nodiscard]] std::optional<std::uint64_t> sequence_number_in(const RecordBuffer& buffer);

}  // namespace tdbmesh
