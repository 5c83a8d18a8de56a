// headlens/tests: sweeps and map figures on a GPU give what they give on the CPU.
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/core/device.h"

namespace headlens {
namespace {

using testing::expect_same_verdicts;
using testing::kFamilies;
using testing::load_model;
using testing::model_dir;
using testing::objective_of;
using testing::unlike_examples;

// Float64 with sums in another order.
constexpr double kClose = 1e-10;

class AnalysisCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    here_.emplace(load_model(GetParam()));
    there_.emplace(
        LanguageModel::load(model_dir(GetParam()), {.dtype = at::kDouble, .device = at::kCUDA}));
    heads_ = all_heads(here_->config(), 3);
  }

  std::optional<LanguageModel> here_, there_;
  std::unique_ptr<Objective> objective_ = objective_of(unlike_examples());
  std::vector<HeadId> heads_;
};
INSTANTIATE_TEST_SUITE_P(Families, AnalysisCuda, ::testing::ValuesIn(kFamilies));

TEST_P(AnalysisCuda, Sweeps) {
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    for (const auto placement : {Placement::PostNorm, Placement::PreNorm}) {
      for (const auto positions : {CutPositions::All, CutPositions::BeforeQuery,
                                   CutPositions::InSegments, CutPositions::SegmentsFromQuery}) {
        const SweepOptions options{mode, placement, positions, 100, {}};
        const SweepResult expected = ablation_sweep(*here_, *objective_, heads_, options);
        const SweepResult got = ablation_sweep(*there_, *objective_, heads_, options);
        expect_same_verdicts(got.base, expected.base, kClose);
        for (size_t t = 0; t < heads_.size(); ++t) {
          expect_same_verdicts(got.variants[t], expected.variants[t], kClose);
        }
      }
    }
  }
}

TEST_P(AnalysisCuda, MapFiguresAndSamples) {
  const auto expected = map_figures(*here_, *objective_, heads_);
  const auto got = map_figures(*there_, *objective_, heads_);
  for (size_t t = 0; t < heads_.size(); ++t) {
    EXPECT_NEAR(*got[t].entropy, *expected[t].entropy, kClose);
    EXPECT_NEAR(*got[t].entropy_norm, *expected[t].entropy_norm, kClose);
    EXPECT_NEAR(*got[t].gather, *expected[t].gather, kClose);
    EXPECT_NEAR(*got[t].aggregate, *expected[t].aggregate, kClose);
    EXPECT_NEAR(*got[t].target, *expected[t].target, kClose);
  }
  const auto maps = map_samples(*there_, *objective_, 0, heads_, 5);
  const auto same = map_samples(*here_, *objective_, 0, heads_, 5);
  for (size_t t = 0; t < heads_.size(); ++t) {
    // Float32, relative to the largest entry.
    const float largest = std::max(1.0f, same[t].map.cwiseAbs().maxCoeff());
    EXPECT_LT((maps[t].map - same[t].map).cwiseAbs().maxCoeff(), 1e-6f * largest);
  }
}

TEST_P(AnalysisCuda, HalfPrecision) {
  const LanguageModel half = testing::first_layers(
      LanguageModel::load(model_dir(GetParam()), {.dtype = at::kBFloat16, .device = at::kCUDA}));
  const LanguageModel here = testing::first_layers(*here_);
  heads_ = all_heads(here.config(), 3);
  const auto expected = map_figures(here, *objective_, heads_);
  const auto got = map_figures(half, *objective_, heads_);
  for (size_t t = 0; t < heads_.size(); ++t) {
    EXPECT_NEAR(*got[t].entropy_norm, *expected[t].entropy_norm, 0.05);  // 8 bits, 4 layers
  }
  const SweepResult swept = ablation_sweep(half, *objective_, heads_);
  EXPECT_EQ(swept.variants.size(), heads_.size());
  EXPECT_TRUE(std::isfinite(swept.base.mean_logprob()));
}

class AnalysisCuda2 : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (cuda_device_count() < 2) GTEST_SKIP() << "fewer than two CUDA devices";
    const at::Device first(at::kCUDA, 0), second(at::kCUDA, 1);
    LoadOptions options;
    options.dtype = at::kDouble;
    options.devices = {first};
    one_.emplace(LanguageModel::load(model_dir(GetParam()), options));
    options.devices = {first, second};
    two_.emplace(LanguageModel::load(model_dir(GetParam()), options));
    ASSERT_EQ(two_->devices().size(), 2u);
    heads_ = all_heads(one_->config(), 3);
  }

  std::optional<LanguageModel> one_, two_;
  std::unique_ptr<Objective> objective_ = objective_of(unlike_examples());
  std::vector<HeadId> heads_;
};
INSTANTIATE_TEST_SUITE_P(Families, AnalysisCuda2, ::testing::ValuesIn(kFamilies));

TEST_P(AnalysisCuda2, SweepsAsOnOneDevice) {
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    for (const auto positions : {CutPositions::All, CutPositions::SegmentsFromQuery}) {
      const SweepOptions options{mode, Placement::PostNorm, positions, 100, {}};
      const SweepResult expected = ablation_sweep(*one_, *objective_, heads_, options);
      const SweepResult got = ablation_sweep(*two_, *objective_, heads_, options);
      expect_same_verdicts(got.base, expected.base, kClose);
      for (size_t t = 0; t < heads_.size(); ++t) {
        expect_same_verdicts(got.variants[t], expected.variants[t], kClose);
      }
    }
  }
  const SweepResult expected = ablate_jointly(*one_, *objective_, {heads_.back()}, /*keep=*/true);
  const SweepResult got = ablate_jointly(*two_, *objective_, {heads_.back()}, /*keep=*/true);
  expect_same_verdicts(got.variants[0], expected.variants[0], kClose);
}

TEST_P(AnalysisCuda2, MapFiguresAndSamplesAsOnOneDevice) {
  const auto expected = map_figures(*one_, *objective_, heads_);
  const auto got = map_figures(*two_, *objective_, heads_);
  const auto same = map_samples(*one_, *objective_, 0, heads_, 5);
  const auto maps = map_samples(*two_, *objective_, 0, heads_, 5);
  for (size_t t = 0; t < heads_.size(); ++t) {
    EXPECT_NEAR(*got[t].entropy, *expected[t].entropy, kClose);
    EXPECT_NEAR(*got[t].gather, *expected[t].gather, kClose);
    EXPECT_NEAR(*got[t].aggregate, *expected[t].aggregate, kClose);
    EXPECT_NEAR(*got[t].target, *expected[t].target, kClose);
    EXPECT_LT((maps[t].map - same[t].map).cwiseAbs().maxCoeff(), 1e-6f);  // float32
  }
}

}  // namespace
}  // namespace headlens
