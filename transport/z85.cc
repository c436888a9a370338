#include "transport/z85.h"

#include <array>
#include <cstdint>
#include <limits>

#include "db/base/check.h"

namespace tdbmesh {
namespace {

constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
constexpr std::size_t kBytes = 4;
constexpr std::size_t kCharacters = 5;
static_assert(kDigits.size() == 85);

}  // namespace

std::string z85_encode(BytesView bytes) {
  TDBMESH_CHECK(bytes.size() % kBytes == 0);
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += kBytes) {
    std::uint32_t value = 0;
    for (const char byte : bytes.substr(at, kBytes)) value = value << 8 | static_cast<unsigned char>(byte);
    std::array<char, kCharacters> group{};
    for (std::size_t i = kCharacters; i-- > 0; value /= 85) group[i] = kDigits[value % 85];
    text.append(group.data(), group.size());
  }
  return text;
}

std::optional<Bytes> z85_decode(std::string_view text) {
  if (text.size() % kCharacters != 0) return std::nullopt;
  Bytes bytes;
  for (std::size_t at = 0; at < text.size(); at += kCharacters) {
    std::uint64_t value = 0;
    for (const char character : text.substr(at, kCharacters)) {
      const auto digit = kDigits.find(character);
      if (digit == std::string_view::npos) return std::nullopt;
      value = value * 85 + digit;
    }
    if (value > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift & 0xff));
  }
  return bytes;
}

}  // namespace tdbmesh
