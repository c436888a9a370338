#include "transport/curve.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "db/base/check.h"
#include "transport/zmtp_frames.h"

namespace tdbmesh::zmtp {
namespace {

constexpr std::size_t kKey = 32;
constexpr std::size_t kNumber = 8;       // the varying part of most nonces
constexpr std::size_t kLongNonce = 16;   // of nonces that are random
constexpr std::size_t kAuth = crypto_box_MACBYTES;
static_assert(crypto_box_PUBLICKEYBYTES == kKey && crypto_box_SECRETKEYBYTES == kKey &&
              crypto_box_BEFORENMBYTES == kKey && crypto_box_NONCEBYTES == 24 && kAuth == 16);

constexpr BytesView kHello("\x05HELLO\x01\x00", 8);  // with the version
constexpr BytesView kWelcome("\x07WELCOME", 8);
constexpr BytesView kInitiate("\x08INITIATE", 9);
constexpr BytesView kReady("\x05READY", 6);
constexpr BytesView kMessage("\x07MESSAGE", 8);

constexpr std::size_t kHelloKeyAt = 80;  // after 72 bytes of padding, so that WELCOME is no amplification
constexpr std::size_t kHelloZeros = 64;
constexpr std::size_t kHelloBytes = kHelloKeyAt + kKey + kNumber + kAuth + kHelloZeros;
constexpr std::size_t kCookie = 96;
constexpr std::size_t kWelcomeBytes = kWelcome.size() + kLongNonce + kAuth + kKey + kCookie;
constexpr std::size_t kVouch = kLongNonce + kAuth + 2 * kKey;
constexpr std::size_t kInitiateBoxAt = kInitiate.size() + kCookie + kNumber;
constexpr std::size_t kLeastInitiate = kInitiateBoxAt + kAuth + kKey + kVouch;
constexpr std::size_t kLeastReady = kReady.size() + kNumber + kAuth;
static_assert(kHelloBytes == 200 && kWelcomeBytes == 168 && kLeastInitiate == 257 && kLeastReady == 30);

using Nonce = std::array<unsigned char, 24>;

Nonce numbered(BytesView prefix, std::uint64_t number) {
  Nonce nonce{};
  std::memcpy(nonce.data(), prefix.data(), 16);
  put_u64(reinterpret_cast<char*>(nonce.data()) + 16, number);
  return nonce;
}

Nonce random_tailed(BytesView prefix, const char* tail) {
  Nonce nonce{};
  std::memcpy(nonce.data(), prefix.data(), 8);
  std::memcpy(nonce.data() + 8, tail, kLongNonce);
  return nonce;
}

const unsigned char* raw(const char* at) { return reinterpret_cast<const unsigned char*>(at); }
unsigned char* raw(char* at) { return reinterpret_cast<unsigned char*>(at); }

// Makes room for `size` bytes at the end.
unsigned char* grow(Bytes& out, std::size_t size) {
  out.resize(out.size() + size);
  return raw(out.data() + out.size() - size);
}

bool starts(const char* body, std::size_t size, BytesView with) {
  return size >= with.size() && std::memcmp(body, with.data(), with.size()) == 0;
}

// A box from the holder of `secret` to the holder of `public_key`, or back.
void seal_box(unsigned char* out, BytesView plain, const Nonce& nonce, const CurveKey& public_key, const CurveKey& secret) {
  TDBMESH_CHECK(crypto_box_easy(out, raw(plain.data()), plain.size(), nonce.data(), public_key.data(), secret.data()) == 0);
}
// In place: what is opened stands at the box's beginning.
bool open_box(char* box, std::size_t size, const Nonce& nonce, const CurveKey& public_key, const CurveKey& secret) {
  return crypto_box_open_easy(raw(box), raw(box), size, nonce.data(), public_key.data(), secret.data()) == 0;
}

BytesView view(const CurveKey& key) { return {reinterpret_cast<const char*>(key.data()), key.size()}; }

}  // namespace

CurvePair::~CurvePair() { sodium_memzero(secret_key.data(), secret_key.size()); }

CurvePair CurvePair::generate() {
  TDBMESH_CHECK(sodium_init() >= 0);
  CurvePair pair;
  crypto_box_keypair(pair.public_key.data(), pair.secret_key.data());
  return pair;
}

// ---- an established connection ----

// What seals messages is crypto_box's XSalsa20-Poly1305, which makes a key of its own for each nonce out of the nonce's first
// 16 bytes. Here these are the same for all messages of a direction, so that key is made once: it was a quarter of what a short
// message costs. What remains is Salsa20 with the message's number as nonce. Its first 32 bytes key the authenticator, the next
// are the text's. A block is not wiped: once the number is used it opens nothing and seals nothing.
namespace {

constexpr BytesView kFromClient = "CurveZMQMESSAGEC";
constexpr BytesView kFromServer = "CurveZMQMESSAGES";

using FirstBlock = std::array<unsigned char, 64>;
constexpr std::size_t kOfText = 32;

FirstBlock first_block(const unsigned char* number, const CurveKey& key) {
  FirstBlock block;
  crypto_stream_salsa20(block.data(), block.size(), number, key.data());
  return block;
}

void encrypt_or_decrypt(unsigned char* text, std::size_t size, const FirstBlock& block, const unsigned char* number,
                        const CurveKey& key) {
  for (std::size_t i = 0; i < std::min(size, kOfText); ++i) text[i] ^= block[kOfText + i];
  if (size > kOfText) crypto_stream_salsa20_xor_ic(text + kOfText, text + kOfText, size - kOfText, number, 1, key.data());
}

}  // namespace

CurveBox::CurveBox(const CurveKey& theirs, const CurveKey& mine, bool client, std::uint64_t sent, std::uint64_t received)
    : sent_(sent), received_(received) {
  CurveKey shared;
  // It fails for a public key of small order only, which the handshake has excluded.
  TDBMESH_CHECK(crypto_box_beforenm(shared.data(), theirs.data(), mine.data()) == 0);
  const auto of_direction = [&](CurveKey& key, BytesView prefix) {
    crypto_core_hsalsa20(key.data(), raw(prefix.data()), shared.data(), nullptr);
  };
  of_direction(sending_, client ? kFromClient : kFromServer);
  of_direction(receiving_, client ? kFromServer : kFromClient);
  sodium_memzero(shared.data(), shared.size());
}

CurveBox::CurveBox(CurveBox&& other) noexcept { *this = std::move(other); }

CurveBox& CurveBox::operator=(CurveBox&& other) noexcept {
  if (this == &other) return *this;
  sending_ = other.sending_;
  receiving_ = other.receiving_;
  sent_ = other.sent_;
  received_ = other.received_;
  other.forget();
  return *this;
}

CurveBox::~CurveBox() { forget(); }

void CurveBox::forget() {
  sodium_memzero(sending_.data(), sending_.size());
  sodium_memzero(receiving_.data(), receiving_.size());
}

void CurveBox::seal(std::uint8_t flags, BytesView front, BytesView rest, Bytes& out) {
  const std::size_t begin = out.size();
  const std::size_t length = 1 + front.size() + rest.size();
  out.resize(begin + kOverhead - 1 + length);
  char* at = out.data() + begin;
  std::memcpy(at, kMessage.data(), kMessage.size());
  at += kMessage.size();
  put_u64(at, ++sent_);
  const unsigned char* number = raw(at);
  unsigned char* auth = raw(at + kNumber);
  unsigned char* text = auth + kAuth;
  text[0] = flags;
  char* inside = reinterpret_cast<char*>(text) + 1;
  inside += front.copy(inside, front.size());
  rest.copy(inside, rest.size());
  const FirstBlock block = first_block(number, sending_);
  encrypt_or_decrypt(text, length, block, number, sending_);
  crypto_onetimeauth_poly1305(auth, text, length, block.data());
}

std::optional<CurveBox::Opened> CurveBox::open(char* body, std::size_t size) {
  if (size < kOverhead || !starts(body, size, kMessage)) return std::nullopt;
  const std::uint64_t message = get_u64(body + kMessage.size());
  if (message <= received_) return std::nullopt;
  const unsigned char* number = raw(body + kMessage.size());
  const unsigned char* auth = number + kNumber;
  unsigned char* text = raw(body) + kOverhead - 1;
  const std::size_t length = size - (kOverhead - 1);
  const FirstBlock block = first_block(number, receiving_);
  if (crypto_onetimeauth_poly1305_verify(auth, text, length, block.data()) != 0) return std::nullopt;
  encrypt_or_decrypt(text, length, block, number, receiving_);
  received_ = message;
  return Opened{text[0], {reinterpret_cast<const char*>(text) + 1, length - 1}};
}

// ---- the client's handshake ----

CurveClient::CurveClient(const CurvePair& cluster) : cluster_(cluster) {}

Bytes CurveClient::hello() {
  Bytes out(kHello);
  out.resize(kHelloKeyAt, '\0');
  out.append(view(own_.public_key));
  put_u64(reinterpret_cast<char*>(grow(out, kNumber)), ++sent_);
  const Bytes zeros(kHelloZeros, '\0');
  seal_box(grow(out, kAuth + kHelloZeros), zeros, numbered("CurveZMQHELLO---", sent_), cluster_.public_key, own_.secret_key);
  return out;
}

std::optional<Bytes> CurveClient::on_welcome(BytesView body, BytesView properties) {
  if (body.size() != kWelcomeBytes || !starts(body.data(), body.size(), kWelcome)) return std::nullopt;
  Bytes box(body.substr(kWelcome.size() + kLongNonce));
  const Nonce nonce = random_tailed("WELCOME-", body.data() + kWelcome.size());
  if (!open_box(box.data(), box.size(), nonce, cluster_.public_key, own_.secret_key)) return std::nullopt;
  std::memcpy(server_.data(), box.data(), kKey);
  const BytesView cookie = BytesView(box).substr(kKey, kCookie);

  // The vouch: the long-term key says that this short-term key is meant for this server.
  Bytes vouched(view(own_.public_key));
  vouched.append(view(cluster_.public_key));
  Bytes plain(view(cluster_.public_key));
  std::array<char, kLongNonce> tail{};
  randombytes_buf(tail.data(), tail.size());
  plain.append(tail.data(), tail.size());
  unsigned char* vouch = grow(plain, kAuth + vouched.size());
  // The keys came out of an authenticated box; that they are of no use is all that can be wrong with them.
  if (crypto_box_easy(vouch, raw(vouched.data()), vouched.size(), random_tailed("VOUCH---", tail.data()).data(),
                      server_.data(), cluster_.secret_key.data()) != 0) {
    return std::nullopt;
  }
  plain.append(properties);

  Bytes out(kInitiate);
  out.append(cookie);
  put_u64(reinterpret_cast<char*>(grow(out, kNumber)), ++sent_);
  unsigned char* sealed = grow(out, kAuth + plain.size());
  seal_box(sealed, plain, numbered("CurveZMQINITIATE", sent_), server_, own_.secret_key);
  return out;
}

std::optional<BytesView> CurveClient::on_ready(char* body, std::size_t size) {
  if (size < kLeastReady || !starts(body, size, kReady)) return std::nullopt;
  received_ = get_u64(body + kReady.size());
  char* box = body + kReady.size() + kNumber;
  const std::size_t length = size - kReady.size() - kNumber;
  if (!open_box(box, length, numbered("CurveZMQREADY---", received_), server_, own_.secret_key)) return std::nullopt;
  return BytesView(box, length - kAuth);
}

CurveBox CurveClient::box() { return {server_, own_.secret_key, true, sent_, received_}; }

// ---- the server's handshake ----

CurveServer::CurveServer(const CurvePair& cluster) : cluster_(cluster) { TDBMESH_CHECK(sodium_init() >= 0); }

std::optional<Bytes> CurveServer::on_hello(BytesView body) {
  if (body.size() != kHelloBytes || !starts(body.data(), body.size(), kHello)) return std::nullopt;
  std::memcpy(client_.data(), body.data() + kHelloKeyAt, kKey);
  received_ = get_u64(body.data() + kHelloKeyAt + kKey);
  Bytes box(body.substr(kHelloKeyAt + kKey + kNumber));
  if (!open_box(box.data(), box.size(), numbered("CurveZMQHELLO---", received_), client_, cluster_.secret_key)) return std::nullopt;

  // The protocol lets a server forget everything meanwhile and learn it again from the cookie. A connection of ours
  // remembers, so a random cookie that it knows again is as good.
  own_ = CurvePair::generate();
  randombytes_buf(cookie_.data(), cookie_.size());
  Bytes plain(view(own_.public_key));
  plain.append(reinterpret_cast<const char*>(cookie_.data()), cookie_.size());
  Bytes out(kWelcome);
  randombytes_buf(grow(out, kLongNonce), kLongNonce);
  const Nonce nonce = random_tailed("WELCOME-", out.data() + kWelcome.size());
  seal_box(grow(out, kAuth + plain.size()), plain, nonce, client_, cluster_.secret_key);
  return out;
}

std::optional<BytesView> CurveServer::on_initiate(char* body, std::size_t size) {
  if (size < kLeastInitiate || !starts(body, size, kInitiate)) return std::nullopt;
  if (sodium_memcmp(body + kInitiate.size(), cookie_.data(), kCookieBytes) != 0) return std::nullopt;
  const std::uint64_t number = get_u64(body + kInitiate.size() + kCookie);
  if (number <= received_) return std::nullopt;
  char* box = body + kInitiateBoxAt;
  if (!open_box(box, size - kInitiateBoxAt, numbered("CurveZMQINITIATE", number), client_, own_.secret_key)) return std::nullopt;
  received_ = number;
  // The client's long-term key must be the cluster's, and who holds its secret half must have vouched.
  if (sodium_memcmp(box, cluster_.public_key.data(), kKey) != 0) return std::nullopt;
  char* vouch = box + kKey + kLongNonce;
  const Nonce nonce = random_tailed("VOUCH---", box + kKey);
  if (!open_box(vouch, kAuth + 2 * kKey, nonce, cluster_.public_key, own_.secret_key)) return std::nullopt;
  if (sodium_memcmp(vouch, client_.data(), kKey) != 0 ||
      sodium_memcmp(vouch + kKey, cluster_.public_key.data(), kKey) != 0) {
    return std::nullopt;
  }
  return BytesView(box + kKey + kVouch, size - kLeastInitiate);
}

Bytes CurveServer::ready(BytesView properties) {
  Bytes out(kReady);
  put_u64(reinterpret_cast<char*>(grow(out, kNumber)), ++sent_);
  seal_box(grow(out, kAuth + properties.size()), properties, numbered("CurveZMQREADY---", sent_), client_, own_.secret_key);
  return out;
}

CurveBox CurveServer::box() { return {client_, own_.secret_key, false, sent_, received_}; }

}  // namespace tdbmesh::zmtp
