// headlens/tests: prompts run once and continued from their state against whole rows.
#include "headlens/model/row_fork.h"

#include <gtest/gtest.h>

#include "headlens/core/error.h"
#include "headlens/model/token_logprobs.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;

/// Two examples: one of three rows that part after 7 tokens, one of a single row of 9.
ObjectiveBatch some_batch() {
  ObjectiveBatch batch;
  batch.ids = testing::make_ids(1, 10).repeat({4, 1});
  batch.ids[1].slice(0, 7).copy_(at::tensor({3, 1, 4}, at::kLong));
  batch.ids[2].slice(0, 8).copy_(at::tensor({8, 9}, at::kLong));
  batch.ids[3] = testing::make_ids(1, 20).slice(1, 10)[0];
  batch.ids[3][9] = 0;  // padding
  batch.logit_positions = at::tensor({6, 7, 9, 6, 7, 8, 6, 8, 9, 8, 2, 8}, at::kLong).view({4, 3});
  batch.examples = {5, 2};
  batch.example_rows = {0, 3};
  return batch;
}

TEST(ForkRows, PartsWhereTheFirstExampleParts) {
  const auto fork = fork_rows(load_golden("llama").config(), some_batch());
  ASSERT_TRUE(fork);
  EXPECT_EQ(fork->length, 7);
  EXPECT_EQ(fork->trunk_ids.sizes(), (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(fork->rest_ids.sizes(), (std::vector<int64_t>{4, 3}));
  EXPECT_TRUE(at::equal(fork->owner, at::tensor({0, 0, 0, 1}, at::kLong)));
  // Position 6 of the first trunk and 2 of the second are judged there, each once.
  EXPECT_TRUE(at::equal(fork->trunk_positions, at::tensor({6, 2}, at::kLong).view({2, 1})));
  EXPECT_EQ(fork->is_in_trunk.sum().item<int64_t>(), 4);
}

TEST(ForkRows, NotWhereNothingIsShared) {
  const ModelConfig config = load_golden("llama").config();
  ObjectiveBatch batch = some_batch();
  batch.ids[1][0] = 96;  // the rows of the first example begin unlike
  EXPECT_FALSE(fork_rows(config, batch));
  batch = some_batch();
  batch.examples = {0, 1, 2, 3};
  batch.example_rows = {0, 1, 2, 3};
  EXPECT_FALSE(fork_rows(config, batch));
  EXPECT_FALSE(fork_rows(config, some_batch(), Trunks::None));
  ModelConfig dynamic = config;
  std::get<AttentionSpec>(*dynamic.layers[1].mixer).rope->scaling = DynamicRopeScaling{2, 8};
  EXPECT_FALSE(fork_rows(dynamic, some_batch()));
}

/// Four examples of one row each: six tokens in common, then others.
ObjectiveBatch few_shot_batch() {
  ObjectiveBatch batch = some_batch();
  batch.ids = testing::make_ids(1, 10).repeat({4, 1});
  for (int64_t row = 0; row < 4; ++row) batch.ids[row].slice(0, 6).add_(row + 1).remainder_(90);
  batch.examples = {0, 1, 2, 3};
  batch.example_rows = {0, 1, 2, 3};
  return batch;
}

TEST(ForkRows, OneTrunkForExamplesThatBeginAlike) {
  const ModelConfig config = load_golden("llama").config();
  const ObjectiveBatch batch = few_shot_batch();
  const auto fork = fork_rows(config, batch);
  ASSERT_TRUE(fork);
  EXPECT_EQ(fork->length, 6);
  EXPECT_TRUE(at::equal(fork->trunk_ids, batch.ids.slice(0, 0, 1).slice(1, 0, 6)));
  EXPECT_TRUE(at::equal(fork->rest_ids, batch.ids.slice(1, 6)));
  EXPECT_TRUE(at::equal(fork->owner, at::zeros({4}, at::kLong)));
  EXPECT_FALSE(fork_rows(config, batch, Trunks::OfExamples));
  ObjectiveBatch bos = batch;
  bos.ids.select(1, 1).copy_(at::arange(4));
  EXPECT_FALSE(fork_rows(config, bos));  // one token of ten is not worth it
}

class RunJudgedTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, RunJudgedTest, ::testing::ValuesIn(kGoldenModels));

TEST_P(RunJudgedTest, EqualsWholeRows) {
  const LanguageModel model = load_golden(GetParam());
  for (const ObjectiveBatch& batch : {some_batch(), few_shot_batch()}) {
    const Tensor expected = model.forward(batch.ids, {.logit_positions = batch.logit_positions});
    const Tensor got = model.unembed(run_judged(model, batch));
    const double scale = std::max(1.0, expected.abs().max().item<double>());
    // float64; zamba2's wild weights lose a hundred times what the others do
    EXPECT_LT(largest_difference(got, expected), (GetParam() == "zamba2" ? 1e-10 : 1e-12) * scale);
  }
}

TEST_P(RunJudgedTest, LastLayerAtChosenPositionsIsThatOfAll) {
  const LanguageModel model = load_golden(GetParam());
  const Tensor ids = testing::make_ids(3, 12);
  const Tensor resid = model.embed(ids);
  const Prompt prompt = model.prompt_of(resid);
  const Tensor positions = at::tensor({11, 4, 0, 11, 7, 7}, at::kLong).view({3, 2});
  const Tensor index = positions.unsqueeze(-1).expand({3, 2, resid.size(-1)});
  ModelState state, plain_state;
  const Tensor expected =
      model.run_layers(resid, 0, model.layer_count(), nullptr, &plain_state, prompt)
          .gather(1, index);
  const Tensor got = model.run_to_end(resid, 0, positions, nullptr, &state, prompt);
  const double scale = std::max(1.0, expected.abs().max().item<double>());
  EXPECT_LT(largest_difference(got, expected), 1e-12 * scale);
  EXPECT_EQ(state.position, 12);
  for (size_t layer = 0; layer < state.layers.size(); ++layer) {  // what goes on needs all of it
    for (const auto member :
         {&LayerState::k, &LayerState::v, &LayerState::conv, &LayerState::ssm}) {
      const Tensor& a = state.layers[layer].*member;
      const Tensor& b = plain_state.layers[layer].*member;
      ASSERT_EQ(a.defined(), b.defined());
      if (!a.defined()) continue;
      EXPECT_LT(largest_difference(a, b), 1e-12 * scale);
    }
  }
}

TEST(RunToEnd, ShowsTheLastLayerToATapThatWantsIt) {
  const LanguageModel model = load_golden("llama");
  const Tensor resid = model.embed(testing::make_ids(1, 6));
  int64_t seen = 0;
  testing::Editor tap({Site::MlpOut, 2}, [&](const Tensor& value) {
    seen = value.size(1);
    return value;
  });
  model.run_to_end(resid, 0, at::full({1, 1}, 5, at::kLong), &tap);
  EXPECT_EQ(seen, 6);
}

TEST(TokenLogprobs, AreThoseOfTheLogitsHoweverFewAtOnce) {
  const LanguageModel model = load_golden("llama");
  const Tensor resid = at::sin(at::arange(2 * 3 * 2 * model.config().d_model, at::kDouble))
                           .view({6, 2, model.config().d_model});
  const Tensor picks =
      at::tensor({0, 2, 0, 1, 2, 0, 0, 1, 1, 0, 1, 0, 5, 9, 5, 96, 9, 0}, at::kLong).view({3, 6});
  const Tensor logprobs = model.unembed(resid).log_softmax(-1);
  for (const int64_t most : {int64_t{1}, int64_t{200}, int64_t{1} << 20}) {
    const Tensor got = token_logprobs(model, resid, picks, 2, most);
    for (int64_t copy = 0; copy < 2; ++copy) {
      const Tensor expected = logprobs.index({picks[0] + 3 * copy, picks[1], picks[2]});
      EXPECT_LT(largest_difference(got[copy], expected), 1e-12);
    }
  }
  picks[2][0] = 97;
  EXPECT_THROW(token_logprobs(model, resid, picks, 2), ShapeError);
}

}  // namespace
}  // namespace headlens
