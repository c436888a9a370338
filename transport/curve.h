#pragma once
// CurveZMQ (RFC 26): how two ends prove to each other that they hold their keys, and how what they say afterwards is
// encrypted, with keys that live as long as the connection. Here both ends use one and the same long-term pair, the
// cluster's: who is let in is who holds it.
//
//   client                                   server
//   HELLO    its short-term key, and a box that only who holds the pair can open
//                                   WELCOME  its short-term key and a cookie, boxed
//   INITIATE the cookie, a vouch that short-term and long-term key belong together, properties, boxed
//                                   READY    properties, boxed; or ERROR
//
// The functions take and give the bodies of ZMTP frames. Pure but for libsodium's random numbers; everything that must
// stay secret is wiped when it goes. An answer of nullopt means that the other side does not hold the pair, speaks
// something else or repeats itself: the connection is to be ended.

#include <array>
#include <cstdint>
#include <optional>

#include "db/base/bytes.h"

namespace tdbmesh::zmtp {

using CurveKey = std::array<unsigned char, 32>;

// A pair of keys; wipes the secret one.
struct CurvePair {
  CurveKey public_key{};
  CurveKey secret_key{};

  CurvePair() = default;
  CurvePair(const CurvePair&) = default;
  CurvePair& operator=(const CurvePair&) = default;
  ~CurvePair();
  [[nodiscard]] static CurvePair generate();
};

// Encryption of an established connection. Each message has a number of its own; a number that does not grow is
// refused, so nothing can be repeated.
class CurveBox {
 public:
  static constexpr std::size_t kOverhead = 8 + 8 + 16 + 1;  // "MESSAGE", number, authenticator, flags
  static constexpr std::uint8_t kMore = 1;
  static constexpr std::uint8_t kCommand = 2;
  struct Opened {
    std::uint8_t flags = 0;
    BytesView payload;  // inside the message that was opened
  };

  CurveBox() = default;
  CurveBox(const CurveKey& theirs, const CurveKey& mine, bool client, std::uint64_t sent, std::uint64_t received);
  CurveBox(CurveBox&& other) noexcept;
  CurveBox& operator=(CurveBox&& other) noexcept;
  ~CurveBox();

  // Appends the body of one encrypted frame: `front` and `rest` as one, and kOverhead.
  void seal(std::uint8_t flags, BytesView front, BytesView rest, Bytes& out);
  // Decrypts the body of a frame where it stands. nullopt: forged, damaged, repeated, or no MESSAGE.
  [[nodiscard]] std::optional<Opened> open(char* body, std::size_t size);

 private:
  void forget();

  CurveKey sending_{};
  CurveKey receiving_{};
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

class CurveClient {
 public:
  // `cluster` is the own pair, and its public half is what the server is expected to have.
  explicit CurveClient(const CurvePair& cluster);
  [[nodiscard]] Bytes hello();
  // INITIATE, or nullopt.
  [[nodiscard]] std::optional<Bytes> on_welcome(BytesView body, BytesView properties);
  // The server's properties, decrypted in place.
  [[nodiscard]] std::optional<BytesView> on_ready(char* body, std::size_t size);
  // After READY, once.
  [[nodiscard]] CurveBox box();

 private:
  CurvePair cluster_;
  CurvePair own_ = CurvePair::generate();
  CurveKey server_{};  // its short-term key
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

class CurveServer {
 public:
  explicit CurveServer(const CurvePair& cluster);
  // WELCOME, or nullopt.
  [[nodiscard]] std::optional<Bytes> on_hello(BytesView body);
  // The client's properties, decrypted in place: it has proved to hold the cluster's pair.
  [[nodiscard]] std::optional<BytesView> on_initiate(char* body, std::size_t size);
  [[nodiscard]] Bytes ready(BytesView properties);
  // After READY, once.
  [[nodiscard]] CurveBox box();

 private:
  static constexpr std::size_t kCookieBytes = 96;

  CurvePair cluster_;
  CurvePair own_;      // made once the client has said something sensible: strangers are not worth it
  CurveKey client_{};  // its short-term key
  std::array<unsigned char, kCookieBytes> cookie_{};
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

}  // namespace tdbmesh::zmtp
