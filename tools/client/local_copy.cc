#include "tools/client/local_copy.h"

#include <fmt/format.h>

#include <algorithm>

namespace tdbmesh {

Result<std::unique_ptr<LocalCopy>> LocalCopy::open(const std::string& path) {
  auto lmdb = LmdbDatabase::open(path, LmdbDatabase::Role::Client);
  if (!lmdb) return failure(lmdb.error().fault, fmt::format("cannot open {}: {}", path, lmdb.error().context));
  std::unique_ptr<GateView> gate;
  if ((*lmdb)->kind() == DatabaseKind::Volatile) {
    auto view = GateView::open((*lmdb)->anchor().settings().gate_path);
    if (!view) return tl::unexpected<Error>(view.error());
    gate = std::move(*view);
  }
  return std::unique_ptr<LocalCopy>(new LocalCopy(std::move(*lmdb), std::move(gate)));
}

Result<> LocalCopy::wait_for_gate(Duration timeout) const {
  if (gate_ == nullptr || gate_->is_open()) return {};
  const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(timeout);
  if (gate_->wait_open(limit)) return {};
  return failure(Fault::Busy,
                 "this node is fenced off from the cluster and serves no volatile records; `tdbmesh status -v` says why");
}

Result<> LocalCopy::lock(BytesView key, Duration timeout) {
  const Instant deadline = boot_time_now() + timeout;
  while (true) {
    auto locked = lmdb_->lock(key, [deadline] { return boot_time_now() >= deadline; });
    if (!locked) {
      if (locked.error().fault != Fault::Busy) return locked;
      return failure(Fault::Busy, "another process keeps the record locked; try again, or find it with `dbtool where`");
    }
    if (gate_ == nullptr || gate_->is_open()) return {};
    // The daemon needs the chain to empty the database before the gate may open again: do not wait with it.
    unlock(key);
    if (auto open = wait_for_gate(std::max(deadline - boot_time_now(), Duration::zero())); !open) return open;
  }
}

void LocalCopy::unlock(BytesView key) { (void)lmdb_->unlock(key); }

Result<std::optional<StoredRecord>> LocalCopy::fetch(BytesView key, Duration patience) {
  const Instant deadline = boot_time_now() + patience;
  while (true) {
    auto stored = lmdb_->fetch(key);
    if (!stored) return tl::unexpected<Error>(stored.error());
    // Open after the read: what was read was nobody else's to change yet.
    if (gate_ != nullptr && !gate_->is_open()) {
      if (auto open = wait_for_gate(std::max(deadline - boot_time_now(), Duration::zero())); !open) {
        return tl::unexpected<Error>(open.error());
      }
      continue;
    }
    if (!*stored) return std::optional<StoredRecord>{};
    const auto header = decode_header(**stored);
    if (!header) return std::optional<StoredRecord>{};
    return std::optional<StoredRecord>{StoredRecord{*header, (*stored)->substr(kRecordHeaderSize)}};
  }
}

Result<> LocalCopy::store(BytesView key, const RecordHeader& header, BytesView value) {
  if (gate_ != nullptr && !gate_->is_open()) {
    return failure(Fault::Refused, "this node was fenced off while the record was locked; nothing was written, try again");
  }
  const Bytes head = encode_header(header);
  const BytesView parts[] = {head, value};
  return lmdb_->store(key, parts);
}

}  // namespace tdbmesh
