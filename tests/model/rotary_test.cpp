// headlens/tests: rotary positions by hand.
#include "headlens/model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::largest_difference;

TEST(RotaryTest, PlainFrequencies) {
  const auto frequencies = rotary_frequencies({.theta = 10000, .rotary_dim = 4, .llama3 = {}});
  ASSERT_EQ(frequencies.size(), 2u);
  EXPECT_DOUBLE_EQ(frequencies[0], 1);
  EXPECT_DOUBLE_EQ(frequencies[1], 0.01);
}

TEST(RotaryTest, Llama3Bands) {
  // Trained on 1000 positions: a pair that turns less than 1 time in them is slowed 8 times, one
  // that turns more than 4 times is kept, one that turns 2.5 times is half of each.
  const auto turning = [](double turns) {
    const double frequency = turns * 2 * std::numbers::pi / 1000;
    // Dimension 2 of 4 turns with theta^(-1/2).
    return RopeSpec{1 / (frequency * frequency), 4, Llama3RopeScaling{8, 1, 4, 1000}};
  };
  const auto ratio = [&](double turns) {
    return rotary_frequencies(turning(turns))[1] / (turns * 2 * std::numbers::pi / 1000);
  };
  EXPECT_NEAR(ratio(0.5), 1 / 8.0, 1e-12);
  EXPECT_NEAR(ratio(5), 1, 1e-12);
  EXPECT_NEAR(ratio(2.5), (1 + 1 / 8.0) / 2, 1e-12);
}

TEST(RotaryTest, TurnsPairsAndKeepsTheRest) {
  const Rotary rotary({.theta = 1, .rotary_dim = 4, .llama3 = {}},
                      at::kCPU);  // 1 radian a position
  const Tensor x = at::tensor({1.0, 2.0, 0.0, 0.0, 7.0}, at::kDouble).view({1, 1, 1, 5});
  const Tensor turned = rotate(x, rotary.table(3, 1, at::kDouble));
  const double c = std::cos(3.0);
  const double s = std::sin(3.0);
  const Tensor expected = at::tensor({c, 2 * c, s, 2 * s, 7.0}, at::kDouble).view({1, 1, 1, 5});
  EXPECT_LT(largest_difference(turned, expected), 1e-14);
}

TEST(RotaryTest, ProductsDependOnDistanceOnly) {
  const Rotary rotary({.theta = 100, .rotary_dim = 8, .llama3 = {}}, at::kCPU);
  const Tensor q = at::rand({1, 1, 1, 8}, at::kDouble);
  const Tensor k = at::rand({1, 1, 1, 8}, at::kDouble);
  const auto score = [&](int64_t i, int64_t j) {
    return (rotate(q, rotary.table(i, 1, at::kDouble)) * rotate(k, rotary.table(j, 1, at::kDouble)))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(score(5, 2), score(1005, 1002), 1e-10);
  EXPECT_GT(std::abs(score(5, 2) - score(5, 1)), 1e-6);
}

}  // namespace
}  // namespace headlens
