#pragma once
// How the records of one database lie in its LMDB environment. LMDB's own keys stop at 511 bytes, so a record stands at a
// 64-bit position: the seeded hash of its key picks a run of positions (key_hash.h), keys with one hash stand side by
// side in it, and the entry is
//     u32 size of the key, the key, the value
// Position 1 is the database's own: a Description, written in one transaction with the data it belongs to.
//
// Everything here works in a transaction that the caller began and ends; changes make room in the file first
// (LmdbEnvironment::reserve). Errors: StoreCorrupt, StoreFull, Exists, NotFound, Io.

#include <lmdb.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "db/anchor.h"
#include "db/base/bytes.h"
#include "db/base/result.h"
#include "db/lmdb_environment.h"
#include "db/record_heap.h"
#include "db/value_parts.h"

namespace tdbmesh {

class LmdbRecords {
 public:
  struct Description {
    char magic[8] = {'t', 'd', 'b', 'm', 'e', 's', 'h', '1'};
    std::uint64_t identity = 0;
    std::uint64_t hash_seed = 0;
    std::uint64_t hash_mask = 0;
    std::uint64_t version_term = 0;
    std::uint64_t version_serial = 0;
    std::uint64_t version_seqnum = 0;
  };
  // Where a key is, or where it would go.
  struct Place {
    std::uint64_t position = 0;
    bool found = false;
    BytesView value;  // valid while the transaction is not written to
  };

  LmdbRecords(const Anchor& anchor, LmdbEnvironment& environment) : anchor_(anchor), env_(environment) {}

  // What the files in a folder say of themselves, without their anchor: identity, hash, map size. Opens an untrusted file.
  [[nodiscard]] static Result<AnchorSettings> settings_of_files(const std::string& data_dir);

  [[nodiscard]] Result<Description> describe(MDB_txn* txn) const;
  [[nodiscard]] Result<void> put_description(MDB_txn* txn, const Description& description) const;

  [[nodiscard]] Result<Place> locate(MDB_txn* txn, BytesView key) const;
  // Writes nothing if the same stands there.
  [[nodiscard]] Result<void> put(MDB_txn* txn, BytesView key, ValueParts parts, RecordHeap::Mode mode) const;
  [[nodiscard]] Result<bool> erase(MDB_txn* txn, BytesView key) const;  // false = there was none
  [[nodiscard]] Result<void> empty(MDB_txn* txn) const;  // the description stays

  // In order of positions, at most so much (but one record at least). `done`: nothing comes after these.
  [[nodiscard]] Result<std::vector<RecordHeap::Item>> scan(MDB_txn* txn, std::uint64_t from, std::size_t most,
                                                           std::size_t most_bytes, std::uint64_t stamp, bool& done) const;
  [[nodiscard]] Result<std::optional<Bytes>> next_key(MDB_txn* txn, std::optional<BytesView> after) const;
  [[nodiscard]] Result<std::uint64_t> count(MDB_txn* txn) const;
  // Reads everything: order, hashes, lengths, counts.
  [[nodiscard]] Result<void> check(MDB_txn* txn) const;

 private:
  [[nodiscard]] const std::string& where() const { return anchor_.path(); }
  [[nodiscard]] std::uint64_t first_position_of(BytesView key) const;

  const Anchor& anchor_;
  LmdbEnvironment& env_;
};

}  // namespace tdbmesh
