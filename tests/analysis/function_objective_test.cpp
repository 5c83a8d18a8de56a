// headlens/tests: sweeps judged by any function of logits.
#include "headlens/analysis/function_objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::load_model;

std::vector<FunctionExample> some_prompts() {
  std::vector<FunctionExample> examples;
  for (int64_t i = 0; i < 5; ++i) {
    FunctionExample example;
    for (int64_t p = 0; p < 3 + 2 * (i % 3); ++p) example.ids.push_back((p * 13 + i * 5) % 97);
    example.positions = {0, -1};
    examples.push_back(std::move(example));
  }
  return examples;
}

/// What each example is asked: its own token's logit at the end, less the first position's largest.
Tensor numbers_of(const Tensor& logits, const std::vector<int64_t>& examples) {
  const Tensor tokens = at::tensor(examples, at::kLong).view({-1, 1});
  const Tensor own = logits.select(1, 1).gather(1, tokens).squeeze(1);
  return at::stack({own, logits.select(1, 0).amax(-1)}, 1);
}

TEST(FunctionObjective, EachVariantAndExampleGetsItsNumbers) {
  const LanguageModel model = load_model("llama");
  const auto prompts = some_prompts();
  const FunctionObjective objective(prompts, numbers_of, 12);
  EXPECT_GT(objective.batch_count(), 1);
  const auto heads = all_heads(model.config(), 1);
  const SweepResult swept = ablation_sweep(model, objective, heads);
  for (size_t h = 0; h < heads.size(); ++h) {
    const auto [point, own] = testing::place_of(model.config(), heads[h]);
    testing::Editor cut(point, [own = own](const Tensor& z) {
      Tensor changed = z.clone();
      changed.select(2, own.first).zero_();
      return changed;
    });
    for (size_t i = 0; i < prompts.size(); ++i) {  // each prompt alone
      const Tensor ids = at::tensor(prompts[i].ids, at::kLong).unsqueeze(0);
      const Tensor logits = model.forward(ids, {.tap = &cut})[0];
      const auto& numbers = swept.variants[h].verdicts[i].numbers;
      ASSERT_EQ(numbers.size(), 2u);
      EXPECT_NEAR(numbers[0], logits[-1][static_cast<int64_t>(i)].item<double>(), 1e-11);
      EXPECT_NEAR(numbers[1], logits[0].max().item<double>(), 1e-11);
      EXPECT_EQ(swept.variants[h].verdicts[i].logprob, numbers[0]);
    }
  }
}

TEST(FunctionObjective, RefusesWhatItCannotJudge) {
  const auto message = [](std::vector<FunctionExample> examples) {
    return error_message<TaskError>([&] { FunctionObjective(examples, numbers_of); });
  };
  EXPECT_EQ(message({}), "[objective] examples, expected at least one, got none");
  EXPECT_EQ(message({{.ids = {1}}, {.ids = {}}}),
            "[objective] example 1, expected tokens, got none");
  EXPECT_EQ(message({{.ids = {1, 2}, .positions = {2}}}),
            "[objective] position of example 0, expected -2 to 1, got 2");
  EXPECT_EQ(message({{.ids = {1}}, {.ids = {1}, .positions = {0, 0}}}),
            "[objective] positions of example 1, expected 1 as in the first, got 2");
  const FunctionObjective wrong({{.ids = {1, 2}}},
                                [](const Tensor& logits, const auto&) { return logits; });
  EXPECT_EQ(error_message<TaskError>([&] {
              wrong.judge(0, at::zeros({1, 1, 9}), 1);
            }),
            "[objective] numbers, expected [1] or [1, k], got [1, 1, 9]");
  const FunctionObjective nan({{.ids = {1, 2}}}, [](const Tensor& logits, const auto&) {
    return logits.select(1, 0).select(1, 0) / 0;
  });
  EXPECT_EQ(error_message<TaskError>([&] {
              nan.judge(0, at::zeros({1, 1, 9}), 1);
            }),
            "[objective] example 0, expected a number, got not a number");
}

}  // namespace
}  // namespace headlens
