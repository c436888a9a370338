// dbtool: looks into databases, on a live node or in the files of a dead one.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "tools/dbtool/commands.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::dbtool;

ctl::Console::Sink writer(std::FILE* file) {
  return [file](std::string_view text) { std::fwrite(text.data(), 1, text.size(), file); };
}

// The live node, or its files if it is dead or they were asked for.
ctl::Outcome<std::unique_ptr<Source>> open_source(const Arguments& arguments, ctl::Console& console) {
  if (!arguments.files.empty()) return files_source(arguments.files);
  const std::string socket = ctl::socket_path(arguments.socket);
  auto session = ctl::Session::open(socket, seconds(arguments.timelimit));
  if (session) return live_source(std::move(*session));
  if (!arguments.socket.empty()) return ctl::passed_on(session);
  console.complain(fmt::format("no daemon answers on {}: reading the files", socket));
  return files_source({"/var/lib/tdbmesh", "/run/tdbmesh", "/var/lib/ctdb", "/run/ctdb"});
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = parse_arguments({argv + (argc > 0 ? 1 : 0), argv + argc});
  if (const auto* stop = std::get_if<ctl::StopHere>(&parsed)) {
    writer(stop->status == 0 ? stdout : stderr)(stop->text.ends_with('\n') ? stop->text : stop->text + "\n");
    return stop->status;
  }
  Arguments& arguments = std::get<Arguments>(parsed);
  if (!arguments.decode) arguments.decode = isatty(STDOUT_FILENO) == 1;
  signal(SIGPIPE, SIG_IGN);
  if (arguments.verb == "watch") std::setvbuf(stdout, nullptr, _IOLBF, 0);  // an event is worth reading at once

  ctl::Console console(arguments.json, writer(stdout), writer(stderr));
  auto source = open_source(arguments, console);
  if (!source) {
    console.complain(source.error().text);
    return source.error().status;
  }
  Command command{arguments, **source, console};
  auto status = run(command);
  if (!status) {
    if (!status.error().text.empty()) console.complain(status.error().text);
    return status.error().status == 0 ? 1 : status.error().status;
  }
  if (arguments.json && arguments.verb != "watch") writer(stdout)(ctl::json_text(console.take_json(), 2));
  if (std::fflush(stdout) != 0) {
    std::perror("dbtool: cannot write the output");
    return 1;
  }
  return *status;
}
