// event, scriptstatus: the event daemon's socket, beside the daemon's own.

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "db/base/descriptor.h"
#include "ipfailover/eventd_messages.h"
#include "tools/client/text.h"
#include "tools/ctl/verbs_events.h"
#include "transport/unix_address.h"

namespace tdbmesh::ctl {
namespace {

constexpr std::size_t kMostReply = 64 * 1024 * 1024;

bool read_exactly(int fd, Bytes& into, std::size_t count) {
  const std::size_t before = into.size();
  into.resize(before + count);
  for (std::size_t at = before; at < into.size();) {
    const ssize_t got = ::read(fd, into.data() + at, into.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += static_cast<std::size_t>(got);
  }
  return true;
}

Outcome<eventd::Reply> ask_eventd(const Invocation& in, eventd::Request request) {
  const std::string socket = socket_path(in.options.socket);
  const std::string path = socket.substr(0, socket.rfind('/') + 1) + "eventd.socket";
  const auto address = unix_address(path);
  if (!address) return fail(address.error().context);
  const Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0 || ::connect(fd.get(), plain(*address), sizeof(*address)) != 0) {
    return fail(fmt::format("Failed to connect to event daemon ({}): is tdbmeshd running on this node?", path));
  }
  request.reqid = 1;
  const Bytes bytes = eventd::encode_request(request);
  Bytes answer;
  std::uint32_t length = 0;
  const bool sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  if (sent && read_exactly(fd.get(), answer, sizeof(length))) {
    std::memcpy(&length, answer.data(), sizeof(length));
    if (length > sizeof(length) && length <= kMostReply && read_exactly(fd.get(), answer, length - sizeof(length))) {
      auto reply = eventd::decode_reply(answer);
      if (reply) return std::move(*reply);
    }
  }
  return fail("the event daemon ended the connection: see the daemon's log for the reason");
}

std::string date(double time) {
  const auto seconds = static_cast<std::time_t>(time);
  char text[32];
  ::ctime_r(&seconds, text);
  return std::string(text, std::strcspn(text, "\n"));
}

std::string state_word(std::int32_t result) {
  if (result == 0) return "OK";
  if (result == -ETIMEDOUT) return "TIMEDOUT";
  if (result == -ENOEXEC) return "DISABLED";
  return result > 0 ? "ERROR" : "CANNOT RUN";
}

std::string format_script(const ScriptResult& script) {
  const std::string word = state_word(script.result);
  std::string line = fmt::format("{:<20} ", script.name);
  if (script.result == -ENOEXEC) return line + fmt::format("{:<10}\n", word);
  if (script.result >= 0) {
    line += fmt::format("{:<10} {:.3f} {}\n", word, script.ended - script.began, date(script.began));
  } else if (script.result == -ETIMEDOUT) {
    line += fmt::format("{:<10} {}\n", word, date(script.began));
  } else {
    line += fmt::format("{} ({})\n", word, std::strerror(-script.result));
  }
  if (script.result != 0) line += fmt::format("  OUTPUT: {}\n", script.output);
  return line;
}

Outcome<int> show_status(Invocation& in, const std::string& component, const std::string& event) {
  eventd::Request request;
  request.command = eventd::Command::Status;
  request.component = component;
  request.name = event;
  auto reply = ask_eventd(in, std::move(request));
  if (!reply) return passed_on(reply);
  if (reply->result == ENOENT) {
    in.console.text(fmt::format("Event dir for {} does not exist\n", component));
  } else if (reply->result == EINVAL) {
    in.console.text(fmt::format("Event {} has never run in {}\n", event, component));
  } else if (reply->result != 0) {
    in.console.text(fmt::format("Unknown error ({}) for event {} in {}\n", reply->result, event, component));
  }
  std::string text;
  Json scripts = Json::array();
  for (const ScriptResult& script : reply->record.scripts) {
    text += format_script(script);
    scripts.push_back({{"name", script.name},
                       {"state", state_word(script.result)},
                       {"result", script.result},
                       {"began", script.began},
                       {"seconds", script.ended - script.began},
                       {"output", script.output}});
  }
  in.console.show(text, Json{{"component", component},
                             {"event", event},
                             {"ran", reply->result == 0},
                             {"summary", reply->record.summary},
                             {"scripts", scripts}});
  const std::int32_t status = reply->result != 0 ? reply->result : std::abs(reply->record.summary);
  return status > 64 ? status - 64 : status;
}

Outcome<int> run_one(Invocation& in) {
  // run TIMEOUT COMPONENT EVENT [ARGUMENT...]
  const auto timeout = parse_u32(in.args[1]);
  if (!timeout) return fail(fmt::format("{} is no number of seconds", in.args[1]));
  eventd::Request request;
  request.command = eventd::Command::Run;
  request.timeout = *timeout;
  request.component = in.args[2];
  request.name = in.args[3];
  for (std::size_t i = 4; i < in.args.size(); ++i) request.arguments += (i > 4 ? " " : "") + in.args[i];
  const std::string event = request.name;
  const std::string component = request.component;
  auto reply = ask_eventd(in, std::move(request));
  if (!reply) return passed_on(reply);
  const std::int32_t result = reply->result;
  if (result == ENOENT) {
    in.console.text(fmt::format("Event dir for {} does not exist\n", component));
  } else if (result == ETIMEDOUT) {
    in.console.text(fmt::format("Event {} in {} timed out\n", event, component));
  } else if (result == ECANCELED) {
    in.console.text(fmt::format("Event {} in {} got cancelled\n", event, component));
  } else if (result == ENOEXEC) {
    in.console.text(fmt::format("Event {} in {} failed\n", event, component));
  } else if (result != 0) {
    in.console.text(fmt::format("Failed to run event {} in {}, result={}\n", event, component, result));
  }
  in.console.show("", Json{{"component", component}, {"event", event}, {"result", result}});
  // Above 64 CTDB's tool leaves out 64.
  return result > 64 ? result - 64 : result & 0xFF;
}

Outcome<int> list_or_switch(Invocation& in) {
  const std::string& action = in.args[1];
  const std::string& component = in.args[2];
  const EventFolders folders = event_folders(config_dir(in.options.config_dir, in.options.as_ctdb()));
  if (action != "list") {
    const auto done = set_script_enabled(folders, component, in.args[3], action == "enable");
    if (done) return 0;
    return fail(done.error().context, done.error().fault == Fault::NotFound ? ENOENT : EINVAL);
  }
  const auto listing = list_for_operator(folders, component);
  if (!listing) return fail(fmt::format("Event dir for {} does not exist", component), ENOENT);
  std::string text;
  Json json = Json::array();
  const auto add = [&](const EventScript& script, bool shipped) {
    text += fmt::format("{} {}\n", script.enabled ? '*' : ' ', script.name);
    json.push_back({{"name", script.name}, {"enabled", script.enabled}, {"shipped", shipped}, {"path", script.path}});
  };
  for (const EventScript& script : listing->shipped) add(script, true);
  if (!listing->own.empty() && !listing->shipped.empty()) text += "\n";
  for (const EventScript& script : listing->own) add(script, false);
  in.console.show(text, std::move(json));
  return 0;
}

}  // namespace

Outcome<int> run_event(Invocation& in) {
  const auto& args = in.args;
  if (args.size() == 3 && args[0] == "status") return show_status(in, args[1], args[2]);
  if (args.size() >= 4 && args[0] == "run") return run_one(in);
  if (args.size() == 3 && args[0] == "script" && args[1] == "list") return list_or_switch(in);
  if (args.size() == 4 && args[0] == "script" && (args[1] == "enable" || args[1] == "disable")) return list_or_switch(in);
  return wrong_usage(in, "event");
}

Outcome<int> run_scriptstatus(Invocation& in) {
  if (in.args.size() > 1) return wrong_usage(in, "scriptstatus");
  auto shown = show_status(in, "legacy", in.args.empty() ? "monitor" : in.args[0]);
  if (!shown) return shown;
  return 0;  // whatever the scripts said: it was asked for and shown
}

// Can this port be bound? Scripts ask so whether somebody listens: 98 (EADDRINUSE) means yes.
Outcome<int> run_checktcpport(Invocation& in) {
  if (in.args.size() != 1) return wrong_usage(in, "checktcpport");
  const auto port = parse_u32(in.args[0]);
  if (!port || *port == 0 || *port > 65535) return fail(fmt::format("{} is no port", in.args[0]), EINVAL);
  const Descriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(*port));
  const bool bound = fd.get() >= 0 && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = bound ? 0 : errno;
  in.console.show("", Json{{"port", *port}, {"error", error}, {"in_use", error == EADDRINUSE}});
  return error;
}

}  // namespace tdbmesh::ctl
