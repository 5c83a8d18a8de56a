// headlens/tests: attribution patching against slopes of patched runs, and where it is exact.
#include <gtest/gtest.h>

#include "headlens/model/fresh_weights.h"
#include "patching_tools.h"

namespace headlens {
namespace {

using testing::example_pairs;
using testing::ExamplePairs;
using testing::kFamilies;
using testing::load_model;
using testing::mean_score;
using testing::objective_of;
using testing::PairScore;
using testing::patch_by_hooks;

class PatchGradientsOfFamily : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, PatchGradientsOfFamily, ::testing::ValuesIn(kFamilies));

/// (m(h) - m(-h)) / 2h, m(s) the mean difference with each run s of the way to its donor.
double slope(const LanguageModel& model, const ExamplePairs& pairs, const PatchCell& cell,
             PatchSite site, const PositionGroup& group) {
  constexpr double kStep = 2e-6;
  const auto at = [&](double share) {
    return mean_score(pairs.clean.size(),
                      [&](size_t i) {
                        return patch_by_hooks(
                            model, pairs.corrupted[i], pairs.clean[i], pairs.clean[i].answer,
                            pairs.corrupted[i].answer, cell, site,
                            group.everywhere ? std::vector<int64_t>() : group.positions[i], share);
                      })
        .difference;
  };
  return (at(kStep) - at(-kStep)) / (2 * kStep);
}

TEST_P(PatchGradientsOfFamily, EstimatesAreSlopesTowardsTheDonor) {
  const LanguageModel model = load_model(GetParam());
  const ExamplePairs pairs = example_pairs();
  const auto clean = objective_of(pairs.clean), corrupted = objective_of(pairs.corrupted);
  const auto groups = position_groups(*clean, *corrupted, {"right", "all"});
  size_t compared = 0;
  for (const PatchSite site : {PatchSite::Resid, PatchSite::MixerOut, PatchSite::MlpOut,
                               PatchSite::Z, PatchSite::Pattern, PatchSite::Map}) {
    PatchOptions options;
    options.site = site;
    options.attribution = true;
    options.mamba1_groups = 2;
    Patching found;
    try {
      found = patch_activations(model, *clean, *corrupted, groups, options);
    } catch (const UsageError&) {
      continue;  // no layer has the site
    }
    ASSERT_TRUE(found.error.has_value());
    for (size_t c = 0; c < found.cells.size(); c += 1 + found.cells.size() / 6, ++compared) {
      const PatchCell& cell = found.cells[c];
      const double expected = slope(model, pairs, cell, site, groups[cell.positions]);
      // The third derivative times the step's square (large in front of the goldens' norms), and
      // rounding over the step.
      EXPECT_NEAR(cell.estimated->value, expected, 1e-5 * std::max(1.0, std::abs(expected)))
          << patch_site_name(site) << " cell " << c;
    }
  }
  EXPECT_GT(compared, 8U);
}

/// Two attention layers and a final norm that only scales: its eps is all there is of its square.
LanguageModel linear_behind_its_last_mixer() {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = 97;
  config.d_model = 24;
  config.norm_eps = 1e20;
  AttentionSpec attention;
  attention.heads = attention.kv_heads = 4;
  attention.d_head = 6;
  attention.scale = 1;
  config.layers = {{attention, {}}, {attention, {}}};
  InitOptions wide;
  wide.std = 0.4;
  auto weights = fresh_weights(config, 7, wide);
  for (auto& [name, weight] : weights) {
    const bool behind_norm =
        name.find("_proj") != std::string::npos && name.find("o_proj") == std::string::npos;
    if (behind_norm || name == "lm_head.weight") weight.mul_(1e10);
  }
  return LanguageModel::build(config,
                              WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
}

TEST(PatchGradients, ExactWhereNothingBehindIsCurved) {
  const LanguageModel model = linear_behind_its_last_mixer();
  ExamplePairs pairs = example_pairs();
  for (auto* examples : {&pairs.clean, &pairs.corrupted}) examples->erase(examples->begin() + 1);
  const auto clean = objective_of(pairs.clean), corrupted = objective_of(pairs.corrupted);
  const auto groups = position_groups(*clean, *corrupted, {"last"});
  for (const PatchSite site : {PatchSite::MixerOut, PatchSite::Z, PatchSite::Pattern}) {
    PatchOptions options;
    options.site = site;
    options.attribution = true;
    options.layers = {1};
    const Patching found = patch_activations(model, *clean, *corrupted, groups, options);
    for (const PatchCell& cell : found.cells) {
      // Log-probabilities of a few nats are rounded to 1e-15.
      EXPECT_NEAR(cell.estimated->value, cell.difference_change.value, 1e-13)
          << patch_site_name(site);
    }
    EXPECT_GT(found.error->mean_exact, 1e-7);
    EXPECT_LT(found.error->mean_absolute, 1e-13);
    EXPECT_NEAR(found.error->rank_correlation.value_or(1), 1, 1e-12);
  }
}

}  // namespace
}  // namespace headlens
