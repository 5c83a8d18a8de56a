// headlens/tasks: confidence intervals of a proportion.
#pragma once

#include <cstdint>
#include <utility>

namespace headlens {

/// The 95 % Wilson score interval of `successes` out of `n` (Wilson 1927): {low, high}. {0, 1} for
/// n = 0.
std::pair<double, double> wilson_bounds(int64_t successes, int64_t n);

}  // namespace headlens
