// The reader beneath all messages between nodes. The input is a program (first half: which calls to make) and
// the bytes that it reads.

#include "db/base/check.h"
#include "db/base/pack.h"
#include "tests/fuzz/fuzz.h"

using namespace tdbmesh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const BytesView program = fuzz_view(data, size / 2);
  const BytesView input = fuzz_view(data + size / 2, size - size / 2);
  Unpacker in(input);
  for (const char step : program) {
    switch (static_cast<unsigned char>(step) % 6) {
      case 0: TDBMESH_CHECK(in.array(1000) <= std::min<std::size_t>(1000, input.size())); break;
      case 1: (void)in.u64(); break;
      case 2: (void)in.u32(); break;
      case 3: (void)in.flag(); break;
      case 4: {
        const BytesView bytes = in.bytes();
        TDBMESH_CHECK(bytes.empty() ||
                      (bytes.data() >= input.data() && bytes.data() + bytes.size() <= input.data() + input.size()));
        break;
      }
      case 5: (void)in.generation(); break;
    }
    // After the first wrong field everything reads as zero or empty.
    if (!in.ok()) TDBMESH_CHECK(in.u64() == 0 && in.bytes().empty() && in.array(10) == 0 && !in.finished());
  }
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  const auto seed = [](const Bytes& program, Packer&& packer) {
    Bytes bytes = std::move(packer).take();
    // The halves have equal size: what the program has too much reads beyond the end.
    Bytes steps = program;
    steps.resize(bytes.size(), '\1');
    return steps + bytes;
  };
  return {seed(Bytes("\0\1\2\4", 4), std::move(Packer().array(3).u64(1'000'000'000'000).u64(7).bytes("hello"))),
          seed(Bytes("\0\4\0\5\3", 5),
               std::move(Packer().array(3).bytes(Bytes(40, 'x')).array(2).generation({5, 6}).flag(true))),
          seed(Bytes("\1\1", 2), std::move(Packer().u64(0xFFFFFFFFFFFFFFFFu).u64(300)))};
}
