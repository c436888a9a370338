#include "tools/client/g_lock.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "transport/ctdb_payloads.h"

namespace tdbmesh {
namespace {

using ctdb::ControlOpcode;

// Samba's message that says "the record that you watch was changed", and its envelope: two server_ids, a type.
constexpr std::uint32_t kMessageRecordModified = 4003;
// Between two looks at a lock that is held. Its holders keep it for milliseconds.
constexpr Duration kLookAgain = std::chrono::milliseconds(20);

Bytes wake_up_message(const ServerId& from, const GLockWatcher& to) {
  return ByteWriter()
      .put_bytes(encode_server_id(to.who))
      .put_bytes(encode_server_id(from))
      .put(kMessageRecordModified)
      .put(to.instance)
      .bytes();
}

// Removes the dead; the first holder that lives, if any. What seems to be ourselves was left behind by a dead
// process whose pid we got: this process takes a lock once.
Result<std::optional<ServerId>> living_holder(ctdb::Client& client, GLockValue& lock, const ServerId& self) {
  if (lock.exclusive.pid == self.pid && lock.exclusive.vnn == self.vnn) lock.exclusive = {};
  if (lock.exclusive.pid != 0) {
    const auto lives = process_exists(client, lock.exclusive);
    if (!lives) return tl::unexpected<Error>(lives.error());
    if (*lives) return std::optional<ServerId>{lock.exclusive};
    lock.exclusive = {};
  }
  for (auto* holders : {&lock.shared, &lock.ctdb_tool}) {
    while (!holders->empty()) {
      const auto lives = process_exists(client, holders->front(), holders == &lock.ctdb_tool);
      if (!lives) return tl::unexpected<Error>(lives.error());
      if (*lives) return std::optional<ServerId>{holders->front()};
      holders->erase(holders->begin());
    }
  }
  return std::optional<ServerId>{};
}

}  // namespace

ServerId own_server_id(Pnn own) {
  return {.pid = static_cast<std::uint64_t>(getpid()), .task_id = 0, .vnn = own, .unique_id = kUniqueIdNotToVerify};
}

Result<bool> process_exists(ctdb::Client& client, const ServerId& id, bool by_pid_alone) {
  const bool by_pid = by_pid_alone || id.unique_id == kUniqueIdNotToVerify;
  const auto pid = static_cast<std::int32_t>(id.pid);
  const auto reply =
      by_pid ? client.control(ControlOpcode::ProcessExists, number(id.vnn), ctdb::encode_i32(pid))
             : client.control(ControlOpcode::CheckPidSrvid, number(id.vnn), ctdb::encode(ctdb::PidSrvid{pid, Srvid{id.unique_id}}));
  if (!reply) return tl::unexpected<Error>(reply.error());
  return reply->status == 0;
}

Result<GLock> GLock::take(ctdb::Client& client, Bytes key, Duration timeout) {
  const auto own = client.pnn();
  if (!own) return tl::unexpected<Error>(own.error());
  const ServerId self = own_server_id(*own);
  auto opened = open_database(client, kGLockDatabase, ctdb::Client::DatabaseType::Volatile, timeout);
  if (!opened) return tl::unexpected<Error>(opened.error());
  auto database = std::make_unique<OpenDatabase>(std::move(*opened));

  const Instant deadline = boot_time_now() + timeout;
  while (true) {
    std::optional<ServerId> holder;
    {
      auto record = LockedRecord::fetch(client, *database, key, deadline - boot_time_now());
      if (!record) return tl::unexpected<Error>(record.error());
      auto lock = decode_g_lock(record->value());
      if (!lock) return tl::unexpected<Error>(lock.error());
      auto living = living_holder(client, *lock, self);
      if (!living) return tl::unexpected<Error>(living.error());
      holder = *living;
      if (!holder) {
        lock->exclusive = self;
        ++lock->lock_epoch;
        if (auto stored = record->store(encode_g_lock(*lock)); !stored) return tl::unexpected<Error>(stored.error());
        return GLock(client, std::move(database), std::move(key), self);
      }
    }
    if (boot_time_now() + kLookAgain >= deadline) {
      return failure(Fault::Busy, fmt::format("process {} (node:pid) holds the transaction lock; try again when it is done, or "
                                              "end that process",
                                              to_string(*holder)));
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

Result<> GLock::release() {
  if (database_ == nullptr) return {};
  const auto database = std::move(database_);
  auto record = LockedRecord::fetch(*client_, *database, key_, ctdb::kDefaultTimeout);
  if (!record) return tl::unexpected<Error>(record.error());
  auto lock = decode_g_lock(record->value());
  if (!lock) return tl::unexpected<Error>(lock.error());
  if (!(lock->exclusive == self_)) return {};  // somebody took us for dead; it is his now
  lock->exclusive = {};
  const Bytes value = encode_g_lock(*lock);
  if (auto done = value.empty() ? record->erase() : record->store(value); !done) return done;
  // The first in the queue gets his turn; if he is gone, the others look by themselves after a while.
  if (lock->watchers.empty()) return {};
  const GLockWatcher& next = lock->watchers.front();
  return client_->send_message(number(next.who.vnn), Srvid{next.who.pid}, wake_up_message(self_, next));
}

GLock::~GLock() { (void)release(); }

GLock::GLock(GLock&& other) noexcept
    : client_(other.client_),
      database_(std::move(other.database_)),
      key_(std::move(other.key_)),
      self_(other.self_) {}

}  // namespace tdbmesh
