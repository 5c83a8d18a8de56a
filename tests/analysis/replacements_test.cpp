// headlens/tests: means and other examples' outputs in place of heads, against plain loops over
// examples.
#include "analysis/replacements.h"

#include <gtest/gtest.h>

#include <numeric>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/hooks/hook_set.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::Editor;
using testing::error_message;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::place_of;
using testing::unlike_examples;
using testing::watch;

/// The head outputs of a layer in each example's prompt alone, [pos, head..].
std::vector<Tensor> prompt_outputs(const LanguageModel& model,
                                   const std::vector<TokenizedExample>& examples, TapPoint point) {
  std::vector<Tensor> outputs;
  for (const TokenizedExample& example : examples) {
    const Tensor ids = at::tensor(example.prompt_ids, at::kLong).unsqueeze(0);
    outputs.push_back(watch(model, ids)[site_name(point)][0]);
  }
  return outputs;
}

/// Verdicts of one example with the head's output at position p put to `put(p)` [head..].
double logprob_with(const LanguageModel& model, const TokenizedExample& example, TapPoint point,
                    const HeadId& head, const std::function<Tensor(int64_t)>& put) {
  Editor tap(point, [&](const Tensor& outputs) {
    Tensor changed = outputs.clone();
    for (int64_t p = 0; p < outputs.size(1); ++p) {
      const Tensor given = put(p).slice(0, head.first, head.last + 1);
      changed.select(1, p).slice(1, head.first, head.last + 1).copy_(given);  // in every row
    }
    return changed;
  });
  return evaluate(model, {example}, {16384, &tap, {}}).logprob[0];
}

class ReplacementsTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, ReplacementsTest, ::testing::ValuesIn(kFamilies));

TEST_P(ReplacementsTest, MeanIsOverAllPromptPositions) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  for (const HeadId& head : all_heads(model.config(), 2)) {
    for (const Placement placement : {Placement::PostNorm, Placement::PreNorm}) {
      SweepOptions options;
      options.mode = AblationMode::Mean;
      options.placement = placement;
      const auto [point, own] = place_of(model.config(), head, placement);
      const Tensor mean = at::cat(prompt_outputs(model, examples, point), 0).mean(0);
      const SweepResult cut = ablation_sweep(model, *objective_of(examples), {head}, options);
      for (size_t i = 0; i < examples.size(); ++i) {
        const auto everywhere = [&](int64_t) { return mean; };
        EXPECT_NEAR(cut.variants[0].verdicts[i].logprob,
                    logprob_with(model, examples[i], point, own, everywhere), 1e-12);
      }
    }
  }
}

TEST_P(ReplacementsTest, ResampleTakesTheNextExampleLinedUpAtTheQuery) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  // Batches hold examples by the length of their longest row: prompts 1, 4 (+2), 6 (+1), 7, 9, 12.
  const std::vector<size_t> order = {3, 1, 4, 5, 0, 2};
  SweepOptions options;
  options.mode = AblationMode::Resample;
  for (const HeadId& head : all_heads(model.config(), 2)) {
    const auto [point, in_mixer] = place_of(model.config(), head);
    const std::vector<Tensor> outputs = prompt_outputs(model, examples, point);
    const SweepResult cut = ablation_sweep(model, *objective_of(examples), {head}, options);
    for (size_t k = 0; k < order.size(); ++k) {
      const size_t own = order[k], other = order[(k + 1) % order.size()];
      const int64_t q = std::ssize(examples[own].prompt_ids) - 1;
      const int64_t other_q = std::ssize(examples[other].prompt_ids) - 1;
      const auto lined_up = [&](int64_t p) {
        return outputs[other][std::clamp<int64_t>(p - q + other_q, 0, other_q)];
      };
      EXPECT_NEAR(cut.variants[0].verdicts[own].logprob,
                  logprob_with(model, examples[own], point, in_mixer, lined_up), 1e-12);
    }
  }
}

TEST(Replacements, JointResamplingTakesUntouchedOutputs) {
  const LanguageModel model = load_model("llama");
  auto examples = unlike_examples();
  examples.resize(2);  // each is the other's next
  const std::vector<HeadId> heads = {{0, 1, 1}, {1, 2, 2}};
  SweepOptions options;
  options.mode = AblationMode::Resample;
  const SweepResult cut = ablate_jointly(model, *objective_of(examples), heads, false, options);
  const int64_t q = std::ssize(examples[0].prompt_ids) - 1;
  const int64_t other_q = std::ssize(examples[1].prompt_ids) - 1;
  std::vector<Editor> taps;
  for (const HeadId& head : heads) {
    const TapPoint point = head_output_point(model.config(), head.layer);
    const Tensor other = prompt_outputs(model, examples, point)[1];
    taps.emplace_back(point, [=](const Tensor& outputs) {
      Tensor changed = outputs.clone();
      for (int64_t p = 0; p < outputs.size(1); ++p) {
        const Tensor given = other[std::clamp<int64_t>(p - q + other_q, 0, other_q)];
        changed.select(1, p).select(1, head.first).copy_(given[head.first]);
      }
      return changed;
    });
  }
  TapChain both({&taps[0], &taps[1]});
  const EvalResult expected = evaluate(model, {examples[0]}, {16384, &both, {}});
  EXPECT_NEAR(cut.variants[0].verdicts[0].logprob, expected.logprob[0], 1e-12);
}

TEST(Replacements, ResamplingNeedsAnotherExample) {
  const LanguageModel model = load_model("llama");
  auto examples = unlike_examples();
  examples.resize(1);
  SweepOptions options;
  options.mode = AblationMode::Resample;
  EXPECT_EQ(error_message<TaskError>([&] {
              ablation_sweep(model, *objective_of(examples), {{0, 0, 0}}, options);
            }),
            "[ablate] examples to resample from, expected at least 2, got 1");
}

}  // namespace
}  // namespace headlens
