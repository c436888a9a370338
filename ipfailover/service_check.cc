#include "ipfailover/service_check.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <sstream>

#include "db/base/bytes.h"

namespace tdbmesh {
namespace {

constexpr double kShortest = 0.05;
constexpr double kLongest = 3600;
constexpr std::size_t kSmbHeader = 64;
constexpr std::size_t kSessionHeader = 4;  // length of what follows

std::optional<Duration> parse_seconds(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= kShortest) || value > kLongest) {
    return std::nullopt;
  }
  return Duration(static_cast<std::int64_t>(value * 1e6));
}

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value > 0;
}

// ADDRESS:PORT, [ADDRESS]:PORT; what follows a '/' is left in `rest` with it.
bool parse_target(std::string_view text, ServiceCheck& check, std::string& rest) {
  const auto slash = text.find('/');
  if (slash != std::string_view::npos) {
    rest = text.substr(slash);
    text = text.substr(0, slash);
  }
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || !parse_whole(text.substr(colon + 1), check.port)) return false;
  std::string_view host = text.substr(0, colon);
  unsigned char raw[16];
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    check.address = host.substr(1, host.size() - 2);
    return ::inet_pton(AF_INET6, check.address.c_str(), raw) == 1;
  }
  check.address = host;
  return ::inet_pton(AF_INET, check.address.c_str(), raw) == 1;
}

}  // namespace

Result<ServiceCheck> parse_check(const std::string& name, std::string_view text) {
  const auto wrong = [&](const std::string& what) {
    return failure(Fault::Malformed, fmt::format("check {}: {}", name, what));
  };
  ServiceCheck check;
  check.name = name;
  std::istringstream in{std::string(text)};
  std::string kind;
  in >> kind;
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  // Options stand at the end, so that a program may have arguments that look like them.
  while (!words.empty()) {
    const std::string& word = words.back();
    const auto equals = word.find('=');
    const std::string option = word.substr(0, equals);
    if (equals == std::string::npos || (option != "every" && option != "limit" && option != "fails")) break;
    const std::string value = word.substr(equals + 1);
    if (option == "fails") {
      if (!parse_whole(value, check.fails)) return wrong(fmt::format("{}: expected a number of times", word));
    } else {
      const auto time = parse_seconds(value);
      if (!time) return wrong(fmt::format("{}: expected seconds, {} to {}", word, kShortest, kLongest));
      (option == "every" ? check.every : check.limit) = *time;
    }
    words.pop_back();
  }
  if (words.empty()) return wrong("expected tcp, unix, http, smb or exec, and what to check");
  std::string rest;
  if (kind == "exec") {
    check.kind = ServiceCheck::Kind::Exec;
    check.path = words.front();
    check.arguments.assign(words.begin() + 1, words.end());
    if (check.path.front() != '/') return wrong(fmt::format("{}: expected the absolute path of a program", check.path));
    return check;
  }
  if (words.size() != 1) return wrong(fmt::format("{} is not understood", words[1]));
  if (kind == "unix") {
    check.kind = ServiceCheck::Kind::Unix;
    check.path = words.front();
    if (check.path.front() != '/' || check.path.size() > 107) return wrong("expected the absolute path of a socket");
    return check;
  }
  if (kind != "tcp" && kind != "http" && kind != "smb") return wrong(fmt::format("{} is none of tcp, unix, http, smb, exec", kind));
  if (!parse_target(words.front(), check, rest) || (kind != "http" && !rest.empty())) {
    return wrong(fmt::format("{}: expected ADDRESS:PORT, the address numeric", words.front()));
  }
  check.kind = kind == "tcp" ? ServiceCheck::Kind::Tcp : kind == "http" ? ServiceCheck::Kind::Http : ServiceCheck::Kind::Smb;
  if (kind == "http") check.path = rest.empty() ? "/" : rest;
  return check;
}

std::string smb_negotiate_request() {
  ByteWriter smb;
  smb.put_bytes("\xFESMB").put(std::uint16_t{64}).put(std::uint16_t{0}).put(std::uint32_t{0});
  smb.put(std::uint16_t{0}).put(std::uint16_t{1});  // NEGOTIATE, one credit
  smb.put_zeros(kSmbHeader - smb.size());
  smb.put(std::uint16_t{36}).put(std::uint16_t{2}).put(std::uint16_t{1}).put_zeros(2 + 4 + 16 + 8);
  smb.put(std::uint16_t{0x0202}).put(std::uint16_t{0x0210});  // SMB 2.0.2 and 2.1: everybody speaks one of them
  ByteWriter out;
  out.put_zeros(3).put(static_cast<std::uint8_t>(smb.size())).put_bytes(smb.bytes());
  return std::move(out).take();
}

std::optional<bool> smb_negotiate_succeeded(std::string_view answer) {
  if (answer.size() < kSessionHeader + 16) return std::nullopt;
  ByteReader in(answer.substr(kSessionHeader));
  const bool smb2 = in.get_bytes(4) == "\xFESMB";
  in.skip(4);
  const auto status = in.get<std::uint32_t>();
  const auto command = in.get<std::uint16_t>();
  return smb2 && status == 0 && command == 0;
}

std::string http_request(const ServiceCheck& check) {
  const bool v6 = check.address.find(':') != std::string::npos;
  return fmt::format("GET {} HTTP/1.0\r\nHost: {}{}{}:{}\r\nUser-Agent: tdbmesh\r\nConnection: close\r\n\r\n", check.path,
                     v6 ? "[" : "", check.address, v6 ? "]" : "", check.port);
}

std::optional<int> http_status(std::string_view answer) {
  constexpr std::string_view kStart = "HTTP/1.";
  if (answer.substr(0, kStart.size()) != kStart.substr(0, answer.size())) return 0;
  if (answer.size() < kStart.size() + 5) return std::nullopt;
  int status = 0;
  const char* at = answer.data() + kStart.size() + 2;
  const auto [end, error] = std::from_chars(at, at + 3, status);
  return error == std::errc() && end == at + 3 ? status : 0;
}

}  // namespace tdbmesh
