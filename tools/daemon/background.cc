#include "tools/daemon/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace tdbmesh {
namespace {

constexpr char kReady = '+';

// What the child says: kReady, or the reason. Nothing at all means that it died.
[[noreturn]] void wait_for_child(int fd, pid_t child) {
  std::string said;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(buffer, static_cast<std::size_t>(got));
    if (said[0] == kReady) std::_Exit(0);
  }
  if (said.empty()) {
    int status = 0;
    ::waitpid(child, &status, 0);
    said = WIFSIGNALED(status) ? "the daemon died of signal " + std::to_string(WTERMSIG(status)) + " while it started"
                               : std::string("the daemon ended while it started; see its log");
  }
  std::fprintf(stderr, "tdbmeshd: %s\n", said.c_str());
  std::_Exit(1);
}

}  // namespace

Result<Background> Background::enter() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_failure("cannot go into the background");
  const pid_t child = ::fork();
  if (child < 0) return system_failure("cannot go into the background");
  if (child > 0) {
    ::close(ends[1]);
    wait_for_child(ends[0], child);
  }
  ::close(ends[0]);
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    // stderr stays until ready(): what libraries say while starting may be the only hint.
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::close(null);
  }
  return Background(ends[1]);
}

void Background::ready() {
  if (report_fd_ < 0) return;
  [[maybe_unused]] const ssize_t told = ::write(report_fd_, &kReady, 1);
  ::close(report_fd_);
  report_fd_ = -1;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDERR_FILENO);
    ::close(null);
  }
}

void Background::failed(const std::string& why) {
  if (report_fd_ < 0) {
    std::fprintf(stderr, "tdbmeshd: %s\n", why.c_str());
    return;
  }
  [[maybe_unused]] const ssize_t told = ::write(report_fd_, why.data(), why.size());
  ::close(report_fd_);
  report_fd_ = -1;
}

}  // namespace tdbmesh
