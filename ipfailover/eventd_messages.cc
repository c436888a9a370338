#include "ipfailover/eventd_messages.h"

#include <cmath>

namespace tdbmesh::eventd {
namespace {

constexpr std::size_t kSmallestScript = 4 + 16 + 16 + 4 + 4;

void put_text(ByteWriter& out, const std::string& text) {
  out.put(static_cast<std::uint32_t>(text.size() + 1)).put_bytes(text).put_zeros(1);
}

std::string get_text(ByteReader& in) {
  const auto length = in.get<std::uint32_t>();
  if (length == 0) return {};
  const BytesView bytes = in.get_bytes(length);
  if (bytes.empty() || bytes.back() != '\0') {
    in.fail();
    return {};
  }
  return std::string(bytes.substr(0, bytes.find('\0')));
}

void put_time(ByteWriter& out, double time) {
  const double whole = std::floor(time);
  out.put(static_cast<std::int64_t>(whole)).put(static_cast<std::int64_t>((time - whole) * 1e6));
}

double get_time(ByteReader& in) {
  const auto whole = in.get<std::int64_t>();
  return static_cast<double>(whole) + static_cast<double>(in.get<std::int64_t>()) / 1e6;
}

Bytes packet(std::uint32_t reqid, const ByteWriter& body) {
  ByteWriter out;
  out.put(static_cast<std::uint32_t>(kHeaderBytes + body.size())).put(kVersion).put(reqid).put_bytes(body.bytes());
  return std::move(out).take();
}

}  // namespace

Result<Request> decode_request(BytesView bytes) {
  ByteReader in(bytes);
  const auto length = in.get<std::uint32_t>();
  const auto version = in.get<std::uint32_t>();
  Request request;
  request.reqid = in.get<std::uint32_t>();
  const auto command = in.get<std::uint32_t>();
  if (!in.ok() || length != bytes.size() || version != kVersion) {
    return failure(Fault::Malformed, "event request: wrong length or version");
  }
  if (command < 1 || command > 3) return failure(Fault::Malformed, "event request: unknown command");
  request.command = static_cast<Command>(command);
  request.component = get_text(in);
  request.name = get_text(in);
  if (request.command == Command::Run) {
    request.arguments = get_text(in);
    request.timeout = in.get<std::uint32_t>();
  }
  if (request.command != Command::Status) request.flags = in.get<std::uint32_t>();
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "event request: cut short, or too long");
  return request;
}

Bytes encode_request(const Request& request) {
  ByteWriter body;
  body.put(static_cast<std::uint32_t>(request.command));
  put_text(body, request.component);
  put_text(body, request.name);
  if (request.command == Command::Run) {
    if (request.arguments.empty()) {
      body.put(std::uint32_t{0});
    } else {
      put_text(body, request.arguments);
    }
    body.put(request.timeout);
  }
  if (request.command != Command::Status) body.put(request.flags);
  return packet(request.reqid, body);
}

Bytes encode_reply(std::uint32_t reqid, Command command, std::int32_t result, const EventRecord* record) {
  ByteWriter body;
  body.put(static_cast<std::uint32_t>(command)).put(result);
  if (command == Command::Status && result == 0 && record != nullptr) {
    body.put(record->summary).put(static_cast<std::int32_t>(record->scripts.size()));
    for (const ScriptResult& script : record->scripts) {
      put_text(body, script.name);
      put_time(body, script.began);
      put_time(body, script.ended);
      body.put(script.result);
      put_text(body, script.output);
    }
  }
  return packet(reqid, body);
}

Result<Reply> decode_reply(BytesView bytes) {
  ByteReader in(bytes);
  const auto length = in.get<std::uint32_t>();
  const auto version = in.get<std::uint32_t>();
  Reply reply;
  reply.reqid = in.get<std::uint32_t>();
  reply.command = static_cast<Command>(in.get<std::uint32_t>());
  reply.result = in.get<std::int32_t>();
  if (!in.ok() || length != bytes.size() || version != kVersion) {
    return failure(Fault::Malformed, "event reply: wrong length or version");
  }
  if (reply.command == Command::Status && reply.result == 0) {
    reply.record.summary = in.get<std::int32_t>();
    const auto count = in.get<std::int32_t>();
    if (count < 0 || static_cast<std::size_t>(count) > in.remaining() / kSmallestScript) {
      return failure(Fault::Malformed, "event reply: more scripts than there is room for");
    }
    for (std::int32_t i = 0; i < count; ++i) {
      ScriptResult script;
      script.name = get_text(in);
      script.began = get_time(in);
      script.ended = get_time(in);
      script.result = in.get<std::int32_t>();
      script.output = get_text(in);
      reply.record.scripts.push_back(std::move(script));
    }
  }
  if (!in.ok() || in.remaining() != 0) return failure(Fault::Malformed, "event reply: cut short, or too long");
  return reply;
}

}  // namespace tdbmesh::eventd
