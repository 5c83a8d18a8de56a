// headlens/tests: direct logit attribution against the model's own logits, and the logit lens.
#include "headlens/analysis/logit_attribution.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;
using testing::watch;
using testing::Watcher;

std::vector<AnswerTokens> some_answers() {
  std::vector<AnswerTokens> answers;
  for (const TokenizedExample& example : unlike_examples()) {
    AnswerTokens tokens{example.choice_ids[static_cast<size_t>(example.answer)][0], {}};
    for (const auto& choice : example.choice_ids) {
      if (choice[0] != tokens.answer) tokens.others.push_back(choice[0]);
    }
    answers.push_back(tokens);
  }
  return answers;
}

Tensor ids_of(const TokenizedExample& example) {
  return at::tensor(example.prompt_ids, at::kLong).unsqueeze(0);
}

double difference_of(const Tensor& logits, const AnswerTokens& answer) {
  return (logits[answer.answer] - logits.index_select(0, at::tensor(answer.others)).mean())
      .item<double>();
}

double sum_of(const LogitAttribution& found) {
  double sum = found.embedding.value + found.norm_bias.value;
  for (const HeadEffect& head : found.heads) sum += head.effect.value;
  for (const LayerEffect& mlp : found.mlps) sum += mlp.effect.value;
  for (const LayerEffect& bias : found.biases) sum += bias.effect.value;
  return sum;
}

class LogitAttributionTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, LogitAttributionTest,
                         ::testing::Values("llama", "mamba", "falcon_mamba", "mamba2", "llamba",
                                           "bamba", "nemotron_h", "gpt_neox", "gpt2", "qwen3",
                                           "jamba", "falcon_h1", "zamba2"));

TEST_P(LogitAttributionTest, PartsAddUpToTheLogitDifference) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const auto answers = some_answers();
  LogitOptions options;
  options.mamba1_groups = 3;
  const LogitAttribution found = attribute_logits(model, *objective_of(examples), answers, options);
  double difference = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    difference += difference_of(model.forward(ids_of(examples[i]))[0][-1], answers[i]) /
                  static_cast<double>(examples.size());
  }
  EXPECT_NEAR(found.difference.value, difference, 1e-9);
  EXPECT_NEAR(sum_of(found), difference, 1e-9);
  EXPECT_EQ(std::ssize(found.lens), model.layer_count() + 1);
}

TEST_P(LogitAttributionTest, LensReadsTheResidualOfEveryLayer) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const auto answers = some_answers();
  const LogitAttribution found = attribute_logits(model, *objective_of(examples), answers);
  const double n = static_cast<double>(examples.size());
  for (const LensLayer& lens : found.lens) {
    SCOPED_TRACE(lens.layer);
    double difference = 0, logprob = 0, right = 0;
    for (size_t i = 0; i < examples.size(); ++i) {
      const Watcher seen = watch(model, ids_of(examples[i]));
      const std::string name = lens.layer < 0
                                   ? "blocks.0.hook_resid_pre"
                                   : "blocks." + std::to_string(lens.layer) + ".hook_resid_post";
      const Tensor logits = model.unembed(seen[name][0][-1]);
      difference += difference_of(logits, answers[i]) / n;
      logprob += at::log_softmax(logits, -1)[answers[i].answer].item<double>() / n;
      bool best = true;
      for (const int64_t other : answers[i].others) {
        best = best && (logits[answers[i].answer] > logits[other]).item<bool>();
      }
      right += best ? 1 / n : 0;
    }
    EXPECT_NEAR(lens.difference.value, difference, 1e-9);
    EXPECT_NEAR(lens.logprob.value, logprob, 1e-9);
    EXPECT_NEAR(lens.accuracy, right, 1e-12);
  }
  EXPECT_NEAR(found.lens.back().difference.value, found.difference.value, 1e-9);
}

// Which head an effect belongs to: that of a head whose columns are silent, and no other.
TEST_P(LogitAttributionTest, ASilentHeadHasNoEffect) {
  const HeadId last = all_heads(load_model(GetParam()).config(), 3).back();
  const LanguageModel model = testing::without_columns(GetParam(), {last});
  LogitOptions options;
  options.mamba1_groups = 3;
  const LogitAttribution found =
      attribute_logits(model, *objective_of(unlike_examples()), some_answers(), options);
  for (const HeadEffect& head : found.heads) {
    if (head.head == last) {
      EXPECT_EQ(head.effect.value, 0);
    } else if (head.head.layer == last.layer) {
      EXPECT_NE(head.effect.value, 0);
    }
  }
}

TEST(LogitAttribution, SaysWhatItCannotDo) {
  const auto objective = objective_of(unlike_examples());
  EXPECT_EQ(error_message<HookError>(
                [&] { attribute_logits(load_model("gemma2"), *objective, some_answers()); }),
            "[attribute_logits] layer 0, expected heads that write straight to the residual, got a "
            "norm between");
  EXPECT_EQ(error_message<ShapeError>(
                [&] { attribute_logits(load_model("llama"), *objective, {some_answers()[0]}); }),
            "[attribute_logits] answers, expected 6, one for each example, got 1");
}

}  // namespace
}  // namespace headlens
