#include "tools/daemon/databases.h"

#include <algorithm>

#include "db/base/hash.h"

namespace tdbmesh {

Result<Databases::AttachResult> Databases::attach(const std::string& name, DatabaseKind kind) {
  const DatabaseId id = database_id(name);
  if (Attached* known = find(id)) {
    if (known->database->name() != name) {
      return failure(Fault::Exists, "database '" + name + "' has the same id as '" + known->database->name() + "'");
    }
    if (kind != DatabaseKind::Volatile && known->database->kind() != kind) {
      return failure(Fault::Refused, "database '" + name + "' is attached as another kind");
    }
    return AttachResult{known, false};
  }
  Result<Database*> opened = store_.open(name, kind);
  if (!opened) return tl::unexpected<Error>(opened.error());
  Attached& attached = attached_[id];
  attached.database = *opened;
  if (const std::string why = store_.damage(id); !why.empty()) {
    attached.unhealthy = "NO-HEALTHY-NODES - " + why + "; it is repaired from a node with a healthy copy when one is in the "
                         "cluster; without one empty it with `tdbmesh wipedb` and put a backup back with `ctdb restoredb`";
  }
  order_.push_back(id);
  return AttachResult{&attached, true};
}

Result<void> Databases::detach(DatabaseId id) {
  if (attached_.erase(id) == 0) return failure(Fault::NotFound, "no database " + to_string(id) + " is attached");
  order_.erase(std::find(order_.begin(), order_.end(), id));
  return store_.remove(id);
}

Databases::Attached* Databases::find(DatabaseId id) {
  const auto at = attached_.find(id);
  return at == attached_.end() ? nullptr : &at->second;
}

Database* Databases::database(DatabaseId id) {
  const Attached* attached = find(id);
  return attached == nullptr ? nullptr : attached->database;
}

std::vector<AttachedDatabase> Databases::descriptions() const {
  std::vector<AttachedDatabase> all;
  for (const DatabaseId id : order_) all.push_back(attached_.at(id).description());
  return all;
}

std::vector<DatabaseId> Databases::take_changed_seqnums() {
  std::vector<DatabaseId> changed;
  for (const DatabaseId id : order_) {
    Attached& attached = attached_.at(id);
    if (!attached.database->seqnum_enabled()) continue;
    const std::uint32_t now = attached.database->seqnum();
    if (now == attached.seqnum_sent) continue;
    attached.seqnum_sent = now;
    changed.push_back(id);
  }
  return changed;
}

void Databases::bump_seqnum(DatabaseId id) {
  Attached* attached = find(id);
  if (attached == nullptr || !attached->database->seqnum_enabled()) return;
  attached->database->bump_seqnum();
  // What came from outside is not told to the others again, or two nodes would wake each other for ever.
  // A local change between the two reads is only told one interval later.
  if (attached->seqnum_sent + 1 == attached->database->seqnum()) attached->seqnum_sent = attached->database->seqnum();
}

void Databases::bump_seqnums() {
  for (const DatabaseId id : order_) bump_seqnum(id);
}

}  // namespace tdbmesh
