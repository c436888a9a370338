#pragma once
// For the tests of the libtdb shim: temporary directories, programs run with and without the shim, and the
// stand-in for the daemon (tests/support/make_anchor.cc).

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

namespace tdbmesh::shim_test {

// The databases' own place: memory, if there is some.
class TemporaryDirectory : public TempDir {
 public:
  TemporaryDirectory() : TempDir(in_memory()) {}
};

enum class Shim { Without, With };

// A program with pipes at its standard input and output; standard error goes where `errors` says.
class Program {
 public:
  Program(std::vector<std::string> command, Shim shim, const std::string& errors = "");
  ~Program();  // kills and reaps it
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(const std::string& text);  // a newline is added
  void end_input();
  [[nodiscard]] std::string line();  // the next line of output; "" at its end
  [[nodiscard]] std::string rest();  // everything until it ends
  // Nothing to read for this long: it is busy.
  [[nodiscard]] bool silent(int milliseconds);
  std::string ask(const std::string& command) {
    send(command);
    return line();
  }
  void kill_now();
  int status();  // waits for its end

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  int status_ = 0;
  std::string buffer_;
  bool fill();
};

struct Ran {
  int status = 0;
  std::string output;
  std::string errors;
};
// Runs it to its end with `input`.
[[nodiscard]] Ran run(std::vector<std::string> command, Shim shim, const std::string& input = "");

// The daemon's stand-in with its databases, gate open.
class Daemon {
 public:
  Daemon(const std::string& directory, const std::vector<std::string>& databases);
  [[nodiscard]] const std::string& path(std::size_t index = 0) const { return paths_[index]; }
  Program& operator*() { return *program_; }
  Program* operator->() { return program_.get(); }

 private:
  std::unique_ptr<Program> program_;
  std::vector<std::string> paths_;
};

[[nodiscard]] std::string read_whole(const std::string& path);
// Names, sizes and contents of all files below `directory`, as one text to compare.
[[nodiscard]] std::string snapshot(const std::string& directory);
[[nodiscard]] std::string replace_all(std::string text, const std::string& what, const std::string& with);

}  // namespace tdbmesh::shim_test
