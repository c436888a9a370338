#pragma once
// A forked child that runs a piece of a test. The child reports by its exit status: 0 = all as expected. It ends
// with _exit, so no test machinery runs twice. The destructor kills a child that is still there.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tdbmesh {

class ChildProcess {
 public:
  template <class F>
  explicit ChildProcess(F&& body) {
    pid_ = ::fork();
    if (pid_ == 0) ::_exit(body());
  }
  ~ChildProcess() {
    if (pid_ > 0) kill_and_wait();
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Exit status, or 1000 + signal.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  int kill_and_wait() {
    ::kill(pid_, SIGKILL);
    return wait();
  }

 private:
  pid_t pid_ = -1;
};

// Lets one process tell another that it has come to a point.
class Signpost {
 public:
  Signpost() { (void)!::pipe(ends_); }
  ~Signpost() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  Signpost(const Signpost&) = delete;
  Signpost& operator=(const Signpost&) = delete;
  void post() const { (void)!::write(ends_[1], "x", 1); }
  void wait() const {
    char byte;
    while (::read(ends_[0], &byte, 1) < 0 && errno == EINTR) {
    }
  }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace tdbmesh
