// headlens/tests: sweeps over any interventions against one at a time, and those against taps of
// the tests' own.
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/reducers.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::Editor;
using testing::error_message;
using testing::expect_same_verdicts;
using testing::kFamilies;
using testing::largest_change;
using testing::load_model;
using testing::objective_of;
using testing::place_of;
using testing::unlike_examples;

/// Of every kind: sets over layers, whole layers, all but some, MLPs, both, and map entries.
std::vector<SweepTarget> mixed_targets(const ModelConfig& config) {
  const std::vector<HeadId> heads = all_heads(config, 3);
  std::vector<SweepTarget> targets = {
      {.heads = {heads.front(), heads.back()}},
      {.heads = {heads[1]}},
      whole_layers(config, {heads.back().layer}),
      all_but(config, {heads[0], heads[2]}),
      {.maps = {{.layer = heads.back().layer}}},
      {.heads = {heads[0]}, .maps = {{.layer = heads.back().layer, .segments = {0}}}},
      {.maps = {{.layer = heads[0].layer,
                 .heads = {heads[0].first},
                 .keys = {0},
                 .from_query = false}}}};
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    if (!config.layers[static_cast<size_t>(layer)].mlp) continue;
    targets.push_back({.mlps = {layer}});
    targets.push_back({.heads = {heads.back()}, .mlps = {layer}});
  }
  return targets;
}

class TargetSweepTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, TargetSweepTest, ::testing::ValuesIn(kFamilies));

TEST_P(TargetSweepTest, EqualsOneByOne) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  std::vector<SweepTarget> all = mixed_targets(model.config()), batched;
  for (const SweepTarget& target : all) {
    if (target.maps.empty()) batched.push_back(target);
  }
  for (const auto mode :
       {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample, AblationMode::Scale}) {
    SweepOptions options;
    options.mode = mode;
    options.factor = -0.5;
    // With maps whole rows are run, without them prompts are run once.
    for (const auto& targets : {all, batched}) {
      if (targets.size() == all.size() && mode != AblationMode::Zero) continue;
      const SweepResult swept = sweep_targets(model, *objective, targets, options);
      const SweepResult plain = targets_one_by_one(model, *objective, targets, options);
      expect_same_verdicts(swept.base, plain.base, 1e-12);
      for (size_t t = 0; t < targets.size(); ++t) {
        SCOPED_TRACE("target " + std::to_string(t));
        expect_same_verdicts(swept.variants[t], plain.variants[t], 1e-12);  // float64
        EXPECT_GT(largest_change(swept.variants[t], swept.base), 1e-9);
      }
    }
  }
}

SweepOutcome outcome_under(const LanguageModel& model, Tap& tap) {
  const EvalResult result = evaluate(model, unlike_examples(), {16384, &tap, {}});
  SweepOutcome out;
  for (size_t i = 0; i < result.correct.size(); ++i) {
    out.verdicts.push_back({result.correct[i] != 0, result.logprob[i], 0});
  }
  return out;
}

TEST_P(TargetSweepTest, MlpsAndScaledHeadsAreWhatTapsMakeThem) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  SweepOptions options;
  options.mode = AblationMode::Scale;
  options.factor = 3;
  const HeadId head = all_heads(model.config(), 3).back();
  const auto [point, own] = place_of(model.config(), head);
  Editor scaled(point, [&, own = own](const Tensor& outputs) {
    Tensor changed = outputs.clone();
    changed.slice(2, own.first, own.last + 1).mul_(3);
    return changed;
  });
  const SweepResult swept = sweep_targets(model, *objective, {{.heads = {head}}}, options);
  EXPECT_LT(largest_change(swept.variants[0], outcome_under(model, scaled)), 1e-11);
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    if (!model.config().layers[static_cast<size_t>(layer)].mlp) continue;
    Editor gone({Site::MlpOut, layer}, [](const Tensor& out) { return at::zeros_like(out); });
    const SweepResult zeroed = sweep_targets(model, *objective, {{.mlps = {layer}}});
    EXPECT_LT(largest_change(zeroed.variants[0], outcome_under(model, gone)), 1e-11);
  }
}

// One example alone: its second segment hidden from the last prompt token on.
TEST_P(TargetSweepTest, MapCutsTakeTheirEntriesOut) {
  const LanguageModel model = load_model(GetParam());
  const std::vector<TokenizedExample> one = {unlike_examples()[2]};
  const int64_t q = std::ssize(one[0].prompt_ids) - 1;
  for (const HeadId& head : {all_heads(model.config(), 3).front()}) {
    const TapPoint point = map_point(model.config(), head.layer, head.first);
    testing::MapEditor tap(point, [&](HeadMap& map) {
      MapEdit edit;
      edit.heads = {head.first};
      edit.rows = at::arange(map.queries(), at::kLong).ge(q);
      edit.keys = at::arange(map.keys(), at::kLong).eq(4);
      map.edit(edit);
    });
    const EvalResult expected = evaluate(model, one, {16384, &tap, {}});
    const SweepTarget target{
        .maps = {{.layer = head.layer, .heads = {head.first}, .segments = {1}}}};
    const SweepResult got = sweep_targets(model, *objective_of(one), {target});
    EXPECT_NEAR(got.variants[0].verdicts[0].logprob, expected.logprob[0], 1e-11);
  }
}

TEST(SweepTargets, ManyBatchesAndFewGiveTheSame) {
  const LanguageModel model = load_model("bamba");
  const auto objective = objective_of(unlike_examples());
  const auto targets = mixed_targets(model.config());
  SweepOptions small;
  small.max_batch_tokens = 1;
  const SweepResult one = sweep_targets(model, *objective, targets, small);
  const SweepResult many = sweep_targets(model, *objective, targets);
  for (size_t t = 0; t < targets.size(); ++t) {
    expect_same_verdicts(one.variants[t], many.variants[t], 1e-12);
  }
}

TEST(SweepTargets, RefuseWhatIsNotThere) {
  const LanguageModel model = load_model("nemotron_h");  // Mamba-2, MLP, attention, Mamba-2
  const auto objective = objective_of(unlike_examples());
  const auto message = [&](const SweepTarget& target) {
    return error_message<HookError>([&] { sweep_targets(model, *objective, {target}); });
  };
  EXPECT_EQ(message({.mlps = {0}}), "[ablate] MLP, expected a layer with one, got 0");
  EXPECT_EQ(message({.mlps = {7}}), "[ablate] layer, expected 0..3, got 7");
  EXPECT_EQ(message({}), "[ablate] heads to cut, expected at least one, got none");
  EXPECT_EQ(message({.maps = {{.layer = 2, .segments = {9}}}}),
            "[ablate] map entries of layer 2, expected some in at least one example, got none (has "
            "the task these segments?)");
  EXPECT_EQ(error_message<HookError>([&] { whole_layers(model.config(), {1}); }),
            "[ablate] layer, expected one with heads, got 1 (MLP only)");
  SweepOptions options;
  options.mode = AblationMode::Scale;
  options.factor = 1;
  EXPECT_EQ(error_message<UsageError>(
                [&] { sweep_targets(model, *objective, {{.mlps = {1}}}, options); }),
            "[ablate] factor to scale by, expected a number other than 1, got 1");
  options.positions = CutPositions::SegmentsFromQuery;
  options.mode = AblationMode::Zero;
  EXPECT_THROW(sweep_targets(model, *objective, {{.mlps = {1}}}, options), UsageError);
}

TEST(AllBut, NamesTheOthersOfEveryLayer) {
  const ModelConfig config = load_model("nemotron_h").config();
  const SweepTarget target = all_but(config, {{2, 1, 2}});
  const std::vector<HeadId> expected = {{0, 0, 5}, {2, 0, 0}, {2, 3, 3}, {3, 0, 5}};
  EXPECT_EQ(target.heads, expected);
}

}  // namespace
}  // namespace headlens
