#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <memory>
extern "C" {
#include <tdb.h>
}

#include "tools/dbtool/transfer_file.h"

namespace tdbmesh::dbtool {
namespace {

using Handle = std::unique_ptr<tdb_context, decltype(&tdb_close)>;

void quiet(tdb_context*, tdb_debug_level, const char*, ...) {}

Handle open_tdb(const std::string& path, int tdb_flags, int open_flags) {
  const tdb_logging_context log{quiet, nullptr};
  return {tdb_open_ex(path.c_str(), 0, tdb_flags, open_flags, 0600, &log, nullptr), &tdb_close};
}

TDB_DATA data_of(BytesView bytes) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())), bytes.size()};
}
BytesView view_of(TDB_DATA data) { return {reinterpret_cast<const char*>(data.dptr), data.dsize}; }

struct Reading {
  TransferFile file;
  std::string trouble;
};

int take_record(tdb_context*, TDB_DATA key, TDB_DATA value, void* to) {
  Reading& reading = *static_cast<Reading*>(to);
  const auto header = decode_header(view_of(value));
  if (key.dsize == 0 || key.dsize > kMaxKeySize) {
    reading.trouble = fmt::format("a key of {} bytes", key.dsize);
  } else if (!header) {
    reading.trouble = "a record without CTDB's header: a TDB of Samba alone? Give Samba's own to tdbdump and net, not here";
  }
  if (!reading.trouble.empty()) return 1;
  reading.file.entries.push_back({0, Bytes(view_of(key)), *header, Bytes(view_of(value).substr(kRecordHeaderSize))});
  return 0;
}

}  // namespace

bool is_tdb(BytesView start) { return start.starts_with("TDB file\n"); }

Result<TransferFile> read_tdb(const std::string& path) {
  const Handle tdb = open_tdb(path, TDB_NOLOCK, O_RDONLY);
  if (!tdb) return system_failure("cannot open " + path);
  if (tdb_check(tdb.get(), nullptr, nullptr) != 0) {
    return failure(Fault::StoreCorrupt, path + " is damaged; take the copy of another node, or a backup");
  }
  Reading reading;
  reading.file.name = database_of_path(path);
  const int count = tdb_traverse_read(tdb.get(), take_record, &reading);
  if (!reading.trouble.empty()) return failure(Fault::Malformed, path + ": " + reading.trouble);
  if (count < 0) return failure(Fault::Io, fmt::format("cannot read {}: {}", path, tdb_errorstr(tdb.get())));
  return std::move(reading.file);
}

Result<> write_tdb(const std::string& path, const TransferFile& file) {
  if (::access(path.c_str(), F_OK) == 0) return failure(Fault::Refused, path + " exists; remove it or choose another name");
  const Handle tdb = open_tdb(path, TDB_DEFAULT, O_RDWR | O_CREAT);
  if (!tdb) return system_failure("cannot make " + path);
  bool good = tdb_transaction_start(tdb.get()) == 0;
  for (const RecordEntry& entry : file.entries) {
    if (!good) break;
    const Bytes value = encode_header(entry.header) + entry.value;
    good = tdb_store(tdb.get(), data_of(entry.key), data_of(value), TDB_REPLACE) == 0;
  }
  if (good && tdb_transaction_commit(tdb.get()) == 0) return {};
  const std::string why = tdb_errorstr(tdb.get());
  ::unlink(path.c_str());
  return failure(Fault::Io, fmt::format("cannot write {}: {}; is the file system full?", path, why));
}

}  // namespace tdbmesh::dbtool
