#pragma once
// One end of a ZMTP connection: bytes in, bytes and frames out. It greets, runs the handshake (CURVE with a key, NULL
// without), then encrypts and decrypts. Everybody who holds the other end may be hostile: whatever is wrong ends in
// failure(), and what is announced costs no memory here.
//
// Pure but for libsodium's random numbers: sockets, timers and limits in time are the callers' (zmtp_sender.h,
// zmtp_receiver.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "db/base/bytes.h"
#include "transport/curve.h"
#include "transport/zmtp_frames.h"

namespace tdbmesh::zmtp {

// Larger frames of a handshake are refused; all of it is under a KiB.
inline constexpr std::size_t kMostHandshakeFrame = 1024;

class Session {
 public:
  enum class Role {
    Sender,    // PUSH, and CURVE's client
    Receiver,  // PULL, and CURVE's server
  };
  enum class State { Handshake, Ready, Failed };

  // A receiver tells `admitted` whether the caller's address is one that may come in; who holds the key but may not is
  // told so and refused. `most_bytes` bounds the frames that are taken once the connection stands.
  Session(Role role, const std::optional<CurvePair>& cluster, bool admitted, std::size_t most_bytes);

  [[nodiscard]] State state() const { return state_; }
  // Why, in words for the log, once it is Failed.
  [[nodiscard]] const std::string& failure() const { return failure_; }

  // Takes what it can from the front of `data`, which it may change. What is to be sent in return is appended to `out`,
  // also when it fails.
  struct Step {
    enum class What {
      NeedMore,  // nothing more can be done before data is at least `wanted` bytes
      Progress,  // `used` bytes were for the protocol
      Frame,     // `used` bytes were a frame: `frame`, inside data
      Failed,
    } what = What::NeedMore;
    std::size_t used = 0;
    std::size_t wanted = 0;
    BytesView frame{};
    bool more = false;
  };
  [[nodiscard]] Step next(char* data, std::size_t size, Bytes& out);

  // What goes out first.
  [[nodiscard]] Bytes opening() const;
  // Appends a message of one frame, `front` and `rest` as one, once the state is Ready.
  void put_message(BytesView front, BytesView rest, Bytes& out);

 private:
  enum class Phase { Greeting, Hello, Welcome, Initiate, CurveReady, NullReady, Traffic };

  [[nodiscard]] Step fail(const char* why);
  [[nodiscard]] Step on_greeting(BytesView data, Bytes& out);
  [[nodiscard]] Step on_handshake_frame(char* body, std::size_t size, std::size_t used, Bytes& out);
  [[nodiscard]] Step on_traffic_frame(const FrameHeader& header, char* body, std::size_t used, Bytes& out);
  [[nodiscard]] bool right_socket(const std::optional<BytesView>& type) const;
  [[nodiscard]] Step on_properties(std::optional<BytesView> properties, std::size_t used, Bytes& out);
  [[nodiscard]] bool on_command(BytesView body, Bytes& out);
  [[nodiscard]] bool encrypted() const { return !std::holds_alternative<std::monostate>(curve_); }

  Role role_;
  State state_ = State::Handshake;
  Phase phase_ = Phase::Greeting;
  bool admitted_;
  std::size_t most_bytes_;
  std::string failure_;
  std::variant<std::monostate, std::unique_ptr<CurveClient>, std::unique_ptr<CurveServer>, CurveBox> curve_;
};

}  // namespace tdbmesh::zmtp
