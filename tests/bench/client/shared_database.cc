#include "shared_database.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

extern "C" {
#include <tdb.h>
}

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace tdbmesh::bench {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);

TDB_DATA data_of(BytesView bytes) {
  // libtdb's interface is older than const.
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())), bytes.size()};
}

}  // namespace

void die(const std::string& why) {
  fmt::print(stderr, "bench client: {}\n", why);
  std::exit(1);
}

SharedDatabase::SharedDatabase(ctdb::Client& client, const std::string& name, Type type)
    : client_(client), own_(or_die(client.pnn(), "GET_PNN")), name_(name) {
  const auto attached = or_die(client.attach(name, type, kPatience), "attach");
  id_ = attached.id;
  tdb_ = tdb_open_ex(attached.path.c_str(), 0, attached.open_flags, O_RDWR | O_CLOEXEC, 0, nullptr, nullptr);
  if (tdb_ == nullptr) {
    die(fmt::format("cannot open {}: {}; on tdbmesh this program needs LD_PRELOAD=libtdbmesh-tdb.so", attached.path,
                    std::strerror(errno)));
  }
}

SharedDatabase::~SharedDatabase() { tdb_close(tdb_); }

bool SharedDatabase::parse(BytesView key) {
  const auto take = [](TDB_DATA, TDB_DATA data, void* self) -> int {
    auto& database = *static_cast<SharedDatabase*>(self);
    if (data.dsize < kRecordHeaderSize) return 1;
    const BytesView stored(reinterpret_cast<const char*>(data.dptr), data.dsize);
    database.header_ = *decode_header(stored);
    database.value_.assign(stored.substr(kRecordHeaderSize));
    return 0;
  };
  return tdb_parse_record(tdb_, data_of(key), take, this) == 0;
}

bool SharedDatabase::fetch_locked(BytesView key) {
  key_.assign(key);
  for (bool asked = false;; asked = true) {
    if (tdb_chainlock(tdb_, data_of(key_)) != 0) die(fmt::format("{}: chain lock: {}", name_, tdb_errorstr(tdb_)));
    if (parse(key_) && header_.dmaster == own_ && (header_.flags & kRecordHaveDelegations) == 0) return asked;
    tdb_chainunlock(tdb_, data_of(key_));
    const auto reply =
        or_die(client_.call(id_, key_, ctdb::CallId::Null, ctdb::kCallImmediateMigration, kPatience), "REQ_CALL");
    if (reply.status != 0) die(fmt::format("{}: REQ_CALL: status {}", name_, reply.status));
  }
}

void SharedDatabase::store(BytesView value) {
  const Bytes header = encode_header(header_);
  const TDB_DATA parts[] = {data_of(header), data_of(value)};
  if (tdb_storev(tdb_, data_of(key_), parts, 2, TDB_REPLACE) != 0) {
    die(fmt::format("{}: store: {}", name_, tdb_errorstr(tdb_)));
  }
}

void SharedDatabase::unlock() { tdb_chainunlock(tdb_, data_of(key_)); }

void SharedDatabase::parse_local(BytesView key) {
  if (!parse(key) || header_.dmaster != own_) die(name_ + ": a record that was here is not here");
}

bool SharedDatabase::fetch(BytesView key) { return parse(key); }

}  // namespace tdbmesh::bench
