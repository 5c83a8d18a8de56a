// headlens/tests: grafts tried on a task against evaluations of whole models, and by hand.
#include "headlens/analysis/grafting.h"

#include <gtest/gtest.h>

#include "analysis/analysis_tools.h"
#include "analysis/retrieval_model.h"
#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::expect_same_verdicts;
using testing::load_model;
using testing::objective_of;
using testing::retrieval_examples;
using testing::RetrievalModel;
using testing::unlike_examples;

constexpr double kClose = 1e-10;  // float64, in batches of other sizes

/// The task on a model by itself, a whole forward a batch.
SweepOutcome plain(const LanguageModel& model, Tap* tap = nullptr) {
  EvalOptions options;
  options.tap = tap;
  const auto scored = evaluate(model, unlike_examples(), options);
  SweepOutcome outcome;
  for (size_t i = 0; i < scored.correct.size(); ++i) {
    outcome.verdicts.push_back({scored.correct[i] != 0, scored.logprob[i], 0});
  }
  return outcome;
}

void expect_alike(const SweepOutcome& got, const SweepOutcome& expected) {
  ASSERT_EQ(got.verdicts.size(), expected.verdicts.size());
  for (size_t i = 0; i < got.verdicts.size(); ++i) {
    EXPECT_EQ(got.verdicts[i].correct, expected.verdicts[i].correct) << i;
    EXPECT_NEAR(got.verdicts[i].logprob, expected.verdicts[i].logprob, kClose) << i;
  }
}

TEST(TryGrafts, IsEveryGraftedModelByItselfAndItsControl) {
  const LanguageModel recipient = load_model("mamba2"), donor = load_model("llama");
  const std::vector<GraftPlan> plans = {{.layers = {{0, 2}, {1, 1}}},
                                        {.layers = {{2, 0, true}}},
                                        {.heads = {{{1, 0}, {2, 3}}, {{0, 1}, {1, 0}}}}};
  const auto objective = objective_of(unlike_examples());
  int64_t last = 0, all = 0;
  const GraftTrials trials =
      try_grafts(recipient, donor, *objective, plans, [&](int64_t done, int64_t total) {
        EXPECT_EQ(done, last + 1);
        last = done, all = total;
      });
  EXPECT_EQ(last, all);
  expect_alike(trials.base, plain(recipient));
  for (size_t p = 0; p < plans.size(); ++p) {
    SCOPED_TRACE(p);
    expect_alike(trials.plans[p].grafted, plain(grafted_model(recipient, donor, plans[p])));
  }
  const auto cut = [&](const HeadList& heads) {
    const auto tap = zero_heads(recipient.config(), heads);
    return plain(recipient, tap.get());
  };
  expect_alike(trials.plans[0].cut, plain(recipient.with_layers({0})));
  const int64_t heads = head_count(recipient.config().layers[0]);
  expect_alike(trials.plans[1].cut, cut({{0, 0, heads - 1}}));
  expect_alike(trials.plans[2].cut, cut({{2, 3, 3}, {1, 0, 0}}));
}

// The model that copies, and one whose copying head is off: grafting the head back brings it back.
TEST(TryGrafts, AHeadThatRetrievesLiftsAModelWithoutIt) {
  const LanguageModel donor = RetrievalModel::make(), recipient = RetrievalModel::make();
  recipient.head_output_weight(1, 0).zero_();
  const auto objective = objective_of(retrieval_examples());
  const auto plans = each_head(recipient.config(), donor.config());
  ASSERT_EQ(plans.size(), 8u);
  const GraftTrials trials = try_grafts(recipient, donor, *objective, plans);
  EXPECT_NEAR(trials.base.accuracy(), 0.25, 1e-12);
  for (size_t p = 0; p < plans.size(); ++p) {
    const bool copies = plans[p].heads[0].recipient == HeadPlace{1, 0};
    EXPECT_EQ(trials.plans[p].grafted.accuracy(), copies ? 1.0 : 0.25) << p;
    EXPECT_EQ(trials.plans[p].cut.accuracy(), 0.25) << p;
  }
  // Its place does not matter: it reads the residual, whatever head gives way.
  const GraftTrials elsewhere =
      try_grafts(recipient, donor, *objective, {{.heads = {{{1, 0}, {1, 3}}}}});
  EXPECT_EQ(elsewhere.plans[0].grafted.accuracy(), 1.0);
  const Estimate gain = logprob_drop_estimate(elsewhere.plans[0].grafted, elsewhere.base);
  EXPECT_NEAR(gain.value, elsewhere.plans[0].grafted.mean_logprob() - elsewhere.base.mean_logprob(),
              1e-12);
  EXPECT_GT(gain.low, 0);
}

// Variants of a sweep restart inside a layer unless a grafted head there reads its input.
TEST(TryGrafts, SweepsOverAGraftedModelAreOneByOne) {
  const LanguageModel model =
      graft_heads(load_model("llama"), load_model("mamba2"), {{{0, 1}, {1, 0}}, {{2, 0}, {2, 1}}});
  const auto objective = objective_of(unlike_examples());
  const std::vector<HeadId> heads = all_heads(model.config(), 1);
  const SweepResult fast = ablation_sweep(model, *objective, heads);
  const SweepResult slow = ablate_one_by_one(model, *objective, heads);
  expect_same_verdicts(fast.base, slow.base, kClose);
  for (size_t h = 0; h < heads.size(); ++h) {
    expect_same_verdicts(fast.variants[h], slow.variants[h], kClose);
  }
}

TEST(TryGrafts, SaysWhatItCannotTry) {
  const LanguageModel llama = load_model("llama"), mamba2 = load_model("mamba2");
  const ModelConfig mamba = load_model("mamba").config();
  EXPECT_EQ(error_message<UsageError>([&] { each_head(llama.config(), mamba); }),
            "[graft] heads of the donor's layer 0, expected 4 as in the recipient's to try each, "
            "got " +
                std::to_string(head_count(mamba.layers[0])));
  const LanguageModel two = llama.with_layers({0, 1});
  EXPECT_EQ(error_message<UsageError>([&] { each_layer(two.config(), mamba2.config(), false); }),
            "[graft] layers of the donor, expected 2 as in the recipient to try each, got 3");
  EXPECT_EQ(error_message<UsageError>([&] { grafted_model(llama, mamba2, {}); }),
            "[graft] plan, expected layers or heads, got none");
  EXPECT_EQ(error_message<UsageError>([&] {
              grafted_model(llama, mamba2, {.layers = {{0, 0}}, .heads = {{{0, 0}, {1, 0}}}});
            }),
            "[graft] plan, expected layers or heads, got both");
}

}  // namespace
}  // namespace headlens
