#include "tools/client/locked_record.h"

#include <fmt/format.h>

#include "transport/ctdb_payloads.h"

namespace tdbmesh {

Result<OpenDatabase> open_database(ctdb::Client& client, const std::string& name, ctdb::Client::DatabaseType type,
                                   Duration timeout) {
  auto attached = client.attach(name, type, timeout);
  if (!attached) return tl::unexpected<Error>(attached.error());
  auto copy = LocalCopy::open(attached->path);
  if (!copy) return tl::unexpected<Error>(copy.error());
  return OpenDatabase{attached->id, name, type, std::move(*copy)};
}

Result<LockedRecord> LockedRecord::fetch(ctdb::Client& client, OpenDatabase& database, BytesView key,
                                         Duration timeout) {
  const auto own = client.pnn();
  if (!own) return tl::unexpected<Error>(own.error());
  const Instant deadline = boot_time_now() + timeout;
  while (true) {
    const Duration left = deadline - boot_time_now();
    if (left <= Duration::zero()) {
      return failure(Fault::Busy, fmt::format("{}: the record did not come to this node in time; is the cluster recovering? "
                                              "See `tdbmesh status -v`, or raise -t",
                                              database.name));
    }
    if (auto locked = database.copy->lock(key, left); !locked) return tl::unexpected<Error>(locked.error());
    auto record = database.copy->fetch(key, Duration::zero());
    if (!record) {
      database.copy->unlock(key);
      if (record.error().fault == Fault::Busy) continue;  // the gate closed: wait for it without the chain
      return tl::unexpected<Error>(record.error());
    }
    if (*record && (*record)->header.dmaster == *own && ((*record)->header.flags & kRecordHaveDelegations) == 0) {
      return LockedRecord(client, database, Bytes(key), std::move(**record));
    }
    // Never wait for the cluster with the chain locked: the daemon needs the chain to bring the record here.
    database.copy->unlock(key);
    auto called = client.call(database.id, key, ctdb::CallId::Null, ctdb::kCallImmediateMigration, left);
    if (!called) return tl::unexpected<Error>(called.error());
    if (called->status != 0) {
      return failure(Fault::Refused, fmt::format("{}: the daemon could not fetch the record (status {}); see its log",
                                                 database.name, called->status));
    }
  }
}

LockedRecord::~LockedRecord() {
  if (database_ != nullptr) database_->copy->unlock(key_);
}

LockedRecord::LockedRecord(LockedRecord&& other) noexcept
    : client_(other.client_),
      database_(std::exchange(other.database_, nullptr)),
      key_(std::move(other.key_)),
      record_(std::move(other.record_)) {}

Result<> LockedRecord::store(BytesView value) {
  auto stored = database_->copy->store(key_, record_.header, value);
  if (stored) record_.value = Bytes(value);
  return stored;
}

Result<> LockedRecord::erase() {
  if (auto stored = store({}); !stored) return stored;
  const ctdb::KeyData note{.database = database_->id,
                           .rsn = record_.header.rsn,
                           .dmaster = number(record_.header.dmaster),
                           .flags = record_.header.flags,
                           .key = key_};
  return client_->control_no_reply(ctdb::ControlOpcode::ScheduleForDeletion, ctdb::kCurrentNode, ctdb::encode(note),
                                   Srvid{number(database_->id)});
}

}  // namespace tdbmesh
