#pragma once
// What stands in a record of g_lock.tdb: who holds a cluster-wide lock. Pure codec, native byte order.
//
// Two layouts exist in the wild for the same key. Samba's (the one we write): a list of watchers in front of
// {exclusive holder, two epochs, shared holders, user data}. The ctdb tool's: a plain array of 32-byte
// entries. The tool's entries are recognised, so that we respect its locks, but never written.

#include <cstdint>
#include <optional>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/result.h"

namespace tdbmesh {

// Samba's name of one process of one node.
struct ServerId {
  std::uint64_t pid = 0;  // 0: nobody
  std::uint32_t task_id = 0;
  Pnn vnn{0};
  std::uint64_t unique_id = 0;
  friend bool operator==(const ServerId&, const ServerId&) = default;
};
inline constexpr std::size_t kServerIdSize = 24;
// A server_id with this unique id is looked up by its pid alone.
inline constexpr std::uint64_t kUniqueIdNotToVerify = 0xFFFFFFFFFFFFFFFFu;

struct GLockWatcher {
  ServerId who;
  std::uint64_t instance = 0;
  friend bool operator==(const GLockWatcher&, const GLockWatcher&) = default;
};

struct GLockValue {
  std::vector<GLockWatcher> watchers;
  ServerId exclusive;  // pid 0: none
  std::uint64_t lock_epoch = 0;
  std::uint64_t data_epoch = 0;
  std::vector<ServerId> shared;
  Bytes user_data;
  // Holders in the ctdb tool's layout; then everything above is empty.
  std::vector<ServerId> ctdb_tool;

  [[nodiscard]] bool held() const { return exclusive.pid != 0 || !shared.empty() || !ctdb_tool.empty(); }
  friend bool operator==(const GLockValue&, const GLockValue&) = default;
};

// An empty value is a lock that nobody holds.
[[nodiscard]] Result<GLockValue> decode_g_lock(BytesView value);
// Empty when nobody holds the lock, watches it, or keeps data in it: the record is then to be deleted. The
// ctdb_tool list is not written.
[[nodiscard]] Bytes encode_g_lock(const GLockValue& value);

[[nodiscard]] Bytes encode_server_id(const ServerId& id);
// "node:pid/task unique", e.g. "1:4711", "1:4711/2 0x0123456789abcdef".
[[nodiscard]] std::string to_string(const ServerId& id);

// The key under which writers of a persistent database exclude each other; the NUL belongs to it.
[[nodiscard]] Bytes transaction_lock_key(DatabaseId database);
inline constexpr const char* kGLockDatabase = "g_lock.tdb";

}  // namespace tdbmesh
