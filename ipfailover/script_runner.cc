#include "ipfailover/script_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "ipfailover/process_tree.h"

namespace tdbmesh {
namespace {

// How long a debug script may look at what hangs before that is killed.
constexpr Duration kDebugLimit = seconds(5);

double wall_clock() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

std::int32_t result_of(int wait_status) {
  if (!WIFEXITED(wait_status)) return -EINTR;
  const int status = WEXITSTATUS(wait_status);
  if (status == 127) return -ENOENT;
  if (status == 126) return -EACCES;
  return status > 64 ? -(status - 64) : status;
}

}  // namespace

struct ScriptRunner::Child {
  pid_t pid = -1;
  int pidfd = -1;
  int output_fd = -1;
  std::string output;
  std::string log_prefix;
  std::size_t logged = 0;
  bool quiet = false;
  EventLoop::Timer limit;
  std::function<void(int, std::string)> ended;
};

struct ScriptRunner::Job {
  std::string component;
  std::string event;
  std::vector<std::string> arguments;
  Duration limit{};
  bool all = false;
  Done done;
  std::vector<EventScript> scripts;
  std::size_t at = 0;
  double began = 0;
  EventRecord record;
  EventLoop::Timer timer;
  std::unique_ptr<Child> child;
};

ScriptRunner::ScriptRunner(EventLoop& loop, Settings settings) : loop_(loop), settings_(std::move(settings)) {}

ScriptRunner::~ScriptRunner() {
  for (const auto& job : jobs_) {
    loop_.cancel(job->timer);
    abandon(job->child);
  }
  for (auto& extra : extras_) abandon(extra);
}

bool ScriptRunner::idle() const { return jobs_.empty(); }

const EventRecord* ScriptRunner::last(const std::string& component, const std::string& event) const {
  const auto at = records_.find({component, event});
  return at == records_.end() ? nullptr : &at->second;
}

void ScriptRunner::run(const std::string& component, const std::string& event, std::vector<std::string> arguments,
                       Duration limit, bool all, Done done) {
  auto job = std::make_unique<Job>();
  job->component = component;
  job->event = event;
  job->arguments = std::move(arguments);
  job->limit = limit;
  job->all = all;
  job->done = std::move(done);
  const bool refused = (event == "monitor" && !jobs_.empty()) || jobs_.size() >= kMostWaiting;
  if (refused) {
    loop_.post([done = std::move(job->done)] {
      done({EventResult::Outcome::Cancelled, -ECANCELED, {}, "other events are under way"}, -ECANCELED);
    });
    return;
  }
  if (!jobs_.empty() && jobs_.front()->event == "monitor") cancel_monitor();
  jobs_.push_back(std::move(job));
  if (!running_) {
    loop_.post([this, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired()) start_next();
    });
  }
}

void ScriptRunner::cancel_monitor() {
  const std::unique_ptr<Job> job = std::move(jobs_.front());
  jobs_.erase(jobs_.begin());
  loop_.cancel(job->timer);
  abandon(job->child);
  running_ = false;
  loop_.post([done = std::move(job->done)] {
    done({EventResult::Outcome::Cancelled, -ECANCELED, {}, "another event came first"}, -ECANCELED);
  });
}

void ScriptRunner::start_next() {
  if (running_ || jobs_.empty()) return;
  running_ = true;
  Job& job = *jobs_.front();
  auto scripts = list_scripts(settings_.folders, job.component);
  if (!scripts) return finish(EventResult::Outcome::Failed, -ENOENT);
  job.scripts = std::move(*scripts);
  job.timer = loop_.after(job.limit, [this] { time_is_up(); });
  next_script();
}

void ScriptRunner::next_script() {
  Job& job = *jobs_.front();
  while (job.at < job.scripts.size()) {
    const EventScript& script = job.scripts[job.at];
    // The daemon has done already what this one does for these three: a second hand on the interface would undo it.
    const bool done_already = script.name == "10.interface" && (job.event == "takeip" || job.event == "releaseip" ||
                                                                job.event == "updateip");
    if (!script.enabled || done_already) {
      ++job.at;
      const double now = wall_clock();
      job.record.scripts.push_back({script.name, now, now, script.enabled ? 0 : -ENOEXEC, {}});
      continue;
    }
    job.began = wall_clock();
    std::vector<std::string> arguments{job.event};
    arguments.insert(arguments.end(), job.arguments.begin(), job.arguments.end());
    auto child = spawn(script.path, arguments, [this](int status, std::string output) {
      script_ended(result_of(status), std::move(output));
    });
    if (child) {
      job.child = std::move(*child);
      job.child->log_prefix = script.name;
      return;
    }
    // The result of a program that cannot be started is the reason.
    const int reason = errno;
    ++job.at;
    job.record.scripts.push_back({script.name, job.began, wall_clock(), -reason, child.error().context});
    if (reason == ENOEXEC) continue;
    settings_.complain(fmt::format("event {}: {}", job.event, child.error().context));
    job.record.summary = -reason;
    if (!job.all) return finish(EventResult::Outcome::Failed, -reason);
  }
  const std::int32_t summary = job.record.summary;
  finish(summary == 0 ? EventResult::Outcome::Ok : EventResult::Outcome::Failed, summary);
}

void ScriptRunner::script_ended(std::int32_t result, std::string output) {
  Job& job = *jobs_.front();
  const std::string name = job.scripts[job.at++].name;
  job.record.scripts.push_back({name, job.began, wall_clock(), result, std::move(output)});
  if (result == 0 || result == -ENOEXEC) return next_script();
  job.record.summary = result;
  if (job.all) return next_script();
  finish(EventResult::Outcome::Failed, result);
}

void ScriptRunner::finish(EventResult::Outcome outcome, std::int32_t summary) {
  const std::unique_ptr<Job> job = std::move(jobs_.front());
  jobs_.erase(jobs_.begin());
  loop_.cancel(job->timer);
  running_ = false;
  EventResult result{outcome, summary, {}, {}};
  if (outcome != EventResult::Outcome::Ok && !job->record.scripts.empty()) {
    const auto bad = std::find_if(job->record.scripts.rbegin(), job->record.scripts.rend(),
                                  [](const ScriptResult& s) { return s.result != 0 && s.result != -ENOEXEC; });
    if (bad != job->record.scripts.rend()) {
      result.script = bad->name;
      result.output = bad->output;
      while (!result.output.empty() && result.output.back() == '\n') result.output.pop_back();
    }
  }
  job->record.summary = summary;
  // A component that is not there leaves no record, and neither do events that clients make up without end.
  const std::pair<std::string, std::string> key{job->component, job->event};
  if (summary != -ENOENT || !job->record.scripts.empty()) {
    if (records_.contains(key) || records_.size() < kMostEvents) records_[key] = std::move(job->record);
  }
  loop_.post([this, alive = std::weak_ptr<int>(alive_)] {
    if (!alive.expired()) start_next();
  });
  if (job->done) job->done(result, summary);
}

void ScriptRunner::time_is_up() {
  Job& job = *jobs_.front();
  if (!job.child) return finish(EventResult::Outcome::TimedOut, -ETIMEDOUT);
  const std::string name = job.scripts[job.at].name;
  settings_.complain(fmt::format("event {}: script {} did not end within {} s and is killed. It was doing:\n{}", job.event,
                                 name, std::chrono::duration_cast<std::chrono::seconds>(job.limit).count(),
                                 describe_tree(job.child->pid)));
  const auto give_up = [this, name](std::string output) {
    Job& hung = *jobs_.front();
    ++hung.at;
    hung.record.scripts.push_back({name, hung.began, wall_clock(), -ETIMEDOUT, std::move(output)});
    finish(EventResult::Outcome::TimedOut, -ETIMEDOUT);
  };
  const auto end_it = [this, give_up, wanted = job.child->pid] {
    if (jobs_.empty() || !jobs_.front()->child || jobs_.front()->child->pid != wanted) return;
    std::string output = std::move(jobs_.front()->child->output);
    abandon(jobs_.front()->child);
    give_up(std::move(output));
  };
  if (settings_.debug_script.empty() || ::access(settings_.debug_script.c_str(), X_OK) != 0) return end_it();
  // The script must still be there to be looked at; whatever becomes of it now, it was too late.
  job.child->ended = [give_up](int, std::string output) { give_up(std::move(output)); };
  job.timer = loop_.after(kDebugLimit, end_it);
  auto debug = spawn(settings_.debug_script, {std::to_string(job.child->pid), job.event},
                     [end_it](int, const std::string&) { end_it(); });
  if (!debug) return end_it();
  (*debug)->log_prefix = "debug script";
  Child* raw = debug->get();
  raw->limit = loop_.after(kDebugLimit * 2, [raw] { kill_tree(raw->pid); });
  extras_.push_back(std::move(*debug));
}

void ScriptRunner::program(const std::string& path, const std::vector<std::string>& arguments, Duration limit,
                           Output output, std::function<void(std::int32_t result, const std::string& output)> done) {
  const auto late = std::make_shared<bool>(false);
  auto child = spawn(path, arguments, [done, late](int status, const std::string& said) {
    done(*late ? -ETIMEDOUT : result_of(status), said);
  });
  if (!child) {
    loop_.post([done, reason = errno, text = child.error().context] { done(-reason, text); });
    return;
  }
  Child* raw = child->get();
  raw->log_prefix = path.substr(path.rfind('/') + 1);
  raw->quiet = output == Output::Quiet;
  raw->limit = loop_.after(limit, [this, raw, late, path] {
    *late = true;
    settings_.complain(fmt::format("{} did not end in time and is killed. It was doing:\n{}", path, describe_tree(raw->pid)));
    kill_tree(raw->pid);
  });
  extras_.push_back(std::move(*child));
}

// errno holds the reason of a failure.
Result<std::unique_ptr<ScriptRunner::Child>> ScriptRunner::spawn(
    const std::string& path, const std::vector<std::string>& arguments,
    std::function<void(int status, std::string output)> ended) {
  int out[2];
  if (::pipe2(out, O_CLOEXEC) != 0) return system_failure("cannot run " + path);
  std::vector<char*> argv{const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> env;
  for (const std::string& setting : settings_.environment) env.push_back(const_cast<char*>(setting.c_str()));
  env.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, out[1], 1);
  posix_spawn_file_actions_adddup2(&files, out[1], 2);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  auto child = std::make_unique<Child>();
  int error = ::posix_spawn(&child->pid, path.c_str(), &files, &attributes, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  ::close(out[1]);
  if (error == 0) {
    child->pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child->pid, 0));
    if (child->pidfd < 0) {
      error = errno;
      kill_tree(child->pid);
      (void)::waitpid(child->pid, nullptr, 0);
    }
  }
  if (error != 0) {
    ::close(out[0]);
    errno = error;
    auto failed = system_failure("cannot run " + path);
    errno = error;
    return failed;
  }
  ::fcntl(child->pidfd, F_SETFD, FD_CLOEXEC);
  ::fcntl(out[0], F_SETFL, O_NONBLOCK);
  child->output_fd = out[0];
  child->ended = std::move(ended);
  Child* raw = child.get();
  Result<> watched = loop_.add(raw->output_fd, EPOLLIN, [this, raw](std::uint32_t) { read_output(*raw); });
  if (watched) watched = loop_.add(raw->pidfd, EPOLLIN, [this, raw](std::uint32_t) { child_ended(*raw); });
  if (!watched) {
    abandon(child);
    errno = ENOMEM;
    return tl::unexpected<Error>(watched.error());
  }
  return child;
}

void ScriptRunner::read_output(Child& child) {
  char buffer[4096];
  while (child.output_fd >= 0) {
    const ssize_t got = ::read(child.output_fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return;  // nothing more for now
    if (got == 0) {
      loop_.remove(child.output_fd);
      ::close(child.output_fd);
      child.output_fd = -1;
      return;
    }
    const std::size_t room = kMostOutput - std::min(kMostOutput, child.output.size());
    child.output.append(buffer, std::min(room, static_cast<std::size_t>(got)));
    if (child.quiet) continue;
    for (auto end = child.output.find('\n', child.logged); end != std::string::npos;
         end = child.output.find('\n', child.logged)) {
      settings_.log(fmt::format("{}: {}", child.log_prefix, child.output.substr(child.logged, end - child.logged)));
      child.logged = end + 1;
    }
  }
}

// What the script left in the pipe is read; who else holds its other end, a service it started, is not waited for.
void ScriptRunner::child_ended(Child& child) {
  int status = 0;
  if (::waitpid(child.pid, &status, WNOHANG) == 0) return;
  read_output(child);
  if (child.logged < child.output.size() && !child.quiet) {
    settings_.log(fmt::format("{}: {}", child.log_prefix, child.output.substr(child.logged)));
  }
  loop_.remove(child.pidfd);
  ::close(child.pidfd);
  if (child.output_fd >= 0) {
    loop_.remove(child.output_fd);
    ::close(child.output_fd);
  }
  child.pidfd = child.output_fd = -1;
  child.pid = -1;
  loop_.cancel(child.limit);
  const auto ended = std::move(child.ended);
  std::string output = std::move(child.output);
  // The record of the process ends before anybody is told, who may start the next one in its place.
  if (!jobs_.empty() && jobs_.front()->child.get() == &child) {
    jobs_.front()->child.reset();
  } else {
    std::erase_if(extras_, [&](const auto& extra) { return extra.get() == &child; });
  }
  if (ended) ended(status, std::move(output));
}

// Killed, with all it started, and collected as soon as the kernel lets it go; nobody is told.
void ScriptRunner::abandon(std::unique_ptr<Child>& child) {
  if (!child || child->pid < 0) return child.reset();
  kill_tree(child->pid);
  loop_.cancel(child->limit);
  loop_.remove(child->pidfd);
  if (child->output_fd >= 0) {
    loop_.remove(child->output_fd);
    ::close(child->output_fd);
  }
  const int pidfd = child->pidfd;
  const pid_t pid = child->pid;
  child.reset();
  if (::waitpid(pid, nullptr, WNOHANG) != 0) {
    ::close(pidfd);
    return;
  }
  // One in an uninterruptible wait dies when that ends.
  (void)loop_.add(pidfd, EPOLLIN, [&loop = loop_, pidfd, pid](std::uint32_t) {
    (void)::waitpid(pid, nullptr, WNOHANG);
    loop.remove(pidfd);
    ::close(pidfd);
  });
}

}  // namespace tdbmesh
