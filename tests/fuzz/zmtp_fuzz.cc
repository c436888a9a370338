// What anybody who reaches the node port may send, before and after he has proved anything. The first byte chooses which
// end we are, whether there is a key, how far the conversation has come, and how the rest is cut into pieces.

#include <algorithm>
#include <utility>

#include "db/base/check.h"
#include "tests/fuzz/fuzz.h"
#include "transport/zmtp_session.h"

using namespace tdbmesh;
using namespace tdbmesh::zmtp;

namespace {

const CurvePair& cluster() {
  static const CurvePair pair = CurvePair::generate();
  return pair;
}
constexpr std::size_t kMost = 4096;

struct End {
  End(Session::Role role, bool encrypted)
      : session(role, encrypted ? std::optional(cluster()) : std::nullopt, true, kMost), out(session.opening()) {}
  void arrive(BytesView bytes) {
    in.append(bytes);
    while (true) {
      const std::size_t before = in.size();
      const Session::Step step = session.next(in.data(), in.size(), out);
      TDBMESH_CHECK(step.used <= before && step.frame.size() <= kMost);
      if (step.what == Session::Step::What::NeedMore) {
        // It asks for no more than a frame may be, and for more than there is.
        TDBMESH_CHECK(step.wanted > in.size() && step.wanted <= kMost + CurveBox::kOverhead + kMostHeaderBytes);
      }
      if (step.what == Session::Step::What::Progress || step.what == Session::Step::What::Frame) TDBMESH_CHECK(step.used > 0);
      in.erase(0, step.used);
      if (step.what == Session::Step::What::Failed) TDBMESH_CHECK(!session.failure().empty());
      if (step.what == Session::Step::What::Failed || step.what == Session::Step::What::NeedMore) return;
    }
  }
  Session session;
  Bytes out;
  Bytes in;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::uint8_t how = data[0];
  const auto role = (how & 1) != 0 ? Session::Role::Sender : Session::Role::Receiver;
  const auto other_role = (how & 1) != 0 ? Session::Role::Receiver : Session::Role::Sender;
  End end(role, (how & 2) != 0);
  End good(other_role, (how & 2) != 0);
  for (int exchanges = how >> 2 & 3; exchanges > 0; --exchanges) {
    const Bytes there = std::exchange(good.out, {});
    const Bytes back = std::exchange(end.out, {});
    end.arrive(there);
    good.arrive(back);
  }
  BytesView rest = fuzz_view(data + 1, size - 1);
  const std::size_t piece = (how >> 4) == 0 ? rest.size() : how >> 4;
  while (!rest.empty()) {
    end.arrive(rest.substr(0, piece));
    rest.remove_prefix(std::min(piece, rest.size()));
  }
  TDBMESH_CHECK(end.out.size() <= 20 * (size + 100));  // nobody gets much for little
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  std::vector<Bytes> seeds;
  for (int how = 0; how < 16; ++how) {
    const bool encrypted = (how & 2) != 0;
    Bytes seed(1, static_cast<char>(how));
    // From the beginning, a greeting and a handshake; later, frames.
    if (how >> 2 == 0) seed += greeting(encrypted ? Mechanism::Curve : Mechanism::Null);
    Bytes commands;
    append_command(commands, "READY", socket_type_property((how & 1) != 0 ? "PULL" : "PUSH"));
    append_command(commands, "PING", BytesView("\0\x64" "context", 9));
    append_command(commands, "ERROR", "\x03" "400");
    append_frame_header(commands, kMore, 5);
    commands += "first";
    append_frame_header(commands, 0, 300);
    commands.append(300, 'b');
    seeds.push_back(seed + commands);
    CurveClient client(cluster());
    Bytes hello = client.hello();
    append_frame_header(seed, kCommand, hello.size());
    seeds.push_back(seed + hello);
  }
  return seeds;
}
