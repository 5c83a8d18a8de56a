// headlens/examples: the main job in ten lines: a checkpoint, a task, and the heads that matter.
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: find_heads CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const Task task = make_task("mcq:options=4,n=64", /*seed=*/0);
  const auto objective = make_choice_objective(tokenize(task, tokenizer));
  const FindResult found = find_gather_aggregate(model, *objective);
  for (const HeadScore& head : found.heads) {
    if (head.role == HeadRole::None) continue;
    std::printf("%-9s %lld.%lld  accuracy %.2f -> %.2f\n", head_role_name(head.role),
                static_cast<long long>(head.head.layer), static_cast<long long>(head.head.first),
                found.base.accuracy.value, *head.accuracy);
  }
}
