// headlens/tests: sets of heads in one forward against one joint ablation at a time.
#include "analysis/set_sweep.h"

#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::expect_same_verdicts;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

std::vector<int64_t> layers_with_heads(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    if (head_count(config.layers[static_cast<size_t>(i)]) > 0) layers.push_back(i);
  }
  return layers;
}

/// Sets that begin alike, with no head and with heads of all layers among them.
std::vector<std::vector<HeadId>> some_sets(const ModelConfig& config) {
  const std::vector<HeadId> heads = all_heads(config, 3);
  const HeadId &first = heads.front(), &middle = heads[heads.size() / 2], &last = heads.back();
  return {{first, middle}, {first, last}, {first}, {first, middle, last}, {}, {last}, heads};
}

HeadSetList groups_of(const std::vector<std::vector<HeadId>>& sets) {
  HeadSetList groups;
  for (const auto& set : sets) {
    HeadList& own = groups.emplace_back();
    for (const HeadId& head : set) own.push_back({head.layer, head.first, head.last});
  }
  return groups;
}

class SetSweepTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, SetSweepTest, ::testing::ValuesIn(kFamilies));

TEST_P(SetSweepTest, EqualsOneJointAblationASet) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const auto sets = some_sets(model.config());
  for (const AblationMode mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    SweepOptions options;
    options.mode = mode;
    if (mode == AblationMode::Mean) options.placement = Placement::PreNorm;
    for (const int64_t tokens : {1, 200, 100000}) {
      if (tokens < 100000 && mode != AblationMode::Zero) continue;
      options.max_batch_tokens = tokens;
      SetSweep sweep(model, *objective, layers_with_heads(model.config()), options);
      const std::vector<SweepOutcome> outcomes = sweep.run(groups_of(sets));
      ASSERT_EQ(outcomes.size(), sets.size());
      EXPECT_EQ(sweep.sets_run(), std::ssize(sets));
      for (size_t s = 0; s < sets.size(); ++s) {
        SCOPED_TRACE("set " + std::to_string(s));
        const SweepOutcome expected =
            sets[s].empty()
                ? ablation_sweep(model, *objective, {}, options).base
                : ablate_jointly(model, *objective, sets[s], false, options).variants.front();
        // float64: what is left is the order of sums in products of other sizes
        expect_same_verdicts(outcomes[s], expected, 1e-12);
      }
    }
  }
}

TEST(SetSweep, RefusesWhatItCannotDo) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  SweepOptions options;
  options.max_batch_tokens = 0;
  EXPECT_EQ(error_message<UsageError>([&] { SetSweep(model, *objective, {0}, options); }),
            "[ablate] tokens a batch, expected at least 1, got 0");
  options = {};
  options.positions = CutPositions::FromQuery;
  EXPECT_EQ(error_message<UsageError>([&] { SetSweep(model, *objective, {0}, options); }),
            "[circuit] positions, expected all of them, got some");
  SetSweep sweep(model, *objective, {0}, {});
  EXPECT_EQ(error_message<HookError>([&] {
              sweep.run({{{0, 9, 9}}});
            }),
            "[ablate] head, expected 0..3 in layer 0, got 9");
}

}  // namespace
}  // namespace headlens
