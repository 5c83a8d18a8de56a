// headlens/tests: Wilson intervals against published and limiting values.
#include "headlens/core/intervals.h"

#include <gtest/gtest.h>

namespace headlens {
namespace {

// Newcombe 1998, table I, method 3 (Wilson without continuity correction); printed to four places.
TEST(WilsonBounds, MatchesNewcombe) {
  const auto [low, high] = wilson_bounds(81, 263);
  EXPECT_NEAR(low, 0.2553, 5e-5);
  EXPECT_NEAR(high, 0.3662, 5e-5);
  EXPECT_NEAR(wilson_bounds(15, 148).first, 0.0624, 5e-5);
  EXPECT_NEAR(wilson_bounds(15, 148).second, 0.1605, 5e-5);
  EXPECT_NEAR(wilson_bounds(0, 20).second, 0.1611, 5e-5);
  EXPECT_NEAR(wilson_bounds(1, 29).first, 0.0061, 5e-5);
}

TEST(WilsonBounds, StaysInZeroToOne) {
  EXPECT_EQ(wilson_bounds(0, 0), (std::pair<double, double>{0, 1}));
  EXPECT_NEAR(wilson_bounds(0, 20).first, 0, 1e-15);
  EXPECT_NEAR(wilson_bounds(20, 20).second, 1, 1e-15);
}

TEST(WilsonBounds, IsSymmetric) {
  const auto [low, high] = wilson_bounds(13, 40);
  const auto [mirrored_low, mirrored_high] = wilson_bounds(27, 40);
  EXPECT_NEAR(low, 1 - mirrored_high, 1e-12);
  EXPECT_NEAR(high, 1 - mirrored_low, 1e-12);
}

}  // namespace
}  // namespace headlens
