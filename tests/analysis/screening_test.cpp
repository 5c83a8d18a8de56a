// headlens/tests: which heads a screen sends on, and what find makes of them.
#include "headlens/analysis/screening.h"

#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/gather_aggregate.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::channel_model;
using testing::error_message;
using testing::last_token_examples;
using testing::objective_of;
using testing::retrieval_examples;
using testing::RetrievalModel;

TEST(Spearman, AgainstValuesWorkedOutByHand) {
  EXPECT_DOUBLE_EQ(spearman({1, 2, 3, 4}, {10, 20, 30, 1000}), 1);
  EXPECT_DOUBLE_EQ(spearman({1, 2, 3, 4}, {4, 3, 2, 1}), -1);
  EXPECT_DOUBLE_EQ(spearman({1, 2, 3, 4, 5}, {2, 1, 4, 3, 5}), 0.8);  // 1 - 6 * 4 / (5 * 24)
  // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5).
  EXPECT_NEAR(spearman({1, 2, 2, 3}, {1, 2, 3, 4}), 4.5 / std::sqrt(22.5), 1e-12);
  EXPECT_EQ(spearman({1, 1}, {1, 2}), 0);
}

ScreenEstimates channel_estimates() {
  ScreenEstimates estimates;
  int64_t next = 3;
  for (int64_t c = 0; c < 16; ++c) {
    estimates.heads.push_back({0, c, c});
    estimates.drop.push_back(0.01 * static_cast<double>(c));
    estimates.place.push_back(c == 5 ? 0 : c == 6 ? 1 : c == 11 ? 2 : next++);
  }
  return estimates;
}

TEST(PlanScreen, PutsTheOtherChannelsInGroups) {
  const ModelConfig config = channel_model().config();
  ScreenOptions options;
  options.count = 3;
  const ScreenPlan plan = plan_screen(config, channel_estimates(), 2, options);
  ASSERT_EQ(plan.chosen.size(), 3u);
  EXPECT_EQ(plan.chosen[0].head, (HeadId{0, 5, 5}));
  EXPECT_EQ(plan.chosen[2].head, (HeadId{0, 11, 11}));
  EXPECT_EQ(plan.chosen[2].screen_place, 3);
  const std::vector<HeadId> rest = {{0, 0, 4}, {0, 7, 7}, {0, 8, 10}, {0, 12, 15}};
  ASSERT_EQ(plan.rest.size(), rest.size());
  for (size_t i = 0; i < rest.size(); ++i) EXPECT_EQ(plan.rest[i].head, rest[i]);
  EXPECT_NEAR(*plan.rest[0].screen_drop, 0.1, 1e-12);
  EXPECT_FALSE(plan.rest[0].screen_place.has_value());
  EXPECT_EQ(plan.rest[1].screen_place, 9);
  options.count = 0;
  options.percent = 60;  // of 16, rounded up
  EXPECT_EQ(plan_screen(config, channel_estimates(), 2, options).chosen.size(), 10u);
  options.percent = 5;  // at least 8
  EXPECT_EQ(plan_screen(config, channel_estimates(), 2, options).chosen.size(), 8u);
  options.percent = 101;
  EXPECT_EQ(
      error_message<UsageError>([&] { plan_screen(config, channel_estimates(), 2, options); }),
      "[screen] percentage of heads to ablate, expected above 0 and up to 100, got 101");
}

// The two heads of the circuit are among the first four of eight, although one has no slope to
// speak of.
TEST(Screen, FindsTheCircuitOfARetrievalModel) {
  const LanguageModel model = RetrievalModel::make();
  const auto objective = objective_of(retrieval_examples());
  const FindResult exact = find_gather_aggregate(model, *objective);
  FindOptions options;
  options.screen = ScreenOptions{};
  options.screen->count = 4;
  const FindResult screened = find_gather_aggregate(model, *objective, options);
  EXPECT_EQ(screened.gather, exact.gather);
  EXPECT_EQ(screened.aggregate, exact.aggregate);
  EXPECT_EQ(screened.screen->heads, 8);
  EXPECT_EQ(screened.screen->ablated, 4);
  EXPECT_FALSE(screened.screen->missed.has_value());
  ASSERT_EQ(screened.heads.size(), 8u);
  for (size_t i = 0; i < screened.heads.size(); ++i) {
    const HeadScore& s = screened.heads[i];
    EXPECT_EQ(s.head, exact.heads[i].head);
    EXPECT_TRUE(s.screen_drop.has_value());
    EXPECT_TRUE(s.screen_exact.has_value());
    const bool confirmed = *s.screen_place <= 4;
    EXPECT_EQ(s.accuracy_drop.has_value(), confirmed);
    EXPECT_EQ(s.map.entropy.has_value(), confirmed);
    if (confirmed) {  // on 16 of the 24 by the shortlist, then on the others
      EXPECT_NEAR(*s.logprob_drop, *exact.heads[i].logprob_drop, 1e-9);
      EXPECT_EQ(s.accuracy_drop->value, exact.heads[i].accuracy_drop->value);
      EXPECT_EQ(s.accuracy_drop->low, exact.heads[i].accuracy_drop->low);
    }
  }
  EXPECT_EQ(screened.base.accuracy.value, exact.base.accuracy.value);
}

TEST(JoinExamples, PutsOutcomesWhereTheirExamplesAre) {
  const auto outcome = [](std::vector<double> logprobs) {
    SweepOutcome made;
    for (const double p : logprobs) made.verdicts.push_back({.logprob = p});
    return made;
  };
  const auto logprobs = [](const SweepOutcome& made) {
    std::vector<double> values;
    for (const Verdict& verdict : made.verdicts) values.push_back(verdict.logprob);
    return values;
  };
  EXPECT_EQ(other_examples(6, {0, 2, 5}), (std::vector<int64_t>{1, 3, 4}));
  const SweepResult few{outcome({0, 2, 5}), {outcome({10, 12, 15})}};
  const SweepResult rest{outcome({1, 3, 4}), {outcome({11, 13, 14})}};
  const SweepResult all = join_examples({0, 2, 5}, few, rest);
  EXPECT_EQ(logprobs(all.base), (std::vector<double>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(logprobs(all.variants.at(0)), (std::vector<double>{10, 11, 12, 13, 14, 15}));
  EXPECT_THROW(join_examples({0, 2}, few, rest), ShapeError);
  EXPECT_THROW(join_examples({0, 2, 5}, {few.base, {}}, rest), ShapeError);
}

// With everything ablated as well, what one place would have missed is told.
TEST(Screen, NamesWhatItWouldHaveMissed) {
  const LanguageModel model = RetrievalModel::make();
  const auto objective = objective_of(retrieval_examples());
  FindOptions options;
  options.screen = ScreenOptions{};
  options.screen->count = 1;
  options.screen->exact = true;
  const FindResult found = find_gather_aggregate(model, *objective, options);
  EXPECT_EQ(found.screen->chosen, 1);
  EXPECT_EQ(found.screen->ablated, 8);
  ASSERT_EQ(found.screen->missed->size(), 1u);
  const HeadId missed = found.screen->missed->front();
  EXPECT_TRUE(missed == (HeadId{0, 1, 1}) || missed == (HeadId{1, 0, 0}));
  EXPECT_GT(*found.screen->rank_correlation, 0.5);
  for (const HeadScore& s : found.heads) EXPECT_TRUE(s.accuracy_drop.has_value());
}

// Channel 11 alone tells token 1; 1 and 6 stand in for each other.
TEST(Screen, GoesDownToSingleChannels) {
  const auto objective = objective_of(last_token_examples());
  FindOptions options;
  options.mamba1_groups = 2;
  options.screen = ScreenOptions{};
  options.screen->count = 3;
  const FindResult found = find_gather_aggregate(channel_model(), *objective, options);
  EXPECT_EQ(found.screen->heads, 16);
  int64_t covered = 0;
  for (const HeadScore& s : found.heads) {
    covered += s.head.last - s.head.first + 1;
    if (!s.accuracy_drop) continue;
    EXPECT_EQ(s.head.first, s.head.last);
    EXPECT_EQ(s.accuracy_drop->value > 0.2, s.head.first == 11) << s.head.first;
  }
  EXPECT_EQ(covered, 16);
}

/// Its log-odds have no slope: gradients see nothing.
class Flat final : public Objective {
 public:
  Flat(std::shared_ptr<const Objective> objective, bool splits)
      : objective_(std::move(objective)), splits_(splits) {}
  int64_t example_count() const override { return objective_->example_count(); }
  int64_t batch_count() const override { return objective_->batch_count(); }
  const ObjectiveBatch& batch(int64_t index) const override { return objective_->batch(index); }
  const PromptInfo& prompt(int64_t example) const override { return objective_->prompt(example); }
  std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                          int64_t variants) const override {
    return objective_->judge(batch, logits, variants);
  }
  Tensor answer_log_odds(int64_t batch, const Tensor& logits) const override {
    return 0 * objective_->answer_log_odds(batch, logits);
  }
  std::shared_ptr<const Objective> part(const std::vector<int64_t>& examples) const override {
    return splits_ ? objective_->part(examples) : nullptr;
  }

 private:
  std::shared_ptr<const Objective> objective_;
  bool splits_;
};

// All estimates are 0, so the channels come in their order, and 11, the only one that matters
// alone, is the last of a shortlist of twelve. Measured on 16 of 60 examples it is the first.
TEST(Screen, TheShortlistIsOrderedByWhatItsHeadsDo) {
  const std::shared_ptr<const Objective> objective = objective_of(last_token_examples());
  FindOptions options;
  options.screen = ScreenOptions{};
  options.screen->count = 6;
  const FindResult found =
      find_gather_aggregate(channel_model(), Flat(objective, /*splits=*/true), options);
  EXPECT_EQ(found.screen->shortlist, 12);
  EXPECT_EQ(found.screen->shortlist_examples, 16);
  const auto eleven = std::find_if(found.heads.begin(), found.heads.end(),
                                   [](const HeadScore& s) { return s.head.first == 11; });
  ASSERT_EQ(eleven->head.last, 11);
  EXPECT_EQ(eleven->screen_place, 1);
  EXPECT_EQ(eleven->screen_drop, 0);  // still the estimate
  ASSERT_TRUE(eleven->screen_exact.has_value());
  EXPECT_EQ(eleven->screen_exact->gradient_place, 12);
  EXPECT_EQ(eleven->screen_exact->examples, 16);
  EXPECT_NEAR(eleven->screen_exact->logprob_drop, *eleven->logprob_drop,
              0.3 * *eleven->logprob_drop);
  EXPECT_GT(eleven->accuracy_drop->value, 0.3);
}

// The gradients' order stands, and the channel is missed.
TEST(Screen, LeavesTheShortlistOutWhereAnObjectiveCannotBeSplit) {
  const std::shared_ptr<const Objective> objective = objective_of(last_token_examples());
  FindOptions options;
  options.screen = ScreenOptions{};
  options.screen->count = 3;
  const FindResult found =
      find_gather_aggregate(channel_model(), Flat(objective, /*splits=*/false), options);
  EXPECT_EQ(found.screen->shortlist, 0);
  for (const HeadScore& s : found.heads) {
    EXPECT_FALSE(s.screen_exact.has_value());
    if (s.accuracy_drop) {
      EXPECT_LT(s.accuracy_drop->value, 0.2);
    }
  }
}

TEST(Shortlist, HasFourTimesTheChosenHeadsOrTwice) {
  ScreenOptions options;
  options.count = 3;
  const std::vector<size_t> listed = shortlist(channel_estimates(), options, 96);
  ASSERT_EQ(listed.size(), 12u);
  EXPECT_EQ(listed[0], 5u);
  EXPECT_EQ(listed[1], 6u);
  EXPECT_EQ(listed[3], 0u);
  EXPECT_EQ(shortlist(channel_estimates(), options, 95).size(), 6u);
  options.count = 5;  // no more than there are
  EXPECT_EQ(shortlist(channel_estimates(), options, 96).size(), 16u);
  options.count = 16;  // nothing to choose
  EXPECT_TRUE(shortlist(channel_estimates(), options, 96).empty());
}

TEST(FewExamples, AreSpreadEvenlyAndOutOfStep) {
  EXPECT_EQ(few_examples(3), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(few_examples(16).size(), 16u);
  EXPECT_EQ(few_examples(100).size(), 16u);
  EXPECT_EQ(few_examples(512).size(), 32u);
  EXPECT_EQ(few_examples(520).size(), 33u);  // rounded up
  const std::vector<int64_t> few = few_examples(256);
  std::vector<int> of_four(4);
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(few[static_cast<size_t>(i)] / 16, i);
    ++of_four[static_cast<size_t>(few[static_cast<size_t>(i)] % 4)];
  }
  for (const int count : of_four) EXPECT_GE(count, 3);
}

SweepOutcome outcome_of(const std::vector<double>& logprobs) {
  SweepOutcome outcome;
  for (const double logprob : logprobs) outcome.verdicts.push_back({true, logprob, 1});
  return outcome;
}

// Four examples. Channel 11, third by gradients, loses 1 everywhere: no error, so its estimate of
// 0.11 moves nothing. 5 loses 0 and 4 in turn: 2 +- 1.15, of which the estimate takes a third of
// 1.95. 6 loses nothing, whatever was estimated.
TEST(Reorder, ByDropsMovedTowardsTheEstimatesWithinTheirErrors) {
  ScreenEstimates estimates = channel_estimates();
  estimates.drop[6] = 50;
  SweepResult swept{
      outcome_of({0, 0, 0, 0}),
      {outcome_of({0, -4, 0, -4}), outcome_of({0, 0, 0, 0}), outcome_of({-1, -1, -1, -1})}};
  reorder(estimates, {5, 6, 11}, swept);
  EXPECT_EQ(estimates.place[5], 0);
  EXPECT_EQ(estimates.place[11], 1);
  EXPECT_EQ(estimates.place[6], 2);
  EXPECT_EQ(estimates.place[0], 3);
  EXPECT_EQ(estimates.drop[6], 50);
  EXPECT_EQ(estimates.measured.at(11).gradient_place, 3);
  EXPECT_EQ(estimates.measured.at(5).logprob_drop, 2);
  estimates = channel_estimates();  // 0.55 is pulled to 0.38, below 0.5
  swept.variants = {outcome_of({0, -1.1, 0, -1.1}), outcome_of({0, 0, 0, 0}),
                    outcome_of({-0.5, -0.5, -0.5, -0.5})};
  reorder(estimates, {5, 6, 11}, swept);
  EXPECT_EQ(estimates.place[11], 0);
  EXPECT_EQ(error_message<ShapeError>([&] { reorder(estimates, {5}, swept); }),
            "[screen] outcomes of the shortlist, expected 1, got 3");
}

TEST(Find, SequentialTestingKeepsTheCircuit) {
  const LanguageModel model = RetrievalModel::make();
  const auto objective = objective_of(retrieval_examples());
  FindOptions options;
  options.min_drop = 0.5;
  const FindResult whole = find_gather_aggregate(model, *objective, options);
  options.sequential = SequentialLooks{0.05, make_choice_parts(retrieval_examples(), 4, 1)};
  const FindResult found = find_gather_aggregate(model, *objective, options);
  EXPECT_EQ(found.gather, whole.gather);
  EXPECT_EQ(found.aggregate, whole.aggregate);
  EXPECT_NEAR(found.base.mean_logprob, whole.base.mean_logprob, 1e-9);
  for (size_t i = 0; i < found.heads.size(); ++i) {
    const bool matters = whole.heads[i].accuracy_drop->value >= 0.5;
    EXPECT_EQ(found.heads[i].examples.has_value(), !matters);
    if (matters) {
      EXPECT_EQ(found.heads[i].accuracy_drop->value, whole.heads[i].accuracy_drop->value);
    }
  }
}

}  // namespace
}  // namespace headlens
