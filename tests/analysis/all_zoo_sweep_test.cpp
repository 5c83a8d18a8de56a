// headlens/tests: on every bundled model the sweep and one ablation at a time answer alike.
#include <gtest/gtest.h>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/objective.h"
#include "headlens/tasks/task.h"

namespace headlens {
namespace {

class ZooSweepTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Zoo, ZooSweepTest,
                         ::testing::Values("transformer", "mamba2", "llamba", "falcon-mamba",
                                           "hybrid"));

TEST_P(ZooSweepTest, AnswersAreThoseOfOneByOneButForTies) {
  const std::filesystem::path dir = std::filesystem::path(HEADLENS_ZOO_DIR) / GetParam();
  const LanguageModel model = LanguageModel::load(dir, {.dtype = at::kFloat});
  const Tokenizer tokenizer = Tokenizer::load(dir);
  for (const char* spec : {"kv:pairs=4,n=16", "world-facts:n=16"}) {
    const auto objective = make_choice_objective(tokenize(make_task(spec, 7), tokenizer), 1024);
    const std::vector<HeadId> heads = all_heads(model.config(), 2);
    const SweepResult swept = ablation_sweep(model, *objective, heads);
    const SweepResult plain = ablate_one_by_one(model, *objective, heads);
    for (size_t v = 0; v < heads.size(); ++v) {
      int64_t ties = 0, unlike = 0;
      for (size_t i = 0; i < swept.base.verdicts.size(); ++i) {
        const Verdict &a = swept.variants[v].verdicts[i], &b = plain.variants[v].verdicts[i];
        ties += b.margin < kNearTie;
        unlike += a.correct != b.correct;
        // float32 through at most a dozen layers: rounding of products of other sizes
        EXPECT_NEAR(a.logprob, b.logprob, 2e-4 * std::max(1.0, std::abs(b.logprob)));
      }
      EXPECT_LE(unlike, ties) << heads[v].layer << "." << heads[v].first << " on " << spec;
    }
  }
}

}  // namespace
}  // namespace headlens
