// headlens/examples: any interventions, judged by any function of logits.
#include <ATen/ATen.h>
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: custom_sweep CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  std::vector<FunctionExample> prompts;
  for (const Example& example : make_task("mcq:options=4,n=32", /*seed=*/0).examples) {
    prompts.push_back({.ids = tokenizer.encode(example.prompt)});
  }
  // How sure the model is of its next token: its largest logit's lead over the mean.
  const FunctionObjective lead(prompts, [](const Tensor& logits, const std::vector<int64_t>&) {
    return logits.select(1, 0).amax(-1) - logits.select(1, 0).mean(-1);
  });
  const std::vector<SweepTarget> targets = {
      {.heads = {{1, 0, 0}}}, whole_layers(model.config(), {3}), {.mlps = {2}}};
  const SweepResult swept = sweep_targets(model, lead, targets);
  for (size_t t = 0; t < targets.size(); ++t) {
    std::printf("target %zu: %.1f -> %.1f\n", t, swept.base.mean_logprob(),
                swept.variants[t].mean_logprob());
  }
}
