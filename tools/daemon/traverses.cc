#include "tools/daemon/traverses.h"

#include <algorithm>

namespace tdbmesh {
namespace {

// A batch is cut at whichever comes first: enough to make the round trips cheap, little enough for memory.
constexpr std::size_t kBatchRecords = 256;
constexpr std::size_t kBatchBytes = 1024 * 1024;

}  // namespace

Bytes traverse_entry(std::uint32_t reqid, const KeyedRecord* record) {
  ByteWriter w;
  if (record == nullptr) {
    w.put<std::uint32_t>(16).put(reqid).put<std::uint32_t>(0).put<std::uint32_t>(0);
    return std::move(w).take();
  }
  const auto key = static_cast<std::uint32_t>(record->key.size());
  const auto data = static_cast<std::uint32_t>(kRecordHeaderSize + record->record.value.size());
  w.put(16 + key + data).put(reqid).put(key).put(data);
  w.put_bytes(record->key).put_bytes(encode_header(record->record.header)).put_bytes(record->record.value);
  return std::move(w).take();
}

void Traverses::start(const Request& request) {
  const Database* database = find_(request.database);
  const std::uint64_t id = ++last_id_;
  Asked& asked = asked_.emplace(id, Asked{request, {}}).first->second;
  // A full copy needs one node only, and the nearest is this one.
  if (database != nullptr && database->kind() != DatabaseKind::Volatile) {
    asked.open[services_.self()] = 0;
  } else {
    for (const Pnn member : services_.members()) asked.open[member] = 0;
  }
  if (database == nullptr || asked.open.empty()) return finish(id);
  for (const auto& [member, position] : asked.open) ask(id, asked, member);
}

void Traverses::ask(std::uint64_t id, const Asked& asked, Pnn member) {
  const Request& request = asked.request;
  services_.send_relay(member, RelayTraverse{id, request.database, request.with_empty, asked.open.at(member)});
}

void Traverses::finish(std::uint64_t id) {
  const auto at = asked_.find(id);
  if (at == asked_.end()) return;
  services_.deliver(at->second.request.srvid, traverse_entry(at->second.request.reqid, nullptr));
  asked_.erase(at);
}

void Traverses::client_gone(ClientId client) {
  std::erase_if(asked_, [client](const auto& entry) { return entry.second.request.client == client; });
}

void Traverses::members_changed() {
  const std::vector<Pnn> members = services_.members();
  const auto is_member = [&](Pnn p) { return std::find(members.begin(), members.end(), p) != members.end(); };
  std::vector<std::uint64_t> finished;
  for (auto& [id, asked] : asked_) {
    std::erase_if(asked.open, [&](const auto& o) { return o.first != services_.self() && !is_member(o.first); });
    if (asked.open.empty()) finished.push_back(id);
    for (const auto& [member, position] : asked.open) ask(id, asked, member);
  }
  for (const std::uint64_t id : finished) finish(id);
}

void Traverses::on_deadline(Instant now) {
  std::vector<std::uint64_t> late;
  for (const auto& [id, asked] : asked_) {
    if (asked.request.deadline <= now) late.push_back(id);
  }
  for (const std::uint64_t id : late) {
    ++timeouts_;
    finish(id);
  }
}

Instant Traverses::next_deadline() const {
  Instant next = kNever;
  for (const auto& [id, asked] : asked_) next = std::min(next, asked.request.deadline);
  return next;
}

void Traverses::on_message(Pnn from, const RelayTraverse& message) {
  RelayTraverseBatch batch;
  batch.id = message.id;
  batch.position = message.position;
  ScanPosition at{message.position};
  const Database* database = find_(message.database);
  std::size_t bytes = 0;
  batch.done = database == nullptr;
  while (!batch.done && batch.records.size() < kBatchRecords && bytes < kBatchBytes) {
    Result<ScanBatch> part = database->scan(at, kBatchRecords - batch.records.size());
    if (!part) {
      batch.done = true;  // a database that cannot be read has nothing more to say
      break;
    }
    for (KeyedRecord& r : part->records) {
      // Of a volatile database each node speaks for the records it owns; copies are somebody else's.
      if (database->kind() == DatabaseKind::Volatile && r.record.header.dmaster != services_.self()) continue;
      if (r.record.value.empty() && database->kind() == DatabaseKind::Volatile && !message.with_empty) continue;
      bytes += r.key.size() + r.record.value.size();
      batch.records.push_back(std::move(r));
    }
    at = part->next;
    batch.done = part->done;
  }
  batch.next = at.at;
  services_.send_relay(from, batch);
}

void Traverses::on_message(Pnn from, const RelayTraverseBatch& message) {
  const auto at = asked_.find(message.id);
  if (at == asked_.end()) return;
  auto& open = at->second.open;
  const auto expected = open.find(from);
  if (expected == open.end() || expected->second != message.position) return;  // asked for twice, and here already
  const Request& request = at->second.request;
  for (const KeyedRecord& r : message.records) services_.deliver(request.srvid, traverse_entry(request.reqid, &r));
  if (!message.done && message.next > message.position) {
    expected->second = message.next;
    return ask(message.id, at->second, from);
  }
  open.erase(expected);
  if (open.empty()) finish(message.id);
}

}  // namespace tdbmesh
