#pragma once
// Durations, counted in buckets whose width is at most 1/64 of what they hold: what a run of millions of operations
// can afford to keep, and exact enough for a median and a 99th percentile.

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>

namespace tdbmesh::bench {

class Histogram {
 public:
  void add(std::chrono::nanoseconds duration) {
    const auto ns = static_cast<std::uint64_t>(duration.count() < 0 ? 0 : duration.count());
    ++buckets_[bucket_of(ns)];
    ++count_;
    if (ns > most_) most_ = ns;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] double most_us() const { return static_cast<double>(most_) / 1e3; }
  // The duration below which the share `q` of them lies, in microseconds; 0 if there is none.
  [[nodiscard]] double quantile_us(double q) const {
    if (count_ == 0) return 0;
    const auto wanted = static_cast<std::uint64_t>(q * static_cast<double>(count_ - 1)) + 1;
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen >= wanted) return middle_of(i) / 1e3;
    }
    return most_us();
  }

 private:
  static constexpr int kBits = 6;  // 64 buckets for each power of two
  static constexpr std::uint64_t kPerPower = std::uint64_t{1} << kBits;

  static std::size_t bucket_of(std::uint64_t ns) {
    if (ns < kPerPower) return static_cast<std::size_t>(ns);
    const int shift = static_cast<int>(std::bit_width(ns)) - 1 - kBits;
    return static_cast<std::size_t>(static_cast<std::uint64_t>(shift) * kPerPower + (ns >> shift));
  }
  static double middle_of(std::size_t bucket) {
    if (bucket < kPerPower) return static_cast<double>(bucket);
    const auto shift = static_cast<int>(bucket / kPerPower) - 1;
    const std::uint64_t low = (bucket % kPerPower + kPerPower) << shift;
    return static_cast<double>(low) + static_cast<double>((std::uint64_t{1} << shift) - 1) / 2;
  }

  std::array<std::uint32_t, std::size_t{65 - kBits} * kPerPower> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t most_ = 0;
};

}  // namespace tdbmesh::bench
