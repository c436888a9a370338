#include "db/open_files.h"

#include <sys/stat.h>

namespace tdbmesh {

OpenFiles& OpenFiles::instance() {
  static OpenFiles* files = new OpenFiles;  // never destroyed: handles may outlive static destruction
  return *files;
}

std::optional<OpenFiles::Id> OpenFiles::id_of(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return std::nullopt;
  return Id{st.st_dev, st.st_ino};
}

bool OpenFiles::enter(Id id) {
  const std::lock_guard lock(mutex_);
  return open_.insert(id).second;
}

void OpenFiles::leave(Id id) {
  const std::lock_guard lock(mutex_);
  open_.erase(id);
}

bool OpenFiles::has(Id id) {
  const std::lock_guard lock(mutex_);
  return open_.contains(id);
}

}  // namespace tdbmesh
