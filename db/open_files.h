#pragma once
// Which files of databases this process has open: two LMDB environments on one file in a process would drop each
// other's fcntl locks, and so would opening and closing such a file. From any thread.

#include <sys/types.h>

#include <compare>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace tdbmesh {

class OpenFiles {
 public:
  struct Id {
    dev_t device;
    ino_t inode;
    auto operator<=>(const Id&) const = default;
  };
  static OpenFiles& instance();
  // Looks with stat, opens nothing. nullopt: there is no such file.
  [[nodiscard]] static std::optional<Id> id_of(const std::string& path);

  [[nodiscard]] bool enter(Id id);  // false: it is open already
  void leave(Id id);
  [[nodiscard]] bool has(Id id);

 private:
  std::mutex mutex_;
  std::set<Id> open_;
};

}  // namespace tdbmesh
