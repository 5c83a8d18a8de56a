// headlens/tests: a patched state against a run that goes on from the donor's state.
#include <gtest/gtest.h>

#include "patching_tools.h"

namespace headlens {
namespace {

using testing::example_pairs;
using testing::ExamplePairs;
using testing::load_model;
using testing::objective_of;

/// Pairs whose answers are single tokens: what counts is the prompt's last logits.
ExamplePairs one_token_pairs() {
  ExamplePairs pairs = example_pairs();
  for (auto* examples : {&pairs.clean, &pairs.corrupted}) examples->erase(examples->begin() + 1);
  return pairs;
}

Tensor ids_of(const TokenizedExample& example) {
  return at::tensor(example.prompt_ids, at::kLong).unsqueeze(0);
}

ModelState state_after(const LanguageModel& model, const Tensor& ids) {
  ModelState state;
  model.forward(ids, {.state = &state});
  return state;
}

/// The last logits of `run` whose state of these heads is the donor's as of position t.
Tensor logits_with_state(const LanguageModel& model, const TokenizedExample& run,
                         const TokenizedExample& donor, const HeadId& head, int64_t t) {
  const Tensor ids = ids_of(run);
  ModelState own = state_after(model, ids.slice(1, 0, t + 1));
  const ModelState other = state_after(model, ids_of(donor).slice(1, 0, t + 1));
  const auto layer = static_cast<size_t>(head.layer);
  Tensor state = own.layers[layer].ssm.clone();
  state.slice(1, head.first, head.last + 1)
      .copy_(other.layers[layer].ssm.slice(1, head.first, head.last + 1));
  own.layers[layer].ssm = state;
  return model.forward(ids.slice(1, t + 1), {.state = &own})[0][-1];
}

class PatchStateOfFamily : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, PatchStateOfFamily,
                         ::testing::Values("mamba", "falcon_mamba", "mamba2", "llamba", "bamba",
                                           "nemotron_h", "jamba", "falcon_h1", "zamba2"));

TEST_P(PatchStateOfFamily, EqualsGoingOnFromTheDonorsState) {
  const LanguageModel model = load_model(GetParam());
  const ExamplePairs pairs = one_token_pairs();
  const auto clean = objective_of(pairs.clean), corrupted = objective_of(pairs.corrupted);
  const auto groups = position_groups(*clean, *corrupted, {"right", "between"});
  for (const auto direction : {PatchDirection::Denoising, PatchDirection::Noising}) {
    PatchOptions options;
    options.site = PatchSite::State;
    options.direction = direction;
    options.mamba1_groups = 2;
    options.max_batch_tokens = 100;
    const Patching found = patch_activations(model, *clean, *corrupted, groups, options);
    const bool noising = direction == PatchDirection::Noising;
    const RunFigures& base = noising ? found.clean : found.corrupted;
    double largest = 0;
    for (size_t c = 0; c < found.cells.size(); c += 1 + found.cells.size() / 16) {
      const PatchCell& cell = found.cells[c];
      double logprob = 0;
      for (size_t i = 0; i < pairs.clean.size(); ++i) {
        const auto &run = noising ? pairs.clean[i] : pairs.corrupted[i],
                   &donor = noising ? pairs.corrupted[i] : pairs.clean[i];
        const int64_t t = groups[cell.positions].positions[i].back();
        const Tensor logits = logits_with_state(model, run, donor, *cell.head, t);
        const auto right = static_cast<size_t>(pairs.clean[i].answer);
        logprob += at::log_softmax(logits, -1)[pairs.clean[i].choice_ids[right][0]].item<double>();
      }
      logprob /= static_cast<double>(pairs.clean.size());
      // The state of two prefixes and the rest of one, each in its own order of sums.
      EXPECT_NEAR(cell.patched.logprob.value, logprob, 1e-9) << "cell " << c;
      largest = std::max(largest, std::abs(logprob - base.logprob.value));
    }
    EXPECT_GT(largest, 1e-5);  // some state matters
  }
}

}  // namespace
}  // namespace headlens
