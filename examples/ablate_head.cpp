// headlens/examples: switches one head off and scores a task, in ten lines.
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: ablate_head CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const auto examples = tokenize(make_task("mcq:options=4,n=64", /*seed=*/0), tokenizer);
  HookSet hooks(model.config());
  std::printf("all heads:   accuracy %.2f\n", evaluate(model, examples).accuracy);
  const auto scope = hooks.scope();  // the head is back when this ends
  hooks.add(zero_heads(model.config(), {HeadRef{.layer = 3, .head = 0}}));
  std::printf("without 3.0: accuracy %.2f\n", evaluate(model, examples, {.tap = &hooks}).accuracy);
  scope.check_all_fired();  // an error if nothing was cut
}
