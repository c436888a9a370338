#pragma once
// A directory for one test, removed with everything in it at the end.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace tdbmesh {

class TempDir {
 public:
  // `under`: e.g. "/dev/shm" for data that belongs on a tmpfs.
  explicit TempDir(const std::string& under = std::filesystem::temp_directory_path().string()) {
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
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tdbmesh
