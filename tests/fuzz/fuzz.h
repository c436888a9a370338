#pragma once
// What a fuzz target provides. Each tests/fuzz/NAME_fuzz.cc defines the two functions below; with clang and
// -DTDBMESH_LIBFUZZER=ON it is linked with libFuzzer, otherwise with fuzz_main.cc, which feeds it random and
// mutated seeds from a fixed seed, so that it runs as an ordinary test.
//
// A target returns 0 always; what it finds shows as a crash, a sanitizer's report or a failed TDBMESH_CHECK.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "db/base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace tdbmesh {

// Good inputs to begin with. The first byte of each input may choose among the target's decoders.
[[nodiscard]] std::vector<Bytes> fuzz_seeds();

inline BytesView fuzz_view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace tdbmesh
