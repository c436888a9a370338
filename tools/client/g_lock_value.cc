#include "tools/client/g_lock_value.h"

#include <fmt/format.h>

namespace tdbmesh {
namespace {

constexpr std::size_t kWatcherSize = kServerIdSize + 8;
constexpr std::size_t kToolEntrySize = 32;

ServerId read_server_id(ByteReader& in) {
  ServerId id;
  id.pid = in.get<std::uint64_t>();
  id.task_id = in.get<std::uint32_t>();
  id.vnn = Pnn{in.get<std::uint32_t>()};
  id.unique_id = in.get<std::uint64_t>();
  return id;
}

// The tool marks its entries unmistakably: the unique id repeats the database id and the pid. A lock of
// Samba's can have the same size, so size and type alone would not do.
std::optional<std::vector<ServerId>> as_ctdb_tool(BytesView value) {
  if (value.empty() || value.size() % kToolEntrySize != 0) return std::nullopt;
  std::vector<ServerId> holders;
  ByteReader in(value);
  while (in.remaining() > 0) {
    const auto type = in.get<std::uint32_t>();
    in.skip(4);
    const ServerId id = read_server_id(in);
    const std::uint64_t mark = (std::uint64_t{id.task_id} << 32) | (id.pid & 0xFFFFFFFFu);
    if (type > 1 || id.unique_id != mark) return std::nullopt;
    holders.push_back(id);
  }
  return holders;
}

}  // namespace

Result<GLockValue> decode_g_lock(BytesView value) {
  GLockValue lock;
  if (value.empty()) return lock;
  if (auto holders = as_ctdb_tool(value)) {
    lock.ctdb_tool = std::move(*holders);
    return lock;
  }
  ByteReader in(value);
  const auto watchers = in.get<std::uint32_t>();
  if (watchers > in.remaining() / kWatcherSize) {
    return failure(Fault::Malformed, "invalid lock data: more watchers than bytes");
  }
  for (std::uint32_t i = 0; i < watchers; ++i) {
    GLockWatcher watcher;
    watcher.who = read_server_id(in);
    watcher.instance = in.get<std::uint64_t>();
    lock.watchers.push_back(watcher);
  }
  if (in.ok() && in.remaining() == 0) return lock;  // watched, but held by nobody
  lock.exclusive = read_server_id(in);
  lock.lock_epoch = in.get<std::uint64_t>();
  lock.data_epoch = in.get<std::uint64_t>();
  const auto shared = in.get<std::uint32_t>();
  if (!in.ok() || shared > in.remaining() / kServerIdSize) {
    return failure(Fault::Malformed, "invalid lock data: too short");
  }
  for (std::uint32_t i = 0; i < shared; ++i) lock.shared.push_back(read_server_id(in));
  lock.user_data = Bytes(in.rest());
  return lock;
}

Bytes encode_server_id(const ServerId& id) {
  return ByteWriter().put(id.pid).put(id.task_id).put(number(id.vnn)).put(id.unique_id).bytes();
}

Bytes encode_g_lock(const GLockValue& value) {
  const bool has_lock = value.exclusive.pid != 0 || !value.shared.empty() || !value.user_data.empty();
  if (!has_lock && value.watchers.empty()) return {};
  ByteWriter out;
  out.put(static_cast<std::uint32_t>(value.watchers.size()));
  for (const GLockWatcher& watcher : value.watchers) {
    out.put_bytes(encode_server_id(watcher.who)).put(watcher.instance);
  }
  if (!has_lock) return std::move(out).take();
  out.put_bytes(encode_server_id(value.exclusive)).put(value.lock_epoch).put(value.data_epoch);
  out.put(static_cast<std::uint32_t>(value.shared.size()));
  for (const ServerId& id : value.shared) out.put_bytes(encode_server_id(id));
  out.put_bytes(value.user_data);
  return std::move(out).take();
}

std::string to_string(const ServerId& id) {
  std::string text = fmt::format("{}:{}", number(id.vnn), id.pid);
  if (id.task_id != 0) text += fmt::format("/{}", id.task_id);
  if (id.unique_id != 0 && id.unique_id != kUniqueIdNotToVerify) {
    text += fmt::format(" {:#018x}", id.unique_id);
  }
  return text;
}

Bytes transaction_lock_key(DatabaseId database) {
  Bytes key = fmt::format("transaction_db_0x{:08x}", number(database));
  key.push_back('\0');
  return key;
}

}  // namespace tdbmesh
