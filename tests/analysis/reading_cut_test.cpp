// headlens/tests: what heads read from segments, taken away, against maps edited entry by entry.
#include "analysis/reading_cut.h"

#include <gtest/gtest.h>

#include "analysis/batch_rows.h"
#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/interventions.h"

namespace headlens {
namespace {

using testing::expect_same_verdicts;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

/// The log-probability of tokens past `prompt`, with the head's map knocked out from q on.
double plain_score(const LanguageModel& model, const TokenizedExample& example,
                   const std::vector<int64_t>& choice, const HeadId& head) {
  std::vector<int64_t> ids = example.prompt_ids;
  ids.insert(ids.end(), choice.begin(), choice.end());
  const int64_t length = std::ssize(ids), q = std::ssize(example.prompt_ids) - 1;
  MapEdit edit;
  for (int64_t h = head.first; h <= head.last; ++h) edit.heads.push_back(h);
  edit.rows = at::arange(length, at::kLong).ge(q);
  edit.keys = at::zeros({length}, at::kBool);
  for (const Segment& s : example.segments) edit.keys.slice(0, s.start, s.end + 1).fill_(true);
  MapIntervention knock_out(model.config(), {{head.layer, edit}});
  const Tensor logits =
      model.forward(at::tensor(ids, at::kLong).unsqueeze(0), {.tap = &knock_out})[0];
  const Tensor logprobs = logits.to(at::kDouble).log_softmax(-1);
  double score = 0;
  for (int64_t t = q + 1; t < length; ++t) {
    score += logprobs[t - 1][ids[static_cast<size_t>(t)]].item<double>();
  }
  return score;
}

Verdict plain_verdict(const LanguageModel& model, const TokenizedExample& example,
                      const HeadId& head) {
  std::vector<double> scores;
  for (const auto& choice : example.choice_ids) {
    scores.push_back(plain_score(model, example, choice, head));
  }
  const double right = scores[static_cast<size_t>(example.answer)];
  const auto best = std::max_element(scores.begin(), scores.end());
  const bool correct = best - scores.begin() == example.answer;
  std::sort(scores.begin(), scores.end(), std::greater<>());
  return {correct, right, scores[0] - scores[1]};
}

class ReadingCutTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, ReadingCutTest, ::testing::ValuesIn(kFamilies));

TEST_P(ReadingCutTest, EqualsMapsKnockedOutOneExampleAtATime) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  SweepOptions options;
  options.positions = CutPositions::SegmentsFromQuery;
  for (const HeadId& head : all_heads(model.config(), 3)) {
    const SweepResult got = ablation_sweep(model, *objective_of(examples), {head}, options);
    SweepOutcome expected;
    for (const TokenizedExample& example : examples) {
      expected.verdicts.push_back(plain_verdict(model, example, head));
    }
    // Float64; the layer's other rows come from the scan in chunks here, from map rows there.
    expect_same_verdicts(got.variants.front(), expected, 1e-9);
  }
}

TEST(ReadingCut, RefusesAGroupOverTwoMixers) {
  const LanguageModel model = load_model("falcon_h1");  // heads 0..5 and 6..9
  const auto objective = objective_of(unlike_examples());
  SweepOptions options;
  options.positions = CutPositions::SegmentsFromQuery;
  EXPECT_EQ(testing::error_message<HookError>([&] {
              ablation_sweep(model, *objective, {{1, 5, 6}}, options);
            }),
            "[ablate] heads 5..6 of layer 1, expected those of one mixer, got two");
}

TEST(ReadingCut, NamesEachPositionFromTheQueryOnOnce) {
  const auto objective = objective_of(unlike_examples(), /*max_batch_tokens=*/1000);
  const ObjectiveBatch& batch = objective->batch(0);
  const Readings readings = segments_from_query(*objective, batch);
  const int64_t pos = batch.ids.size(1);
  const Tensor first = query_of_rows(*objective, batch), examples = example_of_rows(batch);
  for (int64_t row = 0; row < batch.ids.size(0); ++row) {
    const int64_t example = batch.examples[static_cast<size_t>(examples[row].item<int64_t>())];
    const int64_t expected =
        objective->prompt(example).segments.empty() ? 0 : pos - first[row].item<int64_t>();
    std::set<int64_t> seen;
    for (int64_t i = 0; i < readings.queries.size(1); ++i) {
      if (!readings.keys[row][i].any().item<bool>()) continue;
      EXPECT_TRUE(seen.insert(readings.queries[row][i].item<int64_t>()).second);
    }
    EXPECT_EQ(std::ssize(seen), expected);
    if (expected > 0) {
      EXPECT_EQ(*seen.begin(), first[row].item<int64_t>());
      EXPECT_EQ(*seen.rbegin(), pos - 1);
    }
  }
}

}  // namespace
}  // namespace headlens
