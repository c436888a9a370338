// tdbmesh, the operator's tool. Under the name `ctdb` it behaves as CTDB's.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tools/ctl/verbs.h"

namespace {

using namespace tdbmesh::ctl;

Console::Sink writer(std::FILE* file) {
  return [file](std::string_view text) { std::fwrite(text.data(), 1, text.size(), file); };
}

// Whatever the command waits for, it ends: scripts and units rely on it.
extern "C" void time_is_up(int) {
  static constexpr char kText[] = "Maximum runtime exceeded - exiting; raise it with -T\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const char* environment_timeout = std::getenv("CTDB_TIMEOUT");
  auto parsed = parse_options(argc > 0 ? argv[0] : "tdbmesh", {argv + (argc > 0 ? 1 : 0), argv + argc},
                              environment_timeout != nullptr ? environment_timeout : "");
  if (const auto* stop = std::get_if<StopHere>(&parsed)) {
    writer(stop->status == 0 ? stdout : stderr)(stop->text.ends_with('\n') ? stop->text : stop->text + "\n");
    return stop->status;
  }
  const Options& options = std::get<Options>(parsed);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGALRM, time_is_up);
  if (options.max_runtime > 0) alarm(static_cast<unsigned>(options.max_runtime));

  Console console(options.json, writer(stdout), writer(stderr));
  const int status = run_command(options, console, writer(stdout));
  if (std::fflush(stdout) != 0) {
    std::perror("cannot write the output");
    return 1;
  }
  return status;
}
