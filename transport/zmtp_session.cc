#include "transport/zmtp_session.h"

#include "db/base/check.h"

namespace tdbmesh::zmtp {
namespace {

constexpr const char* kNotOurs = "does not speak our protocol";
constexpr const char* kNoKey = "does not hold our cluster key";
constexpr const char* kOtherSecurity = "its [transport] security setting differs from ours";
constexpr const char* kUnknownAddress = "no node has this address";
constexpr const char* kTurnedAway = "the node there does not let us in";

constexpr BytesView kErrorStart("\x05" "ERROR", 6);
constexpr BytesView kRefusal("\x03" "400", 4);  // the reason, with its length: as ZeroMQ's authentication has it
constexpr std::size_t kPingHead = 2;            // time to live
constexpr std::size_t kMostPingContext = 16;

}  // namespace

Session::Session(Role role, const std::optional<CurvePair>& cluster, bool admitted, std::size_t most_bytes)
    : role_(role), admitted_(admitted), most_bytes_(most_bytes) {
  if (!cluster) return;
  if (role == Role::Sender) {
    curve_ = std::make_unique<CurveClient>(*cluster);
  } else {
    curve_ = std::make_unique<CurveServer>(*cluster);
  }
}

Bytes Session::opening() const { return greeting(encrypted() ? Mechanism::Curve : Mechanism::Null); }

Session::Step Session::fail(const char* why) {
  state_ = State::Failed;
  failure_ = why;
  curve_ = std::monostate{};
  return {Step::What::Failed};
}

Session::Step Session::next(char* data, std::size_t size, Bytes& out) {
  if (state_ == State::Failed) return {Step::What::Failed};
  if (phase_ == Phase::Greeting) return on_greeting({data, size}, out);
  FrameHeader header;
  switch (read_frame_header({data, size}, header)) {
    case HeaderCheck::Malformed: return fail(kNotOurs);
    case HeaderCheck::NeedMore: return {Step::What::NeedMore, 0, size < 2 ? 2 : kMostHeaderBytes};
    case HeaderCheck::Good: break;
  }
  if (header.size > (state_ == State::Ready ? most_bytes_ + CurveBox::kOverhead : kMostHandshakeFrame)) return fail(kNotOurs);
  const std::size_t whole = header.header_bytes + static_cast<std::size_t>(header.size);
  if (size < whole) return {Step::What::NeedMore, 0, whole};
  char* body = data + header.header_bytes;
  if (state_ == State::Ready) return on_traffic_frame(header, body, whole, out);
  if (!header.command) return fail(kNotOurs);
  return on_handshake_frame(body, static_cast<std::size_t>(header.size), whole, out);
}

Session::Step Session::on_greeting(BytesView data, Bytes& out) {
  switch (check_greeting(data, encrypted() ? Mechanism::Curve : Mechanism::Null)) {
    case GreetingCheck::NotOurProtocol: return fail(kNotOurs);
    case GreetingCheck::OtherMechanism: return fail(kOtherSecurity);
    case GreetingCheck::NeedMore: return {Step::What::NeedMore, 0, kGreetingBytes};
    case GreetingCheck::Good: break;
  }
  if (auto* client = std::get_if<std::unique_ptr<CurveClient>>(&curve_)) {
    const Bytes hello = (*client)->hello();
    append_frame_header(out, kCommand, hello.size());
    out += hello;
    phase_ = Phase::Welcome;
  } else if (encrypted()) {
    phase_ = Phase::Hello;
  } else {
    if (role_ == Role::Sender) append_command(out, "READY", socket_type_property("PUSH"));
    phase_ = Phase::NullReady;
  }
  return {Step::What::Progress, kGreetingBytes};
}

bool Session::right_socket(const std::optional<BytesView>& type) const {
  return type && *type == (role_ == Role::Sender ? "PULL" : "PUSH");
}

Session::Step Session::on_handshake_frame(char* body, std::size_t size, std::size_t used, Bytes& out) {
  const BytesView bytes(body, size);
  const auto send = [&](const Bytes& command) {
    append_frame_header(out, kCommand, command.size());
    out += command;
  };
  const Step progress{Step::What::Progress, used};
  if (role_ == Role::Sender && bytes.starts_with(kErrorStart)) return fail(kTurnedAway);
  switch (phase_) {
    case Phase::Hello: {
      const auto welcome = std::get<std::unique_ptr<CurveServer>>(curve_)->on_hello(bytes);
      if (!welcome) return fail(kNoKey);
      send(*welcome);
      phase_ = Phase::Initiate;
      return progress;
    }
    case Phase::Welcome: {
      const auto initiate = std::get<std::unique_ptr<CurveClient>>(curve_)->on_welcome(bytes, socket_type_property("PUSH"));
      if (!initiate) return fail(kNoKey);
      send(*initiate);
      phase_ = Phase::CurveReady;
      return progress;
    }
    case Phase::Initiate: {
      CurveServer& server = *std::get<std::unique_ptr<CurveServer>>(curve_);
      const auto properties = server.on_initiate(body, size);
      if (!properties) return fail(kNoKey);
      return on_properties(properties, used, out);
    }
    case Phase::CurveReady: {
      const auto properties = std::get<std::unique_ptr<CurveClient>>(curve_)->on_ready(body, size);
      if (!properties) return fail(kNoKey);
      return on_properties(properties, used, out);
    }
    case Phase::NullReady: {
      const auto command = read_command(bytes);
      if (!command || command->name != "READY") return fail(kNotOurs);
      return on_properties(command->data, used, out);
    }
    case Phase::Greeting:
    case Phase::Traffic: break;
  }
  return fail(kNotOurs);
}

// The last of the other side's handshake: who it is has been proved as far as the mechanism does.
Session::Step Session::on_properties(std::optional<BytesView> properties, std::size_t used, Bytes& out) {
  if (!right_socket(find_socket_type(*properties))) return fail(kNotOurs);
  if (role_ == Role::Receiver && !admitted_) {
    append_command(out, "ERROR", kRefusal);
    return fail(kUnknownAddress);
  }
  if (auto* server = std::get_if<std::unique_ptr<CurveServer>>(&curve_)) {
    const Bytes ready = (*server)->ready(socket_type_property("PULL"));
    append_frame_header(out, kCommand, ready.size());
    out += ready;
    CurveBox box = (*server)->box();
    curve_ = std::move(box);
  } else if (auto* client = std::get_if<std::unique_ptr<CurveClient>>(&curve_)) {
    CurveBox box = (*client)->box();
    curve_ = std::move(box);
  } else if (role_ == Role::Receiver) {
    append_command(out, "READY", socket_type_property("PULL"));
  }
  phase_ = Phase::Traffic;
  state_ = State::Ready;
  return {Step::What::Progress, used};
}

Session::Step Session::on_traffic_frame(const FrameHeader& header, char* body, std::size_t used, Bytes& out) {
  BytesView payload(body, static_cast<std::size_t>(header.size));
  bool more = header.more;
  bool command = header.command;
  if (auto* box = std::get_if<CurveBox>(&curve_)) {
    // What kind of frame it is stands inside the box; outside there is nothing to say.
    const auto opened = more ? std::nullopt : box->open(body, payload.size());
    if (!opened) return fail(kNoKey);
    payload = opened->payload;
    more = (opened->flags & CurveBox::kMore) != 0;
    command = (opened->flags & CurveBox::kCommand) != 0;
  }
  if (payload.size() > most_bytes_) return fail(kNotOurs);
  if (command) {
    if (more || !on_command(payload, out)) return fail(kNotOurs);
    return {Step::What::Progress, used};
  }
  if (role_ == Role::Sender) return fail(kNotOurs);  // nothing but commands comes back to a PUSH
  return {Step::What::Frame, used, 0, payload, more};
}

bool Session::on_command(BytesView body, Bytes& out) {
  const auto command = read_command(body);
  if (!command) return false;
  if (command->name != "PING") return true;  // PONG, and what a later version may say
  if (command->data.size() < kPingHead) return false;
  const BytesView context = command->data.substr(kPingHead, kMostPingContext);
  if (!encrypted()) {
    append_command(out, "PONG", context);
    return true;
  }
  Bytes pong("\x04PONG");
  pong.append(context);
  append_frame_header(out, 0, pong.size() + CurveBox::kOverhead);
  std::get<CurveBox>(curve_).seal(CurveBox::kCommand, {}, pong, out);
  return true;
}

void Session::put_message(BytesView front, BytesView rest, Bytes& out) {
  TDBMESH_CHECK(state_ == State::Ready);
  if (auto* box = std::get_if<CurveBox>(&curve_)) {
    append_frame_header(out, 0, front.size() + rest.size() + CurveBox::kOverhead);
    box->seal(0, front, rest, out);
    return;
  }
  append_frame_header(out, 0, front.size() + rest.size());
  out.append(front).append(rest);
}

}  // namespace tdbmesh::zmtp
