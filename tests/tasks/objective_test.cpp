// headlens/tests: the objective that analysis is given.
#include "headlens/tasks/objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/scoring.h"
#include "headlens/tasks/task.h"
#include "tiny_model.h"
#include "tokenizers.h"

namespace headlens {
namespace {

TEST(ChoiceObjective, AgreesWithEvaluate) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const LanguageModel model = testing::tiny_model(tokenizer.vocab_size());
  auto examples = tokenize(make_task("kv:pairs=5,n=12", 3), tokenizer);
  const EvalResult result = evaluate(model, examples);
  const auto objective = make_choice_objective(examples, 150);
  EXPECT_EQ(objective->example_count(), 12);
  EXPECT_GT(objective->batch_count(), 1);
  for (int64_t b = 0; b < objective->batch_count(); ++b) {
    const ObjectiveBatch& batch = objective->batch(b);
    ForwardOptions options;
    options.logit_positions = batch.logit_positions;
    const Tensor logits = model.forward(batch.ids, options);
    const auto verdicts = objective->judge(b, at::cat({logits, logits * 0.5}), /*variants=*/2);
    ASSERT_EQ(verdicts.size(), 2u);
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      const size_t index = static_cast<size_t>(batch.examples[i]);
      EXPECT_NEAR(verdicts[0][i].logprob, result.logprob[index], 1e-10);  // float64
      EXPECT_EQ(verdicts[0][i].correct, result.correct[index] == 1);
      EXPECT_NE(verdicts[1][i].logprob, verdicts[0][i].logprob);
    }
  }
}

TEST(ChoiceObjective, DescribesItsPrompts) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const Task task = make_task("mcq:options=3,n=2", 3);
  const auto objective = make_choice_objective(tokenize(task, tokenizer));
  const PromptInfo& prompt = objective->prompt(1);
  EXPECT_EQ(prompt.length, 17);
  EXPECT_EQ(prompt.tokens.size(), 17u);
  ASSERT_EQ(prompt.segments.size(), 3u);
  EXPECT_EQ(prompt.segments[2].start, 12);
  EXPECT_EQ(prompt.segments[2].end, 14);
  EXPECT_EQ(prompt.target_segment, task.examples[1].answer);
}

TEST(ChoiceObjective, SomeOfItsExamples) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const LanguageModel model = testing::tiny_model(tokenizer.vocab_size());
  const auto examples = tokenize(make_task("kv:pairs=5,n=12", 3), tokenizer);
  const EvalResult result = evaluate(model, examples);
  const auto objective = make_choice_objective(examples, 60)->part({7, 2, 11, 5});
  ASSERT_EQ(objective->example_count(), 4);
  EXPECT_GT(objective->batch_count(), 1);
  EXPECT_EQ(objective->prompt(2).tokens, examples[11].tokens);
  EXPECT_EQ(objective->prompt(2).target_segment, examples[11].answer);
  constexpr size_t kWhole[] = {7, 2, 11, 5};
  for (int64_t b = 0; b < objective->batch_count(); ++b) {
    const ObjectiveBatch& batch = objective->batch(b);
    ForwardOptions options;
    options.logit_positions = batch.logit_positions;
    const auto verdicts = objective->judge(b, model.forward(batch.ids, options), 1);
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      EXPECT_NEAR(verdicts[0][i].logprob,
                  result.logprob[kWhole[static_cast<size_t>(batch.examples[i])]], 1e-10);
    }
  }
}

TEST(ChoiceObjective, HasNoTargetWithoutSegments) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const auto objective =
      make_choice_objective(tokenize(make_task("world-facts:n=2", 3), tokenizer));
  EXPECT_EQ(objective->prompt(0).target_segment, -1);
  EXPECT_TRUE(objective->prompt(0).segments.empty());
}

TEST(ChoiceObjective, NeedsAnExample) {
  EXPECT_EQ(testing::error_message<TaskError>([] { make_choice_objective({}); }),
            "[objective] examples, expected at least one, got none");
}

}  // namespace
}  // namespace headlens
