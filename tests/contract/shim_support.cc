#include "tests/contract/shim_support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace tdbmesh::shim_test {

namespace fs = std::filesystem;

Program::Program(std::vector<std::string> command, Shim shim, const std::string& errors) {
  signal(SIGPIPE, SIG_IGN);
  int to[2], from[2];
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) std::abort();
  std::vector<char*> arguments;
  for (auto& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(to[0], 0);
    dup2(from[1], 1);
    if (!errors.empty()) dup2(open(errors.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), 2);
    if (shim == Shim::With) setenv("LD_PRELOAD", TDBMESH_SHIM_LIBRARY, 1);
    // In a build with sanitizers the preloaded library comes before their runtime.
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  in_ = to[1];
  out_ = from[0];
}

Program::~Program() {
  end_input();
  if (pid_ > 0) kill_now();
  close(out_);
}

void Program::send(const std::string& text) {
  const std::string line = text + "\n";
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t wrote = write(in_, line.data() + at, line.size() - at);
    if (wrote <= 0) return;
    at += static_cast<std::size_t>(wrote);
  }
}

void Program::end_input() {
  if (in_ >= 0) close(in_);
  in_ = -1;
}

bool Program::fill() {
  char chunk[65536];
  const ssize_t got = read(out_, chunk, sizeof chunk);
  if (got <= 0) return false;
  buffer_.append(chunk, static_cast<std::size_t>(got));
  return true;
}

std::string Program::line() {
  for (;;) {
    const auto end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string out = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return out;
    }
    if (!fill()) return std::exchange(buffer_, {});
  }
}

std::string Program::rest() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

bool Program::silent(int milliseconds) {
  if (!buffer_.empty()) return false;
  pollfd p{out_, POLLIN, 0};
  return poll(&p, 1, milliseconds) == 0;
}

void Program::kill_now() {
  kill(pid_, SIGKILL);
  status();
}

int Program::status() {
  if (pid_ > 0) waitpid(pid_, &status_, 0);
  pid_ = -1;
  return status_;
}

Ran run(std::vector<std::string> command, Shim shim, const std::string& input) {
  const TemporaryDirectory directory;
  const std::string errors = directory.path() + "/stderr";
  const std::string from = directory.path() + "/stdin";
  std::ofstream(from) << input;
  // Input from a file, so that neither side can wait for the other.
  command.insert(command.begin(), {"/bin/sh", "-c", "exec \"$@\" < \"$INPUT\"", "sh"});
  setenv("INPUT", from.c_str(), 1);
  Program program(std::move(command), shim, errors);
  program.end_input();
  Ran ran;
  ran.output = program.rest();
  ran.status = program.status();
  ran.errors = read_whole(errors);
  return ran;
}

Daemon::Daemon(const std::string& directory, const std::vector<std::string>& databases) {
  std::vector<std::string> command = {TDBMESH_MAKE_ANCHOR, directory};
  command.insert(command.end(), databases.begin(), databases.end());
  program_ = std::make_unique<Program>(command, Shim::Without);
  for (std::size_t i = 0; i < databases.size(); ++i) paths_.push_back(program_->line());
}

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

std::string snapshot(const std::string& directory) {
  std::vector<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    std::string line = entry.path().string();
    if (entry.is_regular_file()) {
      // Large and sparse ones by their first megabyte; what a stranger could change is at the beginning.
      std::string bytes(std::min<std::uintmax_t>(entry.file_size(), 1u << 20), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      line += " " + std::to_string(entry.file_size()) + " " + std::to_string(std::hash<std::string>{}(bytes));
    }
    lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& line : lines) out += line + "\n";
  return out;
}

std::string replace_all(std::string text, const std::string& what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
  return text;
}

}  // namespace tdbmesh::shim_test
