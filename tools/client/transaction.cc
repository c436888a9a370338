#include "tools/client/transaction.h"

#include <fmt/format.h>

#include "transport/ctdb_payloads.h"

namespace tdbmesh {

Result<Transaction> Transaction::begin(ctdb::Client& client, const std::string& name,
                                       ctdb::Client::DatabaseType type, Duration timeout) {
  if (type == ctdb::Client::DatabaseType::Volatile) {
    return failure(Fault::Refused, fmt::format("Transactions not supported on DB {}", name));
  }
  auto database = open_database(client, name, type, timeout);
  if (!database) return tl::unexpected<Error>(database.error());
  auto lock = GLock::take(client, transaction_lock_key(database->id), timeout);
  if (!lock) return tl::unexpected<Error>(lock.error());
  return Transaction(client, std::move(*database), std::move(*lock), timeout);
}

Result<std::optional<StoredRecord>> Transaction::current(BytesView key) {
  if (const auto found = newest_.find(Bytes(key)); found != newest_.end()) {
    const RecordEntry& entry = buffer_.entries[found->second];
    return std::optional<StoredRecord>{StoredRecord{entry.header, entry.value}};
  }
  return database_.copy->fetch(key);
}

Result<std::optional<Bytes>> Transaction::fetch(BytesView key) {
  auto record = current(key);
  if (!record) return tl::unexpected<Error>(record.error());
  if (!*record) return std::optional<Bytes>{};
  return std::optional<Bytes>{std::move((*record)->value)};
}

Result<> Transaction::put(BytesView key, BytesView value) {
  const auto own = client_->pnn();
  if (!own) return tl::unexpected<Error>(own.error());
  auto before = current(key);
  if (!before) return tl::unexpected<Error>(before.error());
  RecordEntry entry;
  entry.key = Bytes(key);
  entry.value = Bytes(value);
  if (*before) entry.header = (*before)->header;
  entry.header.dmaster = *own;
  ++entry.header.rsn;
  newest_[entry.key] = buffer_.entries.size();
  buffer_.entries.push_back(std::move(entry));
  return {};
}

Result<> Transaction::store(BytesView key, BytesView value) {
  if (key == kSequenceNumberKey) {
    return failure(Fault::Refused, "the sequence number belongs to the commits; it cannot be written by hand");
  }
  auto before = current(key);
  if (!before) return tl::unexpected<Error>(before.error());
  if (*before && (*before)->value == value) return {};
  if (!*before && value.empty()) return {};
  return put(key, value);
}

Result<> Transaction::erase(BytesView key) { return store(key, {}); }

Result<std::uint64_t> Transaction::committed_seqnum() {
  auto record = database_.copy->fetch(kSequenceNumberKey);
  if (!record) return tl::unexpected<Error>(record.error());
  if (!*record || (*record)->value.size() != sizeof(std::uint64_t)) return 0;
  return ByteReader((*record)->value).get<std::uint64_t>();
}

Result<> Transaction::commit() {
  if (buffer_.entries.empty()) return lock_.release();
  const auto old = committed_seqnum();
  if (!old) return tl::unexpected<Error>(old.error());
  buffer_.database = database_.id;
  if (auto written = put(kSequenceNumberKey, ctdb::encode_u64(*old + 1)); !written) return written;

  const Bytes request = encode_buffer(buffer_);
  const Instant deadline = boot_time_now() + timeout_;
  while (true) {
    auto reply = client_->control(ctdb::ControlOpcode::Trans3Commit, ctdb::kCurrentNode, request, timeout_,
                                  {.srvid = Srvid{number(database_.id)}, .flags = 0});
    if (reply && reply->status == 0) break;
    if (!reply && reply.error().fault == Fault::Unreachable) return tl::unexpected<Error>(reply.error());
    // No yes is not a no: a view change may have settled it either way. The local copy knows.
    const auto now = committed_seqnum();
    if (!now) return tl::unexpected<Error>(now.error());
    if (*now == *old + 1) break;
    const std::string why = reply ? fmt::format("status {} {}", reply->status, reply->error) : reply.error().context;
    if (*now != *old) {
      return failure(Fault::Io, fmt::format("{}: sequence number jumped from {} to {} during the commit ({}); check the "
                                            "contents before trying again",
                                            database_.name, *old, *now, why));
    }
    if (boot_time_now() >= deadline) {
      return failure(Fault::Refused, fmt::format("{}: not committed, nothing was changed ({}); `tdbmesh status -v` says "
                                                 "what the cluster waits for",
                                                 database_.name, why));
    }
  }
  buffer_.entries.clear();
  // It is committed, whatever becomes of the lock: a node that left the cluster meanwhile has lost it anyway.
  (void)lock_.release();
  return {};
}

}  // namespace tdbmesh
