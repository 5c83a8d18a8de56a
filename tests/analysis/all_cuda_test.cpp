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

}  // namespace
}  // namespace headlens
