#include "db/base/hash.h"

#include <bit>

namespace tdbmesh {
namespace {

// Up to four bytes from `at`, zero-extended, little endian.
std::uint32_t word_at(BytesView bytes, std::size_t at) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4 && at + i < bytes.size(); ++i) {
    word |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return word;
}

}  // namespace

std::uint32_t ctdb_hash(BytesView bytes) {
  using std::rotl;
  std::uint32_t a = 0xDEADBEEFu + static_cast<std::uint32_t>(bytes.size());
  std::uint32_t b = a;
  std::uint32_t c = a;
  while (bytes.size() > 12) {
    a += word_at(bytes, 0);
    b += word_at(bytes, 4);
    c += word_at(bytes, 8);
    a -= c; a ^= rotl(c, 4); c += b;
    b -= a; b ^= rotl(a, 6); a += c;
    c -= b; c ^= rotl(b, 8); b += a;
    a -= c; a ^= rotl(c, 16); c += b;
    b -= a; b ^= rotl(a, 19); a += c;
    c -= b; c ^= rotl(b, 4); b += a;
    bytes.remove_prefix(12);
  }
  if (bytes.empty()) return c;
  a += word_at(bytes, 0);
  b += word_at(bytes, 4);
  c += word_at(bytes, 8);
  c ^= b; c -= rotl(b, 14);
  a ^= c; a -= rotl(c, 11);
  b ^= a; b -= rotl(a, 25);
  c ^= b; c -= rotl(b, 16);
  a ^= c; a -= rotl(c, 4);
  b ^= a; b -= rotl(a, 14);
  c ^= b; c -= rotl(b, 24);
  return c;
}

DatabaseId database_id(std::string_view name) {
  std::string with_nul(name);
  with_nul.push_back('\0');
  return DatabaseId{ctdb_hash(with_nul)};
}

}  // namespace tdbmesh
