// headlens/tests: the memory a sweep takes: predicted, capped, and run out of.
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "analysis/batch_run.h"
#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/model/fresh_weights.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::expect_same_verdicts;
using testing::load_model;

/// Prompts long enough for activations to outweigh what does not grow with them.
std::vector<TokenizedExample> long_examples() {
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < 4; ++i) {
    TokenizedExample example;
    for (int64_t p = 0; p < 40; ++p) example.prompt_ids.push_back((p * p + i * 7) % 97);
    example.choice_ids = {{3}, {5, 8}, {5, 9}};
    examples.push_back(std::move(example));
  }
  return examples;
}

// Nine rows that go on from one trunk of 8 tokens: keys and values of 2 heads of 12, float32, in
// each of 3 layers.
TEST(BatchRun, KnowsWhatItsRowsHoldOfTheTrunks) {
  const LanguageModel model = load_model("llama", at::kFloat);
  std::vector<TokenizedExample> examples(9);
  for (int64_t i = 0; i < 9; ++i) {
    for (int64_t p = 0; p < 8; ++p) examples[static_cast<size_t>(i)].prompt_ids.push_back(p);
    examples[static_cast<size_t>(i)].prompt_ids.insert(
        examples[static_cast<size_t>(i)].prompt_ids.end(), {20 + i, 40});
    examples[static_cast<size_t>(i)].choice_ids = {{3}, {5}};
  }
  const auto objective = make_choice_objective(examples);
  const auto bytes_in_layers = [&](Trunks trunks) {
    const c10::NoGradGuard no_grad;
    BatchRun run(model, *objective, 0, trunks);
    std::vector<int64_t> bytes;
    for (int64_t layer = 0; layer < 3; ++layer) {
      run.run_layer({});
      bytes.push_back(run.state_bytes());
      run.advance();
    }
    return bytes;
  };
  const int64_t layer = 9 * 8 * 2 * (2 * 12) * 4;
  EXPECT_EQ(bytes_in_layers(Trunks::Any), (std::vector<int64_t>{3 * layer, 2 * layer, layer}));
  EXPECT_EQ(bytes_in_layers(Trunks::None), (std::vector<int64_t>{0, 0, 0}));
}

class SweepMemoryTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, SweepMemoryTest,
                         ::testing::Values("llama", "mamba", "mamba2", "llamba", "bamba",
                                           "gpt_neox", "falcon_h1", "zamba2"));

TEST_P(SweepMemoryTest, IsPredictedWithinATenthAndStaysUnderTheCap) {
  const LanguageModel model = load_model(GetParam(), at::kFloat);
  const auto objective = make_choice_objective(long_examples());
  // Several times over, so that the first layer has more of them than the batches that measure.
  const auto once = all_heads(model.config(), 4);
  std::vector<HeadId> heads;
  for (int i = 0; i < 10; ++i) heads.insert(heads.end(), once.begin(), once.end());
  SweepOptions options;
  options.max_batch_tokens = 1500;
  const SweepResult free = ablation_sweep(model, *objective, heads, options);
  EXPECT_EQ(free.memory.predicted, 0);
  options.max_host_bytes = int64_t{256} << 20;
  const SweepResult roomy = ablation_sweep(model, *objective, heads, options);
  const SweepMemory& m = roomy.memory;
  ASSERT_GT(m.variants, 3);
  const double ours = static_cast<double>(m.peak - m.weights);  // the part that is hard to know
  EXPECT_NEAR(static_cast<double>(m.predicted - m.weights) / ours, 1, 0.1);
  // A cap that leaves room for three variants.
  options.max_host_bytes = m.predicted - (m.variants - 3) * m.per_variant + m.per_variant / 2;
  const SweepResult capped = ablation_sweep(model, *objective, heads, options);
  EXPECT_LE(capped.memory.peak, options.max_host_bytes);
  EXPECT_LE(capped.memory.variants, 3);
  EXPECT_GE(capped.memory.variants, 2);
  // float32: batches of other sizes round otherwise (Zamba2's wild weights lose 1e-4)
  const double tolerance = GetParam() == "zamba2" ? 2e-4 : 1e-5;
  for (size_t v = 0; v < heads.size(); ++v) {
    expect_same_verdicts(capped.variants[v], free.variants[v], tolerance);
  }
}

TEST(SweepMemory, RefusesACapThatNothingFitsUnder) {
  const LanguageModel model = load_model("llama");
  const auto objective = make_choice_objective(long_examples());
  SweepOptions options;
  options.max_host_bytes = model.weight_bytes() + 100000;
  const std::string message = error_message<UsageError>(
      [&] { ablation_sweep(model, *objective, all_heads(model.config(), 1), options); });
  EXPECT_EQ(message.substr(0, 31), "[sweep] cap on memory, expected");
}

/// Has no memory for more than a few variants at once.
class TightObjective final : public Objective {
 public:
  TightObjective(const Objective& whole, int64_t most) : whole_(whole), most_(most) {}
  int64_t example_count() const override { return whole_.example_count(); }
  int64_t batch_count() const override { return whole_.batch_count(); }
  const ObjectiveBatch& batch(int64_t index) const override { return whole_.batch(index); }
  const PromptInfo& prompt(int64_t example) const override { return whole_.prompt(example); }
  std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                          int64_t variants) const override {
    if (variants > most_) TORCH_CHECK_WITH(OutOfMemoryError, false, "no room");
    return whole_.judge(batch, logits, variants);
  }

 private:
  const Objective& whole_;
  int64_t most_;
};

TEST(SweepMemory, HalvesABatchThatDoesNotFitAndGoesOn) {
  const LanguageModel model = load_model("llama");
  const auto objective = make_choice_objective(testing::unlike_examples());
  const auto heads = all_heads(model.config(), 1);
  const SweepResult expected = ablation_sweep(model, *objective, heads);
  EXPECT_EQ(expected.memory.out_of_memory, 0);
  const SweepResult tight = ablation_sweep(model, TightObjective(*objective, 1), heads);
  EXPECT_EQ(tight.memory.out_of_memory, 2);  // four heads a layer, then two, then one
  for (size_t v = 0; v < heads.size(); ++v) {
    expect_same_verdicts(tight.variants[v], expected.variants[v], 1e-12);
  }
  EXPECT_THROW(ablation_sweep(model, TightObjective(*objective, 0), heads), c10::OutOfMemoryError);
}

}  // namespace
}  // namespace headlens
