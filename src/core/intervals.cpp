// headlens/core: the 95 % interval of a proportion.
#include "headlens/core/intervals.h"

#include <algorithm>
#include <cmath>

namespace headlens {

std::pair<double, double> wilson_bounds(int64_t successes, int64_t n) {
  if (n == 0) return {0.0, 1.0};
  constexpr double kZ = kNormal95;
  const double count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count;
  const double shrink = 1 + kZ * kZ / count;
  const double centre = (p + kZ * kZ / (2 * count)) / shrink;
  const double half = kZ / shrink * std::sqrt(p * (1 - p) / count + kZ * kZ / (4 * count * count));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

}  // namespace headlens
