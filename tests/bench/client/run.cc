// One measurement: when it begins, when it is over, and its line of JSON.

#include <cstdio>
#include <iostream>

#include <fmt/format.h>

#include "workload.h"

namespace tdbmesh::bench {

Run::Run(const Options& options) {
  if (options.wait) {
    fmt::print("ready\n");
    std::fflush(stdout);
    std::string line;
    if (!std::getline(std::cin, line)) die("nobody said when to begin");
  }
  begin_ = Clock::now();
  end_ = begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
}

void Run::report(const char* what, Pnn pnn) {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  const std::uint64_t operations = operations_ != 0 ? operations_ : times_.count();
  fmt::print(R"({{"what": "{}", "pnn": {}, "ops": {}, "seconds": {:.3f}, "ops_per_s": {:.1f}, "p50_us": {:.2f}, "p99_us": {:.2f}, "max_us": {:.1f})",
             what, number(pnn), operations, seconds, static_cast<double>(operations) / seconds, times_.quantile_us(0.5),
             times_.quantile_us(0.99), times_.most_us());
  for (const auto& [name, value] : more_) fmt::print(R"(, "{}": {:.0f})", name, value);
  fmt::print("}}\n");
}

}  // namespace tdbmesh::bench
