// headlens/tasks: random draws that are the same on every platform.
#pragma once

#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace headlens {

/// The standard fixes mt19937_64's stream but neither its distributions nor std::shuffle, so these
/// are our own.
class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}

  /// Uniform in 0 .. n - 1, n > 0.
  int64_t below(int64_t n) {
    const uint64_t range = static_cast<uint64_t>(n);
    const uint64_t excess =
        (UINT64_MAX % range + 1) % range;  // values that would favour small results
    uint64_t value = engine_();
    while (value > UINT64_MAX - excess) value = engine_();
    return static_cast<int64_t>(value % range);
  }

  /// Uniform in low .. high.
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }

  /// Uniform in [0, 1).
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

  /// `count` distinct numbers of 0 .. n - 1 in random order.
  std::vector<int64_t> sample(int64_t count, int64_t n) {
    std::vector<int64_t> numbers(static_cast<size_t>(n));
    std::iota(numbers.begin(), numbers.end(), int64_t{0});
    for (int64_t i = 0; i < count; ++i) {
      std::swap(numbers[static_cast<size_t>(i)], numbers[static_cast<size_t>(between(i, n - 1))]);
    }
    numbers.resize(static_cast<size_t>(count));
    return numbers;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace headlens
