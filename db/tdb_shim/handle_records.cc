// Single records. Reads take no lock; each write holds its chain. What Samba does all day allocates nothing here.

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "db/tdb_shim/handle.h"

namespace tdbmesh::shim {

namespace {

BytesView view(TDB_DATA data) {
  return data.dptr == nullptr ? BytesView{} : BytesView(reinterpret_cast<const char*>(data.dptr), data.dsize);
}

constexpr std::size_t kLargestKept = 1 << 20;  // a buffer beyond this is not worth keeping

TDB_DATA data_of(Bytes& bytes) { return {reinterpret_cast<unsigned char*>(bytes.data()), bytes.size()}; }

// For the caller to free(). An empty value still has a pointer.
TDB_DATA copy(const Bytes& bytes) {
  auto* out = static_cast<unsigned char*>(std::malloc(bytes.empty() ? 1 : bytes.size()));
  if (out != nullptr && !bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
  return {out, out == nullptr ? 0 : bytes.size()};
}

}  // namespace

bool Handle::read(BytesView key, Bytes& into) {
  for (;;) {
    const auto found = db_->fetch_into(key, into);
    if (!found) return fail(found.error()), false;
    // After the read: a record that was read while the gate was open was ours at that moment.
    if (needs_gate(Access::Read) && transaction_.depth == 0 && !gate_open()) {
      if (!wait_for_gate()) return false;
      continue;
    }
    if (!*found) fail(TDB_ERR_NOEXIST);
    return *found;
  }
}

TDB_DATA Handle::fetch(TDB_DATA key) {
  if (!read(view(key), value_)) return {nullptr, 0};
  const TDB_DATA out = copy(value_);
  if (out.dptr == nullptr) fail(TDB_ERR_OOM);
  return out;
}

int Handle::parse_record(TDB_DATA key, ParseFunction parser, void* private_data) {
  if (gated() && newest_lock_with(*this, view(key)) != nullptr) {
    // Nobody else writes it: shown where it lies, as libtdb does. (What the parser stores under this key shows through.)
    for (;;) {
      int result = -1;
      bool closed = false;
      const auto found = db_->parse(view(key), [&](BytesView value) {
        closed = transaction_.depth == 0 && !gate_open();
        if (closed) return;
        const TDB_DATA data{reinterpret_cast<unsigned char*>(const_cast<char*>(value.data())), value.size()};
        result = parser(key, data, private_data);
      });
      if (!found) return fail(found.error());
      if (!closed && !*found) closed = transaction_.depth == 0 && !gate_open();
      if (!closed) return *found ? result : fail(TDB_ERR_NOEXIST);
      if (!wait_for_gate()) return -1;
    }
  }
  // A copy, so that the parser may do what it likes, also parse another record.
  Bytes value = std::move(value_);
  const bool found = read(view(key), value);
  const int result = found ? parser(key, data_of(value), private_data) : -1;
  if (value.capacity() <= kLargestKept) value_ = std::move(value);
  return result;
}

int Handle::exists(TDB_DATA key) { return read(view(key), value_) ? 1 : 0; }

int Handle::write_allowed() {
  if (read_only_ || reading_walks_ > 0) return fail(TDB_ERR_RDONLY);
  if (all_ == Lock::Read) return fail(TDB_ERR_LOCK);
  return 0;
}

int Handle::store_locked(BytesView key, std::span<const BytesView> parts, StoreMode mode) {
  if (transaction_.depth > 0 && (transaction_.prepared || !transaction_.changed)) {
    const auto before = db_->fetch(key);
    if (!before) return fail(before.error());
    Bytes whole;
    for (const BytesView part : parts) whole.append(part);
    const bool same = *before == std::optional<Bytes>(std::move(whole));
    const bool writes = !same || db_->seqnum_enabled();  // storing what is there is not a change
    if (transaction_.prepared) {
      // Too late for writes; what would not have written answers as ever.
      if (mode == StoreMode::Insert && *before) return fail(TDB_ERR_EXISTS);
      if (mode == StoreMode::Modify && !*before) return fail(TDB_ERR_NOEXIST);
      if (writes) transaction_.poisoned = true;
      return same ? 0 : fail(TDB_ERR_EINVAL);
    }
    const bool refused = mode == StoreMode::Insert ? before->has_value() : mode == StoreMode::Modify && !*before;
    if (writes && !refused) transaction_.changed = true;
  }
  const auto stored = db_->store(key, parts, mode);
  return stored ? 0 : fail(stored.error());
}

int Handle::storev(TDB_DATA key, const TDB_DATA* parts, int count, int flag) {
  if (write_allowed() != 0) return -1;
  std::array<BytesView, 4> few;
  std::vector<BytesView> many;
  if (count > static_cast<int>(few.size())) many.resize(static_cast<std::size_t>(count));
  const std::span<BytesView> views = many.empty() ? std::span(few.data(), static_cast<std::size_t>(std::max(count, 0))) : std::span(many);
  for (int i = 0; i < count; ++i) {
    if (parts[i].dptr == nullptr && parts[i].dsize > 0) return fail(TDB_ERR_EINVAL);
    views[static_cast<std::size_t>(i)] = view(parts[i]);
  }
  const StoreMode mode = flag == TDB_INSERT   ? StoreMode::Insert
                         : flag == TDB_MODIFY ? StoreMode::Modify
                                              : StoreMode::Replace;
  return with_chain(view(key), [&] { return store_locked(view(key), views, mode); });
}

int Handle::append(TDB_DATA key, TDB_DATA more) {
  if (write_allowed() != 0) return -1;
  if (more.dptr == nullptr && more.dsize > 0) return fail(TDB_ERR_EINVAL);
  return with_chain(view(key), [&] {
    auto before = db_->fetch(view(key));
    if (!before) return fail(before.error());
    const std::array<BytesView, 2> parts = {*before ? BytesView(**before) : BytesView{}, view(more)};
    return store_locked(view(key), parts, StoreMode::Replace);
  });
}

int Handle::erase(TDB_DATA key) {
  if (write_allowed() != 0) return -1;
  return with_chain(view(key), [&] {
    if (transaction_.prepared) {
      const auto there = db_->exists(view(key));
      if (there && !*there) return fail(TDB_ERR_NOEXIST);
      transaction_.poisoned = true;
      return fail(TDB_ERR_EINVAL);
    }
    const auto erased = db_->erase(view(key));
    if (!erased) return fail(erased.error());
    if (!*erased) return fail(TDB_ERR_NOEXIST);
    transaction_.changed = true;
    return 0;
  });
}

int Handle::wipe_all() {
  if (lockall(Lock::Write, Wait::Yes) != 0) return -1;
  int result = 0;
  if (transaction_.prepared) {
    transaction_.poisoned = true;
    result = fail(TDB_ERR_EINVAL);
  } else if (transaction_.depth == 0 && !wait_for_gate()) {
    result = -1;
  } else if (const HeldLock* held = find_everything(*this); held != nullptr && held->lost) {
    result = fail(TDB_ERR_IO);
  } else if (const auto wiped = db_->wipe(); !wiped) {
    result = fail(wiped.error());
  } else {
    transaction_.changed = true;
  }
  (void)unlockall(Lock::Write);
  return result;
}

}  // namespace tdbmesh::shim
