// headlens/tests: the sweep against one ablation at a time, and that against models without the
// head.
#include "headlens/analysis/ablation_sweep.h"

#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::changed_model;
using testing::Editor;
using testing::error_message;
using testing::expect_same_verdicts;
using testing::kFamilies;
using testing::largest_change;
using testing::load_model;
using testing::mamba_scope;
using testing::objective_of;
using testing::place_of;
using testing::unlike_examples;
using testing::without_columns;

constexpr CutPositions kPositions[] = {CutPositions::All, CutPositions::FromQuery,
                                       CutPositions::BeforeQuery, CutPositions::InSegments};

bool has_gated_norm(const ModelConfig& config) {
  return std::any_of(config.layers.begin(), config.layers.end(),
                     [](const LayerSpec& layer) { return layer_kind(layer) == LayerKind::Mamba2; });
}

/// Every mode, place and stretch of positions that makes a difference to this model.
std::vector<SweepOptions> all_options(const ModelConfig& config) {
  std::vector<SweepOptions> all;
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    for (const auto placement : {Placement::PostNorm, Placement::PreNorm}) {
      if (placement == Placement::PreNorm && !has_gated_norm(config)) continue;
      for (const auto positions : kPositions) {
        all.push_back({mode, placement, positions, 16384, {}});
      }
    }
  }
  return all;
}

void expect_same_results(const SweepResult& a, const SweepResult& b, double tolerance) {
  expect_same_verdicts(a.base, b.base, tolerance);
  ASSERT_EQ(a.variants.size(), b.variants.size());
  for (size_t v = 0; v < a.variants.size(); ++v) {
    SCOPED_TRACE("variant " + std::to_string(v));
    expect_same_verdicts(a.variants[v], b.variants[v], tolerance);
  }
}

class SweepTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, SweepTest, ::testing::ValuesIn(kFamilies));

// One variant a forward, some, and all.
/// Of a long list some ten, its last among them, so that many layers do not take minutes.
std::vector<HeadId> thinned(const std::vector<HeadId>& heads) {
  const size_t step = std::max<size_t>(1, heads.size() / 10);
  std::vector<HeadId> some;
  for (size_t i = 0; i < heads.size(); i += step) some.push_back(heads[heads.size() - 1 - i]);
  return some;
}

/// Nine questions behind the same few shots, some of their segments there, which are not the same
/// ones.
std::vector<TokenizedExample> few_shot_examples() {
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < 9; ++i) {
    TokenizedExample example;
    for (int64_t p = 0; p < 8; ++p) example.prompt_ids.push_back((p * p * 5 + p * 29) % 97);
    for (int64_t p = 0; p < 2 + i % 3; ++p) example.prompt_ids.push_back((i * 7 + p * 31) % 97);
    example.tokens.assign(example.prompt_ids.size(), "token");
    example.choice_ids = {{5}, {61, i}};
    example.answer = i % 2;
    example.segments = {{i % 4, i % 4 + 1}, {6, 8}};
    examples.push_back(std::move(example));
  }
  return examples;
}

TEST_P(SweepTest, EqualsOneByOne) {
  const LanguageModel model = load_model(GetParam());
  const auto unlike = objective_of(unlike_examples()), kin = objective_of(few_shot_examples(), 120);
  const std::vector<HeadId> targets = thinned(all_heads(model.config(), 3));
  for (SweepOptions options : all_options(model.config())) {
    for (const Objective* objective : {unlike.get(), kin.get()}) {
      const SweepResult expected = ablate_one_by_one(model, *objective, targets, options);
      for (const int64_t tokens : {1, 100, 100000}) {
        if (tokens < 100000 && options.mode != AblationMode::Zero) continue;
        options.max_batch_tokens = tokens;
        // float64: what is left is the order of sums in products of other sizes
        expect_same_results(ablation_sweep(model, *objective, targets, options), expected, 1e-12);
      }
    }
  }
}

/// The largest difference of a log-probability, relative beyond 1 as in expect_same_verdicts.
double largest_relative_change(const SweepResult& a, const SweepResult& b) {
  double largest = 0;
  for (size_t v = 0; v < a.variants.size(); ++v) {
    for (size_t i = 0; i < a.base.verdicts.size(); ++i) {
      const double x = a.variants[v].verdicts[i].logprob, y = b.variants[v].verdicts[i].logprob;
      largest = std::max(largest, std::abs(x - y) / std::max(1.0, std::abs(y)));
    }
  }
  return largest;
}

// Up to the model's own rounding: with the goldens' wild weights Zamba2's seven layers lose 1e-4, a
// hundred times what the other models do.
TEST_P(SweepTest, EqualsOneByOneInFloat32) {
  const LanguageModel model = load_model(GetParam(), at::kFloat);
  const auto objective = objective_of(unlike_examples());
  const std::vector<HeadId> targets = all_heads(model.config(), 5);
  const SweepResult expected = ablate_one_by_one(model, *objective, targets);
  const SweepResult precise = ablate_one_by_one(load_model(GetParam()), *objective, targets);
  const double rounding = largest_relative_change(expected, precise);
  EXPECT_LT(rounding, 2e-4);
  expect_same_results(ablation_sweep(model, *objective, targets), expected,
                      std::max(1e-6, rounding));
}

SweepOutcome outcome_of(const EvalResult& result) {
  SweepOutcome out;
  for (size_t i = 0; i < result.correct.size(); ++i) {
    out.verdicts.push_back({result.correct[i] != 0, result.logprob[i], 0});
  }
  return out;
}

// The output projection is linear: without its columns a head writes nothing.
TEST_P(SweepTest, ZeroIsTheModelWithoutTheColumns) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const std::vector<HeadId> targets = all_heads(model.config(), 3);
  const SweepResult cut = ablate_one_by_one(model, *objective_of(examples), targets);
  for (size_t t = 0; t < targets.size(); ++t) {
    const LanguageModel without = without_columns(GetParam(), {targets[t]});
    const SweepOutcome expected = outcome_of(evaluate(without, examples));
    EXPECT_LT(largest_change(cut.variants[t], expected), 1e-12);
    EXPECT_GT(largest_change(cut.base, expected), 1e-4);
  }
}

// Without its channels of the convolution, a head's x is silu(0) = 0, and so is M x + D x.
class GatedNormSweepTest : public SweepTest {};
INSTANTIATE_TEST_SUITE_P(Families, GatedNormSweepTest,
                         ::testing::Values("mamba2", "bamba", "nemotron_h", "falcon_h1", "zamba2"));

TEST_P(GatedNormSweepTest, PreNormZeroIsTheModelWithoutTheInput) {
  const LanguageModel model = load_model(GetParam());
  ASSERT_TRUE(has_gated_norm(model.config()));
  const auto examples = unlike_examples();
  std::vector<HeadId> targets;
  for (const HeadId& head : all_heads(model.config(), 1)) {
    const auto& layer = model.config().layers[static_cast<size_t>(head.layer)];
    if (bank_of(layer, head.first).kind == LayerKind::Mamba2) targets.push_back(head);
  }
  SweepOptions options;
  options.placement = Placement::PreNorm;
  const SweepResult cut = ablate_one_by_one(model, *objective_of(examples), targets, options);
  for (size_t t = 0; t < targets.size(); ++t) {
    const auto [layer, head, last] = targets[t];
    const int64_t width = head_width(model.config().layers[static_cast<size_t>(layer)]);
    const LanguageModel without = changed_model(GetParam(), [&](auto& weights) {
      const std::string mixer = mamba_scope(GetParam(), layer);
      for (const std::string& name : {mixer + "conv1d.weight", mixer + "conv1d.bias"}) {
        if (!weights.contains(name)) continue;  // not every model has the bias
        weights.at(name).slice(0, head * width, (head + 1) * width).zero_();
      }
    });
    const SweepOutcome expected = outcome_of(evaluate(without, examples));
    EXPECT_LT(largest_change(cut.variants[t], expected), 1e-12);
    EXPECT_GT(largest_change(cut.base, expected), 1e-6);
  }
}

/// The head outputs of a layer with those of `head` at positions first .. end - 1 put to 0.
Tensor zeroed(const Tensor& outputs, const HeadId& head, int64_t first, int64_t end) {
  Tensor changed = outputs.clone();
  changed.slice(1, first, end).slice(2, head.first, head.last + 1).zero_();
  return changed;
}

// One example at a time, so that every position is where it says.
TEST_P(SweepTest, CutsOnlyAtThePositionsAskedFor) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const std::vector<HeadId> targets = all_heads(model.config(), 2);
  for (const CutPositions positions : {CutPositions::FromQuery, CutPositions::BeforeQuery}) {
    SweepOptions options;
    options.positions = positions;
    const SweepResult cut = ablate_one_by_one(model, *objective_of(examples), targets, options);
    for (size_t t = 0; t < targets.size(); ++t) {
      const auto [point, own] = place_of(model.config(), targets[t]);
      for (size_t i = 0; i < examples.size(); ++i) {
        const int64_t q = std::ssize(examples[i].prompt_ids) - 1;
        Editor tap(point, [&, head = own](const Tensor& outputs) {
          return positions == CutPositions::FromQuery ? zeroed(outputs, head, q, outputs.size(1))
                                                      : zeroed(outputs, head, 0, q);
        });
        const EvalResult expected = evaluate(model, {examples[i]}, {16384, &tap, {}});
        EXPECT_NEAR(cut.variants[t].verdicts[i].logprob, expected.logprob[0], 1e-12);
      }
    }
  }
}

TEST_P(SweepTest, JointlyIsTheModelWithoutAllTheColumns) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const auto all = all_heads(model.config(), 2);
  const std::vector<HeadId> two = {all.front(), all.back()};
  for (const bool keep : {false, true}) {
    const SweepResult cut = ablate_jointly(model, *objective_of(examples), two, keep);
    std::vector<HeadId> gone = two;
    if (keep) {  // the others of the two layers
      gone.clear();
      for (const HeadId& head : two) {
        const auto& layer = model.config().layers[static_cast<size_t>(head.layer)];
        if (head.first > 0) gone.push_back({head.layer, 0, head.first - 1});
        gone.push_back({head.layer, head.last + 1, head_count(layer) - 1});
      }
    }
    const LanguageModel without = without_columns(GetParam(), gone);
    ASSERT_EQ(cut.variants.size(), 1u);
    const SweepOutcome expected = outcome_of(evaluate(without, examples));
    EXPECT_LT(largest_change(cut.variants[0], expected), 1e-12);
    EXPECT_GT(largest_change(cut.base, expected), 1e-4);
  }
}

TEST(AblationSweep, ResultsDoNotDependOnTheBatches) {
  const LanguageModel model = load_model("bamba");
  const std::vector<HeadId> targets = all_heads(model.config(), 1);
  for (const SweepOptions& options : all_options(model.config())) {
    const auto large = objective_of(unlike_examples(), 4096),
               single = objective_of(unlike_examples(), 1);
    ASSERT_EQ(large->batch_count(), 1);
    ASSERT_EQ(single->batch_count(), single->example_count());
    expect_same_results(ablation_sweep(model, *large, targets, options),
                        ablation_sweep(model, *single, targets, options), 1e-12);
  }
}

// Layers 1 and 4 share their block's weights: each has its own heads all the same, and the first
// layer left is one that reads the embedding again.
TEST(AblationSweep, WorksOnPrunedModelsOfSharedBlocks) {
  const LanguageModel model = load_model("zamba2").with_layers({1, 4, 5});
  const auto objective = objective_of(unlike_examples());
  const std::vector<HeadId> targets = all_heads(model.config(), 1);
  ASSERT_EQ(targets.size(), 8u + 8 + 4);
  const SweepResult swept = ablation_sweep(model, *objective, targets);
  expect_same_results(swept, ablate_one_by_one(model, *objective, targets), 1e-12);
  for (size_t head = 4; head < 8; ++head) {
    EXPECT_GT(largest_change(swept.variants[head], swept.base), 1e-4);
    EXPECT_GT(largest_change(swept.variants[head], swept.variants[8 + head]), 1e-4);
  }
}

TEST(AblationSweep, LeavesNoTraceInTheModel) {
  const LanguageModel model = load_model("llama");
  const auto examples = unlike_examples();
  const EvalResult before = evaluate(model, examples);
  ablation_sweep(model, *objective_of(examples), all_heads(model.config(), 1));
  EXPECT_EQ(evaluate(model, examples).logprob, before.logprob);
}

TEST(AblationSweep, ReportsProgressUpToTheTotal) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const auto targets = all_heads(model.config(), 1);
  const auto last_step = [&](const auto& run) {
    std::pair<int64_t, int64_t> last;
    SweepOptions options;
    options.progress = [&](int64_t done, int64_t total) {
      EXPECT_EQ(done, last.first + 1);
      last = {done, total};
    };
    run(options);
    EXPECT_EQ(last.first, last.second);
    return last.second;
  };
  const int64_t batches = objective->batch_count(), heads = std::ssize(targets);
  EXPECT_EQ(last_step([&](auto& o) { ablation_sweep(model, *objective, targets, o); }),
            batches * (heads + 1));
  EXPECT_EQ(last_step([&](auto& o) { ablate_one_by_one(model, *objective, targets, o); }),
            batches * (heads + 1));
  EXPECT_EQ(last_step([&](auto& o) { ablate_jointly(model, *objective, targets, false, o); }),
            batches * 2);
}

TEST(AblationSweep, WithoutTargetsGivesTheBase) {
  const LanguageModel model = load_model("llama");
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    SweepOptions options;
    options.mode = mode;
    const SweepResult result = ablation_sweep(model, *objective_of(unlike_examples()), {}, options);
    EXPECT_TRUE(result.variants.empty());
    EXPECT_LT(largest_change(result.base, outcome_of(evaluate(model, unlike_examples()))), 1e-12);
  }
}

TEST(AblationSweep, RefusesHeadsThatDoNotExist) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const auto message = [&](const HeadId& head) {
    const std::string swept = error_message<HookError>([&] {
      ablation_sweep(model, *objective, {{0, 0, 0}, head});
    });
    EXPECT_EQ(error_message<HookError>([&] { ablate_one_by_one(model, *objective, {head}); }),
              swept);
    EXPECT_EQ(error_message<HookError>([&] { ablate_jointly(model, *objective, {head}, true); }),
              swept);
    return swept;
  };
  EXPECT_EQ(message({1, 9, 9}), "[ablate] head, expected 0..3 in layer 1, got 9");
  EXPECT_EQ(message({1, -1, -1}), "[ablate] head, expected 0..3 in layer 1, got -1");
  EXPECT_EQ(message({1, 2, 4}), "[ablate] head, expected 0..3 in layer 1, got 2..4");
  EXPECT_EQ(message({3, 0, 0}), "[ablate] layer, expected 0..2, got 3");
  const LanguageModel hybrid = load_model("nemotron_h");
  EXPECT_EQ(error_message<HookError>([&] {
              ablation_sweep(hybrid, *objective, {{1, 0, 0}});
            }),
            "[ablate] layer, expected one with heads, got 1 (MLP only)");
}

TEST(AblationSweep, RefusesWhatItCannotDo) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const auto jointly = [&](const std::vector<HeadId>& heads, bool keep) {
    return error_message<HookError>([&] { ablate_jointly(model, *objective, heads, keep); });
  };
  EXPECT_EQ(jointly({}, false), "[ablate] heads to cut, expected at least one, got none");
  EXPECT_EQ(jointly({{1, 0, 3}}, true), "[ablate] heads to cut, expected at least one, got none");
  SweepOptions options;
  options.mode = AblationMode::Scale;
  const auto swept = [&] { ablation_sweep(model, *objective, {{0, 0, 0}}, options); };
  options.factor = 1;
  EXPECT_EQ(error_message<UsageError>(swept),
            "[ablate] factor to scale by, expected a number other than 1, got 1");
  options = {};
  options.max_batch_tokens = 0;
  EXPECT_EQ(error_message<UsageError>(swept),
            "[ablate] tokens a batch, expected at least 1, got 0");
}

TEST(AllHeads, AreAllHeadsAndContiguousChannelGroups) {
  const std::vector<HeadId> hybrid = all_heads(load_model("nemotron_h").config(), 4);
  EXPECT_EQ(hybrid.size(), 6u + 0 + 4 + 6);  // Mamba-2, MLP, attention, Mamba-2
  EXPECT_EQ(hybrid[6], (HeadId{2, 0, 0}));
  const std::vector<HeadId> both = all_heads(load_model("falcon_h1").config(), 4);
  EXPECT_EQ(both.size(), 2u * (6 + 4));  // Mamba-2 and attention
  EXPECT_EQ(both[6], (HeadId{0, 6, 6}));
  EXPECT_EQ(both[19], (HeadId{1, 9, 9}));
  const ModelConfig mamba = load_model("mamba").config();
  for (const int64_t groups : {1, 3, 16, 56, 1000}) {
    const std::vector<HeadId> heads = all_heads(mamba, groups);
    ASSERT_EQ(std::ssize(heads), 3 * std::min<int64_t>(groups, 56));
    int64_t next = 0, smallest = 56, largest = 0;
    for (const HeadId& head : heads) {
      EXPECT_EQ(head.first, next);
      next = (head.last + 1) % 56;
      smallest = std::min(smallest, head.last - head.first + 1);
      largest = std::max(largest, head.last - head.first + 1);
    }
    EXPECT_EQ(next, 0);
    EXPECT_LE(largest - smallest, 1);
  }
  EXPECT_EQ(error_message<UsageError>([&] { all_heads(mamba, 0); }),
            "[find] channel groups a layer, expected at least 1, got 0");
}

}  // namespace
}  // namespace headlens
