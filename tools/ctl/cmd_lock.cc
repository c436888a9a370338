// lock check PATH: an administrator's test of a file system that is to carry the cluster lock. A child does
// all that touches the file system, for any call there may hang; this process says what is going on and what
// follows from it.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tools/ctl/lock_check.h"
#include "tools/ctl/verbs.h"

namespace tdbmesh::ctl {
namespace {

constexpr int kStepMilliseconds = 100;

// One look of the child's: what stands beside the lock, then what a try gave.
struct Look {
  enum Kind : int { Refused, Granted, Kept, Failed } kind = Failed;
  int error = 0;
  std::int64_t took_us = 0;
  std::array<char, 16> call{};  // that failed
  std::array<char, kLockSignBytes> sign{};
};

int interrupt_pipe[2] = {-1, -1};
extern "C" void on_interrupt(int) { (void)!::write(interrupt_pipe[1], "i", 1); }

// ---- the child ----

class Looker {
 public:
  Looker(int out, int in, std::string lock, LockSign self)
      : out_(out), in_(in), lock_(std::move(lock)), sign_path_(lock_ + ".sign"), self_(std::move(self)) {}

  [[noreturn]] void run() {
    const int fd = ::open(lock_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) fail("open");
    bool held = false;
    for (;;) {
      Look look;
      read_sign(look);
      const Instant begin = boot_time_now();
      if (held) {
        look.kind = Look::Kept;
      } else if (struct flock wanted = whole_file(); ::fcntl(fd, F_SETLK, &wanted) == 0) {
        held = true;
        look.kind = Look::Granted;
      } else if (errno == EACCES || errno == EAGAIN) {
        look.kind = Look::Refused;
      } else {
        fail("fcntl");
      }
      look.took_us = (boot_time_now() - begin).count();
      send(look);
      // The parent may say one letter: w to write signs, q to let go in order. Its end is ours, at once.
      char order = 0;
      pollfd in{in_, POLLIN, 0};
      ::poll(&in, 1, kStepMilliseconds);
      while ((in.revents & (POLLIN | POLLHUP)) != 0) {
        const ssize_t got = ::read(in_, &order, 1);
        if (got == 0) ::_exit(1);
        if (got != 1) break;
        if (order == 'q') end(held);
        writes_ = writes_ || order == 'w';
        in.revents = 0;
        ::poll(&in, 1, kStepMilliseconds);
      }
      if (held && writes_) write_sign(false);
    }
  }

 private:
  static struct flock whole_file() {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
  }

  void send(const Look& look) {
    if (::write(out_, &look, sizeof look) != static_cast<ssize_t>(sizeof look))
      ::_exit(1);  // the parent has gone
  }
  [[noreturn]] void fail(const char* call) {
    Look look;
    look.error = errno;
    std::strncpy(look.call.data(), call, look.call.size() - 1);
    send(look);
    ::_exit(1);
  }
  [[noreturn]] void end(bool held) {
    if (held && writes_) write_sign(true);
    ::_exit(0);  // which lets go
  }

  // A file of its own, opened anew each time: so no cache of an open file answers for another node's writes.
  void read_sign(Look& look) {
    const int fd = ::open(sign_path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return;
    if (fd < 0) fail("open");
    if (::pread(fd, look.sign.data(), look.sign.size(), 0) < 0) fail("read");
    ::close(fd);
  }
  void write_sign(bool released) {
    ++self_.beats;
    self_.released = released;
    self_.written = boot_time_now().time_since_epoch();
    const std::string bytes = encode(self_);
    const int fd = ::open(sign_path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) fail("open");
    if (::pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) fail("write");
    if (::close(fd) != 0) fail("close");
  }

  int out_;
  int in_;
  std::string lock_;
  std::string sign_path_;
  LockSign self_;
  bool writes_ = false;
};

// ---- the parent ----

std::string content(const char* path) {
  std::ifstream in(path);
  std::ostringstream all;
  all << in.rdbuf();
  return std::move(all).str();
}

LockSign own_sign() {
  LockSign self;
  std::array<char, 65> host{};
  ::gethostname(host.data(), host.size() - 1);
  self.host = host[0] != '\0' ? host.data() : "unnamed";
  self.pid = static_cast<std::uint32_t>(::getpid());
  self.life = static_cast<std::uint64_t>(boot_time_now().time_since_epoch().count());
  return self;
}

struct Child {
  pid_t pid = -1;
  int to = -1;
  int from = -1;
};

Outcome<Child> start_looker(const std::string& lock, const LockSign& self) {
  int down[2];
  int up[2];
  if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0 ||
      ::pipe2(interrupt_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
    return fail(fmt::format("Cannot make a pipe: {}", std::strerror(errno)));
  }
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return fail(fmt::format("Cannot start a process: {}", std::strerror(errno)));
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::setpgid(0, 0);  // Ctrl-C is for the parent
    ::signal(SIGALRM, SIG_IGN);
    ::close(down[1]);
    ::close(up[0]);
    Looker(up[1], down[0], lock, self).run();
  }
  ::close(down[0]);
  ::close(up[1]);
  return Child{pid, down[1], up[0]};
}

// Its end is the lock's release; one that hangs in the file system is killed.
void stop_looker(const Child& child) {
  (void)!::write(child.to, "q", 1);
  for (int tries = 0; ::waitpid(child.pid, nullptr, WNOHANG) == 0 && tries < 40; ++tries) {
    if (tries == 20) ::kill(child.pid, SIGKILL);
    ::poll(nullptr, 0, kStepMilliseconds);
  }
  ::close(child.to);
  ::close(child.from);
}

double as_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

Json as_json(const LockFindings& found, const std::string& lock, const std::optional<Mount>& mount,
             const std::string& warning) {
  Json json{{"verdict", word(found.verdict)}, {"good", is_good(found.verdict)}, {"file", lock}};
  if (mount) json["mount"] = {{"point", mount->point}, {"type", mount->type}, {"options", mount->options}};
  if (!warning.empty()) json["warning"] = warning;
  if (found.other) {
    json["other"] = {
        {"host", found.other->host}, {"pid", found.other->pid}, {"released", found.other->released}};
  }
  if (found.refusal_took) json["refused_after_seconds"] = as_seconds(*found.refusal_took);
  if (found.free_after) json["free_after_seconds"] = as_seconds(*found.free_after);
  json["longest_silence_seconds"] = as_seconds(found.longest_silence);
  return json;
}

}  // namespace

Outcome<int> run_lock(Invocation& in) {
  if (in.args.size() != 2 || in.args[0] != "check") return wrong_usage(in, "lock");
  // Never the cluster lock itself: a running cluster would lose it to this test.
  std::string lock = in.args[1];
  struct stat about {};
  const bool folder = ::stat(lock.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
  while (folder && lock.size() > 1 && lock.back() == '/') lock.pop_back();
  lock += folder ? "/lock.check" : ".check";
  const auto slash = lock.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : lock.substr(0, slash);
  char resolved[PATH_MAX];
  if (::realpath(parent.c_str(), resolved) == nullptr) {
    return fail(fmt::format("{}: {}; name the file that the cluster lock is to be, or its folder", parent,
                            std::strerror(errno)));
  }
  const auto mount = mount_of(content("/proc/self/mountinfo"), resolved);
  const std::string warning = mount ? mount_warning(*mount) : std::string();
  const auto say = [&](const std::string& line) {
    if (line.empty()) return;
    in.console.text(line + "\n");
    std::fflush(stdout);
  };
  const int limit = in.options.max_runtime;
  ::alarm(0);  // it ends by itself, and says how
  say(fmt::format("{} on {}{}; {}", lock, mount ? mount->type : std::string("an unknown file system"),
                  mount ? ", mounted at " + mount->point : std::string(),
                  limit > 0 ? fmt::format("for {} s at most (-T)", limit) : std::string("until Ctrl-C")));
  if (!warning.empty()) say("warning: " + warning);

  const LockSign self = own_sign();
  auto child = start_looker(lock, self);
  if (!child) return passed_on(child);
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  for (const int which : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(which, &action, nullptr);

  const Instant begin = boot_time_now();
  LockCheck check(self, begin);
  bool told_to_write = false;
  while (!check.finished()) {
    std::array<pollfd, 2> both{pollfd{child->from, POLLIN, 0}, pollfd{interrupt_pipe[0], POLLIN, 0}};
    ::poll(both.data(), both.size(), 500);
    const Instant now = boot_time_now();
    if (both[1].revents != 0 || (limit > 0 && now - begin >= seconds(limit))) {
      say(check.on_end(now));
      break;
    }
    if (both[0].revents == 0) {
      say(check.on_tick(now));
      continue;
    }
    Look look;
    if (::read(child->from, &look, sizeof look) != static_cast<ssize_t>(sizeof look)) {
      say(check.on_failed("the process that looks at the file system ended"));
      break;
    }
    if (look.kind == Look::Failed) {
      say(check.on_failed(fmt::format("{} of {}: {}", look.call.data(), lock,
                                      explain_lock_error(look.error, mount ? mount->type : std::string()))));
      break;
    }
    say(check.on_sign(decode_lock_sign({look.sign.data(), look.sign.size()}), now));
    if (look.kind == Look::Refused) say(check.on_refused(Duration(look.took_us), now));
    if (look.kind == Look::Granted) say(check.on_granted(now));
    if (check.holding() && !told_to_write) {
      told_to_write = ::write(child->to, "w", 1) == 1;
    }
  }
  stop_looker(*child);
  const LockFindings& found = check.findings();
  in.console.show("", as_json(found, lock, mount, warning));
  return is_good(found.verdict) ? 0 : 1;
}

}  // namespace tdbmesh::ctl
