// headlens/core: the 95 % interval of a proportion.
#pragma once

#include <cstdint>
#include <utility>

namespace headlens {

/// The 97.5 % point of the normal distribution: what 95 % intervals are built with.
inline constexpr double kNormal95 = 1.959963984540054;

/// The 95 % Wilson score interval of `successes` out of `n` (Wilson 1927): {low, high}. {0, 1} for
/// n = 0.
std::pair<double, double> wilson_bounds(int64_t successes, int64_t n);

}  // namespace headlens
