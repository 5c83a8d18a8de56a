// headlens/tests: means and ratios over examples against figures worked out by hand.
#include "analysis/paired_means.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;

constexpr double kZ = 1.959963984540054;

TEST(PairedMeans, MeanWithItsInterval) {
  const Estimate e = mean_estimate({1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(e.value, 3);
  // squares 4 + 1 + 0 + 9 = 14, variance 14 / 3, of the mean 14 / 12
  EXPECT_NEAR(e.low, 3 - kZ * std::sqrt(14.0 / 12), 1e-12);
  EXPECT_NEAR(e.high, 3 + kZ * std::sqrt(14.0 / 12), 1e-12);
}

TEST(PairedMeans, RatioWithItsInterval) {
  const Estimate e = ratio_estimate({1, 1, 4}, {2, 4, 6});
  EXPECT_DOUBLE_EQ(e.value, 0.5);
  // part - whole / 2 = 0, -1, 1: variance 1, of the mean 1 / 3; the whole's mean is 4
  EXPECT_NEAR(e.high - e.value, kZ * std::sqrt(1.0 / 3) / 4, 1e-12);
  EXPECT_NEAR(e.value - e.low, kZ * std::sqrt(1.0 / 3) / 4, 1e-12);
  const Estimate all = ratio_estimate({2, 4, 6}, {2, 4, 6});
  EXPECT_EQ(all.low, 1);
  EXPECT_EQ(all.high, 1);
  const Estimate negative = ratio_estimate({1, 1, 4}, {-2, -4, -6});
  EXPECT_DOUBLE_EQ(negative.value, -0.5);
  EXPECT_LT(negative.low, negative.high);
}

TEST(PairedMeans, DropsAreOfTheSameExamples) {
  const SweepOutcome base{{{true, -1, 0}, {true, -2, 0}}}, changed{{{true, -4, 0}, {true, -1, 0}}};
  EXPECT_EQ(logprob_drops(base, changed), (std::vector<double>{3, -1}));
}

TEST(PairedMeans, RefusesTooFewAndUnlikeLists) {
  EXPECT_EQ(error_message<ShapeError>([] { mean_estimate({1}); }),
            "[interval] examples, expected at least 2, got 1");
  EXPECT_EQ(error_message<ShapeError>([] {
              ratio_estimate({1, 2}, {1});
            }),
            "[interval] pairs, expected at least 2 of each, got 2 and 1");
  EXPECT_EQ(error_message<ShapeError>([] {
              logprob_drops({{{true, -1, 0}}}, {});
            }),
            "[drop] changed verdicts, expected 1 as in the base, got 0");
}

}  // namespace
}  // namespace headlens
