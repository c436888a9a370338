#pragma once
// Runs event scripts as children of the daemon, one after the other, and remembers how the last run of each
// event went. Everything happens in the event loop's thread; nothing blocks.
//
// A script gets the event and its arguments as arguments, an environment made for it (Settings::environment
// and nothing else), /dev/null as input, a process group of its own. Its output, stdout and stderr together, is
// kept up to kMostOutput bytes and goes to the log line by line.
//
// How a script ends                          its result
//   exit status 0                            0; the next one runs
//   exit status 1..64                        that number; the run ends here, as failed
//   exit status 127, 126                     -ENOENT, -EACCES: a shell found no command, or may not run it
//   exit status N above 64                   -(N - 64), as CTDB's own runner has it
//   killed by a signal                       -EINTR
//   not executable, or no "#!" line          -ENOEXEC: counts as disabled; the next one runs
//   over the time limit                      -ETIMEDOUT; it is killed with everything it started, after the log
//                                            says what hangs; the run ends here
// The limit is for the whole run, as in CTDB.
//
// Order: runs happen as they were asked for. `monitor` gives way: under way, it is killed when another event is
// asked for; asked for while others wait or run, it is refused. Both end as Cancelled.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ipfailover/event_requests.h"
#include "ipfailover/event_scripts.h"
#include "transport/event_loop.h"

namespace tdbmesh {

struct ScriptResult {
  std::string name;
  double began = 0;  // seconds since 1970
  double ended = 0;
  std::int32_t result = 0;
  std::string output;
};

struct EventRecord {
  std::int32_t summary = 0;  // 0, or the result of the script that ended the run
  std::vector<ScriptResult> scripts;
};

class ScriptRunner {
 public:
  static constexpr std::size_t kMostOutput = 16 * 1024;
  static constexpr std::size_t kMostEvents = 256;  // whose last run is remembered
  static constexpr std::size_t kMostWaiting = 4096;

  struct Settings {
    EventFolders folders;
    std::vector<std::string> environment;  // NAME=VALUE
    std::string debug_script;              // called with PID and EVENT when a script hangs; empty: none
    std::function<void(const std::string& line)> log;        // output of scripts
    std::function<void(const std::string& text)> complain;   // what hangs, what cannot be run
  };
  using Done = std::function<void(const EventResult& result, std::int32_t summary)>;

  ScriptRunner(EventLoop& loop, Settings settings);
  ~ScriptRunner();  // kills what runs; no Done is called
  ScriptRunner(const ScriptRunner&) = delete;
  ScriptRunner& operator=(const ScriptRunner&) = delete;

  // `done` is called once, never from inside run(). `all`: go on after a failure.
  void run(const std::string& component, const std::string& event, std::vector<std::string> arguments, Duration limit,
           bool all, Done done);
  // Runs one program beside the events, in the same environment. `done` gets its result as above, once. Quiet: what it
  // prints is for `done` alone and not for the log.
  enum class Output { Logged, Quiet };
  void program(const std::string& path, const std::vector<std::string>& arguments, Duration limit, Output output,
               std::function<void(std::int32_t result, const std::string& output)> done);

  // How the last run went; null if there was none.
  [[nodiscard]] const EventRecord* last(const std::string& component, const std::string& event) const;
  [[nodiscard]] const EventFolders& folders() const { return settings_.folders; }
  [[nodiscard]] bool idle() const;

 private:
  struct Child;
  struct Job;
  void start_next();
  void next_script();
  void script_ended(std::int32_t result, std::string output);
  void finish(EventResult::Outcome outcome, std::int32_t summary);
  void cancel_monitor();
  void time_is_up();
  Result<std::unique_ptr<Child>> spawn(const std::string& path, const std::vector<std::string>& arguments,
                                       std::function<void(int status, std::string output)> ended);
  void read_output(Child& child);
  void child_ended(Child& child);
  void abandon(std::unique_ptr<Child>& child);

  EventLoop& loop_;
  Settings settings_;
  std::vector<std::unique_ptr<Job>> jobs_;  // the first one runs
  std::map<std::pair<std::string, std::string>, EventRecord> records_;
  std::vector<std::unique_ptr<Child>> extras_;  // debug scripts, notifications
  bool running_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace tdbmesh
