#pragma once
// A directory for one test, removed with everything in it at the end. $TMPDIR says where, as for every program; empty is
// as good as not set.

#include <gtest/gtest.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace tdbmesh {

// $TMPDIR, else `otherwise`. (std::filesystem::temp_directory_path() throws if it is set and empty.)
[[nodiscard]] inline std::string tmpdir_or(const std::string& otherwise) {
  const char* named = std::getenv("TMPDIR");
  return named == nullptr || *named == '\0' ? otherwise : named;
}

// For tests that write much and do not care what a power failure would leave: $TMPDIR if it is set, else memory if there
// is some.
[[nodiscard]] inline std::string in_memory() {
  return tmpdir_or(std::filesystem::exists("/dev/shm") ? "/dev/shm" : "/tmp");
}

class TempDir {
 public:
  explicit TempDir(const std::string& under = tmpdir_or("/tmp")) {
    std::string pattern = under + "/tdbmesh-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a directory in " + under);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_in_memory() const {
    struct statfs there {};
    return ::statfs(path_.c_str(), &there) == 0 && there.f_type == TMPFS_MAGIC;
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tdbmesh
