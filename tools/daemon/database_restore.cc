#include "tools/daemon/database_restore.h"

#include <algorithm>

namespace tdbmesh {
namespace {

constexpr std::size_t kBatch = 1024;     // records emptied or stored in one turn's step
constexpr std::size_t kStepsPerTurn = 16;

}  // namespace

bool DatabaseRestore::freeze(DatabaseId id) {
  if (databases_.database(id) == nullptr) return false;
  open_.try_emplace(id);
  return true;
}

bool DatabaseRestore::thaw(DatabaseId id) { return open_.erase(id) == 1; }

bool DatabaseRestore::start(DatabaseId id, std::uint32_t transaction) {
  const auto at = open_.find(id);
  if (at == open_.end()) return false;
  at->second = Restore{};
  at->second.transaction = transaction;
  return true;
}

bool DatabaseRestore::wipe(DatabaseId id, std::uint32_t transaction, const ReplyTo& reply) {
  const auto at = open_.find(id);
  if (at == open_.end() || at->second.transaction != transaction) return false;
  at->second.wiped = true;
  if (databases_.database(id)->kind() != DatabaseKind::Volatile) {
    // Nothing goes before the commit: a tool that dies here leaves the database as it was.
    services_.reply(reply, 0);
    return true;
  }
  at->second.wiping = reply;
  continue_wipe(id, at->second);
  return true;
}

void DatabaseRestore::continue_wipe(DatabaseId id, Restore& restore) {
  Database* database = databases_.database(id);
  if (database == nullptr) return;
  // Busy chains are met again in a later turn: a scan from the start finds only what is still there.
  ScanPosition at;
  bool all = true;
  for (std::size_t step = 0; step < kStepsPerTurn; ++step) {
    const Result<ScanBatch> batch = database->scan(at, kBatch);
    if (!batch) break;
    for (const KeyedRecord& r : batch->records) {
      if (!database->try_lock(r.key)) {
        all = false;
        continue;
      }
      if (!database->erase(r.key)) all = false;
      database->unlock(r.key);
    }
    if (batch->done) {
      if (!all) return;
      const ReplyTo reply = *restore.wiping;
      restore.wiping.reset();
      return services_.reply(reply, 0);
    }
    at = batch->next;
  }
}

bool DatabaseRestore::push_start(DatabaseId id, Srvid srvid) {
  const auto at = open_.find(id);
  if (at == open_.end()) return false;
  at->second.push = srvid;
  at->second.pushed.clear();
  return true;
}

bool DatabaseRestore::push(Srvid srvid, BytesView buffer) {
  for (auto& [id, restore] : open_) {
    if (restore.push != srvid) continue;
    // The database id inside is not filled in by the tool; the push says which one it is.
    if (Result<RecordBuffer> records = decode_buffer(buffer)) {
      std::move(records->entries.begin(), records->entries.end(), std::back_inserter(restore.pushed));
    }
    return true;
  }
  return false;
}

std::optional<std::uint32_t> DatabaseRestore::push_confirm(DatabaseId id) {
  const auto at = open_.find(id);
  if (at == open_.end()) return std::nullopt;
  at->second.push.reset();
  return static_cast<std::uint32_t>(at->second.pushed.size());
}

std::optional<DatabaseRestore::Contents> DatabaseRestore::take_contents(DatabaseId id, std::uint32_t transaction) {
  const auto at = open_.find(id);
  if (at == open_.end() || at->second.transaction != transaction || !at->second.wiped) return std::nullopt;
  Contents contents{std::move(at->second.pushed)};
  at->second = Restore{};
  return contents;
}

bool DatabaseRestore::commit_volatile(DatabaseId id, std::uint32_t transaction, const ReplyTo& reply) {
  const auto at = open_.find(id);
  if (at == open_.end() || at->second.transaction != transaction) return false;
  const std::vector<Pnn> members = services_.members();
  const bool owner = !members.empty() && members.front() == services_.self();
  if (!owner || !at->second.wiped) at->second.pushed.clear();
  at->second.committing = reply;
  continue_commit(id, at->second);
  return true;
}

void DatabaseRestore::continue_commit(DatabaseId id, Restore& restore) {
  Database* database = databases_.database(id);
  if (database == nullptr) return;
  for (std::size_t step = 0; step < kBatch * kStepsPerTurn && restore.stored < restore.pushed.size(); ++step) {
    const RecordEntry& entry = restore.pushed[restore.stored];
    if (!database->try_lock(entry.key)) return;
    const RecordHeader header{entry.header.rsn + 1, services_.self(), entry.header.flags & kRecordMigratedWithData};
    const Result<void> stored = database->store(entry.key, header, entry.value);
    database->unlock(entry.key);
    if (!stored) {
      services_.reply(*restore.committing, -1, {}, stored.error().context);
      restore = Restore{};
      return;
    }
    ++restore.stored;
  }
  if (restore.stored < restore.pushed.size()) return;
  const ReplyTo reply = *restore.committing;
  restore = Restore{};
  services_.reply(reply, 0);
}

void DatabaseRestore::abandon() {
  std::vector<ReplyTo> waiting;
  for (const auto& [id, restore] : open_) {
    if (restore.wiping) waiting.push_back(*restore.wiping);
    if (restore.committing) waiting.push_back(*restore.committing);
  }
  open_.clear();
  for (const ReplyTo& reply : waiting) services_.reply(reply, -1, {}, "ended by a view change");
}

void DatabaseRestore::tick() {
  for (auto& [id, restore] : open_) {
    if (restore.wiping) continue_wipe(id, restore);
    if (restore.committing) continue_commit(id, restore);
  }
}

bool DatabaseRestore::busy() const {
  return std::any_of(open_.begin(), open_.end(),
                     [](const auto& entry) { return entry.second.wiping || entry.second.committing; });
}

}  // namespace tdbmesh
