// headlens/tests: drops and their intervals against figures worked out by hand.
#include "headlens/analysis/estimates.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;

/// "1" right, "0" wrong.
SweepOutcome outcome(const std::string& right) {
  SweepOutcome out;
  for (const char c : right) out.verdicts.push_back({c == '1', -1.0, 1.0});
  return out;
}

TEST(SweepOutcome, CountsAndMeans) {
  SweepOutcome out = outcome("1101");
  out.verdicts[0] = {true, -0.25, 0.0005};
  out.verdicts[2] = {false, -2.75, 0.001};  // a near tie is less than 1e-3
  EXPECT_EQ(out.correct(), 3);
  EXPECT_DOUBLE_EQ(out.accuracy(), 0.75);
  EXPECT_DOUBLE_EQ(out.mean_logprob(), -1.25);
  EXPECT_EQ(out.near_ties(), 1);
  EXPECT_EQ(outcome("").accuracy(), 0);
  EXPECT_EQ(outcome("").mean_logprob(), 0);
}

TEST(AccuracyEstimate, IsTheWilsonInterval) {
  // Newcombe 1998, table I: 0 of 20 gives an upper end of 0.1611 (four places).
  const Estimate none = accuracy_estimate(outcome(std::string(20, '0')));
  EXPECT_EQ(none.value, 0);
  EXPECT_NEAR(none.high, 0.1611, 5e-5);
  const Estimate empty = accuracy_estimate(outcome(""));
  EXPECT_EQ(empty.low, 0);
  EXPECT_EQ(empty.high, 1);
}

// 10 pairs, 3 lost, 1 won: cells with half an example added sum to 12, difference 3.5 - 1.5 = 2,
// discordant 5; centre 2/12, variance (5 - 4/12) / 144, half width 1.959964 * 0.1800206.
TEST(AccuracyDrop, AgreestiMinByHand) {
  const Estimate drop = accuracy_drop(outcome("1111100000"), outcome("0001110000"));
  EXPECT_DOUBLE_EQ(drop.value, 0.2);
  EXPECT_NEAR(drop.low, 1.0 / 6 - 0.3528339, 1e-6);
  EXPECT_NEAR(drop.high, 1.0 / 6 + 0.3528339, 1e-6);
}

// 4 of 4 lost: centre 4/6, discordant 5, variance (5 - 16/6) / 36, half width 1.959964 * 0.2545875.
TEST(AccuracyDrop, AllLost) {
  const Estimate drop = accuracy_drop(outcome("1111"), outcome("0000"));
  EXPECT_EQ(drop.value, 1);
  EXPECT_NEAR(drop.low, 4.0 / 6 - 0.4989823, 1e-6);
  EXPECT_EQ(drop.high, 1);
  const Estimate gain = accuracy_drop(outcome("0000"), outcome("1111"));
  EXPECT_EQ(gain.value, -1);
  EXPECT_NEAR(gain.high, -drop.low, 1e-12);
  EXPECT_EQ(gain.low, -1);
}

TEST(AccuracyDrop, OneExampleProvesNothing) {
  // centre 1/3, discordant 2, variance (2 - 1/3) / 9
  const Estimate drop = accuracy_drop(outcome("1"), outcome("0"));
  EXPECT_EQ(drop.value, 1);
  EXPECT_NEAR(drop.low, 1.0 / 3 - 1.959964 * 0.4303315, 1e-6);
  EXPECT_EQ(drop.high, 1);
  EXPECT_LT(drop.low, 0);
}

TEST(AccuracyDrop, NoChangeIsAnIntervalAroundZero) {
  const Estimate drop = accuracy_drop(outcome("1010"), outcome("1010"));
  EXPECT_EQ(drop.value, 0);
  EXPECT_NEAR(drop.high, 1.959964 / 6, 1e-6);  // only the two half examples disagree
  EXPECT_EQ(drop.low, -drop.high);
}

TEST(AccuracyDrop, NoExamples) {
  const Estimate drop = accuracy_drop(outcome(""), outcome(""));
  EXPECT_EQ(drop.value, 0);
  EXPECT_EQ(drop.low, -1);
  EXPECT_EQ(drop.high, 1);
}

TEST(AccuracyDrop, NeedsPairs) {
  const std::string message = "[drop] ablated verdicts, expected 2 as in the base, got 1";
  EXPECT_EQ(error_message<ShapeError>([] { accuracy_drop(outcome("11"), outcome("1")); }), message);
  EXPECT_EQ(error_message<ShapeError>([] { logprob_drop(outcome("11"), outcome("1")); }), message);
}

TEST(LogprobDrop, IsTheMeanDifference) {
  SweepOutcome base = outcome("11"), ablated = outcome("11");
  base.verdicts[0].logprob = -0.5;
  ablated.verdicts[0].logprob = -2.0;
  ablated.verdicts[1].logprob = -0.75;
  EXPECT_DOUBLE_EQ(logprob_drop(base, ablated), (1.5 - 0.25) / 2);
}

}  // namespace
}  // namespace headlens
