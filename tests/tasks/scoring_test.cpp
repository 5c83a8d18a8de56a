// headlens/tests: choice scoring, by hand and against one choice at a time.
#include "headlens/tasks/scoring.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "tasks/draw.h"
#include "tiny_model.h"

namespace headlens {
namespace {

using testing::error_message;
using Ids = std::vector<int64_t>;

TokenizedExample example(Ids prompt, std::vector<Ids> choices, int64_t answer = 0) {
  TokenizedExample out;
  out.prompt_ids = std::move(prompt);
  out.choice_ids = std::move(choices);
  out.answer = answer;
  return out;
}

Ids row(const Tensor& matrix, int64_t index) {
  const Tensor line = matrix[index].contiguous();
  return {line.data_ptr<int64_t>(), line.data_ptr<int64_t>() + line.numel()};
}

TEST(MakeBatches, SingleTokenChoicesShareThePrompt) {
  const auto batches = make_batches({example({5, 6, 7}, {{1}, {2}, {3}})}, 100);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].rows.ids.sizes(), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(row(batches[0].rows.ids, 0), (Ids{5, 6, 7}));
  EXPECT_EQ(row(batches[0].rows.logit_positions, 0), (Ids{2}));
  EXPECT_EQ(batches[0].max_token, 3);
}

TEST(MakeBatches, LongerChoicesCoverShorterOnes) {
  // {1} and {1, 2} are read from the row of {1, 2, 3}; {4, 5} needs its own.
  const auto batches =
      make_batches({example({7, 8}, {{1}, {1, 2}, {1, 2, 3}, {4, 5}, {4, 6}})}, 100);
  ASSERT_EQ(batches.size(), 1u);
  const ScoringBatch& batch = batches[0];
  ASSERT_EQ(batch.rows.ids.sizes(), (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(row(batch.rows.ids, 0), (Ids{7, 8, 1, 2}));
  EXPECT_EQ(row(batch.rows.ids, 1), (Ids{7, 8, 4, 0}));
  EXPECT_EQ(row(batch.rows.logit_positions, 0), (Ids{1, 2, 3}));
  EXPECT_EQ(row(batch.rows.logit_positions, 1), (Ids{1, 2, 2}));
  EXPECT_EQ(batch.choices[0].counts, (Ids{1, 2, 3, 2, 2}));
  EXPECT_EQ(row(batch.picks, 0), (Ids{0, 0, 0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(row(batch.picks, 1), (Ids{0, 0, 1, 0, 1, 2, 0, 1, 0, 1}));
  EXPECT_EQ(row(batch.picks, 2), (Ids{1, 1, 2, 1, 2, 3, 4, 5, 4, 6}));
}

TEST(MakeBatches, GroupsLikeLengthsAndKeepsEveryExampleOnce) {
  Draw draw(4);
  std::vector<TokenizedExample> examples;
  for (int i = 0; i < 40; ++i) {
    examples.push_back(example(Ids(static_cast<size_t>(draw.between(2, 30)), 1), {{1}, {2, 3}}));
    examples.back().prompt_ids[0] = i;  // no two begin alike
  }
  std::vector<int64_t> seen;
  int64_t longest_so_far = 0;
  for (const ScoringBatch& batch : make_batches(examples, 90)) {
    EXPECT_LE(batch.rows.ids.numel(), 90);
    for (size_t i = 0; i < batch.rows.examples.size(); ++i) {
      const int64_t index = batch.rows.examples[i];
      const Ids& prompt = examples[static_cast<size_t>(index)].prompt_ids;
      EXPECT_GE(std::ssize(prompt), longest_so_far);
      longest_so_far = std::ssize(prompt);
      const Ids line = row(batch.rows.ids, batch.rows.example_rows[i]);
      EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), line.begin()));
      EXPECT_TRUE(i == 0 || batch.rows.example_rows[i - 1] < batch.rows.example_rows[i]);
      seen.push_back(index);
    }
  }
  std::sort(seen.begin(), seen.end());
  std::vector<int64_t> all(40);
  std::iota(all.begin(), all.end(), int64_t{0});
  EXPECT_EQ(seen, all);
}

// Two subjects of nine and eight questions behind their few shots, a third of seven, and two of
// nothing in common, all mixed up.
TEST(MakeBatches, KeepsTogetherWhatBeginsAlike) {
  std::vector<TokenizedExample> examples;
  const auto add = [&](int64_t subject, int64_t question) {
    Ids prompt(20, subject);
    for (int64_t p = 0; p < 3 + question % 5; ++p) prompt.push_back(50 + question);
    examples.push_back(example(prompt, {{1}, {2}}));
  };
  for (int64_t q = 0; q < 9; ++q) {
    add(5, q);
    if (q < 7) add(9, q);
    if (q < 8) add(7, q);
    if (q % 5 == 1) examples.push_back(example({q, 1, 2}, {{1}, {2}}));
  }
  std::vector<std::set<int64_t>> groups;  // first tokens of each batch
  for (const ScoringBatch& batch : make_batches(examples, 50)) {
    groups.emplace_back();
    for (const int64_t e : batch.rows.examples) {
      groups.back().insert(examples[static_cast<size_t>(e)].prompt_ids[0]);
    }
  }
  using Group = std::set<int64_t>;
  // 20 in common and 3 to 7 of each: six rows, then three; six, then two. Of the others two rows
  // are within 50 at most.
  EXPECT_EQ(groups, (std::vector<Group>{{5}, {5}, {7}, {7}, {1, 6}, {9}, {9}, {9}, {9}, {9}}));
}

TEST(MakeBatches, AnExampleLargerThanTheLimitStandsAlone) {
  const auto batches =
      make_batches({example(Ids(50, 1), {{1}, {2}}), example(Ids(60, 1), {{1}, {2}})}, 10);
  EXPECT_EQ(batches.size(), 2u);
  EXPECT_TRUE(make_batches({}, 10).empty());
}

TEST(MakeBatches, RefusesEmptyTokensAndAnswersOutOfRange) {
  EXPECT_EQ(error_message<TaskError>([] {
              make_batches({example({1}, {{1}, {}})}, 10);
            }),
            "[score] example 0, expected tokens in prompt and choices, got none");
  EXPECT_EQ(error_message<TaskError>([] {
              make_batches({example({1}, {{1}, {2}}, 2)}, 10);
            }),
            "[score] example 0: answer, expected 0 to 1, got 2");
}

TEST(ChoiceLogprobs, AddsTheTokensOfAChoice) {
  const auto batch = make_batches({example({7, 8}, {{0}, {1, 2}})}, 100)[0];
  // softmax of ln(1, 2, 5): 1/8, 2/8, 5/8; of ln(3, 3, 4): .3, .3, .4
  const Tensor logits =
      at::tensor({1.0, 2.0, 5.0, 3.0, 3.0, 4.0}, at::kDouble).log().view({1, 2, 3});
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const auto scores = choice_logprobs(logits.to(type), batch);
    const double tolerance = type == at::kDouble ? 1e-14 : 1e-6;  // the logits' own rounding
    EXPECT_NEAR(scores[0][0][0], std::log(1.0 / 8), tolerance);
    EXPECT_NEAR(scores[0][0][1], std::log(2.0 / 8 * 0.4), tolerance);
  }
}

TEST(ChoiceLogprobs, VariantsAreIndependentBlocks) {
  const auto batch =
      make_batches({example({7, 8}, {{0}, {1, 2}, {2, 1}}), example({9, 8}, {{3}, {1}})}, 100)[0];
  const int64_t rows = batch.rows.ids.size(0), slots = batch.rows.logit_positions.size(1);
  const Tensor logits = at::sin(at::arange(3 * rows * slots * 5, at::kDouble)).view({-1, slots, 5});
  const auto together = choice_logprobs(logits, batch, 3);
  for (int64_t v = 0; v < 3; ++v) {
    EXPECT_EQ(together[static_cast<size_t>(v)],
              choice_logprobs(logits.slice(0, v * rows, (v + 1) * rows), batch)[0]);
  }
}

TEST(ChoiceLogprobs, RefusesOtherShapesAndNaN) {
  const auto batch = make_batches({example({7, 8}, {{0}, {4}})}, 100)[0];
  EXPECT_EQ(error_message<ShapeError>([&] {
              choice_logprobs(at::zeros({2, 1, 5}), batch);
            }),
            "[score] logits, expected floating point [1, 1, vocab], got float32 [2, 1, 5]");
  EXPECT_EQ(error_message<ShapeError>([&] {
              choice_logprobs(at::zeros({1, 1, 4}), batch);
            }),
            "[score] token id of a choice, expected less than the model's 4, got 4");
  EXPECT_EQ(error_message<TaskError>([&] {
              choice_logprobs(at::full({1, 1, 5}, std::nan("")), batch);
            }),
            "[score] example 0, expected a log-probability, got not a number");
}

TEST(JudgeChoices, FirstMaximumWins) {
  EXPECT_TRUE(judge_choices({-2, -1, -1}, 1).correct);
  EXPECT_FALSE(judge_choices({-2, -1, -1}, 2).correct);
  EXPECT_EQ(judge_choices({-2, -1, -1}, 2).margin, 0);
  EXPECT_EQ(judge_choices({-2, -1, -1}, 0).logprob, -2);
  EXPECT_DOUBLE_EQ(judge_choices({-3, -0.5, -1.25}, 1).margin, 0.75);
  EXPECT_EQ(judge_choices({-INFINITY, -INFINITY}, 0).margin, 0);
}

TEST(JudgeNormalized, DividesByLengthAndTheFirstMaximumWins) {
  EXPECT_TRUE(judge_normalized({-4, -3}, {8, 2}, 0));  // -0.5 against -1.5
  EXPECT_FALSE(judge_normalized({-4, -3}, {8, 2}, 1));
  EXPECT_TRUE(judge_normalized({-4, -2}, {2, 1}, 0));
}

TEST(Summarize, CountsNearTies) {
  const EvalResult result =
      summarize({{true, -1, 0.5}, {false, -3, 0.0009}, {true, -2, 0.0011}, {true, -2, 0}}, 0.25);
  EXPECT_EQ(result.n, 4);
  EXPECT_EQ(result.accuracy, 0.75);
  EXPECT_EQ(result.mean_logprob, -2);
  EXPECT_EQ(result.near_ties, 2);
  EXPECT_EQ(result.chance, 0.25);
  EXPECT_EQ(result.correct, (std::vector<uint8_t>{1, 0, 1, 1}));
  EXPECT_NEAR(result.ci_low, 0.3006, 5e-5);  // Wilson for 3 of 4
  EXPECT_NEAR(result.ci_high, 0.9544, 5e-5);
}

/// The score of one choice from one unpadded forward of its own.
double plain_logprob(const LanguageModel& model, const Ids& prompt, const Ids& choice) {
  Ids ids = prompt;
  ids.insert(ids.end(), choice.begin(), choice.end());
  const Tensor logits = model.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0];
  double sum = 0;
  for (size_t i = 0; i < choice.size(); ++i) {
    const int64_t position = std::ssize(prompt) + static_cast<int64_t>(i) - 1;
    const Tensor logprobs = logits[position].to(at::kDouble).log_softmax(-1);
    sum += logprobs[choice[i]].item<double>();
  }
  return sum;
}

std::vector<TokenizedExample> random_examples(int64_t n, int64_t vocab) {
  Draw draw(21);
  const auto ids = [&](int64_t length) {
    Ids out;
    for (int64_t i = 0; i < length; ++i) out.push_back(draw.below(vocab));
    return out;
  };
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < n; ++i) {
    std::vector<Ids> choices;
    for (int64_t c = 0; c < 4; ++c) choices.push_back(ids(draw.between(1, 3)));
    choices.push_back({choices[0][0]});  // a prefix of another
    examples.push_back(example(ids(draw.between(1, 12)), choices, draw.below(5)));
  }
  return examples;
}

TEST(Evaluate, EqualsOneChoiceAtATime) {
  constexpr int64_t kVocab = 19;
  const LanguageModel model = testing::tiny_model(kVocab);
  const auto examples = random_examples(24, kVocab);
  std::vector<int64_t> progress;
  EvalOptions options;
  options.max_batch_tokens = 150;
  options.progress = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 24);
    progress.push_back(done);
  };
  const EvalResult result = evaluate(model, examples, options);
  int64_t right = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<double> scores;
    for (const Ids& choice : examples[i].choice_ids) {
      scores.push_back(plain_logprob(model, examples[i].prompt_ids, choice));
    }
    const Verdict verdict = judge_choices(scores, examples[i].answer);
    right += verdict.correct ? 1 : 0;
    EXPECT_EQ(result.correct[i], verdict.correct ? 1 : 0) << i;
    EXPECT_NEAR(result.logprob[i], verdict.logprob, 1e-10) << i;  // float64, other batch shapes
  }
  EXPECT_EQ(result.n, 24);
  EXPECT_DOUBLE_EQ(result.accuracy, static_cast<double>(right) / 24);
  EXPECT_DOUBLE_EQ(result.chance, 0.2);
  EXPECT_GT(progress.size(), 2u);
  EXPECT_EQ(progress.back(), 24);
}

/// Doubles the residual entering layer 1; counts its visits.
class DoublingTap final : public Tap {
 public:
  bool wants(TapPoint point) const override { return point == TapPoint{Site::ResidPre, 1}; }
  Tensor visit(TapPoint, Tensor value) override {
    ++visits;
    return value * 2;
  }
  int visits = 0;
};

TEST(Evaluate, CallsTheTapInEveryForward) {
  const LanguageModel model = testing::tiny_model(19);
  const auto examples = random_examples(8, 19);
  DoublingTap tap;
  EvalOptions options;
  options.max_batch_tokens = 60;
  const EvalResult base = evaluate(model, examples, options);
  options.tap = &tap;
  const EvalResult doubled = evaluate(model, examples, options);
  EXPECT_EQ(tap.visits, static_cast<int>(make_batches(examples, 60).size()));
  EXPECT_GT(std::abs(doubled.mean_logprob - base.mean_logprob), 1e-3);
}

TEST(Evaluate, NeedsAnExample) {
  const LanguageModel model = testing::tiny_model(19);
  EXPECT_EQ(error_message<TaskError>([&] { evaluate(model, {}); }),
            "[eval] examples, expected at least one, got none");
}

// Winogrande's form: what comes before the scored tokens differs.
TEST(Evaluate, LeadsAreReadAndNotScored) {
  const LanguageModel model = testing::tiny_model(20);
  TokenizedExample one = example({3, 4}, {{5, 6, 9, 10}, {7, 9, 10}}, 1);
  one.lead_counts = {2, 1};
  one.lengths = {1, 100};
  const double first = plain_logprob(model, {3, 4, 5, 6}, {9, 10});
  const double second = plain_logprob(model, {3, 4, 7}, {9, 10});
  const EvalResult result = evaluate(model, {one});
  EXPECT_NEAR(result.logprob[0], second, 1e-9);  // other order of sums in float64
  EXPECT_EQ(result.correct[0], second > first ? 1 : 0);
  ASSERT_TRUE(result.norm);
  EXPECT_EQ(result.norm->accuracy, second / 100 > first ? 1 : 0);
  EXPECT_FALSE(evaluate(model, {one, example({3}, {{1}, {2}})}).norm);
  one.lead_counts = {4, 1};
  EXPECT_EQ(error_message<TaskError>([&] { make_batches({one}, 100); }),
            "[score] example 0, expected tokens in prompt and choices, got none");
}

}  // namespace
}  // namespace headlens
