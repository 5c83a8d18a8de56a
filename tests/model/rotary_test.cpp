// headlens/tests: rotary positions by hand.
#include "headlens/model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::largest_difference;

/// The table of one position.
RotaryTable at_place(const Rotary& rotary, int64_t place) {
  Prompt prompt;
  prompt.start = place;
  return rotary.table(prompt, 1, at::kDouble);
}

TEST(RotaryTest, PlainFrequencies) {
  const auto frequencies = rotary_frequencies({.theta = 10000, .rotary_dim = 4, .scaling = {}});
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

TEST(RotaryTest, LinearDividesEveryFrequency) {
  const auto frequencies = rotary_frequencies({100, 4, LinearRopeScaling{8}});
  EXPECT_DOUBLE_EQ(frequencies[0], 1 / 8.0);
  EXPECT_DOUBLE_EQ(frequencies[1], 0.1 / 8.0);
}

TEST(RotaryTest, DynamicGrowsItsBaseWithTheText) {
  const RopeSpec spec{100, 4, DynamicRopeScaling{2, 50}};
  EXPECT_DOUBLE_EQ(rotary_frequencies(spec, 50)[1], 0.1);  // short enough: as it was
  // 100 tokens: the base is 100 (2 * 100 / 50 - 1)^(4 / 2) = 900.
  EXPECT_NEAR(rotary_frequencies(spec, 100)[1], 1 / 30.0, 1e-12);
}

TEST(RotaryTest, YarnRampsBetweenItsTwoBands) {
  // 8 dimensions, theta = e^8, so the pair that turns b times in 2 pi e^4 positions is at
  // d(b) = 8 ln(e^4 / b) / 16: 2 for b = 1, 0 for b = e^4.
  YarnRopeScaling yarn;
  yarn.factor = 4;
  yarn.original_max_position = 2 * std::numbers::pi * std::exp(4);
  yarn.beta_fast = std::exp(4);
  yarn.beta_slow = 1;
  const RopeSpec spec{std::exp(8), 8, yarn};
  const auto plain = rotary_frequencies({std::exp(8), 8, {}});
  const auto scaled = rotary_frequencies(spec);
  EXPECT_NEAR(scaled[0] / plain[0], 1, 1e-9);                  // fast: kept
  EXPECT_NEAR(scaled[1] / plain[1], (1 + 1 / 4.0) / 2, 1e-9);  // half way
  EXPECT_NEAR(scaled[2] / plain[2], 1 / 4.0, 1e-9);            // slow: interpolated
  EXPECT_NEAR(scaled[3] / plain[3], 1 / 4.0, 1e-9);
}

TEST(RotaryTest, LongRopeHasTwoListsAndItsOwnTemperature) {
  const LongRopeScaling longrope{{1, 2}, {3, 4}, 10, 1.5};
  const RopeSpec spec{100, 4, longrope};
  EXPECT_DOUBLE_EQ(rotary_frequencies(spec, 10)[1], 0.1 / 2);
  EXPECT_DOUBLE_EQ(rotary_frequencies(spec, 11)[1], 0.1 / 4);
  EXPECT_DOUBLE_EQ(at_place(Rotary(spec, at::kCPU), 0).cos[0][0][0][0].item<double>(), 1.5);
}

TEST(RotaryTest, ATextThatOutgrowsItsFrequenciesStartsAnew) {
  const Rotary rotary({100, 4, LongRopeScaling{{1, 2}, {3, 4}, 10, 1}}, at::kCPU);
  EXPECT_NO_THROW(at_place(rotary, 9));   // the tenth token: still short
  EXPECT_NO_THROW(at_place(rotary, 11));  // long before and after
  EXPECT_EQ(error_message<ShapeError>([&] { at_place(rotary, 10); }),
            "[rotary] a text of 11 tokens, expected to be run from its start (its length changes "
            "the rotary frequencies), got a state of 10 tokens");
}

// Padded rows count from their own first token, and each has its own length.
TEST(RotaryTest, PaddedRowsAreTurnedAsAlone) {
  const Rotary rotary({100, 4, LongRopeScaling{{1, 2}, {3, 4}, 5, 1}}, at::kCPU);
  Prompt padded;
  padded.first = at::tensor({0, 4}, at::kLong);
  const RotaryTable both = rotary.table(padded, 7, at::kDouble);
  const RotaryTable longer = rotary.table({}, 7, at::kDouble);
  const RotaryTable shorter = rotary.table({}, 3, at::kDouble);
  EXPECT_LT(largest_difference(both.sin.slice(0, 0, 1), longer.sin), 1e-15);
  EXPECT_LT(largest_difference(both.sin.slice(0, 1, 2).slice(1, 4), shorter.sin), 1e-15);
}

TEST(RotaryTest, TurnsPairsAndKeepsTheRest) {
  const Rotary rotary({.theta = 1, .rotary_dim = 4, .scaling = {}},
                      at::kCPU);  // 1 radian a position
  const Tensor x = at::tensor({1.0, 2.0, 0.0, 0.0, 7.0}, at::kDouble).view({1, 1, 1, 5});
  const Tensor turned = rotate(x, at_place(rotary, 3));
  const double c = std::cos(3.0);
  const double s = std::sin(3.0);
  const Tensor expected = at::tensor({c, 2 * c, s, 2 * s, 7.0}, at::kDouble).view({1, 1, 1, 5});
  EXPECT_LT(largest_difference(turned, expected), 1e-14);
}

TEST(RotaryTest, ProductsDependOnDistanceOnly) {
  const Rotary rotary({.theta = 100, .rotary_dim = 8, .scaling = {}}, at::kCPU);
  const Tensor q = at::rand({1, 1, 1, 8}, at::kDouble);
  const Tensor k = at::rand({1, 1, 1, 8}, at::kDouble);
  const auto score = [&](int64_t i, int64_t j) {
    return (rotate(q, at_place(rotary, i)) * rotate(k, at_place(rotary, j))).sum().item<double>();
  };
  EXPECT_NEAR(score(5, 2), score(1005, 1002), 1e-10);
  EXPECT_GT(std::abs(score(5, 2) - score(5, 1)), 1e-6);
}

}  // namespace
}  // namespace headlens
