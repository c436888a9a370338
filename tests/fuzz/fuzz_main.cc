// Runs one fuzz target without libFuzzer: its seeds, their truncations, mutations and crossings, and plain
// noise. The same inputs every time, unless told otherwise:
//
//   NAME_fuzz                       TDBMESH_FUZZ_ROUNDS (20000) rounds from TDBMESH_FUZZ_SEED (1)
//   NAME_fuzz FILE...               just these inputs
//   NAME_fuzz --write-seeds DIR     the seeds as files, to start libFuzzer with
//
// If the target dies, the input is printed in hex before.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "db/base/random.h"
#include "tests/fuzz/fuzz.h"

// There with the sanitizers only: they end the program in their own way, and report better if they get the
// signals first.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace tdbmesh {
namespace {

Bytes g_input;

// Only write(2) here: the process is on its way out.
void print_input() {
  static const char kDigits[] = "0123456789abcdef";
  (void)!write(STDERR_FILENO, "\ninput: ", 8);
  for (const char byte : g_input) {
    const auto value = static_cast<unsigned char>(byte);
    const char pair[2] = {kDigits[value >> 4], kDigits[value & 15]};
    (void)!write(STDERR_FILENO, pair, 2);
  }
  (void)!write(STDERR_FILENO, "\n", 1);
}

void on_signal(int signal) {
  print_input();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void print_input_at_death() {
  std::signal(SIGABRT, on_signal);  // a failed check
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(print_input);
    return;
  }
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, on_signal);
}

void run(Bytes input) {
  g_input = std::move(input);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(g_input.data()), g_input.size());
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

Bytes noise(Random& random, std::uint64_t most) {
  Bytes bytes(random.below(most + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.next());
  return bytes;
}

// Numbers at which lengths and counts go wrong.
std::uint32_t odd_number(Random& random) {
  static constexpr std::uint32_t kOdd[] = {0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF};
  return kOdd[random.below(std::size(kOdd))];
}

void mutate(Bytes& bytes, Random& random, const std::vector<Bytes>& seeds) {
  const std::uint64_t at = bytes.empty() ? 0 : random.below(bytes.size());
  switch (random.below(7)) {
    case 0:
      if (!bytes.empty()) bytes[at] = static_cast<char>(random.next());
      return;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      return;
    case 2: bytes.resize(at); return;
    case 3: bytes.insert(at, noise(random, 16)); return;
    case 4: bytes.erase(at, random.below(16)); return;
    case 5: {
      const std::uint32_t number = odd_number(random);
      if (bytes.size() >= at + sizeof(number)) std::memcpy(bytes.data() + at, &number, sizeof(number));
      return;
    }
    case 6: {  // the tail of another seed
      if (seeds.empty()) return;
      const Bytes& other = seeds[random.below(seeds.size())];
      bytes.resize(at);
      bytes.append(other, random.below(other.size() + 1));
      return;
    }
  }
}

void run_all() {
  const std::vector<Bytes> seeds = fuzz_seeds();
  for (const Bytes& seed : seeds) {
    for (std::size_t size = 0; size <= seed.size(); ++size) run(seed.substr(0, size));
  }
  Random random(from_environment("TDBMESH_FUZZ_SEED", 1));
  const std::uint64_t rounds = from_environment("TDBMESH_FUZZ_ROUNDS", 20'000);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (seeds.empty() || random.chance(8)) {
      run(noise(random, 300));
      continue;
    }
    Bytes bytes = seeds[random.below(seeds.size())];
    for (std::uint64_t i = 0; i <= random.below(5); ++i) mutate(bytes, random, seeds);
    run(std::move(bytes));
  }
}

}  // namespace
}  // namespace tdbmesh

int main(int argc, char** argv) {
  tdbmesh::print_input_at_death();
  if (argc == 3 && std::string(argv[1]) == "--write-seeds") {
    int number = 0;
    for (const auto& seed : tdbmesh::fuzz_seeds()) {
      std::ofstream(std::string(argv[2]) + "/seed" + std::to_string(number++), std::ios::binary) << seed;
    }
    return 0;
  }
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
    tdbmesh::run({std::istreambuf_iterator<char>(file), {}});
  }
  if (argc == 1) tdbmesh::run_all();
  return 0;
}
