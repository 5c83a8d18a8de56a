// headlens/tests: chosen tokens against filters worked out by hand, and frequencies of many draws.
#include "model/sampling.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "headlens/core/device.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

/// Logits whose softmax is 1/8, 1/2, 1/16, 1/4, 1/16.
Tensor eighths() {
  return at::tensor({0.125, 0.5, 0.0625, 0.25, 0.0625}, at::kDouble).log() + 3;
}

int64_t pick(const Tensor& logits, double temperature, double top_p, double draw) {
  return choose_tokens(logits.unsqueeze(0), temperature, top_p, at::tensor({draw}, at::kDouble))
      .ids.item<int64_t>();
}

// By falling probability: 1 (1/2), 3 (1/4), 0 (1/8), 2 and 4 (1/16 each, by id).
TEST(SamplingTest, DrawsFallIntoSharesByFallingProbability) {
  for (const auto& [draw, token] : std::vector<std::pair<double, int64_t>>{{0.0, 1},
                                                                           {0.499, 1},
                                                                           {0.501, 3},
                                                                           {0.749, 3},
                                                                           {0.751, 0},
                                                                           {0.874, 0},
                                                                           {0.876, 2},
                                                                           {0.937, 2},
                                                                           {0.938, 4},
                                                                           {1 - 0x1p-53, 4}}) {
    EXPECT_EQ(pick(eighths(), 1, 1, draw), token) << draw;
  }
}

TEST(SamplingTest, TopPKeepsTheFewestThatHaveItsShare) {
  // 0.74: {1, 3} have 0.75, of which 1 has two thirds.
  EXPECT_EQ(pick(eighths(), 1, 0.74, 0.66), 1);
  EXPECT_EQ(pick(eighths(), 1, 0.74, 0.67), 3);
  EXPECT_EQ(pick(eighths(), 1, 0.74, 1 - 0x1p-53), 3);
  // 0.76: {1, 3, 0} have 7/8.
  EXPECT_EQ(pick(eighths(), 1, 0.76, 0.85), 3);
  EXPECT_EQ(pick(eighths(), 1, 0.76, 0.86), 0);
  // However little is asked for, the likeliest stays.
  EXPECT_EQ(pick(eighths(), 1, 1e-9, 1 - 0x1p-53), 1);
}

TEST(SamplingTest, TemperatureComesBeforeTheFilter) {
  // At 1/2 the shares are squares: 1/4, 1/16, 1/64, 1/256 twice, of 43/128: token 1 has 32/43.
  EXPECT_EQ(pick(eighths(), 0.5, 1, 0.744), 1);
  EXPECT_EQ(pick(eighths(), 0.5, 1, 0.745), 3);
  EXPECT_EQ(pick(eighths(), 0.5, 0.74, 0.999), 1);  // and at 1 it would not be alone
  // However cold or hot, nothing is infinite.
  EXPECT_EQ(pick(eighths(), 1e-300, 1, 0.999), 1);
  EXPECT_EQ(pick(eighths(), 1e300, 1, 0.999), 4);
}

TEST(SamplingTest, WhatIsImpossibleIsNotDrawn) {
  const Tensor logits = at::tensor({0.0, -INFINITY, 0.0, -INFINITY}, at::kDouble);
  EXPECT_EQ(pick(logits, 1, 1, 0.0), 0);
  EXPECT_EQ(pick(logits, 1, 1, 1 - 0x1p-53), 2);
}

TEST(SamplingTest, LogprobsAreTheModelsOwn) {
  const ChosenTokens greedy = choose_tokens(eighths().unsqueeze(0), 0, 0.1, {});
  EXPECT_EQ(greedy.ids.item<int64_t>(), 1);
  EXPECT_NEAR(greedy.logprobs.item<double>(), std::log(0.5), 1e-12);
  const ChosenTokens cold =
      choose_tokens(eighths().unsqueeze(0), 0.5, 0.9, at::tensor({0.9}, at::kDouble));
  EXPECT_EQ(cold.ids.item<int64_t>(), 3);
  EXPECT_NEAR(cold.logprobs.item<double>(), std::log(0.25), 1e-12);
  const Tensor nan = at::full({1, 3}, std::nan(""), at::kDouble);
  EXPECT_THROW(choose_tokens(nan, 0, 1, {}), Error);
  EXPECT_THROW(choose_tokens(nan, 1, 1, at::zeros({1}, at::kDouble)), Error);
}

/// Pearson's statistic of tokens drawn from shares 1/2, 1/4, 1/8, 1/16, 1/16: with 4 degrees of
/// freedom it exceeds 27.9 once in 80 000 experiments.
void expect_shares(at::Device device) {
  constexpr int64_t kDraws = 20000;
  for (const uint64_t seed : {0, 1, 12345}) {
    std::vector<double> draws;
    for (int64_t i = 0; i < kDraws; ++i) draws.push_back(sampling_draw(seed, i / 100, i % 100));
    const Tensor logits = eighths().to(device).expand({kDraws, 5});
    const Tensor ids = choose_tokens(logits, 1, 1, at::tensor(draws, at::kDouble)).ids;
    const Tensor seen = at::bincount(ids, {}, 5).to(at::kDouble);
    const Tensor expected = eighths().softmax(0) * kDraws;
    EXPECT_LT(((seen - expected).square() / expected).sum().item<double>(), 27.9) << seed;
  }
}

TEST(SamplingTest, FrequenciesOfManyDraws) {
  expect_shares(at::kCPU);
}

TEST(SamplingCuda, FrequenciesOfManyDraws) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  expect_shares(at::kCUDA);
}

TEST(SamplingTest, DrawsDifferBySeedPromptAndStep) {
  std::set<double> all;
  for (const uint64_t seed : {0, 1, 2}) {
    for (int64_t prompt = 0; prompt < 20; ++prompt) {
      for (int64_t step = 0; step < 20; ++step) {
        const double draw = sampling_draw(seed, prompt, step);
        EXPECT_GE(draw, 0);
        EXPECT_LT(draw, 1);
        all.insert(draw);
      }
    }
  }
  EXPECT_EQ(all.size(), 3u * 20 * 20);
}

}  // namespace
}  // namespace headlens
