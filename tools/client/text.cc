#include "tools/client/text.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <limits>

namespace tdbmesh {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool is_plain(char c) { return c >= 0x20 && c < 0x7F; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string escape_hex(BytesView bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    if (is_plain(c) && c != '"' && c != '\\') {
      out.push_back(c);
    } else {
      fmt::format_to(std::back_inserter(out), "\\{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string escape_c(BytesView bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    switch (c) {
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      case '\0': out += "\\0"; break;
      case '\\': out += "\\\\"; break;
      case '"': out += "\\\""; break;
      default:
        if (is_plain(c)) {
          out.push_back(c);
        } else {
          fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
        }
    }
  }
  return out;
}

Result<Bytes> unescape_c(std::string_view text) {
  Bytes out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    if (++i == text.size()) return failure(Fault::Malformed, "a backslash at the end escapes nothing");
    switch (text[i]) {
      case 'n': out.push_back('\n'); break;
      case 't': out.push_back('\t'); break;
      case 'r': out.push_back('\r'); break;
      case '0': out.push_back('\0'); break;
      case '\\': out.push_back('\\'); break;
      case '"': out.push_back('"'); break;
      case 'x': {
        const int high = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
        const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0) return failure(Fault::Malformed, "\\x needs two hex digits");
        out.push_back(static_cast<char>(high * 16 + low));
        i += 2;
        break;
      }
      default:
        return failure(Fault::Malformed,
                       fmt::format("unknown escape \\{}; use \\n \\t \\r \\0 \\\\ \\\" or \\xNN", text[i]));
    }
  }
  return out;
}

Result<Bytes> text_or_hex(std::string_view text) {
  if (!text.starts_with("0x")) return Bytes(text);
  const std::string_view digits = text.substr(2);
  if (digits.size() % 2 != 0) {
    return failure(Fault::Malformed, fmt::format("Key ({}) contains odd number of hex digits", digits));
  }
  if (auto bytes = from_hex(digits)) return *bytes;
  return failure(Fault::Malformed, fmt::format("Invalid hex: {}", digits));
}

std::string to_base64(BytesView bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (k < have ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out.push_back(k <= have ? kBase64[(group >> (18 - 6 * k)) & 0x3F] : '=');
    }
  }
  return out;
}

Result<Bytes> from_base64(std::string_view text) {
  Bytes out;
  std::uint32_t group = 0;
  std::size_t digits = 0;
  std::size_t padding = 0;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
    std::uint32_t value = 0;
    if (c == '=') {
      ++padding;
    } else {
      const auto at = kBase64.find(c);
      if (at == std::string_view::npos || padding > 0) {
        return failure(Fault::Malformed, "not base64: use A-Z a-z 0-9 + / with = at the end");
      }
      value = static_cast<std::uint32_t>(at);
    }
    group = (group << 6) | value;
    if (++digits % 4 != 0) continue;
    if (padding > 2) return failure(Fault::Malformed, "not base64: too much padding");
    for (std::size_t k = 0; k < 3 - padding; ++k) {
      out.push_back(static_cast<char>((group >> (16 - 8 * k)) & 0xFF));
    }
    group = 0;
  }
  if (digits % 4 != 0) return failure(Fault::Malformed, "not base64: the length is no multiple of 4");
  return out;
}

std::string date_text(std::int64_t epoch_seconds) {
  const auto when = static_cast<std::time_t>(epoch_seconds);
  std::tm parts{};
  if (localtime_r(&when, &parts) == nullptr) return fmt::format("@{}", epoch_seconds);
  // As ctime(3) does it, whatever the locale: the day is padded with a blank.
  static constexpr std::array<const char*, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{} {} {:2} {:02}:{:02}:{:02} {}", kDays.at(static_cast<std::size_t>(parts.tm_wday)),
                     kMonths.at(static_cast<std::size_t>(parts.tm_mon)), parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec, parts.tm_year + 1900);
}

std::string elapsed_text(std::int64_t seconds) {
  const std::int64_t s = std::max<std::int64_t>(seconds, 0);
  return fmt::format("({:03} {:02}:{:02}:{:02})", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
}

std::optional<std::uint64_t> parse_u64(std::string_view text) {
  const std::string copy(text);
  if (copy.empty() || std::isdigit(static_cast<unsigned char>(copy.front())) == 0) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(copy.c_str(), &end, 0);
  if (errno != 0 || end != copy.c_str() + copy.size()) return std::nullopt;
  return value;
}

std::optional<std::uint32_t> parse_u32(std::string_view text) {
  const auto value = parse_u64(text);
  if (!value || *value > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

}  // namespace tdbmesh
